"""Writes tiny recordings whose content is known, with rosbags' own writers and plain files, none of our encoders.

The bag: 10 Hz clouds of `POINTS` points on topic /lidar/points in frame `lidar`, images 10 ms later on
/front/image_raw, CameraInfo, and /tf_static. The camera looks along the LiDAR's x axis from 0.2 m below it: cloud `i`
has its first point 10 m ahead, which falls on the pixel (CX, FX * -0.2 / 10 + CY), and its intensity is `i`.
"""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

WIDTH, HEIGHT, POINTS = 64, 48, 100
FX, CX, CY = 40.0, 31.5, 23.5
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
IMAGE_DELAY_NS = 10_000_000

# Rows: camera x = -lidar y, camera y = -lidar z, camera z = lidar x.
CAMERA_FROM_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.2], [1, 0, 0, 0], [0, 0, 0, 1]], float)
LIDAR_FROM_CAMERA_QUATERNION = (-0.5, 0.5, -0.5, 0.5)
LIDAR_FROM_CAMERA_TRANSLATION = (0.0, 0.0, -0.2)

STORES = {"rosbag1": get_typestore(Stores.ROS1_NOETIC)}
STORES["rosbag1"].register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
STORES["sqlite3"] = STORES["mcap"] = get_typestore(Stores.ROS2_HUMBLE)


def cloud_xyz(index: int, points: int = POINTS) -> np.ndarray:
    """(N, 3) float32; the first point is straight ahead."""
    xyz = np.random.default_rng(index).uniform(-5, 5, (points, 3)).astype(np.float32)
    xyz[:, 0] = np.abs(xyz[:, 0]) + 5
    xyz[0] = (10, 0, 0)
    return xyz


def image_rgb(index: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (index % 256, 100, 200), np.uint8)


class TinyBag:
    """Makes the messages of one distribution's typestore."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.store = STORES[kind]

    def make(self, msgtype: str, *values, **named):
        return self.store.types[msgtype](*values, **named)

    def header(self, stamp_ns: int, frame: str):
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        seq = {"seq": 0} if self.kind == "rosbag1" else {}
        return self.make("std_msgs/msg/Header", **seq, stamp=stamp, frame_id=frame)

    def cloud(self, index: int, stamp_ns: int, points: int = POINTS, frame: str = "lidar"):
        values = np.empty((points, 4), np.float32)
        values[:, :3], values[:, 3] = cloud_xyz(index, points), index
        field = lambda name, at: self.make("sensor_msgs/msg/PointField", name, at, 7, 1)  # noqa: E731
        return self.make(
            "sensor_msgs/msg/PointCloud2",
            header=self.header(stamp_ns, frame),
            height=1,
            width=points,
            fields=[field(name, 4 * i) for i, name in enumerate(("x", "y", "z", "intensity"))],
            is_bigendian=False,
            point_step=16,
            row_step=16 * points,
            data=values.view(np.uint8).ravel(),
            is_dense=True,
        )

    def image(self, index: int, stamp_ns: int, frame: str = "front_optical"):
        return self.make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame),
            height=HEIGHT,
            width=WIDTH,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * WIDTH,
            data=image_rgb(index).ravel(),
        )

    def compressed_image(self, index: int, stamp_ns: int, frame: str = "front_optical"):
        png = cv2.imencode(".png", image_rgb(index)[..., ::-1])[1]
        header = self.header(stamp_ns, frame)
        return self.make("sensor_msgs/msg/CompressedImage", header=header, format="png", data=png.ravel())

    def camera_info(self, stamp_ns: int, frame: str = "front_optical"):
        k = np.array([FX, 0, CX, 0, FX, CY, 0, 0, 1])
        p = np.array([FX, 0, CX, 0, 0, FX, CY, 0, 0, 0, 1, 0])
        roi = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        header = self.header(stamp_ns, frame)
        # Positional, because the names of D, K, R, P differ between ROS 1 and 2.
        return self.make(
            "sensor_msgs/msg/CameraInfo",
            header,
            HEIGHT,
            WIDTH,
            "plumb_bob",
            np.zeros(5),
            k,
            np.eye(3).ravel(),
            p,
            0,
            0,
            roi,
        )

    def transform(
        self,
        stamp_ns: int,
        parent: str = "lidar",
        child: str = "front_optical",
        translation=LIDAR_FROM_CAMERA_TRANSLATION,
        quaternion=LIDAR_FROM_CAMERA_QUATERNION,
    ):
        transform = self.make(
            "geometry_msgs/msg/Transform",
            self.make("geometry_msgs/msg/Vector3", *translation),
            self.make("geometry_msgs/msg/Quaternion", *quaternion),
        )
        stamped = self.make("geometry_msgs/msg/TransformStamped", self.header(stamp_ns, parent), child, transform)
        return self.make("tf2_msgs/msg/TFMessage", [stamped])


def frame_messages(kind: str, frames: int, points: int = POINTS) -> list[tuple[int, str, object]]:
    """(log time, topic, message) of the standard recording, in order of log time."""
    tiny = TinyBag(kind)
    messages = [(START_NS, "/tf_static", tiny.transform(START_NS))]
    for i in range(frames):
        stamp = START_NS + i * PERIOD_NS
        image_stamp = stamp + IMAGE_DELAY_NS
        messages.append((stamp + 5_000_000, "/lidar/points", tiny.cloud(i, stamp, points)))
        messages.append((image_stamp + 5_000_000, "/front/camera_info", tiny.camera_info(image_stamp)))
        messages.append((image_stamp + 6_000_000, "/front/image_raw", tiny.image(i, image_stamp)))
    return messages


def write_bag(path: Path, kind: str, messages: list[tuple[int, str, object]], configure=lambda writer: None) -> Path:
    """Writes (log time, topic, message) to a bag: a .bag file (rosbag1) or a folder (sqlite3, mcap)."""
    store = STORES[kind]
    if kind == "rosbag1":
        writer = Rosbag1Writer(path)
    else:
        plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        writer = Rosbag2Writer(path, version=9, storage_plugin=plugin)
    configure(writer)
    connections = {}
    with writer:
        for log_time_ns, topic, message in messages:
            msgtype = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
            serialize = store.serialize_ros1 if kind == "rosbag1" else store.serialize_cdr
            writer.write(connections[topic], log_time_ns, serialize(message, msgtype))
    return path


def storage_file(bag: Path) -> Path:
    """The one storage file of a bag."""
    return next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3")) if bag.is_dir() else bag
