"""ROS recordings as frames: topics chosen, images paired with clouds, calibration from the bag or from a file.

Pairing and assembly are those of the live node, so what is segmented offline is what the robot would have segmented.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from clip2uda_core.data.calibration import load_calibration
from clip2uda_core.data.messages import decode_transforms, frame_id
from clip2uda_core.data.readers.bag import Bag
from clip2uda_core.data.readers.bag_file import Topic
from clip2uda_core.data.readers.base import Pairing, Reader, ReaderOptions, SourceDescription, Stamps, Stream
from clip2uda_core.data.readers.frame_stream import FrameStream
from clip2uda_core.data.readers.losses import losses
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.data.readers.topics import POINT_CLOUD, TRANSFORMS, choose_cameras, choose_points_topic
from clip2uda_core.data.readers.transform_feed import joined, transforms_ahead
from clip2uda_core.errors import DataError, TransformError
from clip2uda_core.geometry import SE3, TransformBuffer
from clip2uda_core.types import Frame

OUTPUT_FIELDS = {"label", "confidence"}
"""Fields that tell a cloud which we labelled."""


class RosbagReader(Reader):
    """Frames of a rosbag1 or rosbag2, whole or damaged (see `Bag`).

    Stamps are those of the headers. Static transforms hold from the start, wherever in the bag they are. Messages that
    cannot be decoded are skipped, counted, and told of in `warnings`; so are cameras whose calibration or transform is
    missing: their frames have fewer views.

    Raises DataError when the bag holds nothing that can be read, and, with the choices, when its topics are ambiguous;
    CalibrationError when the calibration file cannot be used.
    """

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        self.path = path
        self.name = path.resolve().name.partition(".")[0]
        self.pairing = Pairing()
        self._options = options
        self._calibration = None if options.calibration is None else load_calibration(options.calibration)
        self._bag = Bag(path)
        topics = self._bag.topics
        calibrated = None
        if self._calibration is not None:
            calibrated = {name: camera.topic for name, camera in self._calibration.cameras.items()}
        self._points = choose_points_topic(self._topics_but_output(), options.points_topic)
        self._cameras = choose_cameras(topics, options.cameras, calibrated)
        self.cameras = tuple(camera.name for camera in self._cameras)
        self._transforms = {topic.name for topic in topics if topic.msgtype == TRANSFORMS}
        self._tf_bags = [_TransformBag(path) for path in options.tf_from]
        self._static = self._read_static_transforms()
        self._infos = self._read_first_infos()
        self._doubts = self._check_transforms()
        self.warnings = self._own_warnings()

    @property
    def points_topic(self) -> str:
        """The topic of the clouds that the frames are made of."""
        return self._points

    def __len__(self) -> int:
        count = sum(topic.count for topic in self._bag.topics if topic.name == self._points)
        return min(count, self._options.max_frames or count)

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self.frames_and_messages() if isinstance(item, Frame))

    def frames_and_messages(self) -> Iterator[Frame | RawMessage]:
        """The frames, and before each the messages that it is made of, as recorded, transforms included.

        With these a command can write what it read beside what it made of it.
        """
        stream = FrameStream(self._points, self._cameras, self._static, self._infos, self._calibration, self._options)
        self.pairing = stream.pairing
        count = 0
        try:
            for item in self._feed(stream):
                yield item
                count += isinstance(item, Frame)
                if count == self._options.max_frames:
                    break
        finally:
            self.warnings[:] = self._own_warnings() + losses(stream)

    def describe(self) -> SourceDescription:
        roles = {self._points: "points"} | dict.fromkeys(self._transforms, "transforms")
        for camera in self._cameras:
            roles[camera.image] = f"camera {camera.name}"
            if camera.info is not None:
                roles[camera.info] = f"calibration {camera.name}"
        streams = [Stream(t.name, t.msgtype, t.count, roles.get(t.name, "")) for t in self._bag.topics]
        return SourceDescription(self.name, "rosbag", self.path, tuple(streams), tuple(self.warnings))

    def stamps(self) -> dict[str, Stamps]:
        acquired: dict[str, list[int]] = defaultdict(list)
        logged: dict[str, list[int]] = defaultdict(list)
        for message in self._bag.messages(self._used_topics()):
            try:
                acquired[message.topic].append(message.header_stamp_ns())
            except DataError:
                continue  # counted where it is decoded
            logged[message.topic].append(message.log_time_ns)
        return {
            topic: Stamps(np.array(acquired[topic], np.int64), np.array(logged[topic], np.int64)) for topic in acquired
        }

    def _used_topics(self) -> set[str]:
        images = {camera.image for camera in self._cameras}
        return {self._points} | images | {camera.info for camera in self._cameras if camera.info is not None}

    def _feed(self, stream: FrameStream) -> Iterator[Frame | RawMessage]:
        own = self._bag.messages(self._used_topics() | self._transforms)
        for raw in transforms_ahead(joined(own, [other.messages() for other in self._tf_bags])):
            yield raw
            yield from stream.feed(raw)
        yield from stream.flush()

    def _own_warnings(self) -> list[str]:
        return self._bag.warnings + [w for other in self._tf_bags for w in other.bag.warnings] + self._doubts

    def _topics_but_output(self) -> list[Topic]:
        """The topics, without clouds that `clip2uda segment` or the node wrote beside others."""
        clouds = [topic for topic in self._bag.topics if topic.msgtype == POINT_CLOUD and topic.count > 0]
        output: set[str] = set()
        if len(clouds) > 1 and self._options.points_topic is None:
            output = {cloud.name for cloud in clouds if _field_names(self._first(cloud.name)) >= OUTPUT_FIELDS}
        keep_all = len(output) == len(clouds)
        return [topic for topic in self._bag.topics if keep_all or topic.name not in output]

    def _read_static_transforms(self) -> list[tuple[SE3, int]]:
        static = {topic for topic in self._transforms if topic.endswith("static")}
        transforms = []
        own = self._bag.messages(static) if static else ()
        for raw in chain(own, *(other.static_messages() for other in self._tf_bags)):
            try:
                transforms += decode_transforms(raw.message())
            except DataError:
                continue  # counted where it is read again
        return transforms

    def _read_first_infos(self) -> dict[str, Any]:
        """Each camera's first CameraInfo, which holds for the images before it too."""
        infos = {camera.name: self._first(camera.info) for camera in self._cameras if camera.info is not None}
        return {name: info for name, info in infos.items() if info is not None}

    def _first(self, topic: str) -> Any | None:
        """The first message of a topic that can be decoded."""
        for raw in self._bag.messages({topic}):
            try:
                return raw.message()
            except DataError:
                continue
        return None

    def _check_transforms(self) -> list[str]:
        """Tells before the reading which cameras cannot be placed, where no transform will come while reading."""
        if not self._cameras and self._options.cameras is None:
            return ["no camera is used: the bag holds no images; only 3D can label its clouds"]
        transforms = self._transforms.union(*(other.topics for other in self._tf_bags))
        if self._calibration is not None or any(not topic.endswith("static") for topic in transforms):
            return []
        cloud = self._first(self._points)
        buffer = TransformBuffer()
        for parent_SE3_child, stamp in self._static:
            buffer.set_transform(parent_SE3_child, stamp, static=True)
        doubts = []
        for camera in self._cameras:
            image = self._first(camera.image)
            if cloud is None or image is None:
                continue
            try:
                buffer.lookup(frame_id(image), frame_id(cloud), 0)
            except TransformError as error:
                doubts.append(
                    f"camera '{camera.name}' is not used: {error}. Give the bag that has /tf_static with --tf-bag BAG, "
                    f"or the calibration with --calibration FILE"
                )
        return doubts


class _TransformBag:
    """The transforms of another bag. Raises DataError when it holds none."""

    def __init__(self, path: Path) -> None:
        self.bag = Bag(path)
        self.topics = {topic.name for topic in self.bag.topics if topic.msgtype == TRANSFORMS and topic.count > 0}
        if not self.topics:
            held = ", ".join(topic.name for topic in self.bag.topics) or "nothing"
            raise DataError(f"--tf-bag {path}: expected a topic of type tf2_msgs/TFMessage, the bag holds {held}")

    def messages(self) -> Iterator[RawMessage]:
        return self.bag.messages(self.topics)

    def static_messages(self) -> Iterator[RawMessage]:
        static = {topic for topic in self.topics if topic.endswith("static")}
        return self.bag.messages(static) if static else iter(())


def _field_names(cloud: Any | None) -> set[str]:
    return set() if cloud is None else {field.name for field in cloud.fields}
