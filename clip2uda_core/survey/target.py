"""A look at a recording before anything is trained on it: its sensors, and whether its calibration is believable."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clip2uda_core.data.readers import Reader
from clip2uda_core.errors import CalibrationError
from clip2uda_core.evaluation.inspection import NS_PER_S, StreamTimes, measure_times
from clip2uda_core.survey.calibration_check import ENOUGH_FRAMES, CalibrationCheck, check_calibration
from clip2uda_core.survey.sensors import SensorEstimate, estimate_sensors
from clip2uda_core.types import Frame

USUAL_RATE_HZ = 10.0


@dataclass(frozen=True)
class RecordingRead:
    """What a recording gives. clouds: in it. frames: what training gets of them. duration_s: from the first cloud to
    the last; None where none has a stamp."""

    name: str
    kind: str
    clouds: int
    frames: int
    duration_s: float | None


@dataclass(frozen=True)
class TargetSurvey:
    """What was found. calibration: by camera, none where the recording has no camera. dropped: clouds that gave no
    frame, by reason."""

    sensors: SensorEstimate
    calibration: Mapping[str, CalibrationCheck]
    recordings: tuple[RecordingRead, ...]
    dropped: Mapping[str, int]

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
    """Reads a recording once, from start to end; a few frames, spread over it, are in memory together. Raises DataError
    when no cloud of it becomes a frame."""
    frames = spread(reader, ENOUGH_FRAMES)
    return TargetSurvey(
        sensors=estimate_sensors(frames, _rate_hz(reader)),
        calibration=check_calibration(frames) if any(frame.views for frame in frames) else {},
        recordings=recordings_read(reader),
        dropped=sum((part.pairing.dropped for part in reader.parts), Counter()),
    )


def spread(frames: Iterable[Frame], least: int) -> list[Frame]:
    """From `least` to twice as many frames at equal distances, or all if there are fewer. How many a recording gives is
    not known before: clouds without an image and those of a robot that stands still give none."""
    kept: list[Frame] = []
    every = 1
    for index, frame in enumerate(frames):
        if index % every == 0:
            kept.append(frame)
        if len(kept) == 2 * least:
            kept, every = kept[::2], 2 * every
    return kept


def recordings_read(reader: Reader) -> tuple[RecordingRead, ...]:
    """What each recording gave, of a reader that was read to its end."""
    read = []
    for part in reader.parts:
        frames = part.pairing.complete + part.pairing.partial
        times = _times_of_clouds(part)
        duration_s = None if times is None else (times.last_ns - times.first_ns) / NS_PER_S
        read.append(RecordingRead(part.name, part.describe().kind, len(part), frames, duration_s))
    return tuple(read)


def _rate_hz(reader: Reader) -> float:
    """Clouds a second."""
    times = _times_of_clouds(reader)
    return times.rate_hz if times is not None and times.rate_hz > 0 else USUAL_RATE_HZ


def _times_of_clouds(reader: Reader) -> StreamTimes | None:
    roles = {stream.name: stream.role for stream in reader.describe().streams}
    for name, stamps in reader.stamps().items():
        if roles.get(name) == "points":
            return measure_times(name, stamps.acquired_ns)
    return None
