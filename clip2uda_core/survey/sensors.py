"""The sensors of a recording, estimated from its clouds and calibration, for a simulated vehicle to carry."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3, CameraModel
from clip2uda_core.survey.beams import Beams, angles_deg, find_beams
from clip2uda_core.survey.ground import Ground, find_ground, merge_grounds
from clip2uda_core.survey.lidar_estimate import (
    LidarEstimate,
    count_firings,
    find_blind,
    intensity_scale,
    range_noise_m,
)
from clip2uda_core.types import CameraView, Frame, PointCloud

ENOUGH_FRAMES = 12
"""Frames that are enough for an estimate, spread over the recording; more are taken but change little."""

NEAREST_M = 0.5
"""What is nearer is no return: some drivers put points without one at the origin."""

BLURRED = 0.95
"""Beams below this sharpness are no beams: a non-repetitive LiDAR, several merged clouds, or another frame's origin."""

MOST_BEAMS = 200
LOWEST_M = 0.15
"""A lower origin is no LiDAR's but a vehicle's (base_link), to whose frame the clouds were transformed."""

FALLBACK_BEAMS = 32
FALLBACK_HEIGHT_M = 1.8
DARK = 45
"""Median gray level below which an image was taken by night."""


@dataclass(frozen=True)
class CameraEstimate:
    """A camera as the recording's calibration gives it. gray: all channels are equal. dark_share: of its images."""

    name: str
    camera: CameraModel
    camera_SE3_lidar: SE3
    gray: bool
    dark_share: float


@dataclass(frozen=True)
class SensorEstimate:
    """The sensors of one vehicle.

    ground: where the LiDAR stands above it, and its tilt; None where no ground was found. forward_deg: azimuth of the
    driving direction in the levelled LiDAR frame, by the front camera. rate_hz: clouds a second. frames: how many were
    looked at. warnings: what could not be told, and what was taken instead.
    """

    lidar: LidarEstimate
    ground: Ground | None
    forward_deg: float
    cameras: tuple[CameraEstimate, ...]
    rate_hz: float
    frames: int
    warnings: tuple[str, ...]

    @property
    def height_m(self) -> float:
        return FALLBACK_HEIGHT_M if self.ground is None else self.ground.height_m

    def describe(self) -> list[str]:
        """A line for the LiDAR, one for its mount, one for each camera."""
        lidar = self.lidar
        top, bottom = lidar.elevations_deg[0], lidar.elevations_deg[-1]
        lines = [
            f"LiDAR: {len(lidar.elevations_deg)} beams from {top:+.1f} to {bottom:+.1f}°, {lidar.azimuth_steps} "
            f"firings a turn, {lidar.points:,} points, returns from {lidar.range_m[0]:.1f} to {lidar.range_m[1]:.0f} m"
            + ("" if lidar.noise_m is None else f", range noise {100 * lidar.noise_m:.1f} cm")
            + ("" if lidar.intensity_scale is None else f", intensities up to {lidar.intensity_scale:g}")
        ]
        if self.ground is not None:
            lines.append(
                f"mount: {self.ground.height_m:.2f} m above the ground, roll {self.ground.roll_deg:+.1f}°, pitch "
                f"{self.ground.pitch_deg:+.1f}°, driving towards azimuth {self.forward_deg:+.0f}°"
            )
        for camera in self.cameras:
            size = f"{camera.camera.width_px}x{camera.camera.height_px}"
            kind = type(camera.camera).__name__.removesuffix("Camera").lower()
            lines.append(f"camera {camera.name}: {kind} {size}, {'gray' if camera.gray else 'colour'}")
        return lines


@dataclass
class _Seen:
    """What is kept of the frames: finite returns, intensities and one view per camera, no images."""

    clouds: list[NDArray[np.float32]] = field(default_factory=list)
    intensities: list[NDArray[np.float32]] = field(default_factory=list)
    views: dict[str, CameraView] = field(default_factory=dict)
    gray: dict[str, list[bool]] = field(default_factory=dict)
    dark: dict[str, list[bool]] = field(default_factory=dict)
    stamps_ns: list[int] = field(default_factory=list)

    def add(self, frame: Frame) -> None:
        kept = _returns(frame.cloud)
        self.stamps_ns.append(frame.cloud.stamp_ns)
        if kept.sum() > 100:
            self.clouds.append(frame.cloud.xyz_m[kept])
            if frame.cloud.intensity is not None:
                self.intensities.append(frame.cloud.intensity[kept])
        for view in frame.views:
            self.views.setdefault(view.name, view)
            small = view.image[::8, ::8]
            self.gray.setdefault(view.name, []).append(bool((np.ptp(small, axis=2) <= 2).mean() > 0.99))
            self.dark.setdefault(view.name, []).append(bool(np.median(small) < DARK))


def estimate_sensors(frames: Iterable[Frame], rate_hz: float = 10.0) -> SensorEstimate:
    """The LiDAR, its mount and the cameras of a recording, from frames spread over it (`ENOUGH_FRAMES` will do).

    rate_hz: of the clouds, as the recording's stamps tell it. Frames are taken one at a time; images are not kept.
    Raises DataError where no frame has a usable cloud.
    """
    seen = _Seen()
    for frame in frames:
        seen.add(frame)
    if not seen.clouds:
        raise DataError(
            f"sensors: expected clouds with returns, got none in {len(seen.stamps_ns)} frames; check the points topic"
        )
    warnings: list[str] = []
    beams = _beams(seen.clouds, warnings)
    ground = _ground(seen.clouds, warnings)
    if not seen.views:
        warnings.append("no camera: the simulated vehicle has none either")
    return SensorEstimate(
        lidar=_lidar(seen, beams, ground),
        ground=ground,
        forward_deg=_forward_deg(list(seen.views.values()), ground),
        cameras=tuple(
            CameraEstimate(
                name, view.camera, view.camera_SE3_lidar, all(seen.gray[name]), float(np.mean(seen.dark[name]))
            )
            for name, view in seen.views.items()
        ),
        rate_hz=rate_hz,
        frames=len(seen.stamps_ns),
        warnings=tuple(warnings),
    )


