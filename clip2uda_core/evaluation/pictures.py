"""Pictures to judge a frame by eye: points over the image, by class or by depth, and the cloud seen from above.

All pictures are (H, W, 3) uint8 RGB.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.legends import (
    BACKGROUND,
    TEXT,
    Picture,
    class_panel,
    class_strip,
    depth_colors,
    depth_strip,
    font,
    height_panel,
    turbo,
)
from clip2uda_core.geometry import Projection
from clip2uda_core.labels import IGNORE, LabelSpace

GRID = (58, 62, 74)
DIMMED = 0.7
"""Brightness left to the image under the points, so that bright walls do not swallow them."""


def draw_overlay(image: Picture, projection: Projection, labels: NDArray[np.uint8], label_space: LabelSpace) -> Picture:
    """The image with every visible point in the colour of its class, and the legend in a strip below.

    image: (H, W, 3) RGB. labels: (N,) class of each point of the projected cloud; points without a class (IGNORE) are
    small and gray. Returns (H + strip, W, 3).
    """
    canvas, radius_px = _doubled(image), _dot_radius_px(image)
    colors = label_space.colors[labels]
    ignored = projection.visible & (labels == IGNORE)
    _draw_points(canvas, projection, ignored, colors, radius_px=1)
    _draw_points(canvas, projection, projection.visible & ~ignored, colors, radius_px)
    return np.vstack([_halved(canvas), class_strip(labels[projection.visible], label_space, image.shape[1])])


def draw_depth_overlay(image: Picture, projection: Projection) -> Picture:
    """The image with every visible point coloured by its depth, and the scale in a strip below.

    Near is red and far is blue, on a logarithmic scale, so near things stand out against what is behind them: a wrong
    calibration shows as colour that spills over their edges. Returns (H + strip, W, 3).
    """
    depth_m = projection.depth_m[projection.visible]
    near_m, far_m = _depth_range_m(depth_m)
    canvas = _doubled(image)
    colors = depth_colors(np.nan_to_num(projection.depth_m, nan=far_m), near_m, far_m)
    _draw_points(canvas, projection, projection.visible, colors, _dot_radius_px(image))
    share = len(depth_m) / max(1, len(projection.depth_m))
    note = f"{len(depth_m):,} points, {100 * share:.1f} % of the cloud"
    return np.vstack([_halved(canvas), depth_strip(near_m, far_m, note, image.shape[1])])


def draw_birds_eye(
    xyz_m: NDArray[np.float32],
    labels: NDArray[np.uint8] | None = None,
    label_space: LabelSpace | None = None,
    *,
    range_m: float | None = None,
    size_px: int = 900,
) -> Picture:
    """The cloud from above, x forward up and y left, with rings in metres around the sensor and a legend on the right.

    xyz_m: (N, 3) in the LiDAR frame. With labels points have the colour of their class, without, of their height.
    range_m: half the side of the square that is shown; None fits it to the cloud. Returns (size_px, size_px + legend,
    3).
    """
    finite = np.isfinite(xyz_m).all(axis=1)
    xyz_m = xyz_m[finite]
    if labels is not None and label_space is not None:
        labels = labels[finite]
        colors, above = label_space.colors[labels], labels != IGNORE
        legend = class_panel(labels, label_space, size_px)
    else:
        low_m, high_m = _height_range_m(xyz_m)
        colors, above = turbo((xyz_m[:, 2] - low_m) / (high_m - low_m)), np.ones(len(xyz_m), bool)
        legend = height_panel(low_m, high_m, size_px)
    range_m = _fitting_range_m(xyz_m) if range_m is None else range_m
    canvas = _rings(range_m, 2 * size_px)
    order = np.lexsort((xyz_m[:, 2], above))
    uv_px = size_px * (1 - xyz_m[order, 1::-1].astype(np.float64) / range_m)
    _paint(canvas, uv_px, colors[order], radius_px=1)
    _draw_sensor(canvas)
    return np.hstack([_write_ring_distances(_halved(canvas), range_m), legend])


def save_png(picture: Picture, path: Path) -> None:
    """Writes a picture, making its folder; DataError when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: the picture cannot be written: {error}") from None
    if not written:
        raise DataError(f"{path}: the picture cannot be written; is the folder writable and the disk not full?")


def _doubled(image: Picture) -> Picture:
    """The dimmed image at twice its size: dots are drawn there and halved again, which makes them round."""
    dimmed = cv2.convertScaleAbs(image, alpha=DIMMED)
    return np.asarray(cv2.resize(dimmed, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST), np.uint8)


