"""A simulated source domain whose vehicle carries the sensors of a recording, to adapt from without other labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.config import load_config, parse_config, save_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import SE3, CameraModel, FisheyeCamera, PinholeCamera
from clip2uda_core.simulation.appearance import AppearanceConfig
from clip2uda_core.simulation.scenario import (
    Domain,
    RecordedDomainConfig,
    ScenarioConfig,
    SimulatedDomainConfig,
)
from clip2uda_core.simulation.sensors import OPTICAL_FROM_BODY, CameraConfig, LidarConfig, MountConfig
from clip2uda_core.simulation.town import load_town
from clip2uda_core.survey.sensors import CameraEstimate, SensorEstimate

TOWN = "any_town"
SCENARIO_NAME = "own_sensors"
FRAMES: Mapping[Literal["train", "val", "test"], int] = {"train": 240, "val": 32}

WIDEST_PX = 640
PIXELS_A_FRAME = 400_000
"""Of all cameras together: rendering them takes most of a simulated frame's time."""

USUAL_NOISE_M = 0.02
USUAL_LOST = 0.03
UNIT_GAIN_MEDIAN = 0.19
"""Median intensity of simulated clouds whose gain is one."""

POWER_PER_RANGE = 1.6
"""A LiDAR's `power_range_m` over the farthest return that it gives, as the shipped LiDARs have it."""

VEHICLE_TOP_M, BEFORE_VEHICLE_M = 1.4, 2.4


def source_domain(estimate: SensorEstimate) -> Domain:
    """Streets of every kind, in every light, seen by the estimated sensors; ConfigError where these cannot be."""
    return Domain(
        town=load_town(TOWN),
        lidar=lidar_config(estimate),
        cameras=camera_configs(estimate),
        appearance=appearance(estimate),
        frames_per_scene=8,
        spacing_m=7.0,
    )


def write_source_scenario(estimate: SensorEstimate, folder: Path, frames: Mapping[Any, int] = FRAMES) -> Path:
    """Writes `source_domain(estimate)` as YAML files below a folder and returns the scenario's path.

    `source_address` names its frames for `open_source`. frames: number by split.
    """
    sensors = folder.resolve() / "sensors"
    sensors.mkdir(parents=True, exist_ok=True)
    domain = source_domain(estimate)
    save_config(domain.lidar, sensors / "lidar.yaml")
    for camera in domain.cameras:
        save_config(camera, sensors / f"camera_{camera.name}.yaml")
    scenario = ScenarioConfig(
        name=SCENARIO_NAME,
        about="simulated streets seen by the sensors of a recording, as estimated from it",
        source=SimulatedDomainConfig(
            town=TOWN,
            lidar=str(sensors / "lidar.yaml"),
            cameras=tuple(str(sensors / f"camera_{camera.name}.yaml") for camera in domain.cameras),
            appearance=domain.appearance,
            frames=dict(frames),
            frames_per_scene=domain.frames_per_scene,
            spacing_m=domain.spacing_m,
        ),
        target=RecordedDomainConfig(kind="recording", about={"train": "the recording itself"}),
    )
    path = folder.resolve() / "source_scenario.yaml"
    save_config(scenario, path)
    load_config(ScenarioConfig, path)
    return path


def source_address(scenario: Path, split: Literal["train", "val", "test"] = "train") -> str:
    """What `open_source` takes to read a split of a written scenario."""
    return f"synthetic:{scenario}:source:{split}"


def lidar_config(estimate: SensorEstimate) -> LidarConfig:
    """The estimated LiDAR above the middle of the vehicle, or before it where it is lower than the roof."""
    lidar = estimate.lidar
    near_m = max(0.3, round(lidar.range_m[0], 1))
    far_m = max(round(lidar.range_m[1]), near_m + 1.0)
    gain = lidar.intensity_median / UNIT_GAIN_MEDIAN if lidar.intensity_scale else 1.0
    values = {
        "elevations_deg": lidar.elevations_deg,
        "azimuth_steps": lidar.azimuth_steps,
        "rate_hz": round(float(np.clip(estimate.rate_hz, 0.5, 100)), 2),
        "range_noise_m": round(lidar.noise_m if lidar.noise_m is not None else USUAL_NOISE_M, 4),
        "lost": round(lidar.lost if lidar.lost is not None else USUAL_LOST, 3),
        "range_m": (near_m, far_m),
        "power_range_m": round(max(20.0, POWER_PER_RANGE * far_m), 1),
        "intensity_scale": lidar.intensity_scale or 1.0,
        "intensity_gain": round(float(np.clip(gain, 0.2, 4.0)), 2),
        "blind": [sector.model_dump() for sector in lidar.blind],
        "mount": _mount(_base_from_lidar(estimate), "LiDAR").model_dump(),
    }
    return parse_config(LidarConfig, values, "the LiDAR as estimated from the recording")


