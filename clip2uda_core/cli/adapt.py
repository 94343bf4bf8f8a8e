"""`clip2uda adapt`: trains on a labelled source and adapts to an unlabelled target."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clip2uda_core.cli import source_free, source_options
from clip2uda_core.cli.console import make_console
from clip2uda_core.cli.durations import parse_duration_s
from clip2uda_core.cli.run_tables import print_report
from clip2uda_core.errors import ConfigError

if TYPE_CHECKING:
    from clip2uda_core.adaptation.config import AdaptConfig

SOURCE_KINDS = "a rosbag, a KITTI folder, or synthetic:SCENARIO[:DOMAIN[:SPLIT]]"


def adapt(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="A method that ships in config/adapt, or a YAML file; default: clip2uda, or source_free with --source "
            "none.",
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help=f"Labelled domain: {SOURCE_KINDS}; repeat it. Or none.", metavar="SRC"),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Domain to adapt to; its labels are not read; repeat it.", metavar="SRC")
    ] = None,
    val: Annotated[
        list[str] | None,
        typer.Option(help="Labelled recording of the target that chooses best.safetensors; repeat it.", metavar="SRC"),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Recording to evaluate on at the end; repeat it.", metavar="SRC")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="A simulated scenario, for all recordings that are not given and the stand-in CLIP."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="For a method with pseudo-labels: a checkpoint, or the folder of the run, that makes them; default: "
            "train it in OUT/teacher.",
            metavar="CHECKPOINT|RUN",
        ),
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            help="The model in use, which the new one has to beat, and begins with where the settings say "
            "`initial: given`, as on a CPU: a file, or one that ships; or none.",
        ),
    ] = "default",
    steps: Annotated[int | None, typer.Option(help="Iterations; default: the method's.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.", min=0)] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            help="CLIP and its weights: ViT-B-16:laion2b_s34b_b88k, ViT-B-16:FILE; default: the method's, else the "
            "stand-in that ships.",
            metavar="MODEL:WEIGHTS",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Settings where the method has none: one of config/budgets, a YAML file, or none; default: cpu "
            "where there is no CUDA.",
            metavar="NAME|FILE",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of the method's YAML; repeat it.", metavar="KEY=VALUE"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    time_budget: Annotated[
        str | None,
        typer.Option(help="End the training after 90s, 30m, 2h, 1h30m; a plain number is minutes.", metavar="DURATION"),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="End the training when the label-free signal of the target has not risen for so many saved states, "
            "and keep the model where it was highest; 0 lets it go on.",
            min=0,
        ),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write OUT/tensorboard too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
    frames: Annotated[
        Path | None,
        typer.Option(help="Folder for the frames that were read, which runs may share; default: OUT/frames."),
    ] = None,
    points_topic: source_options.PointsTopic = None,
    camera: source_options.Cameras = None,
    calibration: source_options.Calibration = None,
    fixed_frame: source_options.FixedFrame = None,
    trust_calibration: Annotated[
        bool, typer.Option("--trust-calibration", help="Train although the target's calibration looks wrong.")
    ] = False,
    tolerance: source_options.Tolerance = source_options.DEFAULT_TOLERANCE_S,
    stamp_offset: source_options.StampOffsets = None,
    tf_bag: source_options.TfBags = None,
    min_motion: source_options.MinMotion = None,
    every: source_options.Every = None,
    max_frames: source_options.MaxFrames = None,
) -> None:
    """Trains a model on a labelled source domain and adapts it to an unlabelled target domain.

    Writes into --out: model.safetensors for `clip2uda segment` and the node, report.json, pictures/, log.jsonl (a line
    an iteration), config.yaml, and the states from which --resume goes on; with --val also best.safetensors. Ctrl-C
    saves a state and ends.

    A --target is looked at first: its sensors, and whether its calibration is believable. Without a --source, simulated
    streets seen by these sensors are the source. With --source none, --checkpoint is the model to begin with, and
    teaches itself on the target. At the end the new model is compared with the one in use, without
    labels: verdict.json, chosen.safetensors (the new one, or the old one where it stays) and report.html.

    Topics, cameras, calibration, transforms and tolerance are those of --target, --val and --test. --min-motion and
    --every thin out what is trained on.

    **Examples**

        clip2uda adapt --target robot.mcap --out run

        clip2uda adapt --target monday.mcap --target tuesday.mcap --clip ViT-B-16:laion2b_s34b_b88k --out run

        clip2uda adapt --source synthetic:sim_to_kitti:source:train --target robot.mcap --out run

        clip2uda adapt --source none --checkpoint model.safetensors --target robot.mcap --time-budget 2h --out run

        clip2uda adapt --scenario day_to_night --out run --steps 2000

        clip2uda adapt --scenario day_to_night --method clip2uda_pl --teacher run --out run_pl --steps 2000

        clip2uda adapt --method source_only_3d --source synthetic:sim_to_kitti --test dataset/sequences/00 --out run3d
    """
    # Imported here so that the help of the command does not wait for torch.
    from clip2uda_core.adaptation.judgement import is_judged
    from clip2uda_core.adaptation.methods import load_method
    from clip2uda_core.adaptation.run import run
    from clip2uda_core.adaptation.run_data import RunOptions
    from clip2uda_core.cli.recordings import run_data, scenario_addresses
    from clip2uda_core.cli.unlabelled import STAND_IN_NOTE, judge_run, look, old_model, own_sensors, print_verdict
    from clip2uda_core.data.readers import ReaderOptions, Thinning, open_sources
    from clip2uda_core.inference.segmenter import choose_device
    from clip2uda_core.processes import is_first_process

    if is_first_process():
        check_out(out, resume)
    without_source = source_free.asks_for_none(source)
    method = method or (source_free.METHOD if without_source else "clip2uda")
    time_budget_s = None if time_budget is None else parse_duration_s("--time-budget", time_budget)
    given = {"source": None if without_source else source, "target": target, "val": val, "test": test}
    addresses = scenario_addresses(scenario) if scenario is not None else {}
    if without_source:
        addresses.pop("source", None)
    addresses |= {kind: listed for kind, listed in given.items() if listed}
    if budget is None and choose_device(device).type == "cpu":
        budget = "cpu"
    old = old_model(checkpoint)
    of_model = source_free.settings_to_begin_with(method, teacher, old, out)

    begins_with = old if of_model is None else source_free.model_to_begin_with(method, teacher, old)

    def method_config(name: str) -> "AdaptConfig":
        initial = "random" if begins_with is None else None
        asked = {"steps": steps, "seed": seed, "patience": patience, "initial": initial}
        return load_method(name, asked, clip, setting or [], None if budget == "none" else budget, of_model)

    config = method_config(method)
    if without_source:
        source_free.check_needs_no_source(config)
    thinning = source_options.thinning_for_training(min_motion, every)
    of_target = source_options.reader_options(
        points_topic,
        camera,
        False,
        calibration,
        fixed_frame,
        tolerance,
        stamp_offset,
        max_frames,
        tf_bags=tf_bag,
        thinning=thinning,
    )
    console = make_console(stderr=True)
    survey = None
    if target and scenario is None and config.losses.use_target:
        survey = look(target, of_target, trust_calibration, console)
        if config.losses.use_source and "source" not in addresses:
            addresses["source"] = own_sensors(survey, out, console)
        if config.model.uses_clip and config.model.clip.model == "sim-clip":
            console.print(STAND_IN_NOTE, highlight=False, soft_wrap=True)
    needed = [config.train_on] if config.losses.use_source else []
    needed += ["target"] if config.losses.use_target else []
    data = run_data(addresses, needed, ReaderOptions(max_frames=max_frames, thinning=thinning), of_target)
    makes_labels: AdaptConfig | Path | None = teacher
    if makes_labels is None and config.teacher not in (None, "given"):
        makes_labels = method_config(config.teacher)
    with _progress(console) as progress, interrupt_as_request() as interrupted:
        deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        options = RunOptions(device, tensorboard, deadline, interrupted, progress, frames)
        report = run(config, data, out, makes_labels, options, begins_with)
        if interrupted():
            console.print(f"interrupted at iteration {report.steps} of {config.steps}; --resume goes on")
            raise typer.Exit(130)
        if not is_first_process():
            return
        if report.finished and is_judged(out):
            print_verdict(out, console)
        elif survey is not None and target and report.steps > 0:
            every_cloud = open_sources(target, replace(of_target, thinning=Thinning()))
            judge_run(out, config, report, old, every_cloud, survey, device, console, progress)
    if not report.finished:
        console.print(f"time is over at iteration {report.steps} of {config.steps}; --resume goes on")
    print_report(report)
    print(f"the run is in {out}: model.safetensors, report.json, pictures")


SAME_CTRL_C_S = 1.0
"""Signals that come within so long are of one Ctrl-C."""


def check_out(out: Path, resume: bool) -> None:
    """Refuses to mix two runs in one folder, and to resume one that is not there."""
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied and not resume:
        raise ConfigError(f"--out {out} is not empty: --resume goes on with the run in it, else give another folder")
    if resume and not occupied:
        raise ConfigError(f"--resume: there is no run in {out}")


@contextmanager
def interrupt_as_request() -> Iterator[Callable[[], bool]]:
    """Makes the first Ctrl-C a request to stop after the running iteration; one that comes later stops at once. A
    launcher passes on the signal that the terminal has sent to all its children already: these two are one."""
    first_s: float | None = None

    def ask(signum: int, frame: object) -> None:
        nonlocal first_s
        now_s = time.monotonic()
        if first_s is None:
            first_s = now_s
        elif now_s - first_s > SAME_CTRL_C_S:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: first_s is not None
    finally:
        signal.signal(signal.SIGINT, before)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)
