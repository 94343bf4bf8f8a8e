"""Clocks that differ: how far a camera's stamps lie after the LiDAR's, by the stamps and by what both see turn.

Stamps alone tell an offset within one image period, and whether it drifts. When the vehicle turns, the scene turns
through the scans and through the images alike; the lag between the two is the offset, whatever the stamps say.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.readers import Stamps
from clip2uda_core.survey.turning import ScanTurns, image_strip, image_turn_rad
from clip2uda_core.types import CameraView, Frame

NS_PER_S = 1e9
LONGEST_STEP_S = 0.5
"""Frames further apart are not compared."""

LARGEST_OFFSET_S = 0.5
GRID_S, PEAK_STEPS = 0.01, 4
FEWEST_STEPS = 20
TURNING_DEG_S, LATELY_S, RECENT = 4.0, 1.5, 60
MOST_SCANS = 150
LEAST_TURNING_DEG_S = 1.0
"""Standard deviation of the LiDAR's turning rate from which there is something to compare."""

LEAST_CORRELATION = 0.6
MOST_DOUBT_S = 0.03
BLOCKS = 5
NOTABLE_S = 0.03
"""Offsets below this are not warned of: at 10 m/s the vehicle drives 30 cm meanwhile."""

LOOSE = 0.15
"""Share of the image period by which the phase of triggered sensors may scatter."""

DRIFT_PPM, LARGEST_DRIFT_PPM = 20.0, 1000.0
"""No clock drifts more: such sensors are not triggered together, and run at rates of their own."""


@dataclass(frozen=True)
class StampRelation:
    """How a camera's stamps lie to the LiDAR's.

    phase_s: median of the nearest image's stamp minus the cloud's, within half an image period. jitter_s: its median
    deviation, after the drift is taken off. drift_ppm: by how much the phase grows, 1e-6 of the time, 0 where the
    phase is too loose to tell. period_s: between images. loose: the sensors run freely.
    """

    phase_s: float
    jitter_s: float
    drift_ppm: float
    period_s: float
    loose: bool


@dataclass(frozen=True)
class ClockOffset:
    """stamp_offset_s: how far the camera's stamps lie after the LiDAR's for what is seen at one time, the value for
    `--stamp-offset`; None where the vehicle hardly turned or the two did not agree, which `reason` says.
    doubt_s: its standard deviation. correlation: of the two turning rates.
    """

    camera: str
    stamp_offset_s: float | None
    doubt_s: float
    correlation: float
    reason: str


def relate_stamps(cloud: Stamps, image: Stamps) -> StampRelation | None:
    """From all stamps of the two streams; None where there are too few, or no image is near any cloud."""
    clouds, images = np.unique(cloud.acquired_ns), np.unique(image.acquired_ns)
    if len(clouds) < 5 or len(images) < 5:
        return None
    period = float(np.median(np.diff(images)))
    after = np.clip(np.searchsorted(images, clouds), 1, len(images) - 1)
    nearest = np.where(clouds - images[after - 1] < images[after] - clouds, images[after - 1], images[after])
    phase = (nearest - clouds).astype(np.float64)
    paired = np.abs(phase) <= period / 2
    if paired.sum() < 5:
        return None
    time, phase = (clouds[paired] - clouds[0]).astype(np.float64), np.unwrap(phase[paired], period=period)
    # The median of the slopes over half the recording: single late stamps do not tilt it (Theil and Sen).
    half = len(time) // 2
    slope = float(np.median((phase[half:] - phase[: len(phase) - half]) / (time[half:] - time[: len(time) - half])))
    rest = phase - slope * time
    jitter = float(np.median(np.abs(rest - np.median(rest))))
    loose = jitter > LOOSE * period or abs(1e6 * slope) > LARGEST_DRIFT_PPM
    middle = float(np.median(phase))
    return StampRelation(
        phase_s=(middle - period * round(middle / period)) / NS_PER_S,
        jitter_s=jitter / NS_PER_S,
        drift_ppm=0.0 if loose or abs(1e6 * slope) < DRIFT_PPM else 1e6 * slope,
        period_s=period / NS_PER_S,
        loose=loose,
    )


