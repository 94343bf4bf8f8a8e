"""Edges as a LiDAR and as a camera sees them: where a scan jumps in range, and where an image changes in brightness."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import CameraModel
from clip2uda_core.survey.beams import Beams, angles_deg
from clip2uda_core.survey.lidar_estimate import nearest_beam

NEAREST_M, FARTHEST_M = 2.5, 60.0
SIDE_JUMP_M, SIDE_JUMP_SHARE = 0.5, 0.1
TOP_JUMP_M, TOP_JUMP_SHARE = 1.0, 0.25
"""Least jumps in range, absolute and as a share of the range: between neighbours on a beam, and across beams, where
the ground too recedes from one to the next."""

SMOOTH = 0.02
"""Share of the range by which a point may differ from its neighbour on the near side: leaves have no outlines."""

LARGEST_STEP_DEG = 1.0
"""Neighbours on a beam are no farther apart; more is a gap in the scan."""

FINEST_TOP_DEG = 0.7
"""Beams farther apart than this show the tops of things too coarsely to be found in an image."""

COLUMN_DEG = 0.4

FOCAL_PX = 400.0
"""Images are scaled to this focal length, at most: a pixel is 0.14 degrees, about the step of a LiDAR."""

FLAT = 1e-3
FINE_PX, COARSE_PX = 1.5, 4.0
SURROUNDINGS_PX = 61
"""Edges count by how much they stand out from their surroundings: a tree's thousand twigs do not."""


@dataclass(frozen=True)
class DepthEdges:
    """Points at the near side of jumps in range.

    xyz_m: (E, 3) in the LiDAR frame. upright: (E,) whether the jump is to the side, at an upright outline; else the
    point is below a thing's top.
    """

    xyz_m: NDArray[np.float32]
    upright: NDArray[np.bool_]


@dataclass(frozen=True)
class EdgeMap:
    """How strongly an image's edges stand out, (2, h, w) float32, about zero on average.

    [0]: brightness changes along the columns, as at the tops of things; [1]: along the rows, as at upright outlines.
    camera: of the scaled image.
    """

    strength: NDArray[np.float32]
    camera: CameraModel


def find_depth_edges(cloud: NDArray[np.float32], beams: Beams) -> DepthEdges:
    """The outlines of things in one cloud of returns (N, 3), whose points may come in any order."""
    range_m = np.linalg.norm(cloud, axis=1)
    within = (range_m > NEAREST_M) & (range_m < FARTHEST_M)
    cloud, range_m = cloud[within], range_m[within]
    azimuth, elevation = angles_deg(cloud)
    sides = _sides(range_m, azimuth, nearest_beam(elevation, beams.elevations_deg))
    tops = _tops(range_m, azimuth, elevation, beams)
    upright = np.concatenate([np.ones(len(sides), bool), np.zeros(len(tops), bool)])
    return DepthEdges(cloud[np.concatenate([sides, tops])], upright)


def _sides(range_m: NDArray[np.floating], azimuth: NDArray[np.float64], beam: NDArray[np.int64]) -> NDArray[np.int64]:
    """Points whose neighbour on the beam is much farther on one side and on the same surface on the other."""
    order = np.lexsort((azimuth, beam))
    neighbours = (np.diff(beam[order]) == 0) & (beam[order][1:] >= 0) & (np.diff(azimuth[order]) < LARGEST_STEP_DEG)
    first, second = range_m[order][:-1], range_m[order][1:]
    near = np.minimum(first, second)
    jump = neighbours & (np.abs(second - first) > np.maximum(SIDE_JUMP_M, SIDE_JUMP_SHARE * near))
    smooth = np.pad(neighbours & (np.abs(second - first) < SMOOTH * near), 1)
    outward = np.flatnonzero(jump & (second > first) & smooth[:-2])
    inward = np.flatnonzero(jump & (second < first) & smooth[2:])
    return np.unique(np.concatenate([order[outward], order[inward + 1]]))


def _tops(
    range_m: NDArray[np.floating], azimuth: NDArray[np.float64], elevation: NDArray[np.float64], beams: Beams
) -> NDArray[np.int64]:
    """Points over which the next beam sees much farther."""
    column = np.floor(azimuth / COLUMN_DEG).astype(int)
    order = np.lexsort((elevation, column))
    step = np.diff(elevation[order])
    least_step = 0.3 * np.median(np.abs(np.diff(beams.elevations_deg)))
    above = (np.diff(column[order]) == 0) & (step > least_step) & (step < FINEST_TOP_DEG)
    low, high = range_m[order][:-1], range_m[order][1:]
    jump = high - low > np.maximum(TOP_JUMP_M, TOP_JUMP_SHARE * low)
    return np.unique(order[:-1][above & jump & (elevation[order][:-1] > -12)])


def edge_map(image: NDArray[np.uint8], camera: CameraModel, blur_px: float) -> EdgeMap:
    """Edges of an RGB image (H, W, 3), of its logarithm, so that shade and night count as light and day do."""
    scale = min(1.0, FOCAL_PX / camera.fx)
    width_px, height_px = max(16, round(scale * camera.width_px)), max(16, round(scale * camera.height_px))
    small = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA)
    gray = np.log(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) + 10)
    strength = np.stack([_standing_out(np.abs(cv2.Scharr(gray, cv2.CV_32F, dx, 1 - dx)), blur_px) for dx in (0, 1)])
    return EdgeMap(strength, camera.resized(width_px, height_px))


def _standing_out(gradient: NDArray[np.float32], blur_px: float) -> NDArray[np.float32]:
    """Blurred gradient (h, w) in standard deviations of its surroundings, above their mean."""
    changing = gradient[gradient > FLAT]
    if not len(changing):
        return np.zeros_like(gradient)
    gradient = np.minimum(gradient, np.percentile(changing, 97))  # one lamp in the night is not all there is
    blurred = cv2.GaussianBlur(gradient, (0, 0), blur_px)
    mean = cv2.blur(blurred, (SURROUNDINGS_PX, SURROUNDINGS_PX))
    variance = np.maximum(cv2.blur(blurred * blurred, (SURROUNDINGS_PX, SURROUNDINGS_PX)) - mean * mean, 0)
    flat = np.percentile(variance, 20) + 1e-9
    return np.asarray(np.clip((blurred - mean) / np.sqrt(variance + flat), -2, 3), np.float32)
