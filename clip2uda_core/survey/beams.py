"""Beams of a spinning LiDAR, found in clouds without a ring field: the elevations at which its points lie.

Seen from the sensor, the points of a beam have one elevation. Recordings blur that: lasers sit a few centimetres apart,
so that their elevation changes with range, and clouds whose ego motion was corrected are seen from another place than
they were taken from. Within a narrow sector of one cloud little of that shows. So every sector of every cloud is a
witness: those that show sharp beams vote on their number, and those with that number on the elevations.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SECTORS = 36
NEAREST_M = 1.2
"""Nearer points are mostly the vehicle's own, and the lasers' own places bend their elevations most."""

BIN_DEG = 0.005
BLUR_DEG = 0.05
"""Standard deviation of the smoothing: beams 0.12 degrees apart are told apart, the blur within a beam is not taken for
two."""

FEWEST_POINTS = 50
FAINT = 0.03
"""Share of the strongest beams' density below which a peak is no beam."""

SHARPEST = 0.4
"""Share of the sectors, the sharpest ones, that vote."""

USUAL_COUNTS = (4, 8, 16, 20, 32, 40, 48, 64, 80, 96, 128)
"""Beams that LiDARs are built with: where a vote is close, one of these wins."""


@dataclass(frozen=True)
class Beams:
    """elevations_deg: (B,) from the top. sharpness: share of the points that lie in the half of all elevations that is
    nearest to a beam; 0.5 is what a cloud without beams has, 1 what beams without blur have."""

    elevations_deg: NDArray[np.float64]
    sharpness: float


@dataclass(frozen=True)
class _Witness:
    """A sector of a cloud: elevations (B,) at which it shows beams, rising, and how sharp they are."""

    peaks: NDArray[np.float64]
    sharpness: float


def angles_deg(xyz_m: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Azimuth (N,) in -180..180 and elevation (N,) of points (N, 3), degrees."""
    x, y, z = np.asarray(xyz_m, np.float64).T
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def find_beams(clouds: Sequence[NDArray[np.floating]]) -> Beams | None:
    """The beams of clouds of returns (N, 3) in the LiDAR frame; None where there are too few points to say."""
    witnesses = [_testify(elevation) for cloud in clouds for elevation in _elevations_by_sector(cloud)]
    witnesses = [witness for witness in witnesses if len(witness.peaks) > 1]
    if not witnesses:
        return None
    witnesses.sort(key=lambda witness: -witness.sharpness)
    sharpest = witnesses[: max(3, round(SHARPEST * len(witnesses)))]
    count = _elected(Counter(len(witness.peaks) for witness in sharpest))
    agreeing = [witness for witness in sharpest if len(witness.peaks) == count]
    elevations = np.median([witness.peaks for witness in agreeing], axis=0)
    return Beams(elevations[::-1], float(np.median([witness.sharpness for witness in agreeing])))


def _elevations_by_sector(cloud: NDArray[np.floating]) -> Iterator[NDArray[np.float64]]:
    azimuth, elevation = angles_deg(cloud[np.linalg.norm(cloud, axis=1) > NEAREST_M])
    sector = np.floor((azimuth + 180) * SECTORS / 360).astype(int) % SECTORS
    for index in range(SECTORS):
        yield elevation[sector == index]


def _testify(elevation: NDArray[np.float64]) -> _Witness:
    """Beams are where a sector's points are densest."""
    if len(elevation) < FEWEST_POINTS:
        return _Witness(np.empty(0), 0.0)
    counts = np.histogram(elevation, np.arange(-90, 90 + BIN_DEG, BIN_DEG))[0]
    density = cv2.GaussianBlur(counts.astype(np.float32)[None], (0, 0), BLUR_DEG / BIN_DEG)[0]
    strong = np.percentile(density[density > 0], 98)
    inner = density[1:-1]
    is_peak = (inner > density[:-2]) & (inner >= density[2:]) & (inner > FAINT * strong)
    peaks = np.asarray(-90 + BIN_DEG * (np.flatnonzero(is_peak) + 1.5), np.float64)
    return _Witness(peaks, _sharpness(elevation, peaks))


def _sharpness(elevation: NDArray[np.float64], beams: NDArray[np.float64]) -> float:
    if len(beams) < 2:
        return 0.0
    inside = elevation[(elevation > beams[0]) & (elevation < beams[-1])]
    above = np.clip(np.searchsorted(beams, inside), 1, len(beams) - 1)
    low, high = beams[above - 1], beams[above]
    return float(np.mean(np.minimum(inside - low, high - inside) < (high - low) / 4)) if len(inside) else 0.0


def _elected(votes: Counter[int]) -> int:
    """The number of beams: of those with at least half as many votes as the winner, the highest that is usual, else the
    highest. A sector may well lack beams, of the open sky or behind the bonnet, but has none too many."""
    most = max(votes.values())
    candidates = [count for count, number in votes.items() if number >= most / 2]
    return max([count for count in candidates if count in USUAL_COUNTS] or candidates)
