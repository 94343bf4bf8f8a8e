"""The values that pass between the parts: a frame as recorded, a sample as the network takes it, a prediction.

All are frozen and checked once, when made. Arrays are not copied; treat them as read-only.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3, CameraModel


def _check(condition: bool, what: str, expected: str, got: object) -> None:
    if not condition:
        raise DataError(f"{what}: expected {expected}, got {got}")


@dataclass(frozen=True)
class PointCloud:
    """One LiDAR sweep of N points, in the order in which the sensor published them.

    xyz_m: (N, 3) float32 in the LiDAR frame, metres; points without a return are NaN and keep their place.
    intensity: (N,) float32 as recorded, on the scale of the sensor, or None where it gives none.
    time_offset_s: (N,) float32, when the point was taken relative to `stamp_ns`, or None.
    labels: (N,) uint8 class indices of a label space, IGNORE where there is none, or None for an unlabelled cloud.
    stamp_ns: acquisition stamp, nanoseconds. frame_id: name of the LiDAR frame (REP 103 axes).
    """

    xyz_m: NDArray[np.float32]
    stamp_ns: int
    frame_id: str = "lidar"
    intensity: NDArray[np.float32] | None = None
    time_offset_s: NDArray[np.float32] | None = None
    labels: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        shape = self.xyz_m.shape
        _check(len(shape) == 2 and shape[1] == 3, "xyz_m", "shape (N, 3)", shape)
        _check(self.xyz_m.dtype == np.float32, "xyz_m", "float32", self.xyz_m.dtype)
        for name in ("intensity", "time_offset_s", "labels"):
            values = getattr(self, name)
            _check(values is None or values.shape == shape[:1], name, f"shape {shape[:1]}", np.shape(values))
        if self.labels is not None:
            _check(self.labels.dtype == np.uint8, "labels", "uint8", self.labels.dtype)

    def __len__(self) -> int:
        return len(self.xyz_m)


@dataclass(frozen=True)
class CameraView:
    """One image with the camera that took it, and where that camera is seen from the LiDAR.

    image: (H, W, 3) uint8 RGB. camera: intrinsics at this image size.
    camera_SE3_lidar: takes points in the LiDAR frame at cloud time to the camera's optical frame at image time
    (REP 103: x right, y down, z forward).
    labels: (H, W) uint8 class index per pixel, or None.
    """

    name: str
    image: NDArray[np.uint8]
    stamp_ns: int
    camera: CameraModel
    camera_SE3_lidar: SE3
    labels: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        _check(len(shape) == 3 and shape[2] == 3, f"image of '{self.name}'", "shape (H, W, 3)", shape)
        _check(self.image.dtype == np.uint8, f"image of '{self.name}'", "uint8", self.image.dtype)
        size = (self.camera.width_px, self.camera.height_px)
        _check(size == (shape[1], shape[0]), f"camera of '{self.name}'", f"{shape[1]}x{shape[0]} (its image)", size)
        _check(
            self.labels is None or self.labels.shape == shape[:2],
            f"labels of '{self.name}'",
            f"shape {shape[:2]}",
            getattr(self.labels, "shape", None),
        )


@dataclass(frozen=True)
class Frame:
    """A cloud and the images that were paired with it; no view at all is a frame for 3D alone."""

    cloud: PointCloud
    views: tuple[CameraView, ...] = ()
    source: str = ""
    """Where the frame comes from, for messages: `drive_0001[17]`."""


@dataclass(frozen=True)
class Prediction:
    """Labels of every input point, in the input's order.

    labels: (N,) uint8, IGNORE for points that were not segmented (NaN, outside the range).
    confidence: (N,) float32 in 0..1, the fused probability of the label; 0 where the label is IGNORE.
    seen: (N,) bool, whether a camera saw the point, so that 2D took part (otherwise 3D alone).
    probabilities_2d, probabilities_3d: (N, K) float32 softmax of the main heads at the model's temperatures; NaN
        rows where there is none.
    times_s: seconds by stage.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    seen: NDArray[np.bool_]
    probabilities_2d: NDArray[np.float32]
    probabilities_3d: NDArray[np.float32]
    times_s: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)
