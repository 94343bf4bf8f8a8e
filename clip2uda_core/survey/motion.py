"""How the LiDAR moved from frame to frame: registered scan by scan."""

from dataclasses import dataclass

from clip2uda_core.geometry import SE3
from clip2uda_core.geometry.registration import Registration, SurfaceMap, register
from clip2uda_core.types import PointCloud

LONGEST_GAP_S = 2.0
"""Scans further apart in time are not registered: what stands between them is too different, and too much has moved."""


@dataclass(frozen=True)
class Motion:
    """earlier_SE3_later: takes points of the later scan to the frame of the earlier one. registration: how it was
    found, with its quality and the reason where it failed; a motion is only given where it did not."""

    earlier_SE3_later: SE3
    registration: Registration


class MotionEstimator:
    """Takes the scans of one drive in order; each is registered against the one before.

    The guess is that the robot goes on as it did, at its last speed. The robot's own odometry is not asked: its frames
    are where the wheels slipped to, while labels are compared where the surfaces are.
    """

    def __init__(self) -> None:
        self._before: PointCloud | None = None
        self._map: SurfaceMap | None = None
        self._speed: tuple[SE3, float] | None = None
        self.last_failure: str | None = None

    def add(self, cloud: PointCloud) -> Motion | None:
        """The motion from the scan before to this one; None for the first of a drive and where it is not to be trusted,
        with the reason in `last_failure`."""
        before, target, speed = self._before, self._map, self._speed
        self._before, self._map, self._speed, self.last_failure = cloud, SurfaceMap(cloud.xyz_m), None, None
        if before is None or target is None:
            self.last_failure = "the first scan"
            return None
        gap_s = (cloud.stamp_ns - before.stamp_ns) / 1e9
        if not 0 < gap_s <= LONGEST_GAP_S or cloud.frame_id != before.frame_id:
            self.last_failure = f"{gap_s:.1f} s after the scan before, in frame '{cloud.frame_id}'"
            return None
        guesses = [SE3.identity(cloud.frame_id)]
        if speed is not None:
            guesses.insert(0, _scaled(speed[0], gap_s / speed[1]))
        for guess in guesses:
            result = register(cloud.xyz_m, target, guess)
            if result.failure is None:
                self._speed = (result.target_SE3_source, gap_s)
                return Motion(result.target_SE3_source, result)
        self.last_failure = result.failure
        return None


def _scaled(motion: SE3, factor: float) -> SE3:
    """The motion so much longer at the same speed, in whole steps and a part of one."""
    result = SE3.identity(motion.target)
    whole = int(factor)
    for _ in range(min(whole, 40)):
        result = result @ motion
    return result @ SE3.identity(motion.target).interpolate(motion, factor - whole)
