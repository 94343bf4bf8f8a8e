"""Images with their labelled points, before and after, small enough for a page."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.pictures import draw_overlay
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.report.content import OverlayPair
from clip2uda_core.types import CameraView, Frame, Prediction

MAX_WIDTH_PX = 1280
JPEG_QUALITY = 85


def overlay_pair(
    frame: Frame, before: Prediction | None, after: Prediction, labels: LabelSpace, camera: str | None = None
) -> OverlayPair:
    """The image of a camera (the first one, or the one that is named) under the points in the colours of their class.

    Raises DataError when the frame has no such image, or when a prediction is of another cloud.
    """
    views = [view for view in frame.views if camera is None or view.name == camera]
    if not views:
        cameras = ", ".join(view.name for view in frame.views) or "no image"
        raise DataError(f"{frame.source}: no image of camera '{camera or 'any'}' to draw on; the frame has {cameras}")
    view = views[0]
    picture = _draw(frame, view, after, labels)
    return OverlayPair(
        caption=f"{frame.source or frame.cloud.stamp_ns}, camera {view.name}",
        after=_jpeg(picture),
        width_px=picture.shape[1],
        height_px=picture.shape[0],
        before=None if before is None else _jpeg(_draw(frame, view, before, labels)),
    )


def _draw(frame: Frame, view: CameraView, prediction: Prediction, labels: LabelSpace) -> NDArray[np.uint8]:
    """The overlay without its legend, which the page has in type."""
    if len(prediction) != len(frame.cloud):
        raise DataError(f"{frame.source}: {len(prediction)} labels for a cloud of {len(frame.cloud)} points")
    projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
    picture = draw_overlay(view.image, projection, prediction.labels, labels)[: view.image.shape[0]]
    if picture.shape[1] <= MAX_WIDTH_PX:
        return picture
    size = (MAX_WIDTH_PX, round(picture.shape[0] * MAX_WIDTH_PX / picture.shape[1]))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
