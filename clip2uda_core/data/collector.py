"""LiDAR-triggered pairing of clouds and images by their acquisition stamps, the same for bags and the live node.

Each cloud opens a set. Each camera joins it with the image nearest to the stamp it should have, within a tolerance.
The set is handed out when every camera's choice is final, or after a timeout with the cameras that came.
"""

from bisect import bisect_left, insort_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import Field

from clip2uda_core.config import Config
from clip2uda_core.errors import ConfigError

P = TypeVar("P")

NS_PER_S = 1_000_000_000
POINTS = ""
"""The stream of the clouds, beside those of the cameras."""

TOO_OLD = "older than max_age_s on arrival"
NO_STAMP = "header.stamp is not set"
OUT_OF_ORDER = "stamped before a cloud that is done already"
TIME_JUMP = "waiting for images when time jumped back"
TOO_FEW_CAMERAS = "fewer images within tolerance_s than min_cameras"


class CollectorConfig(Config):
    """How images join a cloud. Times are in seconds.

    tolerance_s: an image joins when it is at most this far from the cloud's stamp plus its camera's offset.
    timeout_s: how long, by the caller's clock, a cloud waits for its images after it arrived.
    max_age_s: a cloud whose stamp is this far behind the caller's clock when it arrives is dropped; 0 keeps all.
    min_cameras: a set with fewer images is dropped; 0 lets a cloud go on without any.
    stamp_offset_s: per camera, the stamp of the image that belongs to a cloud minus the stamp of the cloud.
    jump_back_s: a stamp this far behind the newest of its stream means that time jumped (a bag that loops); anything
      less is a message that came late.
    image_queue, cloud_queue: most images kept per camera, and most clouds that wait.
    """

    tolerance_s: float = Field(default=0.05, ge=0)
    timeout_s: float = Field(default=0.15, ge=0)
    max_age_s: float = Field(default=1.0, ge=0)
    min_cameras: int = Field(default=0, ge=0)
    stamp_offset_s: dict[str, float] = Field(default={})
    jump_back_s: float = Field(default=0.5, gt=0)
    image_queue: int = Field(default=30, ge=1)
    cloud_queue: int = Field(default=10, ge=1)


@dataclass(frozen=True)
class CollectedSet(Generic[P]):
    """A cloud with the images that joined it, by camera: (stamp_ns, payload).

    nearest_s: per camera, how far the nearest image was from the stamp it should have, whether it joined or not;
    cameras without any image are missing. arrived_ns: when the cloud came, by the caller's clock.
    """

    cloud: P
    cloud_stamp_ns: int
    images: dict[str, tuple[int, P]]
    nearest_s: dict[str, float] = field(default_factory=dict)
    arrived_ns: int = 0


@dataclass
class CollectorCounts:
    """What became of the messages since the start: clouds == complete + partial + dropped + pending, at any time.

    complete: sets with an image of every camera; partial: sets without some. dropped: clouds by reason.
    images: per camera, those that came. images_unused: those that left the buffer without having joined a cloud;
    images_unstamped: those of them whose stamp is not set, which are never buffered.
    nearest_s: per camera, as of the last cloud that was decided; says why a camera never joins.
    time_jumps: how often time jumped back; the caller forgets its moving transforms when this grows.
    """

    clouds: int = 0
    complete: int = 0
    partial: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    images_unused: Counter[str] = field(default_factory=Counter)
    images_unstamped: Counter[str] = field(default_factory=Counter)
    nearest_s: dict[str, float] = field(default_factory=dict)
    time_jumps: int = 0


class TimeWatch:
    """Notices when the time of a stream of stamps, or of the caller's clock, jumps back by more than `jump_back_s`."""

    def __init__(self, jump_back_s: float) -> None:
        self._threshold_ns = _ns(jump_back_s)
        self._newest_ns: dict[str, int] = {}
        self._now_ns: int | None = None

    def jumped(self, now_ns: int, stream: str = "", stamp_ns: int | None = None) -> bool:
        """Whether time is back before what was seen, by the clock or, where there is a stamp, by its stream.

        After a jump the past is forgotten: the same stamps do not jump twice.
        """
        back = self._now_ns is not None and self._now_ns - now_ns > self._threshold_ns
        if stamp_ns is not None:
            back = back or self._newest_ns.get(stream, stamp_ns) - stamp_ns > self._threshold_ns
        if back:
            self._newest_ns.clear()
        self._now_ns = now_ns
        if stamp_ns is not None:
            self._newest_ns[stream] = max(stamp_ns, self._newest_ns.get(stream, stamp_ns))
        return back


