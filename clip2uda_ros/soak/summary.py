"""Judges a soak: its figures, by fault and together, and the criteria that they meet or miss."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip2uda_ros.soak.faults import FAULTS
from clip2uda_ros.soak.session import Soak

NEXT_OUTPUT_S = 2.0
SLOPE_MB_PER_MIN = 1.0
SLOPE_NEEDS_MIN = 10.0
"""Over less than this, what the allocator keeps outweighs what leaks, so the slope is told and not judged."""


@dataclass(frozen=True)
class Criterion:
    """passed is None where a criterion could not be judged."""

    name: str
    value: str
    asked: str
    passed: bool | None


@dataclass(frozen=True)
class FaultSummary:
    """All times that one fault happened: the worst next output, the fewest complete sets in the calm after it, and the
    latencies while it lasted."""

    name: str
    times: int
    next_output_s: float
    complete_after: int
    latency_p50_ms: float
    latency_p95_ms: float


@dataclass(frozen=True)
class Summary:
    """values: the content of soak.json."""

    values: dict[str, Any]
    faults: tuple[FaultSummary, ...]
    criteria: tuple[Criterion, ...]

    @property
    def passed(self) -> bool:
        return all(criterion.passed is not False for criterion in self.criteria)


def summarise(soak: Soak, not_run: dict[str, str]) -> Summary:
    """not_run: faults that this installation cannot have, with the reason."""
    record, settled = soak.record, soak.settled
    latencies_ms = [1e3 * a.latency_s for a in record.answers if soak.began_s <= a.sent_s < soak.ended_s]
    p50, p95, p99 = (float(value) for value in np.percentile(latencies_ms, (50, 95, 99)))
    slope, slope_min = memory_slope(soak)
    tracebacks = soak.log.read_text(errors="replace").count("Traceback (most recent call last)")
    unaccounted = max((abs(report.unaccounted) for report in record.reports), default=0)
    faults = tuple(_summarise_fault(name, soak) for name in FAULTS if name not in not_run)
    values = {
        "minutes": round((soak.ended_s - soak.began_s) / 60, 2),
        "sets": {
            "in": settled.taken,
            "complete": settled.complete,
            "partial": settled.partial,
            "dropped": settled.dropped,
            "unaccounted": unaccounted,
        },
        "dropped": _dropped(record.last_values),
        "clouds": {"sent": soak.sent, "answered": soak.answered, "wrong_answers": len(record.wrong_answers)},
        "first_wrong_answers": record.wrong_answers[:3],
        "bad_inputs": settled.failures,
        "rates_hz": {name: round(rate, 2) for name, rate in soak.rates_hz.items()},
        "latency_ms": {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1)},
        "memory_slope_mb_per_min": None if slope is None else round(slope, 3),
        "memory_slope_over_min": round(slope_min, 1),
        "exceptions": max(settled.exceptions, tracebacks) + soak.lost_exceptions,
        "faults": {fault.name: round(fault.next_output_s, 2) for fault in faults} | dict.fromkeys(not_run),
        "not_run": not_run,
        "sigint_s": None if soak.end_s is None else round(soak.end_s, 2),
    }
    return Summary(values, faults, _criteria(values, faults, soak))


def memory_slope(soak: Soak) -> tuple[float | None, float]:
    """Growth of the node's memory after the first round, MB/min, and the minutes over which it was measured.

    A line through what it held in the calm between the faults; a reload holds two models for a while.
    """
    calm = [
        (when_s, held_mb)
        for when_s, held_mb in soak.record.memory_mb
        if soak.steady_s <= when_s <= soak.ended_s
        and not any(slot.began_s <= when_s <= slot.ended_s + 1 for slot in soak.slots)
    ]
    if len(calm) < 3:
        return None, 0.0
    when_min, held_mb = np.array(calm).T * np.array([[1 / 60], [1.0]])
    return float(np.polyfit(when_min, held_mb, 1)[0]), float(when_min[-1] - when_min[0])


def _summarise_fault(name: str, soak: Soak) -> FaultSummary:
    slots = [result for result in soak.slots if result.slot.fault == name]
    latencies_ms = [
        1e3 * answer.latency_s
        for answer in soak.record.answers
        if any(result.began_s <= answer.sent_s < result.ended_s for result in slots)
    ]
    p50, p95 = np.percentile(latencies_ms, (50, 95)) if latencies_ms else (math.nan, math.nan)
    return FaultSummary(
        name=name,
        times=len(slots),
        next_output_s=max(result.next_output_s for result in slots),
        complete_after=min(result.complete for result in slots),
        latency_p50_ms=float(p50),
        latency_p95_ms=float(p95),
    )


def _dropped(values: dict[str, str]) -> dict[str, int]:
    prefix = "sets.dropped."
    return {key.removeprefix(prefix): int(value) for key, value in values.items() if key.startswith(prefix)}


def _criteria(values: dict[str, Any], faults: tuple[FaultSummary, ...], soak: Soak) -> tuple[Criterion, ...]:
    def zero(name: str, count: int) -> Criterion:
        return Criterion(name, str(count), "0", count == 0)

    slowest = max(faults, key=lambda fault: fault.next_output_s)
    poorest = min(faults, key=lambda fault: fault.complete_after)
    slope, over_min = values["memory_slope_mb_per_min"], values["memory_slope_over_min"]
    judged = slope is not None and over_min >= SLOPE_NEEDS_MIN
    return (
        zero("sets unaccounted for, in any report", values["sets"]["unaccounted"]),
        zero("exceptions", values["exceptions"]),
        zero("answers that no cloud asked for, or with other points", values["clouds"]["wrong_answers"]),
        Criterion(
            "next output after a fault, worst",
            f"{slowest.next_output_s:.2f} s ({slowest.name})",
            f"{NEXT_OUTPUT_S:.0f} s",
            slowest.next_output_s <= NEXT_OUTPUT_S,
        ),
        Criterion(
            "complete sets in the calm after a fault, fewest",
            f"{poorest.complete_after} ({poorest.name})",
            "1",
            poorest.complete_after >= 1,
        ),
        Criterion(
            "memory after the first round",
            "not measured" if slope is None else f"{slope:+.2f} MB/min over {over_min:.1f} min",
            f"below {SLOPE_MB_PER_MIN:.0f} MB/min, judged from {SLOPE_NEEDS_MIN:.0f} min on",
            slope < SLOPE_MB_PER_MIN if judged else None,
        ),
        Criterion(
            "SIGINT under load",
            soak.end_problem.split(";")[0] if soak.end_s is None else f"ended with 0 after {soak.end_s:.1f} s",
            "ends with 0",
            soak.end_s is not None,
        ),
    )
