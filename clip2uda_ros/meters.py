"""What the node measures about itself: rates, times by stage, and warnings that do not flood the log.

All are called from several threads, and each holds its own lock.
"""

import re
import threading
from collections import deque
from collections.abc import Callable

import numpy as np


class RateMeter:
    """Events a second over the last `window_s`, and how many there ever were."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._times_s: deque[float] = deque()
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def tick(self, now_s: float) -> None:
        """Counts one event; `now_s` is a monotonic clock."""
        with self._lock:
            self._count += 1
            self._times_s.append(now_s)
            self._forget(now_s)

    def rate_hz(self, now_s: float) -> float:
        """Intervals since the oldest event in the window by the time since then, so that silence lowers it to 0."""
        with self._lock:
            self._forget(now_s)
            if len(self._times_s) < 2 or now_s <= self._times_s[0]:
                return 0.0
            return (len(self._times_s) - 1) / (now_s - self._times_s[0])

    def _forget(self, now_s: float) -> None:
        while self._times_s and now_s - self._times_s[0] > self._window_s:
            self._times_s.popleft()


class StageTimes:
    """The last `keep` durations of each stage, for percentiles."""

    def __init__(self, keep: int = 200) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._seconds: dict[str, deque[float]] = {}

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds.setdefault(stage, deque(maxlen=self._keep)).append(seconds)

    def percentiles_ms(self) -> dict[str, tuple[float, float]]:
        """(p50, p95) by stage, milliseconds, in the order in which stages first came."""
        with self._lock:
            seconds = {stage: list(values) for stage, values in self._seconds.items()}
        result = {}
        for stage, values in seconds.items():
            median, high = np.percentile(values, (50, 95)) * 1e3
            result[stage] = (float(median), float(high))
        return result


class ThrottledWarnings:
    """Logs a warning at once, and others like it at most every `period_s`, with how many were held back.

    Warnings are alike when they differ in their numbers alone.
    """

    def __init__(self, log: Callable[[str], object], period_s: float = 30.0) -> None:
        self._log = log
        self._period_s = period_s
        self._lock = threading.Lock()
        self._logged_s: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warn(self, text: str, now_s: float) -> None:
        kind = re.sub(r"\d+", "#", text)
        with self._lock:
            if now_s - self._logged_s.get(kind, -float("inf")) < self._period_s:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
                return
            self._logged_s[kind] = now_s
            held_back = self._held_back.pop(kind, 0)
        self._log(f"{text} ({held_back} more like this since the last warning)" if held_back else text)
