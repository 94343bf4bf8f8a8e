"""The arithmetic of a benchmark: from the reports of its runs to the numbers of its tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import StatisticsError, correlation, mean, stdev
from typing import Any

from clip2uda_core.adaptation.report import Report, Summary
from clip2uda_core.benchmark.plan import Plan, is_source_stage
from clip2uda_core.benchmark.source_models import SourceModels

MODALITIES = ("2d", "3d", "fused")
"""Of those of an evaluation, the ones that every table compares; xM has a column of its own."""

SIGNALS = {
    "agreement_2d_3d": "agreement of 2D and 3D",
    "mean_confidence": "mean confidence",
    "mean_entropy_nats": "mean entropy, nats",
}


@dataclass(frozen=True)
class Results:
    """Reports of the finished runs, by method and seed; methods in the table's order, those without any too.

    source_stages: those of the models that the runs begin with, by their names and seeds. source_models: models that
    they begin with in place of these.
    """

    scenario: str
    steps: int
    methods: Mapping[str, Mapping[int, Report]]
    source_stages: Mapping[str, Mapping[int, Report]] = field(default_factory=dict)
    source_models: SourceModels = field(default_factory=dict)

    @staticmethod
    def of(plan: Plan) -> "Results":
        def finished(method: str) -> dict[int, Report]:
            reports = {run.seed: run.report() for run in plan.of(method)}
            return {seed: report for seed, report in reports.items() if report is not None}

        stages = dict.fromkeys(run.config.method for run in plan.runs if is_source_stage(run))
        methods, of_stages = ({name: finished(name) for name in names} for names in (plan.methods, stages))
        return Results(plan.scenario, plan.steps, methods, of_stages, plan.source_models)

    @property
    def runs(self) -> list[Report]:
        return [report for reports in self.methods.values() for report in reports.values()]

    def last(self, method: str, modality: str) -> list[float]:
        """mIoU in percent on the target test, one a seed, at the last iteration."""
        return self._of_each(method, lambda report: miou(report.last, modality))

    def best(self, method: str, modality: str) -> list[float]:
        """The same of the checkpoint that was best on validation."""
        return self._of_each(method, lambda report: miou(report.best, modality))

    def class_iou(self, method: str, name: str) -> list[float]:
        """IoU of a class in percent, fused labels, one a seed; nothing for a class that no point of the test is."""
        return self._of_each(method, lambda report: _iou(report.last, "fused").get("classes", {}).get(name))

    def signal(self, method: str, name: str) -> list[float]:
        """A signal that needs no labels, one a seed."""
        return self._of_each(method, lambda report: report.last["label_free"][name] if report.last else None)

    def reliability(self, method: str, modality: str, name: str) -> list[float]:
        """`confidence`, `accuracy` or `calibration_error` of a modality in percent, one a seed, last iteration; nothing
        for runs of a version that did not measure it."""

        def value(report: Report) -> float | None:
            return (report.last or {}).get("reliability_percent", {}).get(modality, {}).get(name)

        return self._of_each(method, value)

    def same_mistakes(self, method: str, name: str) -> list[float]:
        """`counted` or `independent`: points that 2D and 3D give the same wrong class, in percent, one a seed, last
        iteration; nothing for models of one branch, and for runs of a version that did not count them."""
        return self._of_each(method, lambda report: ((report.last or {}).get("same_mistakes_percent") or {}).get(name))

    def minutes(self, method: str) -> list[float]:
        """Minutes that a run took, one a seed: training, validation and evaluation."""
        parts = ("training", "validation", "evaluation")
        return self._of_each(method, lambda report: sum(report.timing_s.get(part, 0.0) for part in parts) / 60)

    def classes(self) -> list[str]:
        """Names of the classes of the label space."""
        summaries = (_iou(report.last, "all") for report in self.runs)
        return next((list(summary["classes"]) for summary in summaries if summary), [])

    def gap_closed(self, method: str) -> float | None:
        """Percent of the way from source_only to oracle that a method goes, in mean fused mIoU at the last iteration;
        None where one of them is missing or the oracle is no better."""
        low, high = (mean_or_none(self.last(name, "fused")) for name in ("source_only", "oracle"))
        own = mean_or_none(self.last(method, "fused"))
        if low is None or high is None or own is None or high <= low:
            return None
        return 100 * (own - low) / (high - low)

    def correlation(self, name: str) -> float | None:
        """Pearson's correlation of a signal with the fused mIoU over all runs; None for fewer than three runs, or where
        either never changes."""
        pairs = []
        for report in self.runs:
            accuracy = miou(report.last, "fused")
            signal = report.last["label_free"][name] if report.last else None
            if accuracy is not None and signal is not None:
                pairs.append((signal, accuracy))
        try:
            return correlation(*zip(*pairs, strict=True)) if len(pairs) >= 3 else None
        except StatisticsError:
            return None

    def as_json(self) -> dict[str, Any]:
        """mIoU in percent of every run on the target test, at the last iteration."""
        methods = {}
        for method, reports in self.methods.items():
            seeds = {}
            for seed, report in sorted(reports.items()):
                means = {modality: miou(report.last, modality) for modality in MODALITIES}
                seeds[str(seed)] = {modality: value for modality, value in means.items() if value is not None}
            methods[method] = {"seeds": seeds}
        return {"scenario": self.scenario, "steps": self.steps, "methods": methods}

    def _of_each(self, method: str, value: Callable[[Report], float | None]) -> list[float]:
        return values_of(self.methods.get(method, {}), value)


def miou(summary: Summary | None, modality: str) -> float | None:
    """mIoU in percent at the points that a camera sees, None where the model has none."""
    return _iou(summary, modality).get("mean")


def values_of(reports: Mapping[int, Report], value: Callable[[Report], float | None]) -> list[float]:
    """A value of each seed's report, by seed, of those that have it."""
    values = (value(report) for _, report in sorted(reports.items()))
    return [value for value in values if value is not None]


def mean_or_none(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and sample standard deviation, `41.3 ± 0.8`; one value alone has no deviation, and none is a dash."""
    if not values:
        return "–"
    middle = f"{mean(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ± {stdev(values):.{digits}f}"


def _iou(summary: Summary | None, modality: str) -> dict[str, Any]:
    return summary["iou_percent"].get(modality, {}) if summary is not None else {}