def is_unset(stamp_ns: int, now_ns: int) -> bool:
    """Whether nobody filled a stamp: it is 0 although the clock, which may itself start at 0, is well past that."""
    return stamp_ns == 0 and now_ns > NS_PER_S


def why_refused(config: CollectorConfig, stamp_ns: int, now_ns: int) -> str | None:
    """Why a cloud is not even paired, None for one that is."""
    if is_unset(stamp_ns, now_ns):
        return NO_STAMP
    if config.max_age_s and now_ns - stamp_ns > _ns(config.max_age_s):
        return TOO_OLD
    return None


@dataclass
class _Image(Generic[P]):
    stamp_ns: int
    payload: P
    used: bool = False


@dataclass
class _Cloud(Generic[P]):
    stamp_ns: int
    payload: P
    arrived_ns: int


class Collector(Generic[P]):
    """Pairs clouds and images of any payload. Not thread-safe: the caller's callbacks come one at a time.

    Every method takes `now_ns` of one clock of the caller that counts in the stamps' epoch: the node's clock, or the
    log time of a bag. They return the sets that are ready, in the order of the clouds' stamps.

    config: may be replaced while running. counts: what became of everything.

    Raises ConfigError when the config names a camera that does not exist, or asks for more than there are.
    """

    def __init__(self, config: CollectorConfig, cameras: Sequence[str]) -> None:
        unknown = sorted(set(config.stamp_offset_s) - set(cameras))
        if unknown or config.min_cameras > len(cameras):
            wrong = f"stamp_offset_s of {unknown}" if unknown else f"min_cameras={config.min_cameras}"
            raise ConfigError(f"synchronisation: {wrong}, but the cameras are {list(cameras) or 'none'}")
        self.config = config
        self.counts = CollectorCounts()
        self._clouds: deque[_Cloud[P]] = deque()
        self._images: dict[str, list[_Image[P]]] = {camera: [] for camera in cameras}
        self._fired_ns: int | None = None
        self._watch = TimeWatch(config.jump_back_s)

    @property
    def pending(self) -> int:
        """The number of clouds that wait for images."""
        return len(self._clouds)

    def add_cloud(self, stamp_ns: int, payload: P, now_ns: int) -> list[CollectedSet[P]]:
        """Opens a set."""
        refused = why_refused(self.config, stamp_ns, now_ns)
        sets = self._advance(now_ns) if refused == NO_STAMP else self._advance(now_ns, POINTS, stamp_ns)
        self.counts.clouds += 1
        if refused:
            self.counts.dropped[refused] += 1
        elif self._fired_ns is not None and stamp_ns < self._fired_ns:
            self.counts.dropped[OUT_OF_ORDER] += 1
        else:
            insort_right(self._clouds, _Cloud(stamp_ns, payload, now_ns), key=lambda cloud: cloud.stamp_ns)
        return sets + self._fire_ready(now_ns)

    def add_image(self, camera: str, stamp_ns: int, payload: P, now_ns: int) -> list[CollectedSet[P]]:
        """Offers an image to the clouds that wait and to those to come; one image may serve several."""
        self.counts.images[camera] += 1
        if is_unset(stamp_ns, now_ns):
            self.counts.images_unused[camera] += 1
            self.counts.images_unstamped[camera] += 1
            return self._advance(now_ns)
        sets = self._advance(now_ns, camera, stamp_ns)
        images = self._images[camera]
        insort_right(images, _Image(stamp_ns, payload), key=lambda image: image.stamp_ns)
        self._forget(camera, len(images) - self.config.image_queue)
        return sets + self._fire_ready(now_ns)

    def poll(self, now_ns: int) -> list[CollectedSet[P]]:
        """Hands out what timed out; to be called regularly where messages may cease to come."""
        return self._advance(now_ns)

    def flush(self) -> list[CollectedSet[P]]:
        """Hands out all clouds with what came, and empties the buffers: the end of a recording."""
        sets = [fired for fired in (self._fire() for _ in range(len(self._clouds))) if fired]
        for camera, images in self._images.items():
            self._forget(camera, len(images))
        return sets

    def _advance(self, now_ns: int, stream: str = "", stamp_ns: int | None = None) -> list[CollectedSet[P]]:
        """Notices jumps of time, then fires what timed out: before the new message, which came too late for that."""
        if self._watch.jumped(now_ns, stream, stamp_ns):
            self._jump()
        return self._fire_ready(now_ns)

    def _jump(self) -> None:
        self.counts.time_jumps += 1
        if self._clouds:
            self.counts.dropped[TIME_JUMP] += len(self._clouds)
        self._clouds.clear()
        for camera, images in self._images.items():
            self._forget(camera, len(images))
        self._fired_ns = None

    def _fire_ready(self, now_ns: int) -> list[CollectedSet[P]]:
        sets = []
        timeout = _ns(self.config.timeout_s)
        while self._clouds and (
            self._is_final(self._clouds[0])
            or len(self._clouds) > self.config.cloud_queue
            or any(now_ns - cloud.arrived_ns >= timeout for cloud in self._clouds)  # none holds up a later one
        ):
            fired = self._fire()
            if fired:
                sets.append(fired)
        return sets

    def _is_final(self, cloud: _Cloud[P]) -> bool:
        """Whether no nearer image can come: each camera has one at or after the stamp that it should have."""
        return all(
            images and images[-1].stamp_ns >= self._wanted_ns(cloud, camera) for camera, images in self._images.items()
        )

    def _fire(self) -> CollectedSet[P] | None:
        """Decides the first cloud; None when it is dropped for want of images."""
        cloud = self._clouds.popleft()
        chosen: dict[str, _Image[P]] = {}
        nearest_s: dict[str, float] = {}
        tolerance = _ns(self.config.tolerance_s)
        for camera, images in self._images.items():
            wanted = self._wanted_ns(cloud, camera)
            if images:
                image = _nearest(images, wanted)
                distance = abs(image.stamp_ns - wanted)
                nearest_s[camera] = distance / 1e9
                if distance <= tolerance:
                    chosen[camera] = image
        self.counts.nearest_s.update(nearest_s)
        fired = self._count(cloud, chosen, nearest_s)
        self._fired_ns = cloud.stamp_ns
        for camera, images in self._images.items():
            # what is out of reach of this cloud is out of reach of later ones; the newest still tells the distance
            useless = bisect_left(images, self._wanted_ns(cloud, camera) - tolerance, key=lambda image: image.stamp_ns)
            self._forget(camera, min(useless, len(images) - 1))
        return fired

    def _count(
        self, cloud: _Cloud[P], chosen: dict[str, _Image[P]], nearest_s: dict[str, float]
    ) -> CollectedSet[P] | None:
        if len(chosen) < self.config.min_cameras:
            self.counts.dropped[TOO_FEW_CAMERAS] += 1
            return None
        if len(chosen) == len(self._images):
            self.counts.complete += 1
        else:
            self.counts.partial += 1
        for image in chosen.values():
            image.used = True
        images = {camera: (image.stamp_ns, image.payload) for camera, image in chosen.items()}
        return CollectedSet(cloud.payload, cloud.stamp_ns, images, nearest_s, cloud.arrived_ns)

    def _forget(self, camera: str, count: int) -> None:
        """Removes the oldest images of a camera."""
        images = self._images[camera]
        count = max(count, 0)
        self.counts.images_unused[camera] += sum(not image.used for image in images[:count])
        del images[:count]

    def _wanted_ns(self, cloud: _Cloud[P], camera: str) -> int:
        return cloud.stamp_ns + _ns(self.config.stamp_offset_s.get(camera, 0.0))


def _nearest(images: list[_Image[P]], wanted_ns: int) -> _Image[P]:
    """Of sorted images the nearest, the earlier one where two are as near."""
    after = bisect_left(images, wanted_ns, key=lambda image: image.stamp_ns)
    return min(images[max(after - 1, 0) : after + 1], key=lambda image: abs(image.stamp_ns - wanted_ns))


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
