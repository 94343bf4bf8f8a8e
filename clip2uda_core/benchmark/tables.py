"""The page of a benchmark, in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from clip2uda_core.adaptation.report import Report
from clip2uda_core.benchmark.results import MODALITIES, SIGNALS, Results, miou, spread, values_of
from clip2uda_core.evaluation.curves import MODALITY_NAMES


@dataclass(frozen=True)
class Provenance:
    """How the numbers came about. title: of the page. about: the scenario in words, and what stands in for what.
    command: prints them again. settings: the YAML that all runs share."""

    title: str
    about: str
    command: str
    settings: str
    figure: str


def page(results: Results, provenance: Provenance, failed: dict[str, str]) -> str:
    """All tables with how they came about; `failed` names runs that gave no result, and why."""
    parts = [
        f"# {provenance.title}",
        provenance.about,
        f"```\n{provenance.command}\n```",
        f"{results.steps} iterations a run. Numbers are mIoU in percent on the target's test split, mean ± standard "
        f"deviation over the seeds; `2D` and `3D` are each branch alone, `fused` both together, `xM` the mean of their "
        f"softmaxes, all at the points that a camera sees.",
        f"![mIoU of each method]({provenance.figure})",
        "## Last iteration",
        _last_table(results),
        _source_stage(results),
        "## Best on validation",
        "The checkpoint is chosen on labelled validation frames of the target, which a robot does not have.",
        _best_table(results),
        "## IoU per class",
        "Fused, last iteration.",
        _class_table(results),
        "## Confidence and accuracy",
        "In percent of the test's points that a camera sees: how sure each branch is of its label, and how often it is "
        "right. A branch that is surer than it is right overrules the other in the fused label.",
        _reliability_table(results),
        _mistakes_table(results),
        "## Signals that need no labels",
        "On the frames of the test split. The last line is the correlation of each signal with the fused mIoU over all "
        f"{len(results.runs)} runs.",
        _signal_table(results),
    ]
    if failed:
        lines = [f"- {name}: {reason}" for name, reason in failed.items()]
        parts += ["## Runs without a result", "\n".join(lines)]
    parts += ["## Settings and machine", f"```yaml\n{provenance.settings.strip()}\n```", _machine(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _last_table(results: Results) -> str:
    header = ["method", "seeds", "2D", "3D", "fused", "gap closed", "xM", "minutes a run"]
    rows = []
    for method, reports in results.methods.items():
        scores = [spread(results.last(method, modality)) for modality in MODALITIES]
        closed, mean = _gap(results, method), spread(results.last(method, "xm"))
        rows.append([method, str(len(reports)), *scores, closed, mean, spread(results.minutes(method))])
    note = (
        "`gap closed`: the share of the way from `source_only` to `oracle`, both of CLIP's network, in fused mIoU."
        if any(_gap(results, method) != "–" for method in results.methods)
        else ""
    )
    return "\n\n".join(part for part in (note, _table(header, rows)) if part)


def _source_stage(results: Results) -> str:
    """What the runs begin with, where they do not at random."""
    heading = "## The models that the runs begin with\n\n"
    if results.source_models:
        given = [
            f"- `{model.path.name}`, sha256 {model.weights[:12]}: {model.training}"
            for model in results.source_models.values()
        ]
        about = (
            "The runs of all seeds that train the same network begin with the same model; a seed draws frames and "
            "augmentation."
        )
        return heading + about + "\n\n" + "\n".join(given)
    rows = []
    for name, reports in results.source_stages.items():
        scores = [spread(values_of(reports, partial(_last_miou, modality))) for modality in MODALITIES]
        steps = sorted({report.steps for report in reports.values()})
        rows.append([name, str(len(reports)), ", ".join(map(str, steps)), *scores])
    about = (
        "All runs of a seed that train the same network begin with the same model, which has learned the labelled "
        "source alone. These models, on the same test frames:"
    )
    table = _table(["model", "seeds", "iterations", "2D", "3D", "fused"], rows)
    return f"{heading}{about}\n\n{table}" if rows else ""


def _best_table(results: Results) -> str:
    rows = []
    for method, reports in results.methods.items():
        scores = [spread(results.best(method, modality)) for modality in MODALITIES]
        steps = sorted({report.best["step"] for report in reports.values() if report.best is not None})
        rows.append([method, *scores, ", ".join(map(str, steps)) or "–"])
    if all(row[-1] == "–" for row in rows):
        return "This benchmark has no validation frames."
    return _table(["method", "2D", "3D", "fused", "at iteration"], rows)


def _class_table(results: Results) -> str:
    classes = results.classes()
    rows = [[method, *(spread(results.class_iou(method, name)[:]) for name in classes)] for method in results.methods]
    return _table(["method", *classes], rows)


def _reliability_table(results: Results) -> str:
    cells = [(modality, name) for modality in MODALITIES for name in ("confidence", "accuracy")]
    header = ["method", *(f"{MODALITY_NAMES[modality]} {name}" for modality, name in cells)]
    rows = []
    for method in results.methods:
        rows.append([method, *(spread(results.reliability(method, *cell)) for cell in cells)])
    return _table(header, rows)


def _mistakes_table(results: Results) -> str:
    """Nothing where no run has both branches."""
    cells = ("counted", "independent")
    rows = [[method, *(spread(results.same_mistakes(method, cell), 2) for cell in cells)] for method in results.methods]
    about = (
        "In percent of these points: those that 2D and 3D give the same wrong class, and how many there would be if "
        "what a branch says of a point depended on its class alone. No fusion puts such a point right."
    )
    header = ["method", "the same mistake in 2D and 3D", "if the branches were independent"]
    return f"{about}\n\n{_table(header, rows)}" if any(row[1] != "–" for row in rows) else ""


def _signal_table(results: Results) -> str:
    rows = [[method, *(spread(results.signal(method, name), 3) for name in SIGNALS)] for method in results.methods]
    correlations = [results.correlation(name) for name in SIGNALS]
    rows.append(["*correlation*", *("–" if value is None else f"{value:+.2f}" for value in correlations)])
    return _table(["method", *SIGNALS.values()], rows)


def _last_miou(modality: str, report: Report) -> float | None:
    return miou(report.last, modality)


def _gap(results: Results, method: str) -> str:
    share = results.gap_closed(method)
    return "–" if share is None else f"{round(share)} %"


def _machine(results: Results) -> str:
    """CPU, cores, threads and versions, of all runs that differ in them."""
    seen = {tuple(sorted(report.environment.items())): report.environment for report in results.runs}
    return "\n".join(_machine_line(environment) for environment in seen.values())


def _machine_line(environment: dict[str, Any]) -> str:
    machine = f"{environment['cpu']}, {environment['cores']} cores, {environment['threads']} threads a run"
    if environment["device"] != "cpu":
        machine = f"{environment['device']}; {machine}"
    names = [name for name in environment if name not in ("cpu", "cores", "threads", "device", "system")]
    return f"- {machine}; {environment['system']}; " + ", ".join(f"{name} {environment[name]}" for name in names)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    alignment = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows))
