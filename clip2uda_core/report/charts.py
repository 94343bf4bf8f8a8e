"""Curves of a run, from its log and its validations."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clip2uda_core.errors import DataError
from clip2uda_core.report.content import Chart, Series

MAX_POINTS = 150
"""Values of one line; longer logs are averaged in as many groups of iterations."""

NOT_A_LOSS = ("step", "time_s", "waited_s", "eta_s", "learning_rate")

SIGNALS = {"agreement_2d_3d": "2D and 3D agree", "consistency": "labels last", "mean_confidence": "mean confidence"}


def training_charts(log: Path) -> tuple[Chart, ...]:
    """One chart with the losses of `log.jsonl` (a line an iteration: `step`, and every loss by its name).

    Losses of the target are drawn beside those of the source in a second chart, where there are any. Half a line at
    the end (a run that was killed) is left out. Raises DataError when the file cannot be read or holds no iteration.
    """
    lines = _read_lines(log)
    names = sorted({name for line in lines for name in line if name not in NOT_A_LOSS})
    groups = {"source": [], "target": []}  # type: dict[str, list[Series]]
    for name in names:
        pairs = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
        if pairs:
            domain = "target" if name.endswith("_target") or "pseudo" in name else "source"
            groups[domain].append(_averaged(name.removesuffix(f"_{domain}").replace("_", " "), pairs))
    note = "" if len(lines) <= MAX_POINTS else f"mean of {math.ceil(len(lines) / MAX_POINTS)} iterations a point"
    return tuple(
        Chart(f"Losses on the {domain}", "iteration", "weighted loss", tuple(series), log_y=True, note=note)
        for domain, series in groups.items()
        if series
    )


def validation_charts(validation: Sequence[Mapping[str, Any]], best_step: int | None = None) -> tuple[Chart, ...]:
    """Charts over the validations of a run, each `{"step": int, "val": Evaluation.summary()}`: mean IoU where the
    recording has labels, and the signals that need none. `best_step` is marked."""
    marked = None if best_step is None else (float(best_step), "best")
    iou: dict[str, list[tuple[float, float | None]]] = {}
    signals: dict[str, list[tuple[float, float | None]]] = {}
    for entry in validation:
        for name, values in entry["val"].get("iou_percent", {}).items():
            iou.setdefault("all points" if name == "all" else f"{name}, seen points", []).append(
                (entry["step"], values["mean"])
            )
        for key, name in SIGNALS.items():
            signals.setdefault(name, []).append((entry["step"], entry["val"].get("label_free", {}).get(key)))
    charts = []
    if iou:
        charts.append(Chart("Mean IoU on labelled frames", "iteration", "mIoU, %", _series(iou), marked_x=marked))
    series = tuple(Series(s.name, s.x, tuple(100 * y for y in s.y)) for s in _series(signals))
    if series:
        charts.append(Chart("Signals without labels", "iteration", "%", series, marked_x=marked))
    return tuple(charts)


def early_stop_charts(signal: Sequence[Mapping[str, Any]], kept_step: int | None) -> tuple[Chart, ...]:
    """A chart of the signal by which a run may stop early, `{"step", "score", "agreement", "consistency"}` at each
    saved state; the one whose model was kept is marked. None where it was not looked at."""
    names = {"score": "mean", "agreement": "2D and 3D agree", "consistency": "labels last"}
    lines = {name: [(entry["step"], entry[key]) for entry in signal] for key, name in names.items()}
    series = tuple(Series(s.name, s.x, tuple(100 * y for y in s.y)) for s in _series(lines))
    if not series:
        return ()
    marked = None if kept_step is None else (float(kept_step), "kept")
    note = "on a few frames of the target, each class counted alike"
    return (Chart("Signal of the early stop", "iteration", "%", series, note=note, marked_x=marked),)


def _series(pairs: Mapping[str, Iterable[tuple[float, float | None]]]) -> tuple[Series, ...]:
    """Lines with at least one value; None is a gap."""
    lines = []
    for name, values in pairs.items():
        x = tuple(float(step) for step, _ in values)
        y = tuple(math.nan if value is None else float(value) for _, value in values)
        if any(math.isfinite(value) for value in y):
            lines.append(Series(name, x, y))
    return tuple(lines)


def _read_lines(log: Path) -> list[dict[str, Any]]:
    try:
        texts = log.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{log}: the training log cannot be read: {error}") from None
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            if number == len(texts):
                break  # the run was killed while it wrote
            raise DataError(f"{log}, line {number}: expected JSON with a step, got {text[:80]!r}") from None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    if not lines:
        raise DataError(f"{log}: no line has a step; expected one line of JSON for each iteration")
    return lines


def _averaged(name: str, pairs: Sequence[tuple[float, float]]) -> Series:
    """Means over groups of neighbours, so that a line has at most MAX_POINTS values."""
    size = math.ceil(len(pairs) / MAX_POINTS)
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    x = tuple(sum(step for step, _ in group) / len(group) for group in groups)
    y = tuple(sum(value for _, value in group) / len(group) for group in groups)
    return Series(name, x, y)
