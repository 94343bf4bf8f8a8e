"""Collected messages to frames: decodes the cloud and its images, and finds where each camera is seen from the LiDAR.

The same for bags and the live node. What is wrong with one camera costs that camera only: it is skipped, counted, and
the reason is kept for whoever reports it.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.calibration import Calibration
from clip2uda_core.data.collector import CollectedSet
from clip2uda_core.data.messages import (
    decode_camera_info,
    decode_compressed_image,
    decode_image,
    decode_point_cloud,
    frame_id,
)
from clip2uda_core.errors import CalibrationError, Clip2udaError, DataError, TransformError
from clip2uda_core.geometry import SE3, CameraModel, TransformBuffer
from clip2uda_core.types import CameraView, Frame, PointCloud

ImageDecoder = Callable[[Any, str], NDArray[np.uint8]]
"""Image message and topic -> (H, W, 3) uint8 RGB; DataError where it cannot."""

logger = logging.getLogger(__name__)


def decode_image_message(message: Any, topic: str) -> NDArray[np.uint8]:
    """An Image or CompressedImage as (H, W, 3) uint8 RGB; DataError where it cannot be decoded."""
    decode = decode_compressed_image if hasattr(message, "format") else decode_image
    return decode(message, topic)


@dataclass(frozen=True)
class CameraSetup:
    """What the messages of a camera do not say.

    rectified: whether the images are, so that P of the CameraInfo describes them; a calibration file says it itself.
    image_topic, info_topic: their names, for messages to the user.
    """

    name: str
    rectified: bool = False
    image_topic: str = "image"
    info_topic: str = "camera_info"


class FrameAssembler:
    """Makes a Frame of each collected set of ROS messages.

    extrinsics: a calibration, which gives the intrinsics too; or the transforms of TF, and then the intrinsics are
    CameraInfo's. Without `fixed_frame` camera and LiDAR are taken as rigidly joined: the transform is looked up at the
    cloud's stamp until it is found, and kept. With it, each frame has its own: from the LiDAR at the cloud's stamp,
    through the fixed frame, to the camera at the image's stamp.

    decode: of the images; where something beside ours knows more encodings, or images come in another form.

    failures: how often each (camera, kind of failure) was skipped; the kinds are `image`, `calibration`, `transform`.
    last_failure: per camera, the full text of the latest.

    set_camera_info and skip may be called while another thread assembles.

    Raises CalibrationError when the calibration lacks one of the cameras.
    """

    def __init__(
        self,
        cameras: Sequence[CameraSetup],
        extrinsics: Calibration | TransformBuffer,
        fixed_frame: str | None = None,
        points_topic: str = "points",
        decode: ImageDecoder = decode_image_message,
    ) -> None:
        self.failures: Counter[tuple[str, str]] = Counter()
        self.last_failure: dict[str, str] = {}
        self._cameras = {camera.name: camera for camera in cameras}
        self._points_topic = points_topic
        self._decode = decode
        self._skip_lock = threading.Lock()
        self._infos: dict[str, Any] = {}
        self._rig: _Rig
        if isinstance(extrinsics, Calibration):
            self._rig = _CalibratedRig(extrinsics, tuple(self._cameras))
        else:
            self._rig = _PublishedRig(extrinsics, fixed_frame, self._infos)

    def set_camera_info(self, camera: str, message: Any) -> None:
        """Takes the CameraInfo that holds for the images from now on."""
        self._infos[camera] = message

    def skipped(self, camera: str) -> int:
        """How often a camera was skipped, for whatever reason."""
        return sum(count for (name, _), count in self.failures.items() if name == camera)

    def has_transforms(self, collected: CollectedSet[Any]) -> bool:
        """Whether each image of a set can be seen from its cloud by now; on a robot TF may come after the image."""
        cloud_frame = frame_id(collected.cloud)
        try:
            for name, (stamp_ns, message) in collected.images.items():
                camera_frame = frame_id(message)
                self._rig.camera_SE3_lidar(
                    self._cameras[name], camera_frame, stamp_ns, cloud_frame, collected.cloud_stamp_ns
                )
        except TransformError:
            return False
        return True

    def forget_rigid_transforms(self) -> None:
        """Looks the transforms between camera and LiDAR up again: static TF has changed."""
        self._rig.forget_rigid_transforms()

    def assemble(self, collected: CollectedSet[Any]) -> Frame:
        """Decodes a set. Cameras that fail are left out; DataError when the cloud itself cannot be decoded."""
        cloud = decode_point_cloud(collected.cloud, self._points_topic)
        views = []
        for name, (stamp_ns, message) in collected.images.items():
            try:
                views.append(self._view(self._cameras[name], stamp_ns, message, cloud))
            except Clip2udaError as error:
                self.skip(name, error)
        seconds, nanoseconds = divmod(cloud.stamp_ns, 1_000_000_000)
        return Frame(cloud, tuple(views), source=f"{self._points_topic} at {seconds}.{nanoseconds:09d} s")

    def _view(self, setup: CameraSetup, stamp_ns: int, message: Any, cloud: PointCloud) -> CameraView:
        image = self._decode(message, setup.image_topic)
        camera = self._rig.camera(setup, (image.shape[1], image.shape[0]))
        camera_SE3_lidar = self._rig.camera_SE3_lidar(
            setup, frame_id(message), stamp_ns, cloud.frame_id, cloud.stamp_ns
        )
        return CameraView(setup.name, image, stamp_ns, camera, camera_SE3_lidar)

    def skip(self, camera: str, error: Clip2udaError) -> None:
        """Counts that a camera did not become a view, and keeps why."""
        if isinstance(error, TransformError):
            kind = "transform"
        elif isinstance(error, DataError):
            kind = "image"
        else:
            kind = "calibration"
        with self._skip_lock:
            self.failures[camera, kind] += 1
            is_first = self.failures[camera, kind] == 1
        self.last_failure[camera] = str(error)
        if is_first:
            logger.warning("camera '%s' is skipped: %s", camera, error)


class _Rig(Protocol):
    """Where intrinsics and extrinsics come from. Both raise CalibrationError where there are none."""

    def camera(self, setup: CameraSetup, image_size_px: tuple[int, int]) -> CameraModel: ...

    def camera_SE3_lidar(
        self, setup: CameraSetup, camera_frame: str, image_ns: int, lidar_frame: str, cloud_ns: int
    ) -> SE3: ...

    def forget_rigid_transforms(self) -> None: ...


class _CalibratedRig:
    """From a calibration file."""

    def __init__(self, calibration: Calibration, cameras: Sequence[str]) -> None:
        missing = [name for name in cameras if name not in calibration.cameras]
        if missing:
            raise CalibrationError(
                f"the calibration lacks camera {', '.join(missing)}; it has {', '.join(calibration.cameras)}"
            )
        self._calibration = calibration
        self._models: dict[tuple[str, tuple[int, int]], CameraModel] = {}

    def camera(self, setup: CameraSetup, image_size_px: tuple[int, int]) -> CameraModel:
        key = (setup.name, image_size_px)
        if key not in self._models:
            self._models[key] = self._calibration.cameras[setup.name].camera(setup.name, image_size_px)
        return self._models[key]

    def camera_SE3_lidar(
        self, setup: CameraSetup, camera_frame: str, image_ns: int, lidar_frame: str, cloud_ns: int
    ) -> SE3:
        expected = self._calibration.lidar_frame
        if expected not in (None, lidar_frame):
            raise TransformError(
                f"the calibration of camera '{setup.name}' is for clouds in frame '{expected}', got clouds in "
                f"'{lidar_frame}'; correct lidar_frame in the calibration file if they are the same"
            )
        return self._calibration.cameras[setup.name].camera_SE3_lidar.to_se3(camera_frame or setup.name, lidar_frame)

    def forget_rigid_transforms(self) -> None:
        """They are the file's."""