def _halved(canvas: Picture) -> Picture:
    size = (canvas.shape[1] // 2, canvas.shape[0] // 2)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), np.uint8)


def _dot_radius_px(image: Picture) -> int:
    """Radius on the doubled canvas: 2 for KITTI's 1242 columns, 4 for 1920."""
    return max(2, round(image.shape[1] / 500))


def _draw_points(
    canvas: Picture, projection: Projection, chosen: NDArray[np.bool_], colors: Picture, radius_px: int
) -> None:
    """Draws far points first, so that near ones cover what they hide."""
    index = np.flatnonzero(chosen)
    index = index[np.argsort(-projection.depth_m[index], kind="stable")]
    _paint(canvas, 2 * projection.uv_px[index] + 0.5, colors[index], radius_px)


def _paint(canvas: Picture, uv_px: NDArray[np.floating], colors: Picture, radius_px: int) -> None:
    """Fills a disc around each (u, v), in order: later ones cover earlier ones. What is outside is left out."""
    span = np.arange(-radius_px, radius_px + 1)
    du, dv = np.meshgrid(span, span)
    disc = du**2 + dv**2 <= (radius_px + 0.3) ** 2
    u, v = np.rint(uv_px).astype(np.int64).T
    uu, vv = (u[:, None] + du[disc]).ravel(), (v[:, None] + dv[disc]).ravel()
    inside = (uu >= 0) & (uu < canvas.shape[1]) & (vv >= 0) & (vv < canvas.shape[0])
    canvas[vv[inside], uu[inside]] = np.repeat(colors, disc.sum(), axis=0)[inside]


def _depth_range_m(depth_m: NDArray[np.floating]) -> tuple[float, float]:
    """Nearest and farthest of the scale: most of the points, and never an empty range."""
    if not len(depth_m):
        return 1.0, 100.0
    near_m, far_m = np.percentile(depth_m, (1, 99))
    near_m = max(0.3, float(near_m))
    return near_m, max(float(far_m), 1.5 * near_m)


def _height_range_m(xyz_m: NDArray[np.float32]) -> tuple[float, float]:
    if not len(xyz_m):
        return -1.0, 1.0
    low_m, high_m = np.percentile(xyz_m[:, 2], (2, 98))
    return float(low_m), max(float(high_m), float(low_m) + 0.5)


def _fitting_range_m(xyz_m: NDArray[np.float32]) -> float:
    """Holds nearly all of the points, in whole steps of five metres up to a hundred."""
    distance_m = np.percentile(np.hypot(xyz_m[:, 0], xyz_m[:, 1]), 97) if len(xyz_m) else 0.0
    return float(np.clip(5 * np.ceil(distance_m / 5), 5, 100))


def _ring_step_m(range_m: float) -> float:
    return next(step for step in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if range_m / step <= 6 or step == 50.0)


def _rings(range_m: float, size_px: int) -> Picture:
    """An empty ground: rings around the sensor in the middle, and its two axes."""
    canvas = np.full((size_px, size_px, 3), BACKGROUND, np.uint8)
    middle, px_per_m, step_m = size_px // 2, size_px / (2 * range_m), _ring_step_m(range_m)
    cv2.line(canvas, (middle, 0), (middle, size_px), GRID, 2)
    cv2.line(canvas, (0, middle), (size_px, middle), GRID, 2)
    for ring in range(1, int(1.5 * range_m / step_m) + 1):
        cv2.circle(canvas, (middle, middle), round(ring * step_m * px_per_m), GRID, 2, cv2.LINE_AA)
    return canvas


def _draw_sensor(canvas: Picture) -> None:
    """A white arrow head in the middle that points forward."""
    middle, length = len(canvas) // 2, len(canvas) // 90
    head = [(0, -1.4), (0.9, 1.0), (0, 0.5), (-0.9, 1.0)]
    outline = np.array([(round(middle + length * x), round(middle + length * y)) for x, y in head], np.int32)
    cv2.fillPoly(canvas, [outline], (255, 255, 255), cv2.LINE_AA)
    cv2.polylines(canvas, [outline], True, BACKGROUND, 2, cv2.LINE_AA)


def _write_ring_distances(picture: Picture, range_m: float) -> Picture:
    """Distances along the diagonal to the front right, where roads seldom are."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    middle, size_px, step_m = len(picture) / 2, max(11, len(picture) // 65), _ring_step_m(range_m)
    for ring in range(1, int(1.3 * range_m / step_m) + 1):
        along_px = ring * step_m * middle / range_m / np.sqrt(2)
        draw.text(
            (middle + along_px, middle - along_px),
            f"{ring * step_m:g} m",
            TEXT,
            font(size_px),
            anchor="mm",
            stroke_width=3,
            stroke_fill=BACKGROUND,
        )
    return np.array(image)
