"""A few frames of an evaluation, drawn with their truth and what was predicted. Pictures are (H, W, 3) uint8 RGB."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clip2uda_core.evaluation.legends import BACKGROUND, TEXT, Picture, font
from clip2uda_core.evaluation.pictures import draw_birds_eye, draw_overlay
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import CameraView, Frame, Prediction

FRAMES = 4
"""Frames that a gallery keeps, spread over the recording."""

WIDTH_PX = 960
LINE_PX = 30


class Gallery:
    """`segment`, which keeps the frames and predictions that are to be drawn; all others pass through.

    count: how many frames will come.
    """

    def __init__(self, segment: Callable[[Frame], Prediction], count: int) -> None:
        self._segment = segment
        self._chosen = {int(i) for i in np.linspace(0, max(0, count - 1), FRAMES)}
        self._number = 0
        self.kept: list[tuple[Frame, Prediction]] = []

    def segment(self, frame: Frame) -> Prediction:
        prediction = self._segment(frame)
        if self._number in self._chosen:
            self.kept.append((frame, prediction))
        self._number += 1
        return prediction


def draw_comparison(frame: Frame, prediction: Prediction, labels: LabelSpace) -> Picture:
    """The frame's first image, the truth where the frame has one, and the prediction, one below the other; for a
    prediction from points alone, truth and prediction from above, side by side."""
    truth = frame.cloud.labels
    if not frame.views or not prediction.seen.any():
        panels = {} if truth is None else {"truth": draw_birds_eye(frame.cloud.xyz_m, truth, labels, size_px=640)}
        panels["prediction"] = draw_birds_eye(frame.cloud.xyz_m, prediction.labels, labels, size_px=640)
        return np.hstack([_titled(picture, f"{name}, {frame.source}") for name, picture in panels.items()])
    view = _scaled(frame.views[0])
    projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
    rows = [_titled(view.image, f"{frame.source}, camera {view.name}")]
    if truth is not None:
        rows.append(_titled(draw_overlay(view.image, projection, truth, labels), "truth"))
    rows.append(_titled(draw_overlay(view.image, projection, prediction.labels, labels), _result(frame, prediction)))
    return np.vstack(rows)


def _result(frame: Frame, prediction: Prediction) -> str:
    """The title of the prediction, with the share of right points among those that a camera sees."""
    truth = frame.cloud.labels
    counted: NDArray[np.bool_] = prediction.seen & (truth != 255) if truth is not None else np.zeros(0, bool)
    if not counted.any():
        return "prediction"
    assert truth is not None
    right = float((prediction.labels == truth)[counted].mean())
    return f"prediction, {100 * right:.0f} % of the labelled points in view are right"


def _scaled(view: CameraView) -> CameraView:
    """The view at WIDTH_PX, so that dots and type have one size in all galleries."""
    height_px = round(WIDTH_PX * view.image.shape[0] / view.image.shape[1])
    image = np.asarray(cv2.resize(view.image, (WIDTH_PX, height_px), interpolation=cv2.INTER_AREA), np.uint8)
    camera = view.camera.resized(WIDTH_PX, height_px)
    return CameraView(view.name, image, view.stamp_ns, camera, view.camera_SE3_lidar)


def _titled(picture: Picture, title: str) -> Picture:
    header = Image.new("RGB", (picture.shape[1], LINE_PX), BACKGROUND)
    ImageDraw.Draw(header).text((10, LINE_PX // 2), title, TEXT, font(17), anchor="lm")
    return np.vstack([np.array(header), picture])
