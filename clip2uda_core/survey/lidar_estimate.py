"""A spinning LiDAR as its clouds show it: beams, firings a turn, range, noise, losses, and what the vehicle hides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.sensors import BlindSector
from clip2uda_core.survey.beams import Beams, angles_deg
from clip2uda_core.survey.ground import Ground

STEEP_DEG = 3.0
"""Beams that look further down than this are expected to meet the ground within reach."""

BLIND_STEP_DEG = 15.0
BLIND_SHARE = 0.25
"""Where fewer than this share of a beam's firings come back from the ground or near it, something is in the way."""

LARGEST_NOISE_M = 0.2
"""What is rougher is no noise of a LiDAR: the ground is not smooth, or neighbours are not of one beam."""

BODY = 0.6
"""Returns from nearer than this share of the ground's distance are the vehicle's own, where they are in every cloud."""


@dataclass(frozen=True)
class LidarEstimate:
    """elevations_deg: of the beams, from the top. sharpness: see `Beams`. azimuth_steps: firings a turn. points: of a
    turn, median. range_m: nearest and farthest return. noise_m: standard deviation of the range, None where no smooth
    ground shows it. lost: share of returns from the near ground that are missing, None likewise. intensity_scale: 1,
    255, ..., None without intensities; intensity_median: on that scale, 0..1. blind: where the vehicle hides the view.
    """

    elevations_deg: tuple[float, ...]
    sharpness: float
    azimuth_steps: int
    points: int
    range_m: tuple[float, float]
    noise_m: float | None
    lost: float | None
    intensity_scale: float | None
    intensity_median: float
    blind: tuple[BlindSector, ...]


def nearest_beam(elevation_deg: NDArray[np.float64], beams_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) index into falling elevations (B,) of the beam that each point belongs to; -1 where none is near."""
    rising = beams_deg[::-1]
    middles = (rising[1:] + rising[:-1]) / 2
    beam = np.searchsorted(middles, elevation_deg)
    gap = np.median(np.diff(rising)) if len(rising) > 1 else 1.0
    near = np.abs(rising[beam] - elevation_deg) < gap
    return np.where(near, len(rising) - 1 - beam, -1)


def count_firings(cloud: NDArray[np.floating], beams: Beams) -> int:
    """Firings a turn: the circle over the usual step in azimuth between neighbours on a beam."""
    azimuth, elevation = angles_deg(cloud)
    beam = nearest_beam(elevation, beams.elevations_deg)
    order = np.lexsort((azimuth, beam))
    step = np.diff(azimuth[order])[(np.diff(beam[order]) == 0) & (beam[order][1:] >= 0)]
    step = step[step > 0.01]
    if not len(step):
        return 0
    usual = np.median(step)
    return round(360 / float(step[np.abs(step - usual) < 0.3 * usual].mean()))


def range_noise_m(cloud: NDArray[np.floating], beams: Beams) -> float | None:
    """Noise of the range on the smoothest stretches of the ground, from second differences along the beams.

    Of stretches of 15 degrees of a beam the lower quartile counts: grass, kerbs and cars are rougher than the noise.
    """
    range_m = np.linalg.norm(cloud, axis=1)
    azimuth, elevation = angles_deg(cloud)
    beam = nearest_beam(elevation, beams.elevations_deg)
    order = np.lexsort((azimuth, beam))
    order = order[(beam[order] >= 0) & (elevation[order] < -STEEP_DEG) & (range_m[order] < 25)]
    stretch = beam[order] * 24 + ((azimuth[order] + 180) // 15).astype(int)
    bend = np.diff(range_m[order], 2)
    inside = stretch[2:] == stretch[:-2]
    sigmas = []
    for values in _split(bend[inside], stretch[2:][inside]):
        if len(values) >= 15:
            sigmas.append(1.4826 * np.median(np.abs(values)) / np.sqrt(6))
    sigma = float(np.percentile(sigmas, 25)) if len(sigmas) >= 20 else np.inf
    return sigma if sigma < LARGEST_NOISE_M else None


def find_blind(
    clouds: Sequence[NDArray[np.floating]], beams: Beams, ground: Ground, firings: int
) -> tuple[tuple[BlindSector, ...], float | None]:
    """What the vehicle's own body hides, by azimuth, and the share of returns that is lost elsewhere.

    A downward beam meets the ground, or what stands on it. Where it seldom comes back from there, cloud after cloud,
    the vehicle is in the way, and every lower beam is blind there too.
    """
    steps = round(360 / BLIND_STEP_DEG)
    returned = np.zeros((len(beams.elevations_deg), steps))
    for cloud in clouds:
        azimuth, elevation = angles_deg(cloud)
        beam = nearest_beam(elevation, beams.elevations_deg)
        far = np.linalg.norm(cloud, axis=1) > BODY * _ground_distance_m(cloud, ground)
        column = ((azimuth + 180) // BLIND_STEP_DEG).astype(int) % steps
        kept = far & (beam >= 0)
        np.add.at(returned, (beam[kept], column[kept]), 1)
    share = returned / (len(clouds) * firings / steps)
    down = np.flatnonzero(beams.elevations_deg < -STEEP_DEG - abs(ground.pitch_deg) - abs(ground.roll_deg))
    if not len(down):
        return (), None
    sectors, seen = [], []
    gap = float(np.abs(np.diff(beams.elevations_deg)).mean())
    for index in range(steps):
        open_ = down[share[down, index] >= BLIND_SHARE]
        lowest = open_[-1] if len(open_) else down[0]
        seen.append(share[down[down <= lowest], index])
        if lowest < down[-1]:
            middle = -180 + BLIND_STEP_DEG * (index + 0.5)
            below = float(beams.elevations_deg[lowest]) - gap / 2
            sectors.append(BlindSector(middle_deg=middle, half_width_deg=BLIND_STEP_DEG / 2, below_deg=round(below, 2)))
    # the upper quartile: dark and wet ground and parked cars take returns too, and the simulation has its own
    lost = 1 - float(np.percentile(np.concatenate(seen), 75))
    return tuple(sectors), min(max(lost, 0.0), 0.5)


def _ground_distance_m(cloud: NDArray[np.floating], ground: Ground) -> NDArray[np.float64]:
    """(N,) distance at which each point's ray meets the ground plane; infinite for rays that look up."""
    fall = -(cloud @ ground.up) / np.maximum(np.linalg.norm(cloud, axis=1), 1e-6)
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(fall > 0, ground.height_m / np.maximum(fall, 1e-9), np.inf))


def intensity_scale(intensity: NDArray[np.floating]) -> float:
    """1, 255, 4095 or 65535: the smallest that holds nearly all intensities."""
    high = float(np.percentile(intensity, 99.9)) if len(intensity) else 1.0
    return next((scale for scale in (1.0, 255.0, 4095.0) if high <= 1.001 * scale), 65535.0)


def _split(values: NDArray[np.float64], groups: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Values by runs of equal group."""
    return np.split(values, np.flatnonzero(np.diff(groups)) + 1)
