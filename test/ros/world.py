"""What the node under test is shown: a LiDAR and one camera at one place, with messages whose content is known."""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peer import Inbox, Peer, wait_until
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from clip2uda_core.data.calibration import Calibration, describe_camera, save_calibration
from clip2uda_core.data.messages import encode_camera_info, encode_image, encode_point_cloud, stamp_ns
from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.types import PointCloud
from clip2uda_ros.conversions import RclpyFactory

CAMERA = PinholeCamera(160, 96, 80.0, 80.0, 79.5, 47.5)
CAMERA_SE3_LIDAR = SE3(
    np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float), "front_optical_frame", "lidar"
)
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
FACTORY = RclpyFactory()
MILLISECOND_NS = 1_000_000


def scattered_points(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 3) points all around, from 2 to 30 m; a quarter of them in front of the camera."""
    random = np.random.default_rng(seed)
    angle, range_m = random.uniform(-np.pi, np.pi, count), random.uniform(2, 30, count)
    columns = (range_m * np.cos(angle), range_m * np.sin(angle), random.uniform(-1.5, 1.5, count))
    return np.stack(columns, axis=1).astype(np.float32)


def write_calibration(path: Path) -> Path:
    calibration = Calibration(lidar_frame="lidar", cameras={"front": describe_camera(CAMERA, CAMERA_SE3_LIDAR)})
    save_calibration(calibration, path)
    return path


def cloud_message(xyz_m: NDArray[np.float32], when_ns: int) -> PointCloud2:
    return encode_point_cloud(PointCloud(xyz_m, when_ns, "lidar", intensity(xyz_m)), FACTORY)


def intensity(xyz_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) what the LiDAR measures of the points."""
    return np.linspace(0, 1, len(xyz_m), dtype=np.float32)


def image_message(when_ns: int) -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    return encode_image(pixels, when_ns, "front_optical_frame", FACTORY)


def camera_info_message(when_ns: int) -> CameraInfo:
    return encode_camera_info(CAMERA, when_ns, "front_optical_frame", FACTORY)


@dataclass
class World:
    """The sensors' side of a node that is active: publishes, and waits for what comes back.

    points_topic, image_topic: where the node's inputs were remapped to, if they were.
    """

    peer: Peer
    node: str
    points_topic: str = ""
    image_topic: str = ""
    image_delay_ms: int = 5

    def __post_init__(self) -> None:
        self.clouds = self.peer.advertise(PointCloud2, self.points_topic or f"{self.node}/input/points", RELIABLE)
        self.images = self.peer.advertise(Image, self.image_topic or f"{self.node}/input/front/image", RELIABLE)
        self.outputs: Inbox[PointCloud2] = self.peer.subscribe(PointCloud2, f"{self.node}/output/points", RELIABLE)
        start_ns = time.time_ns()
        self._stamps = itertools.count(start_ns, 10**9)
        wait_until(self._answered, "the node's first answer", pause_s=0.2)

    def next_stamp(self) -> int:
        """A second after the last one, so that no image fits two clouds."""
        return next(self._stamps)

    def send(self, points: NDArray[np.float32], with_image: bool = True) -> int:
        """Publishes a cloud and, before it, a slightly younger image; returns the cloud's stamp."""
        when_ns = self.next_stamp()
        if with_image:
            self.images.publish(image_message(when_ns + self.image_delay_ms * MILLISECOND_NS))
        self.clouds.publish(cloud_message(points, when_ns))
        return when_ns

    def answer(self, when_ns: int) -> PointCloud2:
        """The labelled cloud of a stamp."""
        return answer(self.outputs, when_ns)

    def _answered(self) -> bool:
        """Both sides have found each other; one of them knows it before the other."""
        self.send(scattered_points(100))
        return bool(self.outputs.messages)


def answer(outputs: Inbox[PointCloud2], when_ns: int) -> PointCloud2:
    return outputs.wait_for(lambda message: stamp_ns(message) == when_ns, f"the answer to {when_ns}")


def field(message: PointCloud2, name: str) -> NDArray[Any]:
    """(N,) values of a field, read without the package under test."""
    kinds = {2: np.uint8, 6: np.uint32, 7: np.float32, 4: np.uint16}
    found = next(entry for entry in message.fields if entry.name == name)
    step = message.point_step
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(-1, step)
    width = np.dtype(kinds[found.datatype]).itemsize
    return rows[:, found.offset : found.offset + width].copy().view(kinds[found.datatype])[:, 0]
