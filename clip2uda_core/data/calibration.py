"""Calibration files: cameras of a rig, and where they are seen from its LiDAR, for data without CameraInfo or TF.

config/calibration.example.yaml is one, with comments.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field, PositiveInt, field_validator, model_validator

from clip2uda_core.config import Config, load_config
from clip2uda_core.data.messages import decode_camera_info
from clip2uda_core.errors import CalibrationError, ConfigError
from clip2uda_core.geometry import SE3, CameraModel, FisheyeCamera, PinholeCamera

Model = Literal["plumb_bob", "rational_polynomial", "equidistant"]


class Extrinsics(Config):
    """A transform, as a 4x4 matrix by rows, or as a translation in metres and a quaternion x, y, z, w."""

    matrix: tuple[tuple[float, float, float, float], ...] | None = Field(default=None, min_length=4, max_length=4)
    translation: tuple[float, float, float] | None = None
    quaternion_xyzw: tuple[float, float, float, float] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> "Extrinsics":
        given = (self.matrix is not None, self.translation is not None, self.quaternion_xyzw is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("expected either matrix, or translation and quaternion_xyzw")
        return self

    def to_se3(self, target: str, source: str) -> SE3:
        """The checked transform; TransformError when it is not a rigid one."""
        if self.matrix is not None:
            return SE3(np.array(self.matrix), target, source)
        assert self.translation is not None
        assert self.quaternion_xyzw is not None
        return SE3.from_quaternion_xyzw(self.quaternion_xyzw, self.translation, target, source)


class CameraCalibration(Config):
    """One camera. The fields are those of sensor_msgs/CameraInfo, and mean the same.

    topic: image topic, where it is not to be guessed. rectified: whether the images are; then P describes them, or K
    where P is missing. Otherwise K and D do. K: 3x3, P: 3x4, by rows. D: coefficients in OpenCV's order.
    camera_SE3_lidar: takes points in the LiDAR frame to the camera's optical frame (x right, y down, z forward).
    """

    topic: str | None = None
    model: Model = "plumb_bob"
    width: PositiveInt
    height: PositiveInt
    rectified: bool = False
    K: tuple[float, ...] | None = Field(default=None, min_length=9, max_length=9)
    D: tuple[float, ...] = ()
    P: tuple[float, ...] | None = Field(default=None, min_length=12, max_length=12)
    camera_SE3_lidar: Extrinsics

    @field_validator("K", "P", mode="before")
    @classmethod
    def _flatten(cls, rows: Any) -> Any:
        """Matrices may be written by rows."""
        if isinstance(rows, list | tuple) and rows and all(isinstance(row, list | tuple) for row in rows):
            return [number for row in rows for number in row]
        return rows

    @model_validator(mode="after")
    def _enough(self) -> "CameraCalibration":
        if self.K is None and not (self.rectified and self.P is not None):
            raise ValueError("expected K, or P of images that are rectified: true")
        return self

    def camera(self, name: str, image_size_px: tuple[int, int]) -> CameraModel:
        """The camera of an image of (width, height), which may be resized at the same aspect; else CalibrationError."""
        camera_info = SimpleNamespace(
            width=self.width,
            height=self.height,
            distortion_model=self.model,
            k=self.K or (0.0,) * 9,
            d=self.D,
            r=(0.0,) * 9,
            p=self.P if self.rectified and self.P else (0.0,) * 12,
            binning_x=0,
            binning_y=0,
            roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
        )
        return decode_camera_info(camera_info, f"calibration of camera '{name}'", self.rectified, image_size_px)


class Calibration(Config):
    """The cameras of a rig by name. lidar_frame: frame_id of its clouds; None takes those of any frame."""

    lidar_frame: str | None = None
    cameras: dict[str, CameraCalibration] = Field(min_length=1)


def describe_camera(camera: CameraModel, camera_SE3_lidar: SE3) -> CameraCalibration:
    """The calibration of a camera model. Its rotation and offset become part of the extrinsics."""
    if isinstance(camera, FisheyeCamera):
        model: Model = "equidistant"
        first = SE3.from_rotation_translation(camera.rotation, np.zeros(3), "lens", camera_SE3_lidar.target)
    else:
        assert isinstance(camera, PinholeCamera), type(camera)
        model = "plumb_bob" if len(camera.distortion) <= 5 else "rational_polynomial"
        first = SE3.from_rotation_translation(camera.rotation, camera.offset_m, "lens", camera_SE3_lidar.target)
    rows = (first @ camera_SE3_lidar).matrix.tolist()
    return CameraCalibration(
        model=model,
        width=camera.width_px,
        height=camera.height_px,
        K=tuple(camera.matrix.ravel().tolist()),
        D=camera.distortion,
        camera_SE3_lidar=Extrinsics(matrix=tuple(tuple(row) for row in rows)),
    )


def load_calibration(path: Path) -> Calibration:
    """Reads a calibration file and checks that each camera and transform in it can be used.

    Raises CalibrationError, which names the file, the camera and the number, for unknown or missing keys, a zero K,
    distortion of an impossible length, a matrix that is no rotation.
    """
    try:
        calibration = load_config(Calibration, path)
    except ConfigError as error:
        raise CalibrationError(f"{error}; see config/calibration.example.yaml") from None
    for name, camera in calibration.cameras.items():
        try:
            camera.camera(name, (camera.width, camera.height))
            camera.camera_SE3_lidar.to_se3(name, calibration.lidar_frame or "lidar")
        except CalibrationError as error:
            raise CalibrationError(f"{path}: camera '{name}': {error}") from None
    return calibration


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Writes a file that `load_calibration` reads back to the same bits."""
    values = calibration.model_dump(mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120), encoding="utf-8")