@dataclass
class _Turning:
    """Turning rates over steps from one frame to the next: middle of each step, seconds, and rad/s."""

    times_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, before_ns: int, after_ns: int, turn_rad: float | None) -> None:
        step_s = (after_ns - before_ns) / NS_PER_S
        if turn_rad is not None and 0 < step_s <= LONGEST_STEP_S:
            # from the nanoseconds' difference: a float of the whole stamp keeps but a quarter of a microsecond
            self.times_s.append(before_ns / NS_PER_S + step_s / 2)
            self.rates.append(turn_rad / step_s)

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        order = np.argsort(self.times_s)
        return np.array(self.times_s)[order], np.array(self.rates)[order]

    def fastest(self, since_s: float) -> float:
        """In degrees per second, of the latest RECENT steps that are not before a time."""
        latest = zip(self.times_s[-RECENT:], self.rates[-RECENT:], strict=True)
        return float(np.degrees(max((abs(rate) for time_s, rate in latest if time_s >= since_s), default=0.0)))


class ClockSurvey:
    """Takes the frames of a recording in order, and keeps a few numbers of each.

    Turns of the images are cheap to tell. Those of the scans are not: scans are registered while the images turn and
    shortly after, MOST_SCANS at most.
    """

    def __init__(self) -> None:
        self._scans = _Turning()
        self._images: dict[str, _Turning] = {}
        self._scan_turns = ScanTurns()
        self._scan_ns: int | None = None
        self._strips: dict[str, tuple[int, NDArray[np.float32]]] = {}

    def add(self, frame: Frame) -> None:
        for view in frame.views:
            self._add_image(view)
        cloud = frame.cloud
        if self._turned_lately(cloud.stamp_ns) and self._scan_turns.count < MOST_SCANS:
            turn_rad = self._scan_turns.add(cloud)
            if self._scan_ns is not None:
                self._scans.add(self._scan_ns, cloud.stamp_ns, turn_rad)
        else:
            self._scan_turns.skip(cloud)
        self._scan_ns = cloud.stamp_ns

    def offsets(self) -> list[ClockOffset]:
        """One for each camera."""
        scans = self._scans.arrays()
        return [offset_of_turning(name, *scans, *turning.arrays()) for name, turning in self._images.items()]

    def _add_image(self, view: CameraView) -> None:
        strip, focal_px = image_strip(view.image, view.camera)
        before = self._strips.get(view.name)
        turning = self._images.setdefault(view.name, _Turning())
        if before is not None and before[1].shape == strip.shape:
            turning.add(before[0], view.stamp_ns, image_turn_rad(before[1], strip, focal_px))
        self._strips[view.name] = view.stamp_ns, strip

    def _turned_lately(self, stamp_ns: int) -> bool:
        since_s = stamp_ns / NS_PER_S - LATELY_S
        return any(turning.fastest(since_s) > TURNING_DEG_S for turning in self._images.values())


def offset_of_turning(
    camera: str,
    scan_s: NDArray[np.float64],
    scan_rates: NDArray[np.float64],
    image_s: NDArray[np.float64],
    image_rates: NDArray[np.float64],
) -> ClockOffset:
    """The lag of the images' turning rates (M,) rad/s at times (M,) behind the scans' (N,) at (N,)."""

    def unknown(reason: str, correlation: float = 0.0, doubt_s: float = np.inf) -> ClockOffset:
        return ClockOffset(camera, None, doubt_s, correlation, reason)

    if min(len(scan_s), len(image_s)) < FEWEST_STEPS:
        return unknown(f"the vehicle turns in fewer than {FEWEST_STEPS} frames that follow each other")
    turning_deg_s = float(np.degrees(np.std(scan_rates)))
    if turning_deg_s < LEAST_TURNING_DEG_S:
        return unknown(f"the vehicle hardly turns ({turning_deg_s:.1f}°/s)")
    lags = np.arange(-LARGEST_OFFSET_S, LARGEST_OFFSET_S + GRID_S / 2, GRID_S)
    products = _products(scan_s, scan_rates, image_s, image_rates, lags)
    lag_s, correlation = _peak(products, lags)
    if lag_s is None or correlation < LEAST_CORRELATION:
        return unknown("the images do not turn as the scans do", correlation)
    parts = np.array_split(np.arange(len(scan_s)), BLOCKS)
    without = [_peak(np.delete(products, part, axis=1), lags)[0] for part in parts]
    known = np.array([value for value in without if value is not None])
    doubt_s = float(np.sqrt((BLOCKS - 1) * np.mean((known - known.mean()) ** 2))) if len(known) == BLOCKS else np.inf
    if doubt_s > MOST_DOUBT_S:
        return unknown("the turns are too few or too slow to tell when they were", correlation, doubt_s)
    return ClockOffset(camera, lag_s, max(doubt_s, GRID_S / 5), correlation, f"turns of {turning_deg_s:.0f}°/s")


