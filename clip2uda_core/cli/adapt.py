"""`clip2uda adapt`: trains on a labelled source and adapts to an unlabelled target."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from clip2uda_core.cli import source_options
from clip2uda_core.config import parse_config, read_yaml
from clip2uda_core.errors import ConfigError
from clip2uda_core.paths import config_file

if TYPE_CHECKING:
    from clip2uda_core.adaptation.config import AdaptConfig
    from clip2uda_core.evaluation.evaluate import Evaluation

SOURCE_KINDS = "a rosbag, a KITTI folder, or synthetic:SCENARIO[:DOMAIN[:SPLIT]]"


def adapt(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    method: Annotated[str, typer.Option(help="A method that ships in config/adapt, or a YAML file.")] = "clip2uda",
    source: Annotated[str | None, typer.Option(help=f"Labelled domain: {SOURCE_KINDS}.", metavar="SRC")] = None,
    target: Annotated[str | None, typer.Option(help="Domain to adapt to; labels are not read.", metavar="SRC")] = None,
    test: Annotated[str | None, typer.Option(help="Recording to evaluate on at the end.", metavar="SRC")] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="A simulated scenario, for --source, --target, --test and the stand-in CLIP at once."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Iterations; default: the method's.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.", min=0)] = None,
    clip: Annotated[
        str | None, typer.Option(help="CLIP and its weights: ViT-B-16:laion2b_s34b_b88k, ViT-B-16:FILE.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of the method's YAML; repeat it.", metavar="KEY=VALUE"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    time_budget: Annotated[
        float | None, typer.Option(help="End the training after so many minutes.", min=0, metavar="MINUTES")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
    points_topic: source_options.PointsTopic = None,
    camera: source_options.Cameras = None,
    calibration: source_options.Calibration = None,
    fixed_frame: source_options.FixedFrame = None,
    tolerance: source_options.Tolerance = source_options.DEFAULT_TOLERANCE_S,
    max_frames: source_options.MaxFrames = None,
) -> None:
    """Trains a model on a labelled source domain and adapts it to an unlabelled target domain.

    Writes into --out: model.safetensors for `clip2uda segment` and the node, report.json, log.jsonl (a line an
    iteration), config.yaml, and the states from which --resume goes on. Ctrl-C saves a state and ends.

    Topics, cameras, calibration and tolerance are those of --target and --test.

    **Examples**

        clip2uda adapt --source synthetic:sim_to_kitti:source:train --target robot.mcap --out run

        clip2uda adapt --scenario day_to_night --out run --steps 2000

        clip2uda adapt --method source_only_3d --source synthetic:sim_to_kitti --test dataset/sequences/00 --out run3d
    """
    if scenario is not None:
        source = source or f"synthetic:{scenario}:source:train"
        target = target or f"synthetic:{scenario}:target:train"
        test = test or f"synthetic:{scenario}:target:test"
        clip = clip or "sim-clip:sim-clip"
    if source is None:
        raise ConfigError(f"no --source: give the labelled domain ({SOURCE_KINDS}), or a --scenario")
    config = load_method(method, {"steps": steps, "seed": seed}, clip, setting or [])
    check_out(out, resume)

    # Imported here so that the help of the command does not wait for torch.
    from clip2uda_core.adaptation.adapter import Adapter
    from clip2uda_core.data.readers import ReaderOptions, open_source
    from clip2uda_core.evaluation.evaluate import evaluate

    options = source_options.reader_options(
        points_topic, camera, False, calibration, fixed_frame, tolerance, None, max_frames
    )
    console = Console(stderr=True)
    with _progress(console) as progress, interrupt_as_request() as interrupted:
        adapter = Adapter(config, out, device, progress)
        labelled = ReaderOptions(label_space=adapter.labels, max_frames=max_frames)
        adapter.setup(
            open_source(source, labelled),
            open_source(target, options) if target and config.losses.use_target else None,
        )
        adapter.build()
        deadline = None if time_budget is None else time.monotonic() + 60 * time_budget
        finished = adapter.fit(lambda: interrupted() or (deadline is not None and time.monotonic() > deadline))
        adapter.save_model(out / "model.safetensors")
        if interrupted():
            console.print(f"interrupted at iteration {adapter.state.step} of {config.steps}; --resume goes on")
            raise typer.Exit(130)
        report: dict[str, Any] = {"method": config.method, "seed": config.seed, "steps": adapter.state.step}
        if test is not None:
            from dataclasses import replace

            frames = open_source(test, replace(options, label_space=adapter.labels))
            tracked = progress.track(frames, total=len(frames), description="evaluating")
            result = evaluate(adapter.segmenter().segment, tracked, adapter.labels)
            report |= {"test": test, **result.summary()}
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not finished:
        console.print(f"time is over at iteration {adapter.state.step} of {config.steps}; --resume goes on")
    if test is not None:
        _print_result(result)
    print(f"wrote {out / 'model.safetensors'} and {out / 'report.json'}")


def load_method(method: str, asked: dict[str, Any], clip: str | None, settings: list[str]) -> "AdaptConfig":
    """The settings of a method's YAML, with what was asked for in their place; ConfigError for an unknown one."""
    from clip2uda_core.adaptation.config import AdaptConfig

    path = config_file(method, "adapt")
    values = read_yaml(path) or {}
    if clip is not None:
        model, separator, weights = clip.partition(":")
        if not (model and separator and weights):
            raise ConfigError(f"--clip {clip}: expected MODEL:WEIGHTS, as in --clip ViT-B-16:laion2b_s34b_b88k")
        _put(values, "model.clip.model", model)
        _put(values, "model.clip.weights", weights)
    for key, value in asked.items():
        if value is not None:
            values[key] = value
    for text in settings:
        key, separator, value = text.partition("=")
        if not (key and separator):
            raise ConfigError(f"--set {text}: expected KEY=VALUE, as in --set loader.batch_size=4")
        _put(values, key, yaml.safe_load(value))
    return parse_config(AdaptConfig, values, str(path))


def check_out(out: Path, resume: bool) -> None:
    """Refuses to mix two runs in one folder, and to resume one that is not there."""
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied and not resume:
        raise ConfigError(f"--out {out} is not empty: --resume goes on with the run in it, else give another folder")
    if resume and not occupied:
        raise ConfigError(f"--resume: there is no run in {out}")


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets `a.b.c` in nested mappings."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: '{parent}' is a value, it holds no settings")
    values[last] = value


@contextmanager
def interrupt_as_request() -> Iterator[Callable[[], bool]]:
    """Makes the first Ctrl-C a request to stop after the running iteration; the second one stops at once."""
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)


def _print_result(result: "Evaluation") -> None:
    summary = result.summary()
    signals = {name: value for name, value in summary["label_free"].items() if isinstance(value, float)}
    print("without labels: " + ", ".join(f"{name} {value:.3f}" for name, value in signals.items()))
    iou = summary["iou_percent"]
    if not iou:
        return
    table = Table(title=f"IoU % on {summary['labelled_frames']} labelled frames")
    table.add_column("class")
    for name in iou:
        table.add_column(name if name == "all" else f"{name} (seen)", justify="right")
    for name in result.labels.names:
        table.add_row(name, *(_cell(iou[column]["classes"][name]) for column in iou))
    table.add_section()
    table.add_row("mean", *(_cell(iou[column]["mean"]) for column in iou))
    Console().print(table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
