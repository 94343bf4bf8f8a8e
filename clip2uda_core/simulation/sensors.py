"""Descriptions of cameras and LiDARs: one YAML a sensor, in config/sensors/, and where they are on the vehicle."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from clip2uda_core.config import Config, load_config
from clip2uda_core.geometry import CameraModel, FisheyeCamera, PinholeCamera
from clip2uda_core.paths import config_file
from clip2uda_core.simulation.town import Share

OPTICAL_FROM_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
"""Rotation from x forward, y left, z up to REP 103's optical axes: x right, y down, z forward."""


class MountConfig(Config):
    """Where a sensor is on the vehicle: metres from the ground below the vehicle's middle, x forward, y left, z up;
    roll, pitch (nose down positive) and yaw in degrees, applied as yaw · pitch · roll."""

    x_m: Annotated[float, Field(ge=-10, le=10)] = 0.0
    y_m: Annotated[float, Field(ge=-3, le=3)] = 0.0
    z_m: float = Field(gt=0.1, le=6)
    roll_deg: Annotated[float, Field(ge=-180, le=180)] = 0.0
    pitch_deg: Annotated[float, Field(ge=-90, le=90)] = 0.0
    yaw_deg: Annotated[float, Field(ge=-180, le=180)] = 0.0

    def base_from_sensor(self) -> NDArray[np.float64]:
        """base_SE3_sensor, (4, 4), for a sensor with x forward, y left, z up."""
        roll, pitch, yaw = np.radians([self.roll_deg, self.pitch_deg, self.yaw_deg])
        cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
        pose = np.eye(4)
        pose[:3, :3] = (
            np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
            @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
            @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        )
        pose[:3, 3] = [self.x_m, self.y_m, self.z_m]
        return pose


class CameraConfig(Config):
    """A camera: its lens in pixels at its own image size, as in CameraInfo, and its mount.

    model: pinhole (0, 4, 5 or 8 coefficients of OpenCV) or fisheye (equidistant, 4). delay_s: after the LiDAR's stamp.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    model: Literal["pinhole", "fisheye"] = "pinhole"
    width_px: int = Field(ge=16, le=4096)
    height_px: int = Field(ge=16, le=4096)
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    mount: MountConfig
    delay_s: Annotated[float, Field(ge=-0.2, le=0.2)] = 0.0

    @model_validator(mode="after")
    def _lens(self) -> "CameraConfig":
        expected = (4,) if self.model == "fisheye" else (0, 4, 5, 8)
        if len(self.distortion) not in expected:
            raise ValueError(
                f"a {self.model} camera has {expected} distortion coefficients, not {len(self.distortion)}"
            )
        return self

    def camera(self) -> CameraModel:
        lens = (self.width_px, self.height_px, self.fx, self.fy, self.cx, self.cy)
        if self.model == "fisheye":
            return FisheyeCamera(*lens, distortion=self.distortion)
        return PinholeCamera(*lens, distortion=self.distortion)

    def base_from_optical(self) -> NDArray[np.float64]:
        """base_SE3_camera, (4, 4), with the camera's optical axes."""
        pose = self.mount.base_from_sensor()
        pose[:3, :3] = pose[:3, :3] @ OPTICAL_FROM_BODY.T
        return pose


class BeamBlock(Config):
    """`beams` lasers spread evenly over the elevations from `from_deg` down to `to_deg`, both included."""

    from_deg: float = Field(ge=-90, le=90)
    to_deg: float = Field(ge=-90, le=90)
    beams: int = Field(ge=1, le=256)


class BlindSector(Config):
    """Where the vehicle's own body hides the view: azimuths around `middle_deg` (0 forward, 90 left), below an
    elevation."""

    middle_deg: float = Field(ge=-180, le=180)
    half_width_deg: float = Field(gt=0, le=180)
    below_deg: float = Field(ge=-90, le=90)


class LidarConfig(Config):
    """A spinning LiDAR.

    blocks or elevations_deg: its beams, from the top. azimuth_steps: firings a turn. rate_hz: turns a second.
    azimuth_jitter_deg: unevenness of the turning. range_noise_m: standard deviation. lost: share of returns lost at
    random. range_m: nearest and farthest return. power_range_m: distance at which a white wall seen head-on is
    returned with probability one half at the edge of detection; darker and slanted surfaces are lost nearer.
    intensity: scale of the sensor's intensity (KITTI 1, Velodyne's driver 255) and its gain. ego_motion: whether the
    vehicle drives on during the sweep, so that points are taken, and given, from different places.
    """

    name: str = "lidar"
    blocks: tuple[BeamBlock, ...] = ()
    elevations_deg: tuple[Annotated[float, Field(ge=-90, le=90)], ...] = ()
    azimuth_steps: int = Field(ge=16, le=8192)
    rate_hz: Annotated[float, Field(gt=0, le=100)] = 10.0
    azimuth_jitter_deg: Annotated[float, Field(ge=0, le=2)] = 0.0
    range_noise_m: Annotated[float, Field(ge=0, le=1)] = 0.02
    lost: Share = 0.03
    range_m: tuple[float, float] = (1.0, 100.0)
    power_range_m: Annotated[float, Field(gt=1)] = 140.0
    intensity_scale: Annotated[float, Field(gt=0)] = 1.0
    intensity_gain: Annotated[float, Field(gt=0)] = 1.0
    ego_motion: bool = False
    blind: tuple[BlindSector, ...] = ()
    mount: MountConfig

    @model_validator(mode="after")
    def _outside_the_vehicle(self) -> "LidarConfig":
        if all(
            abs(value) < half for value, half in ((self.mount.x_m, 2.3), (self.mount.y_m, 0.85), (self.mount.z_m, 1.4))
        ):
            raise ValueError(
                f"its mount ({self.mount.x_m}, {self.mount.y_m}, {self.mount.z_m}) m is inside the vehicle, a box of "
                "4.6 x 1.7 x 1.4 m; put the LiDAR above or before it"
            )
        return self

    @model_validator(mode="after")
    def _has_beams(self) -> "LidarConfig":
        if bool(self.blocks) == bool(self.elevations_deg):
            raise ValueError("a LiDAR has beams: give either blocks or elevations_deg, with at least one beam")
        if not 0 <= self.range_m[0] < self.range_m[1]:
            raise ValueError(f"range_m is [nearest, farthest], got {list(self.range_m)}")
        return self

    def elevations_rad(self) -> NDArray[np.float64]:
        """(B,) elevations of the beams, from the top."""
        degrees = self.elevations_deg or np.concatenate(
            [np.linspace(b.from_deg, b.to_deg, b.beams) for b in self.blocks]
        )
        return np.radians(np.asarray(degrees, np.float64))


def load_camera(name: str) -> CameraConfig:
    """A shipped camera by name, or a YAML file by path."""
    return load_config(CameraConfig, config_file(name, "sensors/cameras"))


def load_lidar(name: str) -> LidarConfig:
    """A shipped LiDAR by name, or a YAML file by path."""
    return load_config(LidarConfig, config_file(name, "sensors/lidars"))