def _returns(cloud: PointCloud) -> NDArray[np.bool_]:
    """(N,) which points are returns."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance_m = np.linalg.norm(cloud.xyz_m, axis=1)
        return np.asarray((distance_m > NEAREST_M) & (distance_m < 1e4))  # false for NaN and infinite ones


def _beams(clouds: Sequence[NDArray[np.float32]], warnings: list[str]) -> Beams:
    beams = find_beams(clouds)
    if beams is not None and beams.sharpness >= BLURRED and len(beams.elevations_deg) <= MOST_BEAMS:
        return beams
    elevation = angles_deg(np.concatenate(clouds))[1]
    top, bottom = np.percentile(elevation, (99.5, 0.5))
    found = "none" if beams is None else f"{len(beams.elevations_deg)} of sharpness {beams.sharpness:.2f}"
    warnings.append(
        f"no beams can be told ({found}): {FALLBACK_BEAMS} even ones from {top:+.1f} to {bottom:+.1f}° are taken. Is "
        "it no spinning LiDAR, several clouds merged into one, or a cloud in another frame than the sensor's own?"
    )
    return Beams(np.linspace(top, bottom, FALLBACK_BEAMS), 0.0)


def _ground(clouds: Sequence[NDArray[np.float32]], warnings: list[str]) -> Ground | None:
    grounds = [ground for ground in map(find_ground, clouds) if ground is not None]
    merged = merge_grounds(grounds)
    if merged is not None and merged.height_m < LOWEST_M:
        warnings.append(
            f"the origin of the clouds' frame is {merged.height_m:.2f} m above the ground: they seem to be given in "
            "the vehicle's frame; record them in the sensor's own. "
            f"A level LiDAR {FALLBACK_HEIGHT_M} m above the ground is taken"
        )
        return None
    if merged is None:
        warnings.append(f"no ground was found near the vehicle: a level LiDAR {FALLBACK_HEIGHT_M} m above it is taken")
    elif len(grounds) < len(clouds) / 2 or merged.share < 0.15:
        warnings.append(
            f"the ground is uncertain: found in {len(grounds)} of {len(clouds)} clouds, {100 * merged.share:.0f} % of "
            "their near points lie on it"
        )
    if merged is not None and max(abs(merged.roll_deg), abs(merged.pitch_deg)) > 15:
        warnings.append(
            f"the LiDAR is tilted by roll {merged.roll_deg:+.0f}°, pitch {merged.pitch_deg:+.0f}°: is its frame that "
            "of REP 103, z up?"
        )
    return merged


def _lidar(seen: _Seen, beams: Beams, ground: Ground | None) -> LidarEstimate:
    clouds = seen.clouds
    points = int(np.median([len(cloud) for cloud in clouds]))
    firings = int(np.median([count_firings(cloud, beams) for cloud in clouds]))
    firings = int(np.clip(firings, max(16, points // len(beams.elevations_deg)), 8192))
    noises = [noise for noise in (range_noise_m(cloud, beams) for cloud in clouds) if noise is not None]
    ranges_m = [np.percentile(np.linalg.norm(cloud, axis=1), (0.1, 99.97)) for cloud in clouds]
    blind, lost = ((), None) if ground is None else find_blind(clouds, beams, ground, firings)
    intensities = np.concatenate([np.empty(0, np.float32), *seen.intensities])
    scale = intensity_scale(intensities) if len(intensities) else None
    return LidarEstimate(
        elevations_deg=tuple(round(float(value), 3) for value in beams.elevations_deg),
        sharpness=beams.sharpness,
        azimuth_steps=firings,
        points=points,
        range_m=(float(np.min(ranges_m, axis=0)[0]), float(np.max(ranges_m, axis=0)[1])),
        noise_m=float(np.median(noises)) if noises else None,
        lost=lost,
        intensity_scale=scale,
        intensity_median=float(np.median(intensities)) / scale if scale else 0.0,
        blind=blind,
    )


def _forward_deg(views: Sequence[CameraView], ground: Ground | None) -> float:
    """Azimuth, to five degrees, of the camera named front, or of the only one; else the LiDAR's x axis is forward."""
    named = [v for v in views if "front" in v.name.lower() and not {"left", "right"} & set(v.name.lower().split("_"))]
    chosen = named or (list(views) if len(views) == 1 else [])
    if not chosen:
        return 0.0
    axis = chosen[0].camera_SE3_lidar.rotation.T[:, 2]
    if ground is not None:
        axis = level_rotation(ground) @ axis
    return 5.0 * round(float(np.degrees(np.arctan2(axis[1], axis[0]))) / 5)


def level_rotation(ground: Ground) -> NDArray[np.float64]:
    """(3, 3) pitch · roll: takes directions of the LiDAR frame to one whose z axis is the ground's normal."""
    roll, pitch = np.radians([ground.roll_deg, ground.pitch_deg])
    cr, sr, cp, sp = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
    return np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]]) @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
