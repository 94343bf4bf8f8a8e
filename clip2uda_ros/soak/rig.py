"""What the simulated robot's sensors say: frames of a source as messages that only need their stamps."""

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from clip2uda_core.data.calibration import Calibration, describe_camera
from clip2uda_core.data.messages import encode_camera_info, encode_image, encode_point_cloud
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3
from clip2uda_core.types import CameraView, Frame
from clip2uda_ros.conversions import RclpyFactory

CAMERA = "front"
LIDAR_FRAME = "lidar"
FACTORY = RclpyFactory()


@dataclass(frozen=True)
class Sweep:
    """A cloud, and the image and CameraInfo that go with it."""

    cloud: PointCloud2
    image: Image
    info: CameraInfo


@dataclass(frozen=True)
class Rig:
    """A LiDAR and a camera with a few sweeps that are played again and again.

    camera_SE3_lidar: from frame `lidar` to the camera's optical frame, whose name is the rig's own.
    """

    name: str
    sweeps: tuple[Sweep, ...]
    calibration: Calibration
    camera_SE3_lidar: SE3


def load_rig(name: str, source: str, frames: int) -> Rig:
    """The first `frames` frames of a source that have an image; of several cameras the first one.

    Raises DataError when no frame has an image.
    """
    reader = open_source(source, ReaderOptions(max_frames=frames))
    return make_rig(name, [frame for frame in reader if frame.views], source)


def make_rig(name: str, frames: list[Frame], source: str) -> Rig:
    """Frames with images as a rig; all must be of one camera at one place."""
    if not frames:
        raise DataError(f"{source}: expected clouds with a camera image, got none in its first frames")
    frame_id = f"{CAMERA}_{name}_optical_frame"
    view = frames[0].views[0]
    camera_SE3_lidar = SE3(view.camera_SE3_lidar.matrix, frame_id, LIDAR_FRAME)
    calibration = Calibration(lidar_frame=LIDAR_FRAME, cameras={CAMERA: describe_camera(view.camera, camera_SE3_lidar)})
    return Rig(name, tuple(_sweep(frame, frame_id) for frame in frames), calibration, camera_SE3_lidar)


def _sweep(frame: Frame, frame_id: str) -> Sweep:
    view: CameraView = frame.views[0]
    return Sweep(
        cloud=encode_point_cloud(replace(frame.cloud, frame_id=LIDAR_FRAME, labels=None), FACTORY),
        image=encode_image(view.image, 0, frame_id, FACTORY),
        info=encode_camera_info(view.camera, 0, frame_id, FACTORY),
    )


def corrupt_cloud(message: PointCloud2, random: np.random.Generator) -> PointCloud2:
    """A cloud that cannot be decoded, in one of the ways in which drivers break."""
    broken = copy(message)
    kind = random.integers(4)
    if kind == 0:  # half of it is missing
        broken.data = message.data[: len(message.data) // 2]
    elif kind == 1:  # a layout that does not fit the data
        broken.point_step = 0
    elif kind == 2:  # no x
        broken.fields = list(message.fields[1:])
    else:  # a size that was never allocated
        broken.width = 2**31
    return broken


def corrupt_image(message: Image, random: np.random.Generator) -> Image:
    """An image that cannot be used, in one of the ways in which drivers break."""
    broken = copy(message)
    kind = random.integers(4)
    if kind == 0:
        broken.data = message.data[: len(message.data) // 3]
    elif kind == 1:
        broken.encoding = "rgb9"
    elif kind == 2:
        broken.height = 0
    else:  # another aspect than the calibration's
        broken.height, broken.data = message.height // 2, message.data[: message.step * (message.height // 2)]
    return broken


def other_camera_info(message: CameraInfo, random: np.random.Generator) -> CameraInfo:
    """What a camera says after its zoom has moved, or when its calibration was lost (K is zero)."""
    other = copy(message)
    zoom = float(random.choice((0.0, 0.7, 1.5)))
    matrix: Any = np.array(message.k, float)
    matrix[[0, 4]] *= zoom
    other.k = matrix if zoom else np.zeros(9)
    return other
