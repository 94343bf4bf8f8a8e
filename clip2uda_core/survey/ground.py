"""The ground below the vehicle as its LiDAR sees it: how high the sensor is, and how it is tilted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR_M, FAR_M = 1.5, 10.0
"""Horizontal distances between which ground is looked for: the vehicle's own body is nearer, slopes begin farther."""

LARGEST_TILT_DEG = 35.0
LOWEST_ORIGIN_M = -0.3
"""A frame's origin may lie on the ground, or in it; planes further above it are ceilings."""

BELOW_M, ABOVE_M = 0.06, 0.03
"""Points of the ground lie within these of its plane; fewer above, where sidewalks and grass are."""

ROUNDS = 6
TRIALS = 200
SAMPLE = 4000
FEWEST_POINTS = 300
LOWEST_SHARE = 0.5
"""A lower plane with this share of the largest one's points is preferred: roofs and hedges lie above the ground."""


@dataclass(frozen=True)
class Ground:
    """The ground plane in the LiDAR frame.

    up: (3,) unit normal. height_m: of the sensor's origin above it. share: of the near points that lie on it.
    """

    up: NDArray[np.float64]
    height_m: float
    share: float

    @property
    def roll_deg(self) -> float:
        """With `pitch_deg`, as in the simulation's MountConfig: base_R_lidar = yaw · pitch · roll."""
        return float(np.degrees(np.arctan2(self.up[1], self.up[2])))

    @property
    def pitch_deg(self) -> float:
        """Nose down is positive."""
        return float(np.degrees(-np.arcsin(np.clip(self.up[0], -1, 1))))


def find_ground(xyz_m: NDArray[np.floating], seed: int = 0) -> Ground | None:
    """The ground in a finite cloud (N, 3), by RANSAC on near points; None where no plane is plain enough.

    The sensor's z axis points up, within LARGEST_TILT_DEG.
    """
    distance_m = np.hypot(xyz_m[:, 0], xyz_m[:, 1])
    near = np.asarray(xyz_m[(distance_m > NEAR_M) & (distance_m < FAR_M)], np.float64)
    if len(near) < FEWEST_POINTS:
        return None
    rng = np.random.default_rng(seed)
    sample = near[rng.choice(len(near), min(SAMPLE, len(near)), replace=False)]
    plane = _likeliest_plane(sample, rng)
    if plane is None:
        return None
    for _ in range(ROUNDS):
        on_plane = _on_plane(near @ plane[:3] + plane[3])
        if on_plane.sum() < FEWEST_POINTS / 3:
            return None
        plane = _fitted(near[on_plane])
    return Ground(plane[:3], float(plane[3]), float(_on_plane(near @ plane[:3] + plane[3]).mean()))


def merge_grounds(grounds: Sequence[Ground]) -> Ground | None:
    """The median of several frames' grounds, which slopes and parked trucks disturb but in some; None without any."""
    if not grounds:
        return None
    up = np.median([ground.up for ground in grounds], axis=0)
    return Ground(
        up / np.linalg.norm(up),
        float(np.median([ground.height_m for ground in grounds])),
        float(np.median([ground.share for ground in grounds])),
    )


def _likeliest_plane(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64] | None:
    """(4,) up and height of the lowest among the planes that hold many points; None where every one is too steep.

    Planes are scored by area, not by points: a sensor's rings are densest close by.
    """
    triples = points[rng.integers(len(points), size=(TRIALS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    level = np.abs(normals[:, 2]) > np.cos(np.radians(LARGEST_TILT_DEG)) * np.maximum(lengths, 1e-6)
    if not level.any():
        return None
    normals, triples = normals[level] / lengths[level, None], triples[level]
    normals *= np.sign(normals[:, 2:])
    heights = -np.einsum("ij,ij->i", normals, triples[:, 0])
    inside = _on_plane(points @ normals.T + heights)
    area = np.hypot(points[:, 0], points[:, 1]) @ inside
    many = np.flatnonzero((area >= LOWEST_SHARE * area.max()) & (heights > LOWEST_ORIGIN_M))
    if not len(many):
        return None
    # planes of one surface differ by the noise alone: of those as low as the lowest, the one with most points
    low = many[heights[many] > heights[many].max() - 2 * BELOW_M]
    best = low[area[low].argmax()]
    return np.append(normals[best], heights[best])


def _on_plane(above_m: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((above_m > -BELOW_M) & (above_m < ABOVE_M))


def _fitted(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) up and height of the plane with the least squared distances to points (N, 3)."""
    middle = points.mean(axis=0)
    up = np.linalg.eigh(np.cov((points - middle).T))[1][:, 0]
    up *= np.sign(up[2])
    return np.append(up, -up @ middle)
