"""Messages of a bag, one after the other, to frames: the collector and assembler of the live node, fed from a file."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from clip2uda_core.data.assembler import CameraSetup, FrameAssembler
from clip2uda_core.data.calibration import Calibration
from clip2uda_core.data.collector import CollectedSet, Collector
from clip2uda_core.data.messages import decode_point_cloud, decode_transforms, frame_id, stamp_ns
from clip2uda_core.data.readers.base import Pairing, ReaderOptions
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.data.readers.thinning import Thinner, Thinning
from clip2uda_core.data.readers.topics import TRANSFORMS, CameraTopic
from clip2uda_core.errors import DataError, TransformError
from clip2uda_core.geometry import SE3, TransformBuffer
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame, PointCloud

FIXED_FRAMES = ("odom", "map")
"""REP 105's frames that the motion between two frames is measured in, where none was chosen; odom never jumps."""

SAME_STAMP = "stamped as one of the clouds before (recorded twice?)"
NO_IMAGE = "without any image, where frames are thinned"
REMEMBERED_STAMPS = 20


class FrameStream:
    """Takes messages in order of log time, which is the collector's clock, and gives frames.

    static: transforms that hold throughout. infos: by camera, the CameraInfo that holds until another comes.
    damaged: messages that could not be decoded, by topic, with the reason of the latest in `damage`.
    clouds: how many came. sets: how many were paired. joined: per camera, sets that it has an image in.

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
        self.clouds, self.sets = 0, 0
        self.joined: Counter[str] = Counter()
        self.thinner = Thinner(options.thinning)
        self.tolerance_s = options.sync.tolerance_s
        self.cameras = tuple(camera.name for camera in cameras)
        self._points_topic = points_topic
        self._image_topics = {camera.image: camera.name for camera in cameras}
        self._info_topics = {camera.info: camera.name for camera in cameras if camera.info is not None}
        self._label_space = options.label_space
        self._thins = options.thinning != Thinning()
        self._fixed_frames = FIXED_FRAMES if options.fixed_frame is None else (options.fixed_frame,)
        self._cloud_stamps_ns: deque[int] = deque(maxlen=REMEMBERED_STAMPS)
        self._dropped: Counter[str] = Counter()
        self._transforms = TransformBuffer()
        for parent_SE3_child, static_ns in static:
            self._transforms.set_transform(parent_SE3_child, static_ns, static=True)
        config = options.sync.model_copy(update={"max_age_s": 0.0})
        self._collector: Collector[Any] = Collector(config, self.cameras)
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
            return self._take_cloud(stamp_ns(message), message, raw.log_time_ns)
        if raw.topic in self._image_topics:
            camera = self._image_topics[raw.topic]
            return self._collector.add_image(camera, stamp_ns(message), message, raw.log_time_ns)
        if raw.topic in self._info_topics:
            self.assembler.set_camera_info(self._info_topics[raw.topic], message)
        elif raw.msgtype == TRANSFORMS and not raw.topic.endswith("static"):
            for parent_SE3_child, sample_ns in decode_transforms(message):
                self._take_transform(parent_SE3_child, sample_ns)
        return []

    def _take_cloud(self, cloud_ns: int, message: Any, now_ns: int) -> list[CollectedSet[Any]]:
        self.clouds += 1
        if self._cloud_stamps_ns and cloud_ns < max(self._cloud_stamps_ns) - self._jump_back_ns:
            self._cloud_stamps_ns.clear()  # a loop was recorded
        if cloud_ns and cloud_ns in self._cloud_stamps_ns:
            self._dropped[SAME_STAMP] += 1
            return []
        self._cloud_stamps_ns.append(cloud_ns)
        return self._collector.add_cloud(cloud_ns, message, now_ns)

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
            self.sets += 1
            self.joined.update(collected.images.keys())
            for camera, distance_s in collected.nearest_s.items():
                self.pairing.nearest_s.setdefault(camera, []).append(distance_s)
            try:
                if self._thins and not self._is_worth_a_frame(collected):
                    continue
                frame = self.assembler.assemble(collected)
            except DataError as error:
                self._count_damage(self._points_topic, error)
                continue
            frames.append(Frame(_labelled(frame.cloud, self._label_space), frame.views, frame.source))
            if len(frame.views) == len(self._image_topics):
                self.pairing.complete += 1
            else:
                self.pairing.partial += 1
        self.pairing.dropped = self.dropped_clouds + self.thinner.dropped
        self.pairing.images_unused = self._collector.counts.images_unused
        return frames

    @property
    def dropped_clouds(self) -> Counter[str]:
        """Clouds that gave no frame though nobody asked to leave them out, by reason."""
        return self._collector.counts.dropped + self._dropped

    @property
    def images_unstamped(self) -> Counter[str]:
        """Images without a stamp, by camera."""
        return self._collector.counts.images_unstamped

    def _is_worth_a_frame(self, collected: CollectedSet[Any]) -> bool:
        """A cloud without images would only keep the next one, which may have some, from becoming a frame."""
        if self.cameras and not collected.images:
            self._dropped[NO_IMAGE] += 1
            return False
        return self.thinner.takes(
            collected.cloud_stamp_ns,
            lambda: decode_point_cloud(collected.cloud, self._points_topic),
            lambda: self._odometry(collected),
        )

    def _odometry(self, collected: CollectedSet[Any]) -> SE3 | None:
        """Where the LiDAR is in a frame that does not move, None where TF does not say."""
        for fixed_frame in self._fixed_frames:
            try:
                return self._transforms.lookup(fixed_frame, frame_id(collected.cloud), collected.cloud_stamp_ns)
            except TransformError:
                continue
        return None

    def _count_damage(self, topic: str, error: DataError) -> None:
        self.damaged[topic] += 1
        self.damage[topic] = str(error)


def _labelled(cloud: PointCloud, label_space: LabelSpace | None) -> PointCloud:
    """The cloud with its label field as classes of `label_space`, without labels where there is none."""
    if cloud.labels is None:
        return cloud
    if label_space is None:
        return replace(cloud, labels=None)
    return replace(cloud, labels=np.where(cloud.labels < len(label_space), cloud.labels, np.uint8(IGNORE)))
