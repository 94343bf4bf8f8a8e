"""Temporal consistency of labels: whether a surface keeps its class from one scan to the next.

The later scan is brought to the earlier one by the known or estimated motion, and each of its points is compared with
the nearest of the earlier scan within a radius. That needs no ground truth: a wall stays a wall.

What moves on its own would be compared with what stood there before. Three things keep it out: a point without an
earlier one within the radius is not compared; of those that have one, only those are taken whose surroundings, a cube
of CUBE_M, mostly have one too, which the front of a moving thing and what it uncovers do not; and the nearest must be
mutual, so that a surface which appears before another does not borrow its points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import SE3
from clip2uda_core.geometry.point_grid import PointGrid, one_per_voxel, voxel_keys
from clip2uda_core.labels import IGNORE

RADIUS_M = 0.2
CUBE_M = 1.0
LEAST_STATIC = 0.5
FARTHEST_M = 40.0
"""Further away the scan lines lie too far apart for points to meet within the radius."""


@dataclass
class Consistency:
    """How often matched points of consecutive scans had one class.

    counts: (K, K) matched pairs, by class in the earlier scan (rows) and in the later one. scans: pairs of scans.
    """

    counts: NDArray[np.int64]
    scans: int = 0

    @staticmethod
    def empty(classes: int) -> "Consistency":
        return Consistency(np.zeros((classes, classes), np.int64))

    def add(self, earlier: NDArray[np.uint8], later: NDArray[np.uint8]) -> None:
        """Counts matched labels (M,); pairs with an IGNORE are left out."""
        known = (earlier != IGNORE) & (later != IGNORE)
        classes = len(self.counts)
        index = earlier[known].astype(np.int64) * classes + later[known]
        self.counts += np.bincount(index, minlength=classes * classes).reshape(classes, classes)
        self.scans += 1

    @property
    def pairs(self) -> int:
        return int(self.counts.sum())

    def share(self) -> float | None:
        """Share of the pairs with one class; None where there is no pair."""
        return float(np.trace(self.counts)) / self.pairs if self.pairs else None

    def class_shares(self) -> NDArray[np.float64]:
        """(K,) of the points that either scan says are of a class, the share that both say are; NaN for a class that
        neither says. Each pair counts once for each scan."""
        return shares_by_class(self.counts)

    def kappa(self) -> float | None:
        """Consistency above what labels drawn at random in the same proportions have, 1 at most (Cohen 1960); None
        where there is no pair or but one class, which is consistent whatever it is."""
        return kappa(self.counts)


def shares_by_class(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) from a (K, K) table of two labellings: of the points that either gives a class, the share that both do; NaN
    for a class that neither gives. Each point counts once for each labelling."""
    same = 2 * np.diagonal(counts).astype(np.float64)
    either = (counts.sum(0) + counts.sum(1)).astype(np.float64)
    return np.divide(same, either, out=np.full(len(same), np.nan), where=either > 0)


def kappa(counts: NDArray[np.int64]) -> float | None:
    """Cohen's kappa of a (K, K) table of two labellings; None where it is not defined."""
    total = counts.sum()
    if total == 0:
        return None
    by_chance = float(counts.sum(0) @ counts.sum(1)) / float(total) ** 2
    if by_chance > 1 - 1e-9:
        return None
    return (float(np.trace(counts)) / float(total) - by_chance) / (1 - by_chance)


def match_static(
    earlier_xyz_m: NDArray[np.floating],
    later_xyz_m: NDArray[np.floating],
    earlier_SE3_later: SE3,
    radius_m: float = RADIUS_M,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (M,) of points of two scans, (N, 3) each, that are one place of something static.

    At most one point a voxel of half the radius takes part, so that what is near does not outvote the rest; that also
    bounds the time.
    """
    earlier = _taking_part(earlier_xyz_m, radius_m)
    later = _taking_part(later_xyz_m, radius_m)
    if not len(earlier) or not len(later):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    then = np.asarray(earlier_xyz_m[earlier], np.float64)
    now = earlier_SE3_later.transform(np.asarray(later_xyz_m[later], np.float64))
    nearest, _ = PointGrid(then, radius_m).nearest(now)
    back, _ = PointGrid(now, radius_m).nearest(then)
    static = _is_mostly(nearest >= 0, now)
    mutual = (nearest >= 0) & (back[nearest] == np.arange(len(now)))
    taken = np.flatnonzero(static & mutual)
    return earlier[nearest[taken]], later[taken]


def _taking_part(xyz_m: NDArray[np.floating], radius_m: float) -> NDArray[np.int64]:
    distance_m = np.linalg.norm(np.asarray(xyz_m, np.float64), axis=1)
    near = np.flatnonzero(distance_m < FARTHEST_M)  # NaN compares false
    return near[one_per_voxel(xyz_m[near], radius_m / 2)]


def _is_mostly(matched: NDArray[np.bool_], xyz_m: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether most of the points in a point's cube have a counterpart."""
    _, cube = np.unique(voxel_keys(xyz_m, CUBE_M), return_inverse=True)
    return (np.bincount(cube, matched) >= LEAST_STATIC * np.bincount(cube))[cube]