def camera_configs(estimate: SensorEstimate) -> tuple[CameraConfig, ...]:
    """The cameras at their places, scaled down together so that a frame's images are made in reasonable time."""
    pixels = sum(camera.camera.width_px * camera.camera.height_px for camera in estimate.cameras)
    scale = min(1.0, np.sqrt(PIXELS_A_FRAME / max(pixels, 1)))
    base_from_lidar = _base_from_lidar(estimate)
    return tuple(_camera_config(camera, base_from_lidar, scale) for camera in estimate.cameras)


def appearance(estimate: SensorEstimate) -> AppearanceConfig:
    """Wide ranges, as config/scenarios/sim_to_kitti.yaml has them; gray and night as often as in the recording."""
    cameras = estimate.cameras
    return AppearanceConfig(
        night=round(float(np.mean([camera.dark_share for camera in cameras])), 2) if cameras else 0.0,
        rain=0.1,
        gray=1.0 if cameras and all(camera.gray for camera in cameras) else 0.15,
        clouds=(0.0, 1.0),
        sun_elevation_deg=(12.0, 70.0),
        exposure_ev=(-0.8, 0.8),
        noise=(0.003, 0.03),
        contrast=(0.9, 1.4),
        saturation=(0.6, 1.2),
    )


def _camera_config(estimate: CameraEstimate, base_from_lidar: NDArray[np.float64], scale: float) -> CameraConfig:
    full = estimate.camera
    scale = min(scale, WIDEST_PX / full.width_px)
    width_px, height_px = (max(16, round(scale * size)) for size in (full.width_px, full.height_px))
    camera = full.resized(width_px, height_px)
    fisheye = isinstance(camera, FisheyeCamera)
    distortion = camera.distortion if isinstance(camera, FisheyeCamera | PinholeCamera) else ()
    name = f"camera '{estimate.name}'"
    values = {
        "name": estimate.name,
        "model": "fisheye" if fisheye else "pinhole",
        "width_px": width_px,
        "height_px": height_px,
        **{key: round(float(getattr(camera, key)), 3) for key in ("fx", "fy", "cx", "cy")},
        # thin prism and tilt terms, the 9th coefficient and later, are left out: they move pixels by fractions
        "distortion": distortion[:8] if any(distortion) else ((0.0,) * 4 if fisheye else ()),
        "mount": _mount(_base_from_body(full, estimate.camera_SE3_lidar, base_from_lidar), name).model_dump(),
    }
    return parse_config(CameraConfig, values, f"{name} as given by the recording")


def _base_from_lidar(estimate: SensorEstimate) -> NDArray[np.float64]:
    """base_SE3_lidar (4, 4), the base being on the ground below the vehicle's middle, x forward, z up."""
    ground = estimate.ground
    mount = MountConfig(
        x_m=0.0 if estimate.height_m > VEHICLE_TOP_M else BEFORE_VEHICLE_M,
        z_m=float(np.clip(estimate.height_m, 0.15, 6.0)),
        roll_deg=0.0 if ground is None else ground.roll_deg,
        pitch_deg=0.0 if ground is None else ground.pitch_deg,
        yaw_deg=-estimate.forward_deg,
    )
    return mount.base_from_sensor()


def _base_from_body(
    camera: CameraModel, camera_SE3_lidar: SE3, base_from_lidar: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(4, 4) place of the camera's body (x forward, y left, z up); the model's rotation and offset are part of it."""
    lens_from_frame = np.eye(4)
    if isinstance(camera, PinholeCamera):
        lens_from_frame[:3, 3] = camera.offset_m
    if isinstance(camera, PinholeCamera | FisheyeCamera):
        lens_from_frame[:3, :3] = camera.rotation
    pose = base_from_lidar @ np.linalg.inv(lens_from_frame @ camera_SE3_lidar.matrix)
    pose[:3, :3] = pose[:3, :3] @ OPTICAL_FROM_BODY
    return pose


def _mount(pose: NDArray[np.float64], what: str) -> MountConfig:
    """The mount with a pose (4, 4); ConfigError where it is not on a vehicle."""
    rotation = pose[:3, :3]
    angles = (
        np.arctan2(rotation[2, 1], rotation[2, 2]),
        -np.arcsin(np.clip(rotation[2, 0], -1, 1)),
        np.arctan2(rotation[1, 0], rotation[0, 0]),
    )
    keys = ("x_m", "y_m", "z_m", "roll_deg", "pitch_deg", "yaw_deg")
    values = [round(float(value), 4) for value in (*pose[:3, 3], *np.degrees(angles))]
    try:
        return parse_config(MountConfig, dict(zip(keys, values, strict=True)), f"mount of the {what}")
    except ConfigError as error:
        raise ConfigError(
            f"{error}: no such place on a vehicle can be simulated; check the extrinsic calibration (inspect draws it) "
            "or give another source with --source"
        ) from None
