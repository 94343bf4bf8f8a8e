"""What was seen of the node: its answers, its reports, its memory."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clip2uda_core.errors import DataError


@dataclass(frozen=True)
class Counts:
    """One report of /diagnostics, received at `when_s` (monotonic). All are counted since the node's start."""

    when_s: float
    taken: int
    complete: int
    partial: int
    dropped: int
    pending: int
    exceptions: int
    failures: int

    @property
    def unaccounted(self) -> int:
        """Sets that went in and are nowhere."""
        return self.taken - self.complete - self.partial - self.dropped - self.pending


FAILURE_KEYS = ("failures.cloud", "failures.image", "failures.calibration", "failures.transform")


def read_counts(values: Mapping[str, str], when_s: float) -> Counts:
    """The counts of a diagnostic status; DataError names a key that is missing."""
    try:
        return Counts(
            when_s=when_s,
            taken=int(values["sets.in"]),
            complete=int(values["sets.complete"]),
            partial=int(values["sets.partial"]),
            dropped=int(values["sets.dropped"]),
            pending=int(values["sets.pending"]),
            exceptions=int(values["exceptions"]),
            failures=sum(int(values[key]) for key in FAILURE_KEYS),
        )
    except KeyError as error:
        raise DataError(f"/diagnostics: expected the key {error}, got {', '.join(values)}") from None


@dataclass(frozen=True)
class Answer:
    """A labelled cloud: when its input was published, and how long after that it came."""

    sent_s: float
    latency_s: float


class Record:
    """Collects from several threads; `changed` tells those that wait."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.answers: list[Answer] = []
        self.reports: list[Counts] = []
        self.last_values: dict[str, str] = {}
        self.memory_mb: list[tuple[float, float]] = []
        self.sent = 0
        self.wrong_answers: list[str] = []
        self._unanswered: dict[int, tuple[int, float]] = {}

    def add_sent(self, stamp_ns: int, points: int, when_s: float) -> None:
        with self.changed:
            self.sent += 1
            self._unanswered[stamp_ns] = (points, when_s)

    def add_answer(self, stamp_ns: int, points: int, when_s: float) -> None:
        """An answer belongs to one cloud that was sent, and has its points; else it is a wrong one."""
        with self.changed:
            expected = self._unanswered.pop(stamp_ns, None)
            if expected is None:
                self.wrong_answers.append(f"{stamp_ns}: no such cloud was sent, or it was answered before")
            elif expected[0] != points:
                self.wrong_answers.append(f"{stamp_ns}: expected {expected[0]} points, got {points}")
            else:
                self.answers.append(Answer(expected[1], when_s - expected[1]))
            self.changed.notify_all()

    def add_report(self, values: dict[str, str], when_s: float) -> None:
        with self.changed:
            self.last_values = values
            self.reports.append(read_counts(values, when_s))
            self.changed.notify_all()

    def add_memory(self, when_s: float, resident_mb: float) -> None:
        with self.changed:
            self.memory_mb.append((when_s, resident_mb))

    def answer_sent_after(self, when_s: float) -> Answer | None:
        """The first answer to a cloud that was published after `when_s`."""
        with self.changed:
            later = [answer for answer in reversed(self.answers[-1000:]) if answer.sent_s >= when_s]
        return min(later, key=lambda answer: answer.sent_s + answer.latency_s) if later else None

    def report_after(self, when_s: float) -> Counts | None:
        """The latest report, if it came after `when_s`."""
        with self.changed:
            return self.reports[-1] if self.reports and self.reports[-1].when_s > when_s else None


def resident_mb(pid: int) -> float | None:
    """Memory that a process holds in RAM, shared memory of its messages included, MB; None when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes_kb = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return sizes_kb[0] / 1024 if sizes_kb else None
