"""What `clip2uda inspect` finds out about a recording beyond what it holds: its sensors, clocks and calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from clip2uda_core.data.readers import Stamps, Stream
from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.inspection import CameraStatistics, CloudStatistics, measure_cloud, measure_times
from clip2uda_core.geometry import project
from clip2uda_core.survey.beams import find_beams
from clip2uda_core.survey.calibration_check import ENOUGH_FRAMES, check_calibration
from clip2uda_core.survey.clock_offset import ClockSurvey, clock_warnings, describe_clock, relate_stamps
from clip2uda_core.survey.depth_edges import DepthEdges, find_depth_edges
from clip2uda_core.survey.sensors import estimate_sensors
from clip2uda_core.types import Frame

MEASURED_CLOUDS = 20
"""Clouds whose points are looked at one by one; spread over the recording."""

USUAL_RATE_HZ = 10.0


@dataclass
class Measured:
    """What is kept of the frames of a recording of `count` clouds, read once.

    cameras: statistics by camera. clouds: of single clouds. drawn: the frame to draw. spread: frames for the survey,
    which are kept with their images.
    """

    count: int
    cameras: dict[str, CameraStatistics] = field(default_factory=dict)
    clouds: list[CloudStatistics] = field(default_factory=list)
    drawn: Frame | None = None
    spread: list[Frame] = field(default_factory=list)
    clocks: ClockSurvey = field(default_factory=ClockSurvey)
    _index: int = 0

    def add(self, frame: Frame) -> None:
        is_measured = self._index % max(1, self.count // MEASURED_CLOUDS) == 0
        if self._is_better_drawn(frame):
            self.drawn = frame
        if is_measured:
            self.clouds.append(measure_cloud(frame.cloud))
        if self._index % max(1, -(-self.count // ENOUGH_FRAMES)) == 0:
            self.spread.append(frame)
        for view in frame.views:
            statistics = self.cameras.setdefault(view.name, CameraStatistics(view))
            if is_measured or not statistics.visible_shares:
                statistics.add(project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera))
        self.clocks.add(frame)
        self._index += 1

    def _is_better_drawn(self, frame: Frame) -> bool:
        """The frame in the middle is drawn, of those that have most to show."""
        if self.drawn is None or _worth(frame) > _worth(self.drawn):
            return True
        return self._index <= self.count // 2 and _worth(frame) == _worth(self.drawn)


@dataclass(frozen=True)
class Findings:
    """Lines to print, and warnings."""

    lines: list[str]
    warnings: list[str]


def look_at(
    measured: Measured,
    streams: Sequence[Stream],
    stamps: Mapping[str, Stamps],
    stamp_offset_s: Mapping[str, float],
    console: Console,
) -> Findings:
    """Estimates the sensors, compares the clocks, checks the calibration."""
    roles = {stream.role: stamps[stream.name] for stream in streams if stream.name in stamps}
    lines, warnings = [], []
    with console.status("looking at the sensors"):
        try:
            estimate = estimate_sensors(measured.spread, _rate_hz(roles.get("points")))
        except DataError as error:
            return Findings([], [str(error)])
    lines += estimate.describe()
    warnings += [f"sensors: {warning}" for warning in estimate.warnings]
    offsets = {offset.camera: offset for offset in measured.clocks.offsets()}
    for camera in measured.cameras:
        image, cloud = roles.get(f"camera {camera}"), roles.get("points")
        relation = relate_stamps(cloud, image) if cloud is not None and image is not None else None
        lines.append(describe_clock(camera, relation, offsets.get(camera)))
        warnings += clock_warnings(camera, relation, offsets.get(camera), stamp_offset_s.get(camera, 0.0))
    with console.status("checking the calibration"):
        checks = check_calibration(measured.spread)
    for camera, check in checks.items():
        lines.append(f"calibration of {camera}: {check.verdict}: {check.message}")
        if check.verdict in ("wrong", "doubtful"):
            warnings.append(f"camera {camera}: its calibration is {check.verdict}: {check.message}")
    return Findings(lines, warnings)


def depth_edges(frame: Frame) -> DepthEdges | None:
    """The outlines in a frame's cloud, None where it has no beams."""
    cloud = frame.cloud.xyz_m[np.isfinite(frame.cloud.xyz_m).all(axis=1)]
    beams = find_beams([cloud])
    return None if beams is None else find_depth_edges(cloud, beams)


def _worth(frame: Frame) -> tuple[bool, int]:
    """What a frame has to show: labels first, then images."""
    return frame.cloud.labels is not None, len(frame.views)


def _rate_hz(clouds: Stamps | None) -> float:
    times = None if clouds is None else measure_times("points", clouds.acquired_ns)
    return times.rate_hz if times is not None and times.rate_hz > 0 else USUAL_RATE_HZ
