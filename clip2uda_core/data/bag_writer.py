"""Writes frames and messages as a rosbag2 in mcap, which `ros2 bag play`, RViz, Foxglove and our own reader take."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from clip2uda_core.data.messages import (
    RosbagsFactory,
    encode_camera_info,
    encode_compressed_image,
    encode_image,
    encode_point_cloud,
    encode_transforms,
)
from clip2uda_core.errors import DataError
from clip2uda_core.files import writing
from clip2uda_core.geometry import SE3
from clip2uda_core.types import CameraView, Frame

ImageCoding = Literal["raw", "png", "jpeg"]

POINTS_TOPIC = "/lidar/points"
STATIC_TRANSFORMS_TOPIC = "/tf_static"

METADATA_VERSION: Literal[8] = 8
"""Writes QoS settings as numbers, which old and new rosbag2 read; version 9 writes their names."""

_FOREVER = QosTime(sec=9_223_372_036, nsec=854_775_807)
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """Writes to `path`: one mcap file where it ends with `.mcap`, else a rosbag2 folder with metadata.yaml.

    A context manager. The recording is written beside `path` and put there when the block ends well; when it ends with
    an exception, nothing is left behind and what was at `path` stays. An existing file or rosbag2 folder is replaced
    only with `overwrite`.

    images: how `write_frame` writes images: `raw` (sensor_msgs/Image rgb8, which every program shows), `png`
    (CompressedImage, every bit kept) or `jpeg` (CompressedImage, smallest).

    Raises DataError when `path` is taken, cannot be written (also when the disk is full), or when nothing was written.
    """

    def __init__(self, path: Path, *, images: ImageCoding = "raw", overwrite: bool = False) -> None:
        self.path = path
        self.factory = RosbagsFactory()
        self._is_file = path.suffix == ".mcap"
        self._images = images
        self._overwrite = overwrite
        self._connections: dict[str, Connection] = {}
        self._image_stamps_ns: dict[str, int] = {}
        self._poses: dict[str, SE3] = {}

    def __enter__(self) -> "BagWriter":
        self._check_path()
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._scratch = tempfile.TemporaryDirectory(
                prefix=f".{self.path.name}.", dir=self.path.parent, ignore_cleanup_errors=True
            )
            # the folder's name matters: rosbag2 names the file in it after it
            self._bag = Path(self._scratch.name) / (self.path.stem if self._is_file else self.path.name)
            self._writer = Writer(self._bag, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            with suppress(OSError):  # what is still buffered cannot be written to a full disk either
                self._writer.abort()
            self._scratch.cleanup()

    def write_frame(self, frame: Frame) -> None:
        """Writes the cloud to /lidar/points and each view to /<camera>/image_raw (or .../compressed) and
        /<camera>/camera_info, in order of their stamps, and a camera's pose once to /tf_static.

        An image that a camera's previous frame had too is written once. Labels of pixels are not written.

        Raises DataError when a camera's name cannot be in a topic, or when its pose changes, which /tf_static cannot
        tell: that is so for frames that were corrected for motion through a fixed frame.
        """
        cloud = frame.cloud
        views = [view for view in frame.views if self._image_stamps_ns.get(view.name) != view.stamp_ns]
        start_ns = min([cloud.stamp_ns, *(view.stamp_ns for view in views)])
        self._write_poses(frame, start_ns)
        messages = [(cloud.stamp_ns, POINTS_TOPIC, encode_point_cloud(cloud, self.factory))]
        for view in views:
            self._image_stamps_ns[view.name] = view.stamp_ns
            messages += [(view.stamp_ns, topic, msg) for topic, msg in self._view_messages(view)]
        for stamp_ns, topic, msg in sorted(messages, key=lambda message: message[0]):
            self.write_message(topic, msg, stamp_ns)

    def write_message(self, topic: str, msg: Any, stamp_ns: int, *, latched: bool = False) -> None:
        """Writes a message that `factory` made. latched: `ros2 bag play` offers it to subscribers that come later."""
        data = self.factory.typestore.serialize_cdr(msg, msg.__msgtype__)
        self.write_raw(topic, msg.__msgtype__, data, stamp_ns, latched=latched)

    def write_raw(
        self, topic: str, msgtype: str, data: bytes | memoryview, log_time_ns: int, *, latched: bool = False
    ) -> None:
        """Writes a message that is serialised already (CDR), as it came from another bag.

        Raises DataError for a type that no ROS distribution ships, and for a second type on one topic.
        """
        if log_time_ns < 0:
            raise DataError(f"{self.path}: expected stamps since 1970, got {log_time_ns} ns on {topic}")
        connection = self._connections.get(topic)
        if connection is None:
            if msgtype not in self.factory.typestore.types:
                raise DataError(f"{self.path}: {topic} is of type {msgtype}, whose definition is not known")
            connection = self._writer.add_connection(
                topic, msgtype, typestore=self.factory.typestore, offered_qos_profiles=[_LATCHED] if latched else []
            )
            self._connections[topic] = connection
        if connection.msgtype != msgtype:
            raise DataError(f"{self.path}: expected {connection.msgtype} on {topic}, as before, got {msgtype}")
        with self._writing():
            self._writer.write(connection, log_time_ns, data)

    def _view_messages(self, view: CameraView) -> Iterator[tuple[str, Any]]:
        header = (view.stamp_ns, _optical_frame(view.name))
        topic = f"/{view.name}/image_raw"
        if self._images == "raw":
            yield topic, encode_image(view.image, *header, self.factory)
        else:
            yield f"{topic}/compressed", encode_compressed_image(view.image, *header, self.factory, self._images)
        yield f"/{view.name}/camera_info", encode_camera_info(view.camera, *header, self.factory)

    def _write_poses(self, frame: Frame, stamp_ns: int) -> None:
        """Poses of cameras that are new; the parent is the LiDAR's frame."""
        new = []
        for view in frame.views:
            pose = view.camera_SE3_lidar
            if view.name not in self._poses:
                _check_name(view.name)
                self._poses[view.name] = pose
                lidar_SE3_camera = SE3(pose.inverse().matrix, frame.cloud.frame_id, _optical_frame(view.name))
                new.append((lidar_SE3_camera, stamp_ns))
            elif not np.allclose(self._poses[view.name].matrix, pose.matrix, rtol=0, atol=1e-9):
                raise DataError(
                    f"{frame.source or self.path}: expected camera '{view.name}' to stay where it was in the first "
                    f"frame, got another pose; read the recording without a fixed frame"
                )
        if new:
            self.write_message(STATIC_TRANSFORMS_TOPIC, encode_transforms(new, self.factory), stamp_ns, latched=True)

    def _check_path(self) -> None:
        if not self.path.exists() and not self.path.is_symlink():
            return
        if not self._overwrite:
            raise DataError(f"{self.path}: exists already; choose another name or allow to overwrite it (--force)")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise DataError(
                f"{self.path}: is a folder that is no rosbag2, which is not overwritten; choose another name"
            )

    def _finish(self) -> None:
        if not any(self._writer.counts.values()):
            raise DataError(f"{self.path}: not written, as there was nothing to write: the source gave no frame")
        with self._writing():
            self._writer.close()
            if self.path.is_dir():
                self.path.rename(Path(self._scratch.name) / "replaced")
            result = self._bag / f"{self._bag.name}.mcap" if self._is_file else self._bag
            result.replace(self.path)

    def _writing(self) -> AbstractContextManager[None]:
        return writing(f"{self.path}", DataError, "free space, or choose another place")


def _optical_frame(camera: str) -> str:
    return f"{camera}_optical_frame"


def _check_name(camera: str) -> None:
    """Raises DataError for a name that ROS does not allow in a topic."""
    if not re.fullmatch(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", camera, re.ASCII) or "__" in camera:
        raise DataError(
            f"camera '{camera}': expected a name that can be in a topic (letters, digits, single underscores, not a "
            f"digit first); give the camera another name"
        )