def _products(
    scan_s: NDArray[np.float64],
    scan_rates: NDArray[np.float64],
    image_s: NDArray[np.float64],
    image_rates: NDArray[np.float64],
    lags: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(L, N, 2): by lag and scan, the scan's rate and the images' rate so much later; NaN where no image is near.

    The images' rates are averaged under a bell as wide as their step: between two of them, where a line through both
    would halve the noise, they then are no smoother than at one of them, and no lag is favoured.
    """
    usual = max(float(np.median(np.diff(image_s))), 1e-3)
    reached = (image_s > scan_s[0] - 2 * LARGEST_OFFSET_S) & (image_s < scan_s[-1] + 2 * LARGEST_OFFSET_S)
    image_s, image_rates = image_s[reached], image_rates[reached]
    pairs = np.full((len(lags), len(scan_s), 2), np.nan)
    if len(image_s) < 2:
        return pairs
    for lag, pair in zip(lags, pairs, strict=True):
        wanted = scan_s + lag
        after = np.clip(np.searchsorted(image_s, wanted), 1, len(image_s) - 1)
        covered = (wanted >= image_s[0]) & (wanted <= image_s[-1])
        covered &= image_s[after] - image_s[after - 1] < 2.5 * usual
        bell = np.exp(-0.5 * ((wanted[covered, None] - image_s) / usual) ** 2)
        pair[covered, 0] = scan_rates[covered]
        pair[covered, 1] = bell @ image_rates / bell.sum(axis=1)
    return pairs


def _peak(products: NDArray[np.float64], lags: NDArray[np.float64]) -> tuple[float | None, float]:
    """Lag of the highest correlation, by a parabola through its surroundings, and the correlation; no lag where the
    correlation is highest at the edge."""
    counts = np.isfinite(products[..., 0]).sum(axis=1)
    correlation = np.full(len(lags), np.nan)
    for index in np.flatnonzero(counts >= max(FEWEST_STEPS / 2, 0.5 * counts.max())):
        a, b = products[index][np.isfinite(products[index, :, 0])].T
        a, b = a - a.mean(), b - b.mean()
        correlation[index] = (a @ b) / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12)
    if np.isnan(correlation).all():
        return None, 0.0
    best = int(np.nanargmax(correlation))
    around = slice(best - PEAK_STEPS, best + PEAK_STEPS + 1)
    if best < PEAK_STEPS or np.isnan(correlation[around]).any() or len(correlation[around]) <= 2 * PEAK_STEPS:
        return None, float(correlation[best])
    bend, slope, _ = np.polyfit(lags[around] - lags[best], correlation[around], 2)
    step = float(np.clip(-slope / (2 * bend), -GRID_S, GRID_S)) if bend < 0 else 0.0
    return float(lags[best]) + step, float(correlation[best])


def describe_clock(camera: str, relation: StampRelation | None, offset: ClockOffset | None) -> str:
    """One line: what the stamps say, and what the turns do."""
    if relation is None:
        stamps = "its stamps cannot be compared with the clouds'"
    elif relation.loose:
        stamps = f"images and clouds are taken independently, up to {500 * relation.period_s:.0f} ms apart"
    else:
        stamps = f"stamps {1e3 * relation.phase_s:+.1f} ms after the clouds', ± {1e3 * relation.jitter_s:.1f} ms"
    if offset is None:
        return f"clock of {camera}: {stamps}"
    if offset.stamp_offset_s is None:
        return f"clock of {camera}: {stamps}; no offset can be told from the motion: {offset.reason}"
    return (
        f"clock of {camera}: {stamps}; offset by the motion {1e3 * offset.stamp_offset_s:+.0f} ± "
        f"{1e3 * offset.doubt_s:.0f} ms ({offset.reason})"
    )


def clock_warnings(
    camera: str, relation: StampRelation | None, offset: ClockOffset | None, given_s: float
) -> list[str]:
    """What looks wrong. given_s: the camera's `--stamp-offset` as the recording is read."""
    found = []
    if relation is not None and relation.drift_ppm:
        hourly_ms = 3.6 * abs(relation.drift_ppm)
        found.append(
            f"its clock drifts by {relation.drift_ppm:+.0f} ppm against the LiDAR's, {hourly_ms:.0f} ms an hour: "
            "synchronise the clocks (PTP); one --stamp-offset holds for a short recording only"
        )
    if offset is not None and offset.stamp_offset_s is not None:
        value_s = offset.stamp_offset_s
        if abs(value_s - given_s) > max(NOTABLE_S, 3 * offset.doubt_s):
            found.append(
                f"the images show the vehicle's turns {1e3 * abs(value_s - given_s):.0f} ms "
                f"{'later' if value_s > given_s else 'earlier'} than the clouds: read it with --stamp-offset "
                f"{camera}={value_s:.3f}"
            )
    return [f"camera {camera}: {text}" for text in found]
