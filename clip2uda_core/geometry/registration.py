"""How a LiDAR moved between two scans: point-to-plane ICP, from coarse to fine.

The scan that is registered against becomes small patches of surface, each the mean and the normal of the points in a
voxel (as in NDT, Biber and Strasser 2003). Points of the other scan are drawn to the planes of the nearest patches by
Gauss-Newton steps (Chen and Medioni 1992) under a robust kernel, which what moves on its own hardly weighs in.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry.point_grid import PointGrid, one_per_voxel, voxel_keys
from clip2uda_core.geometry.se3 import SE3

LEVELS_M = (3.0, 1.0, 0.5)
"""Voxel sizes of the patches. The first is how far a motion may be from its guess."""

STEPS = (12, 10, 20)
CONVERGED = 2e-4
NEAREST_M, FARTHEST_M = 1.5, 80.0
"""Nearer points are mostly the robot's own, which never seem to move."""

MAX_POINTS = 3000
MIN_POINTS_OF_PATCH = 5
FLAT = 0.1
"""A patch is flat when its points scatter across it at most so much, as a share of the variance along it."""

WIDE = 0.02
"""A patch has a normal when its narrower extent has at least this share of the variance of the wider: a single scan
line lies in many planes."""

INLIER_M = 0.15
LEAST_MATCHES = 100
LEAST_SURFACES = 30
LEAST_OVERLAP = 0.3
LEAST_FIT = 0.5
LEAST_GRIP = 0.01
"""What a motion is trusted from. Scans of unrelated streets, whose ground always fits, reach a fit of 0.3."""


@dataclass(frozen=True)
class Registration:
    """target_SE3_source: takes points of the registered scan to the frame of the other; the guess where nothing could
    be done.

    overlap: share of its points that have a patch of the other scan nearby.
    fit: share of those that lie on it within INLIER_M, each weighted by how much its patch holds the direction of
        motion that the scene determines least: all ground fits all other ground, and says nothing of the drive.
    grip: how firmly that direction is held, as the least eigenvalue of the scatter of the patches' normals, 0 to 1/3.
    rms_m: distance of those points from their planes. failure: why the motion is not to be trusted, None where it is.
    """

    target_SE3_source: SE3
    overlap: float
    fit: float
    grip: float
    rms_m: float
    failure: str | None


class SurfaceMap:
    """A scan to register others against. xyz_m: (N, 3); NaN and points too near or too far are left out."""

    def __init__(self, xyz_m: NDArray[np.floating]) -> None:
        self._points = usable_points(xyz_m)

    @cached_property
    def levels(self) -> tuple["_Patches", ...]:
        return tuple(_Patches(self._points, size_m) for size_m in LEVELS_M)


def usable_points(xyz_m: NDArray[np.floating]) -> NDArray[np.float64]:
    """The points (M, 3) of a scan that say something about its motion."""
    xyz_m = np.asarray(xyz_m, np.float64)
    distance_m = np.sqrt(np.einsum("ij,ij->i", xyz_m, xyz_m))
    return xyz_m[(distance_m > NEAREST_M) & (distance_m < FARTHEST_M)]  # NaN compares false


def register(xyz_m: NDArray[np.floating], target: SurfaceMap, guess: SE3) -> Registration:
    """Registers a scan (N, 3) against another one, from a guess of `target_SE3_source`.

    The guess may be wrong by some 2 m and 5 degrees. A motion that the scene does not determine (an open field, a
    long tunnel), that few points agree with, or that has too few points is returned with its `failure`.
    """
    points = usable_points(xyz_m)
    points = points[one_per_voxel(points, LEVELS_M[-1])]
    points = points[np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).astype(int)]
    matrix = np.array(guess.matrix)
    surfaces = len(target.levels[1])
    if len(points) < LEAST_MATCHES or surfaces < LEAST_SURFACES:
        told = f"too few points or surfaces: {len(points)} points against {surfaces} patches of {LEVELS_M[1]} m"
        return Registration(guess, 0.0, 0.0, 0.0, np.inf, told)
    for level, steps in zip(target.levels, STEPS, strict=True):
        for _ in range(steps):
            step = _step(points, level, matrix)
            if step is None:
                break
            matrix = step @ matrix
            if np.abs(step - np.eye(4)).max() < CONVERGED * level.size_m:
                break
    return _judged(points, target.levels[1], SE3(matrix, guess.target, guess.source))


