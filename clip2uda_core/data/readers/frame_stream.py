"""Messages of a bag, one after the other, to frames: the collector and assembler of the live node, fed from a file."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from clip2uda_core.data.assembler import CameraSetup, FrameAssembler
from clip2uda_core.data.calibration import Calibration
from clip2uda_core.data.collector import CollectedSet, Collector
from clip2uda_core.data.messages import decode_transforms, stamp_ns
from clip2uda_core.data.readers.base import Pairing, ReaderOptions
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.data.readers.topics import TRANSFORMS, CameraTopic
from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3, TransformBuffer
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame, PointCloud

TRANSFORMS_AHEAD_NS = 500_000_000


class FrameStream:
    """Takes messages in order of log time, which is the collector's clock, and gives frames.

    static: transforms that hold throughout. infos: by camera, the CameraInfo that holds until another comes.
    damaged: messages that could not be decoded, by topic, with the reason of the latest in `damage`.

    No cloud is too old: the age that matters to a robot says nothing about a recording whose sensors have a clock of
    their own.
    """

    def __init__(
        self,
        points_topic: str,
        cameras: Iterable[CameraTopic],
        static: Iterable[tuple[SE3, int]],
        infos: dict[str, Any],
        calibration: Calibration | None,
        options: ReaderOptions,
    ) -> None:
        cameras = tuple(cameras)
        self.pairing = Pairing()
        self.damaged: Counter[str] = Counter()
        self.damage: dict[str, str] = {}
        self._points_topic = points_topic
        self._image_topics = {camera.image: camera.name for camera in cameras}
        self._info_topics = {camera.info: camera.name for camera in cameras if camera.info is not None}
        self._label_space = options.label_space
        self._transforms = TransformBuffer()
        for parent_SE3_child, static_ns in static:
            self._transforms.set_transform(parent_SE3_child, static_ns, static=True)
        config = options.sync.model_copy(update={"max_age_s": 0.0})
        self._collector: Collector[Any] = Collector(config, [camera.name for camera in cameras])
        setups = [CameraSetup(c.name, c.rectified, c.image, c.info or "calibration") for c in cameras]
        self.assembler = FrameAssembler(setups, calibration or self._transforms, options.fixed_frame, points_topic)
        for name, info in infos.items():
            self.assembler.set_camera_info(name, info)
        self._jump_back_ns = round(options.sync.jump_back_s * 1e9)
        self._newest_ns: dict[str, int] = {}

    def feed(self, raw: RawMessage) -> list[Frame]:
        """The frames that are complete with this message, or that have waited long enough."""
        try:
            sets = self._take(raw, raw.message())
        except DataError as error:
            self._count_damage(raw.topic, error)
            return []
        return self._assemble(sets)

    def flush(self) -> list[Frame]:
        """The frames that still waited for images at the end."""
        return self._assemble(self._collector.flush())

    def _take(self, raw: RawMessage, message: Any) -> list[CollectedSet[Any]]:
        if raw.topic == self._points_topic:
            return self._collector.add_cloud(stamp_ns(message), message, raw.log_time_ns)
        if raw.topic in self._image_topics:
            camera = self._image_topics[raw.topic]
            return self._collector.add_image(camera, stamp_ns(message), message, raw.log_time_ns)
        if raw.topic in self._info_topics:
            self.assembler.set_camera_info(self._info_topics[raw.topic], message)
        elif raw.msgtype == TRANSFORMS and not raw.topic.endswith("static"):
            for parent_SE3_child, sample_ns in decode_transforms(message):
                self._take_transform(parent_SE3_child, sample_ns)
        return []

    def _take_transform(self, parent_SE3_child: SE3, sample_ns: int) -> None:
        """Adds a moving transform; where its stamps jump back (a loop was recorded), those before are forgotten."""
        newest_ns = self._newest_ns.get(parent_SE3_child.source, sample_ns)
        if sample_ns < newest_ns - self._jump_back_ns:
            self._transforms.clear_dynamic()
            self._newest_ns.clear()
            newest_ns = sample_ns
        self._newest_ns[parent_SE3_child.source] = max(sample_ns, newest_ns)
        self._transforms.set_transform(parent_SE3_child, sample_ns, static=False)

    def _assemble(self, sets: list[CollectedSet[Any]]) -> list[Frame]:
        frames = []
        for collected in sets:
            for camera, distance_s in collected.nearest_s.items():
                self.pairing.nearest_s.setdefault(camera, []).append(distance_s)
            try:
                frame = self.assembler.assemble(collected)
            except DataError as error:
                self._count_damage(self._points_topic, error)
                continue
            frames.append(Frame(_labelled(frame.cloud, self._label_space), frame.views, frame.source))
            if len(frame.views) == len(self._image_topics):
                self.pairing.complete += 1
            else:
                self.pairing.partial += 1
        self.pairing.dropped = self._collector.counts.dropped
        self.pairing.images_unused = self._collector.counts.images_unused
        return frames

    def _count_damage(self, topic: str, error: DataError) -> None:
        self.damaged[topic] += 1
        self.damage[topic] = str(error)


def transforms_ahead(messages: Iterable[RawMessage], ahead_ns: int = TRANSFORMS_AHEAD_NS) -> Iterator[RawMessage]:
    """The same messages, with transforms up to `ahead_ns` of log time before the others.

    A transform is interpolated between two samples, and the second is logged after the cloud or image that needs it.
    """
    waiting: deque[RawMessage] = deque()
    for message in messages:
        while waiting and waiting[0].log_time_ns < message.log_time_ns - ahead_ns:
            yield waiting.popleft()
        if message.msgtype == TRANSFORMS:
            yield message
        else:
            waiting.append(message)
    yield from waiting


def _labelled(cloud: PointCloud, label_space: LabelSpace | None) -> PointCloud:
    """The cloud with its label field as classes of `label_space`, without labels where there is none."""
    if cloud.labels is None:
        return cloud
    if label_space is None:
        return replace(cloud, labels=None)
    return replace(cloud, labels=np.where(cloud.labels < len(label_space), cloud.labels, np.uint8(IGNORE)))
