"""The sync policies: our collector, or message_filters' synchronisers behind the collector's interface.

message_filters' own know complete sets only. They are fed by hand and asked at once, which keeps their traps away: what
they call back only appends to a list (a callback that raised would leave their lock held for ever), and when time jumps
back they are made anew (their full queues, which keep the highest stamps, would discard every new message).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from std_msgs.msg import Header

from clip2uda_core.data.collector import (
    NO_STAMP,
    POINTS,
    TIME_JUMP,
    CollectedSet,
    Collector,
    CollectorConfig,
    CollectorCounts,
    TimeWatch,
    is_unset,
    why_refused,
)
from clip2uda_core.data.messages import stamp_ns
from clip2uda_ros.compat import ApproximateTimeSynchronizer, SimpleFilter, TimeSynchronizer
from clip2uda_ros.conversions import time_message

Policy = Literal["collector", "approximate_time", "exact_time"]

UNSYNCHRONIZED = "never matched by images of all cameras"


class Pairing(Protocol):
    """What the policies have in common; the methods are those of `Collector`, which documents them."""

    config: CollectorConfig
    counts: CollectorCounts

    @property
    def pending(self) -> int: ...
    def add_cloud(self, stamp_ns: int, payload: Any, now_ns: int, /) -> list[CollectedSet[Any]]: ...
    def add_image(self, camera: str, stamp_ns: int, payload: Any, now_ns: int, /) -> list[CollectedSet[Any]]: ...
    def poll(self, now_ns: int, /) -> list[CollectedSet[Any]]: ...


def make_pairing(policy: Policy, config: CollectorConfig, cameras: Sequence[str]) -> Pairing:
    """Raises ConfigError for a config that does not fit the cameras."""
    if policy == "collector":
        return Collector(config, cameras)
    return SynchronizedPairing(policy, config, cameras)


@dataclass(frozen=True)
class _Stamped:
    """What a synchroniser is given: a header with the stamp to compare, and what is to come out again."""

    header: Header
    own_stamp_ns: int
    payload: Any
    arrived_ns: int


class SynchronizedPairing:
    """Complete sets alone, matched by message_filters. Not thread-safe: the caller's callbacks come one at a time.

    Of the config, `tolerance_s` is the synchroniser's slop (approximate_time), and `image_queue` its queue size;
    `timeout_s` and `min_cameras` mean nothing, for a cloud waits until it is matched or pushed out.
    """

    def __init__(self, policy: Policy, config: CollectorConfig, cameras: Sequence[str]) -> None:
        self.counts = CollectorCounts()
        self._policy = policy
        self._config = config
        self._cameras = tuple(cameras)
        self._watch = TimeWatch(config.jump_back_s)
        self._ready: list[CollectedSet[Any]] = []
        self._connect()

    @property
    def config(self) -> CollectorConfig:
        return self._config

    @config.setter
    def config(self, config: CollectorConfig) -> None:
        """A new tolerance needs a new synchroniser; the clouds that wait in the old one are lost, and counted."""
        before, self._config = self._config, config
        if config.tolerance_s != before.tolerance_s:
            self._connect()
            self._count_lost()

    @property
    def pending(self) -> int:
        return len(self._synchronizer.queues[0])

    def add_cloud(self, when_ns: int, payload: Any, now_ns: int) -> list[CollectedSet[Any]]:
        refused = why_refused(self._config, when_ns, now_ns)
        self._notice_jump(now_ns, POINTS, None if refused == NO_STAMP else when_ns)
        self.counts.clouds += 1
        if refused:
            self.counts.dropped[refused] += 1
            return []
        self._measure()
        return self._feed(POINTS, when_ns, when_ns, payload, now_ns)

    def add_image(self, camera: str, when_ns: int, payload: Any, now_ns: int) -> list[CollectedSet[Any]]:
        self.counts.images[camera] += 1
        if is_unset(when_ns, now_ns):
            self.counts.images_unstamped[camera] += 1
            return self.poll(now_ns)
        self._notice_jump(now_ns, camera, when_ns)
        offset_ns = round(self._config.stamp_offset_s.get(camera, 0.0) * 1e9)
        return self._feed(camera, when_ns - offset_ns, when_ns, payload, now_ns)

    def poll(self, now_ns: int) -> list[CollectedSet[Any]]:
        """Nothing times out here; time may have jumped all the same."""
        self._notice_jump(now_ns)
        return []

    def _connect(self) -> None:
        """A new synchroniser, with empty queues."""
        self._inputs = {name: SimpleFilter() for name in (POINTS, *self._cameras)}
        filters, size = [*self._inputs.values()], self._config.image_queue
        if self._policy == "exact_time":
            self._synchronizer = TimeSynchronizer(filters, size)
        else:
            self._synchronizer = ApproximateTimeSynchronizer(filters, size, self._config.tolerance_s)
        self._synchronizer.registerCallback(self._take)

    def _feed(self, stream: str, matched_ns: int, own_ns: int, payload: Any, now_ns: int) -> list[CollectedSet[Any]]:
        header = Header(stamp=time_message(max(matched_ns, 0)))  # rclpy's Time knows nothing before 0
        self._inputs[stream].signalMessage(_Stamped(header, own_ns, payload, now_ns))
        self._count_lost()
        ready, self._ready = self._ready, []
        return ready

    def _take(self, cloud: _Stamped, *images: _Stamped) -> None:
        """Called by the synchroniser; must not raise."""
        self.counts.complete += 1
        by_camera = dict(zip(self._cameras, images, strict=True))
        joined = {name: (image.own_stamp_ns, image.payload) for name, image in by_camera.items()}
        nearest_s = {name: abs(stamp_ns(image) - stamp_ns(cloud)) / 1e9 for name, image in by_camera.items()}
        self.counts.nearest_s.update(nearest_s)
        self._ready.append(CollectedSet(cloud.payload, cloud.own_stamp_ns, joined, nearest_s, cloud.arrived_ns))

    def _count_lost(self) -> None:
        """What the synchroniser was given, has not handed out and no longer holds."""
        counts = self.counts
        lost = counts.clouds - counts.complete - counts.dropped.total() - self.pending
        if lost:
            counts.dropped[UNSYNCHRONIZED] += lost

    def _measure(self) -> None:
        """How far the newest cloud that waits is from its nearest images: says why it waits."""
        clouds, *queues = self._synchronizer.queues
        if clouds:
            newest_ns = max(clouds)
            for name, queue in zip(self._cameras, queues, strict=True):
                if queue:
                    self.counts.nearest_s[name] = min(abs(stamp - newest_ns) for stamp in queue) / 1e9

    def _notice_jump(self, now_ns: int, stream: str = POINTS, when_ns: int | None = None) -> None:
        if self._watch.jumped(now_ns, stream, when_ns):
            self.counts.time_jumps += 1
            if self.pending:
                self.counts.dropped[TIME_JUMP] += self.pending
            self._connect()