class _Patches:
    """Flat pieces of surface: their means, unit normals, and a grid to find them by."""

    def __init__(self, points: NDArray[np.float64], size_m: float) -> None:
        self.size_m = size_m
        _, index, counts = np.unique(voxel_keys(points, size_m), return_inverse=True, return_counts=True)
        enough = counts >= MIN_POINTS_OF_PATCH
        mean = _sums(points, index, len(counts)) / np.maximum(counts, 1)[:, None]
        offset = points - mean[index]
        products = offset[:, [0, 0, 0, 1, 1, 2]] * offset[:, [0, 1, 2, 1, 2, 2]]
        scatter = (_sums(products, index, len(counts)) / np.maximum(counts, 1)[:, None])[enough]
        variances, directions = np.linalg.eigh(scatter[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3))
        good = (variances[:, 0] < FLAT * variances[:, 1]) & (variances[:, 1] > WIDE * variances[:, 2])
        self.mean, self.normal = mean[enough][good], directions[good, :, 0]
        self.grid = PointGrid(self.mean, size_m)

    def __len__(self) -> int:
        return len(self.mean)


def _sums(values: NDArray[np.float64], index: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(index, column, groups) for column in values.T], 1)


def _residuals(
    points: NDArray[np.float64], patches: _Patches, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Moved points that have a patch nearby (M, 3), the patches' normals (M, 3), and the distances to their planes."""
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    nearest, _ = patches.grid.nearest(moved)
    moved, nearest = moved[nearest >= 0], nearest[nearest >= 0]
    normals = patches.normal[nearest]
    return moved, normals, np.einsum("ij,ij->i", normals, moved - patches.mean[nearest])


def _step(points: NDArray[np.float64], patches: _Patches, matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """One Gauss-Newton step (4, 4) towards the planes; None when too few points have one."""
    moved, normals, residual = _residuals(points, patches, matrix)
    if len(residual) < LEAST_MATCHES:
        return None
    kernel_m = patches.size_m / 6
    weight = (kernel_m**2 / (kernel_m**2 + residual**2)) ** 2  # Geman-McClure
    jacobian = np.concatenate([np.cross(moved, normals), normals], 1)
    weighted = jacobian * weight[:, None]
    # The damping keeps what the scene does not determine where the guess had it.
    hessian = weighted.T @ jacobian + 1e-3 * np.diag([100.0, 100, 100, 1, 1, 1])
    motion = np.linalg.solve(hessian, -weighted.T @ residual)
    step = np.eye(4)
    step[:3, :3] = _rotation(motion[:3])
    step[:3, 3] = motion[3:]
    return step


def _rotation(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rodrigues' formula: by |vector| radians about the vector."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _judged(points: NDArray[np.float64], patches: _Patches, motion: SE3) -> Registration:
    _, normals, residual = _residuals(points, patches, motion.matrix)
    overlap = len(residual) / len(points)
    if len(residual) < LEAST_MATCHES or overlap < LEAST_OVERLAP:
        reason = f"only {100 * overlap:.0f} % of the points have a surface of the other scan nearby"
        return Registration(motion, overlap, 0.0, 0.0, np.inf, reason)
    strengths, directions = np.linalg.eigh(normals.T @ normals / len(normals))
    weight = (normals @ directions[:, 0]) ** 2
    fits = np.abs(residual) < INLIER_M
    fit, grip = float(weight[fits].sum() / weight.sum()), float(strengths[0])
    rms_m = float(np.sqrt(np.mean(residual[fits] ** 2))) if fits.any() else np.inf
    failure: str | None = None
    if grip < LEAST_GRIP:
        failure = "the scene does not determine the motion: no surface stands across some direction"
    elif fit < LEAST_FIT:
        failure = f"only {100 * fit:.0f} % of what determines the motion fits the other scan"
    return Registration(motion, overlap, fit, grip, rms_m, failure)
