"""A look at a recording before anything is trained on it: its sensors, and whether its calibration is believable."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from clip2uda_core.data.readers import Reader
from clip2uda_core.errors import CalibrationError
from clip2uda_core.evaluation.inspection import measure_times
from clip2uda_core.survey.calibration_check import CalibrationCheck, check_calibration
from clip2uda_core.survey.sensors import SensorEstimate, estimate_sensors
from clip2uda_core.types import Frame

LOOKED_AT = 20
"""Frames, spread over the recording; they are in memory together."""

USUAL_RATE_HZ = 10.0


@dataclass(frozen=True)
class TargetSurvey:
    """What was found. calibration: by camera, none where the recording has no camera."""

    sensors: SensorEstimate
    calibration: Mapping[str, CalibrationCheck]
    frames: int

    def raise_if_wrong(self) -> None:
        """Raises CalibrationError when the calibration of a camera is plainly wrong: what would be learned from its
        images would be learned at the wrong points."""
        for check in self.calibration.values():
            try:
                check.raise_if_wrong()
            except CalibrationError as error:
                raise CalibrationError(f"{error}; --trust-calibration trains with it all the same") from None

    def lines(self) -> list[str]:
        """For people: a line for each sensor and for each camera's calibration."""
        checks = [f"calibration of {c.camera}: {c.verdict}: {c.message}" for c in self.calibration.values()]
        return [*self.sensors.describe(), *checks]


def survey_target(reader: Reader) -> TargetSurvey:
    """Reads a recording once, from start to end. Raises DataError when no cloud of it becomes a frame."""
    frames = list(spread(reader, len(reader), LOOKED_AT))
    return TargetSurvey(
        sensors=estimate_sensors(frames, _rate_hz(reader)),
        calibration=check_calibration(frames) if any(frame.views for frame in frames) else {},
        frames=len(frames),
    )


def spread(reader: Reader, count: int, wanted: int) -> Iterator[Frame]:
    """About `wanted` of `count` frames, at equal distances."""
    return islice(reader, 0, None, max(1, -(-count // wanted)))


def _rate_hz(reader: Reader) -> float:
    """Clouds a second."""
    roles = {stream.name: stream.role for stream in reader.describe().streams}
    for name, stamps in reader.stamps().items():
        if roles.get(name) == "points":
            times = measure_times(name, stamps.acquired_ns)
            if times is not None and times.rate_hz > 0:
                return times.rate_hz
    return USUAL_RATE_HZ
