"""What `clip2uda adapt` prints of a run's report."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from clip2uda_core.cli.console import make_console

if TYPE_CHECKING:
    from clip2uda_core.adaptation.report import Report, Summary


def print_report(report: "Report") -> None:
    console = make_console()
    last, best = report.last, report.best
    model_step = report.steps if report.model_step is None else report.model_step
    if report.stopped_early:
        print(f"stopped early at iteration {report.steps}: the signal from the target had not risen for a while")
    if report.signal:
        print(f"the model is that of iteration {report.model_step}, whose signal was the highest")
    if last is not None and last["iou_percent"]:
        after = "after the last iteration" if model_step == report.steps else "after iteration"
        console.print(_iou_table(f"{after} ({model_step})", last))
    if best is not None and best["step"] != model_step:
        console.print(_iou_table(f"best on validation (iteration {best['step']})", best))
    if last is not None:
        signals = {name: value for name, value in last["label_free"].items() if isinstance(value, float)}
        print("without labels: " + ", ".join(f"{name} {value:.3f}" for name, value in signals.items()))


def _iou_table(title: str, summary: "Summary") -> Table:
    iou: dict[str, Any] = summary["iou_percent"]
    table = Table(title=f"IoU %, {title}, {summary['labelled_frames']} labelled frames")
    table.add_column("class")
    for name in iou:
        table.add_column(name if name == "all" else f"{name} (seen)", justify="right")
    for name in iou["all"]["classes"]:
        table.add_row(name, *(_cell(iou[column]["classes"][name]) for column in iou))
    table.add_section()
    table.add_row("mean", *(_cell(iou[column]["mean"]) for column in iou))
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
