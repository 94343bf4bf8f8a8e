"""Which clouds of a recording are worth a frame: those some way or some time after the one before."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import SE3
from clip2uda_core.geometry.registration import SurfaceMap, register
from clip2uda_core.types import PointCloud

TURNED_DEG = 15.0
"""A robot that turns on the spot sees something else too."""

DOUBTED_EVERY = 20
"""Of clouds that odometry says are where the last frame was, each so many are registered: some odometry never moves."""

LONGEST_LOOK_AWAY_NS = 500_000_000
"""Registering a scan costs more than reading it: of a robot that stands, two scans a second are looked at."""

TOO_SOON, TOO_NEAR = "sooner after the frame before than asked for", "the robot had hardly moved since the frame before"


@dataclass(frozen=True)
class Thinning:
    """What a cloud must have over the frame before to become one; 0 asks for nothing.

    min_motion_m: metres that the robot has moved, or 15 degrees that it has turned. min_interval_s: seconds.
    """

    min_motion_m: float = 0.0
    min_interval_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_motion_m", "min_interval_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"thinning: expected {name} of 0 or more, got {getattr(self, name)}")


FOR_TRAINING = Thinning(min_motion_m=0.5)
"""What a run takes where nothing is asked for: minutes at a traffic light give one frame, and a drive at walking pace
three a second."""


class Thinner:
    """Decides cloud by cloud, in order of time.

    Motion is that of odometry where there is one, else that of registering the cloud against the one of the frame
    before; clouds that come sooner than the speed so far allows are not looked at. A motion that cannot be told counts
    as one: what is not known to be the same is kept.

    dropped: clouds not taken, by reason. doubt: what was found wrong with the odometry, None while it is trusted.
    """

    def __init__(self, thinning: Thinning) -> None:
        self.dropped: Counter[str] = Counter()
        self.doubt: str | None = None
        self._thinning = thinning
        self._taken_ns: int | None = None
        self._cloud: PointCloud | None = None
        self._pose: SE3 | None = None
        self._map: SurfaceMap | None = None
        self._guess: SE3 | None = None
        self._look_again_ns = 0
        self._still = 0

    def takes(self, stamp_ns: int, cloud: Callable[[], PointCloud], pose: Callable[[], SE3 | None]) -> bool:
        """Whether the cloud of this stamp is to become a frame. cloud: decodes it. pose: the LiDAR in a fixed frame,
        `fixed_SE3_lidar`, None where there is no odometry. Both are called only when needed."""
        after = self._taken_ns is not None and stamp_ns >= self._taken_ns  # a stamp that jumps back starts anew
        # The hundredth forgives the jitter of a clock.
        if after and stamp_ns - (self._taken_ns or 0) < 0.99e9 * self._thinning.min_interval_s:
            self.dropped[TOO_SOON] += 1
            return False
        if self._thinning.min_motion_m > 0:
            place = pose()
            if after and not self._moved(stamp_ns, cloud, place):
                self.dropped[TOO_NEAR] += 1
                return False
            self._cloud, self._pose, self._map, self._guess = cloud(), place, None, None
            self._look_again_ns, self._still = 0, 0
        self._taken_ns = stamp_ns
        return True

    def _moved(self, stamp_ns: int, cloud: Callable[[], PointCloud], pose: SE3 | None) -> bool:
        if pose is None or self._pose is None or self.doubt is not None or pose.target != self._pose.target:
            return self._moved_by_scan(stamp_ns, cloud)
        if self._way(self._pose.inverse() @ pose) >= 1:
            return True
        self._still += 1
        if self._still % DOUBTED_EVERY:
            return False
        motion = self._registered(cloud())
        if motion is None or self._way(motion) < 1:
            return False
        self.doubt = f"frame '{pose.target}' stands still while the scans move: their motion is what counts"
        return True

    def _moved_by_scan(self, stamp_ns: int, cloud: Callable[[], PointCloud]) -> bool:
        if stamp_ns < self._look_again_ns:
            return False
        motion = self._registered(cloud())
        way = 1.0 if motion is None else self._way(motion)
        since_ns = stamp_ns - (self._taken_ns or 0)
        # Two thirds of what the rest of the way takes at the speed so far, as the robot may speed up.
        self._look_again_ns = stamp_ns + round(min(LONGEST_LOOK_AWAY_NS, 0.67 * since_ns * (1 - way) / max(way, 0.01)))
        return way >= 1

    def _registered(self, cloud: PointCloud) -> SE3 | None:
        """The motion since the last frame by its scan and this one; None where it cannot be told."""
        assert self._cloud is not None
        self._map = self._map or SurfaceMap(self._cloud.xyz_m)
        result = register(cloud.xyz_m, self._map, self._guess or SE3.identity(cloud.frame_id))
        if result.failure is not None:
            return None
        self._guess = result.target_SE3_source
        return self._guess

    def _way(self, motion: SE3) -> float:
        """How much of what is asked for the robot has moved or turned; 1 and more is enough."""
        turned_deg = np.degrees(np.arccos(np.clip((np.trace(motion.rotation) - 1) / 2, -1, 1)))
        return float(max(np.linalg.norm(motion.translation) / self._thinning.min_motion_m, turned_deg / TURNED_DEG))