class _PublishedRig:
    """From CameraInfo and TF."""

    def __init__(self, transforms: TransformBuffer, fixed_frame: str | None, infos: dict[str, Any]) -> None:
        self._transforms = transforms
        self._fixed_frame = fixed_frame
        self._infos = infos
        self._models: dict[str, tuple[object, CameraModel]] = {}
        self._rigid: dict[tuple[str, str], SE3] = {}

    def camera(self, setup: CameraSetup, image_size_px: tuple[int, int]) -> CameraModel:
        info = self._infos.get(setup.name)
        if info is None:
            raise CalibrationError(
                f"{setup.info_topic}: no CameraInfo came yet; check the topic, or give a calibration file"
            )
        content = (image_size_px, _content(info))
        if setup.name not in self._models or self._models[setup.name][0] != content:
            model = decode_camera_info(info, setup.info_topic, setup.rectified, image_size_px)
            self._models[setup.name] = (content, model)
        return self._models[setup.name][1]

    def camera_SE3_lidar(
        self, setup: CameraSetup, camera_frame: str, image_ns: int, lidar_frame: str, cloud_ns: int
    ) -> SE3:
        if not camera_frame:
            raise TransformError(f"{setup.image_topic}: the image's header has no frame_id, so TF cannot be asked")
        if self._fixed_frame is not None:
            return self._transforms.lookup_across_time(camera_frame, image_ns, lidar_frame, cloud_ns, self._fixed_frame)
        key = (camera_frame, lidar_frame)
        rigid = self._rigid.get(key)
        if rigid is None:
            rigid = self._rigid[key] = self._transforms.lookup(camera_frame, lidar_frame, cloud_ns)
        return rigid

    def forget_rigid_transforms(self) -> None:
        self._rigid.clear()


def _content(info: Any) -> tuple[object, ...]:
    """What a CameraInfo says, but for its stamp: most are repeated with each image. ROS 1's names are in capitals."""
    arrays = (getattr(info, name if hasattr(info, name) else name.upper()) for name in "kdrp")
    roi = info.roi
    sizes = (info.width, info.height, info.binning_x, info.binning_y)
    window = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    return (*sizes, *window, info.distortion_model, *(tuple(array) for array in arrays))
