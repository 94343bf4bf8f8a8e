"""A picture to judge a calibration by: the cloud's depth edges over the image, by whether they fall on its edges."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clip2uda_core.evaluation.legends import BACKGROUND, TEXT, Picture, font, text_size_px
from clip2uda_core.survey.depth_edges import FINE_PX, DepthEdges, edge_map
from clip2uda_core.types import CameraView

ON_EDGE = 0.8
"""Strength of the image's edges, in standard deviations of their surroundings, from which a depth edge is on one."""

DIMMED = 0.7
ON, BESIDE = (90, 240, 120), (255, 150, 60)


def draw_edge_overlay(view: CameraView, edges: DepthEdges) -> Picture:
    """The image, dimmed, with the depth edges that the camera sees: green on edges of the image, orange beside them.

    Returns (H + strip, W, 3) uint8 RGB.
    """
    mapped = edge_map(view.image, view.camera, FINE_PX)
    points = view.camera_SE3_lidar.transform(edges.xyz_m)
    small_px, seen = mapped.camera.project(points)
    large_px, _ = view.camera.project(points)
    u, v = np.rint(small_px[seen]).astype(np.int64).T
    is_on = mapped.strength[edges.upright[seen].astype(np.int64), v, u] > ON_EDGE
    canvas = np.asarray(cv2.convertScaleAbs(view.image, alpha=DIMMED), np.uint8)
    radius_px = max(2, round(view.image.shape[1] / 500))
    for color, chosen in ((BESIDE, ~is_on), (ON, is_on)):
        for x, y in np.rint(large_px[seen][chosen]).astype(int):
            cv2.circle(canvas, (int(x), int(y)), radius_px, color, -1, cv2.LINE_AA)
    by_chance = float((mapped.strength > ON_EDGE).mean())
    return np.vstack([canvas, _strip(is_on, by_chance, view.image.shape[1])])


def _strip(is_on: NDArray[np.bool_], by_chance: float, width_px: int) -> Picture:
    size_px = text_size_px(width_px)
    strip = Image.new("RGB", (width_px, 2 * size_px), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    share = 100 * is_on.mean() if len(is_on) else 0.0
    x = float(size_px)
    for color, text in (
        (ON, f"depth edge on an edge of the image, {share:.0f} %"),
        (BESIDE, f"beside one   ({len(is_on)} in all; by chance {100 * by_chance:.0f} % are on one)"),
    ):
        draw.ellipse((x, 0.6 * size_px, x + 0.8 * size_px, 1.4 * size_px), fill=color)
        draw.text((x + 1.3 * size_px, size_px), text, TEXT, font(size_px), anchor="lm")
        x += 3 * size_px + font(size_px).getlength(text)
    return np.array(strip)
