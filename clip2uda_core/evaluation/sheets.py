"""Contact sheets: many labelled frames of two domains on one picture. All pictures are (H, W, 3) uint8 RGB."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from clip2uda_core.evaluation.legends import BACKGROUND, TEXT, Picture, depth_colors, font
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import CameraView, Frame

IMAGE_PX = (144, 480)
"""Height that an image is scaled to, and the width that it may not exceed."""

GAP_PX = 6
LINE_PX = 34
DEPTHS_M = (3.0, 60.0)


def frame_cell(frame: Frame, birds_eye: Picture, space: LabelSpace) -> Picture:
    """One frame: its first image above that image's labels, and `birds_eye` (of draw_birds_eye) beside both.

    Without pixel labels the points are drawn in their place, by class, or by depth where they have none either.
    """
    side = 2 * IMAGE_PX[0]
    dots = np.asarray(cv2.dilate(birds_eye[:, : len(birds_eye)], np.ones((3, 3), np.uint8)), np.uint8)  # stay visible
    above = _resized(dots, side, side, cv2.INTER_AREA)
    if not frame.views:
        return above
    view = frame.views[0]
    labels = space.colors[view.labels] if view.labels is not None else _points(view, frame, space)
    return np.hstack([np.vstack([_fitted(view.image, cv2.INTER_AREA), _fitted(labels, cv2.INTER_NEAREST)]), above])


def contact_sheet(cells: Mapping[str, Sequence[Picture]], title: str, space: LabelSpace) -> Picture:
    """A column of cells per domain under its name, and the classes' colours below; empty domains are left out."""
    columns = [_column(f"{title}: {domain}", pictures) for domain, pictures in cells.items() if pictures]
    height = max((len(column) for column in columns), default=0)
    columns = [_on_background(column, height, column.shape[1] + GAP_PX) for column in columns]
    sheet = np.hstack(columns) if columns else np.zeros((0, 640, 3), np.uint8)
    return np.vstack([sheet, _legend(space, sheet.shape[1])])


def _column(title: str, pictures: Sequence[Picture]) -> Picture:
    width = max(picture.shape[1] for picture in pictures)
    header = Image.new("RGB", (width, LINE_PX), BACKGROUND)
    ImageDraw.Draw(header).text((8, 6), title, TEXT, font(18))
    return np.vstack([np.array(header), *(_on_background(p, len(p) + GAP_PX, width) for p in pictures)])


def _legend(space: LabelSpace, width: int) -> Picture:
    strip = Image.new("RGB", (width, LINE_PX), BACKGROUND)
    draw, x = ImageDraw.Draw(strip), 8
    for name, (red, green, blue) in zip(space.names, space.colors.tolist(), strict=False):
        draw.rectangle((x, 9, x + 16, 25), fill=(red, green, blue))
        draw.text((x + 22, 7), name, TEXT, font(16))
        x += 40 + round(font(16).getlength(name))
    return np.array(strip)


def _fitted(image: Picture, interpolation: int) -> Picture:
    """The image within IMAGE_PX, its proportions kept; what is lower than IMAGE_PX is filled up with background."""
    scale = min(IMAGE_PX[0] / image.shape[0], IMAGE_PX[1] / image.shape[1])
    small = _resized(image, round(image.shape[0] * scale), round(image.shape[1] * scale), interpolation)
    return _on_background(small, IMAGE_PX[0], small.shape[1])


def _resized(image: Picture, height: int, width: int, interpolation: int) -> Picture:
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def _on_background(picture: Picture, height: int, width: int) -> Picture:
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def _points(view: CameraView, frame: Frame, space: LabelSpace) -> Picture:
    """The cloud's points as dots in the image's place."""
    projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
    seen = projection.visible
    labels = frame.cloud.labels
    colors = depth_colors(projection.depth_m[seen], *DEPTHS_M) if labels is None else space.colors[labels[seen]]
    canvas = np.full(view.image.shape, BACKGROUND, np.uint8)
    u, v = np.rint(projection.uv_px[seen]).astype(int).T
    canvas[v, u] = colors
    return np.asarray(cv2.dilate(canvas, np.ones((3, 3), np.uint8)), np.uint8)
