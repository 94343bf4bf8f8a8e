"""`clip2uda benchmark`: all methods on one scenario and one budget, several seeds each."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from clip2uda_core.cli.console import make_console
from clip2uda_core.errors import ConfigError
from clip2uda_core.paths import config_file

if TYPE_CHECKING:
    from clip2uda_core.benchmark.plan import PlannedRun
    from clip2uda_core.benchmark.results import Results
    from clip2uda_core.simulation.scenario import ScenarioConfig


def benchmark(
    scenario: Annotated[str, typer.Option(help="A scenario of config/scenarios.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables, and for the runs below it.")],
    methods: Annotated[
        str | None,
        typer.Option(help="Methods or YAML files, separated by commas; default: all that the scenario allows."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each method, with the seeds 0, 1, ...", min=1)] = 3,
    steps: Annotated[int | None, typer.Option(help="Iterations of each run; default: the settings'.", min=1)] = None,
    source_steps: Annotated[
        int | None,
        typer.Option(
            help="Iterations on the source alone that all runs of a seed begin with; 0: they begin at random; default: "
            "the settings'.",
            min=0,
        ),
    ] = None,
    begin_with: Annotated[
        list[Path] | None,
        typer.Option(
            help="A model of the source alone, trained before, that the runs of all seeds begin with in place of "
            "training one; one for each 2D network (CLIP, U-Net) that the methods have: repeat it.",
            metavar="CHECKPOINT",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at the same time; they share the cores evenly.", min=1)] = 1,
    name: Annotated[str | None, typer.Option(help="Name of the tables; default: the scenario's.")] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help="Settings that all methods share: one of config/benchmarks, or a YAML file; default: `standard` and, "
            "over it, the scenario's own, where it has some there.",
            metavar="NAME|FILE",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Recording to adapt to, where the scenario's target is a real one.")
    ] = None,
    val: Annotated[str | None, typer.Option(help="Labelled recording that chooses the best checkpoint.")] = None,
    test: Annotated[str | None, typer.Option(help="Labelled recording to evaluate on.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Take the first so many frames of each split.", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>.")] = "auto",
) -> None:
    """Trains every method with every seed, each in a process of its own, and compares them on the target's test split.

    Writes NAME.md, NAME.json and NAME.png into --out, and every run below OUT/runs/SCENARIO/METHOD/seedN. The same
    command goes on where it was interrupted; runs that are finished are taken as they are, also by a benchmark with
    other methods or more seeds. A run that fails is reported, the others go on, and the exit status is 1.

    **Examples**

        clip2uda benchmark --scenario day_to_night --seeds 3 --jobs 2 --out benchmarks

        clip2uda benchmark --scenario day_to_night --methods source_only,clip2uda --seeds 1 --source-steps 40
        --steps 20 --max-frames 16 --out small

        clip2uda benchmark --scenario day_to_night --begin-with clip/model.safetensors --begin-with
        unet/model.safetensors --out benchmarks

        clip2uda benchmark --scenario sim_to_kitti --target 2011_09_26_drive_0001_sync --test dataset/sequences/00
        --out benchmarks
    """
    from clip2uda_core.benchmark.figures import draw_bars
    from clip2uda_core.benchmark.plan import check_data, make_plan, read_settings, settings_of
    from clip2uda_core.benchmark.processes import Processes
    from clip2uda_core.benchmark.results import Results
    from clip2uda_core.benchmark.source_models import read_source_models
    from clip2uda_core.benchmark.tables import Provenance, page
    from clip2uda_core.files import write_text
    from clip2uda_core.simulation.scenario import load_scenario

    recordings = {"target": target, "val": val, "test": test}
    given = {kind: address for kind, address in recordings.items() if address is not None}
    domains = load_scenario(scenario)
    real = _check_recordings(domains, given)
    chosen = _chosen_methods(methods, real)
    if begin_with and source_steps is not None:
        raise ConfigError("--begin-with takes the place of training on the source: leave --source-steps out")
    models = read_source_models(begin_with or [])
    paths = [config_file(settings, "benchmarks")] if settings is not None else settings_of(domains.name)
    shared = read_settings(paths, steps, 0 if models else source_steps, out / "features")
    name = name or domains.name
    folder = out / "runs" / domains.name
    begins = {network: model.weights for network, model in models.items()} or shared.get("source_stage")
    check_data(folder, {**recordings, "max_frames": max_frames, "source_stage": begins})
    plan = make_plan(domains.name, chosen, seeds, shared, folder, models)

    def command(run: "PlannedRun") -> list[str]:
        words = ["adapt", "--method", str(run.settings), "--budget", "none", "--seed", str(run.seed)]
        words += ["--scenario", scenario]
        words += ["--out", str(run.folder), "--frames", str(out / "frames"), "--device", device]
        words += [word for kind, address in given.items() for word in (f"--{kind}", address)]
        words += ["--max-frames", str(max_frames)] if max_frames is not None else []
        words += ["--checkpoint", str(run.initial_model)] if run.initial_model is not None else []
        words += ["--teacher", str(run.teacher.folder)] if run.teacher is not None else []
        return words + (["--resume"] if run.folder.exists() and any(run.folder.iterdir()) else [])

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by either signal, the runs save their states
    console = make_console(stderr=True)
    with _progress() as progress:
        processes = Processes(command, jobs, progress, lambda text: console.print(text, soft_wrap=True))
        processes.work_off(plan.runs)
    results = Results.of(plan)
    provenance = Provenance(
        title=f"Benchmark {name}",
        about=_about(domains, real),
        command=_command(domains.name, chosen, seeds, plan.steps, source_steps, begin_with, name, given, max_frames),
        settings=yaml.safe_dump({key: value for key, value in shared.items() if key != "cache"}, sort_keys=False),
        figure=f"{name}.png",
    )
    write_text(out / f"{name}.json", json.dumps(results.as_json(), indent=1) + "\n")
    write_text(out / f"{name}.md", page(results, provenance, processes.failed))
    draw_bars(results, f"{name}, {plan.steps} iterations, seeds as dots", out / f"{name}.png")
    _print_results(results)
    print(f"wrote {name}.md, {name}.json and {name}.png into {out}")
    if processes.failed:
        raise typer.Exit(1)


def _check_recordings(scenario: "ScenarioConfig", given: dict[str, str]) -> bool:
    """Whether the target is a real recording; ConfigError where one that is needed was not given, or is not there."""
    from clip2uda_core.cli.recordings import recording
    from clip2uda_core.data.readers import ReaderOptions
    from clip2uda_core.simulation.scenario import RecordedDomainConfig

    target = scenario.target
    real = isinstance(target, RecordedDomainConfig)
    if isinstance(target, RecordedDomainConfig):
        missing = [kind for kind in ("target", "test") if kind not in given]
        if missing:
            meant = "; ".join(f"{split}: {about}" for split, about in target.about.items())
            raise ConfigError(
                f"scenario '{scenario.name}' has a real target: give --{' and --'.join(missing)}, the paths of the "
                f"recordings ({meant})"
            )
    for address in given.values():
        recording([address], ReaderOptions())
    return real


def _chosen_methods(methods: str | None, real_target: bool) -> list[str]:
    """Methods as asked for; by default all, without those that need labels which a real target has not."""
    from clip2uda_core.adaptation.methods import load_method
    from clip2uda_core.benchmark.plan import METHODS

    if methods is not None:
        chosen = [method.strip() for method in methods.split(",") if method.strip()]
        if not chosen:
            raise ConfigError(f"--methods {methods!r}: expected names separated by commas, as in source_only,clip2uda")
        return chosen
    return [name for name in METHODS if not (real_target and load_method(name, {}, None, []).train_on == "target")]


def _about(scenario: "ScenarioConfig", real_target: bool) -> str:
    target = "the target is real recordings" if real_target else "source and target are simulated data"
    return f"Scenario `{scenario.name}`: {scenario.about}; {target}. CLIP is sim-clip, a small stand-in for CLIP."


def _command(
    scenario: str,
    methods: list[str],
    seeds: int,
    steps: int,
    source_steps: int | None,
    begin_with: list[Path] | None,
    name: str,
    given: dict[str, str],
    max_frames: int | None,
) -> str:
    """The command that gives the tables again; files and recordings without the folders that they are in here."""
    words = ["clip2uda benchmark", f"--scenario {scenario}", f"--methods {','.join(methods)}", f"--seeds {seeds}"]
    words += [f"--steps {steps}"]
    words += [f"--source-steps {source_steps}"] if source_steps is not None else []
    words += [f"--begin-with {path.name}" for path in begin_with or []]
    words += [f"--name {name}"] if name != scenario else []
    words += [f"--max-frames {max_frames}"] if max_frames is not None else []
    words += [f"--{kind} {Path(address).name}" for kind, address in given.items()]
    return " ".join([*words, "--out DIR"])


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=make_console(stderr=True))


def _print_results(results: "Results") -> None:
    from clip2uda_core.benchmark.results import MODALITIES, spread

    table = Table(title=f"{results.scenario}: mIoU % on the target's test split, last of {results.steps} iterations")
    for column in ("method", "seeds", "2D", "3D", "fused", "gap closed"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, reports in results.methods.items():
        closed = results.gap_closed(method)
        scores = [spread(results.last(method, modality)) for modality in MODALITIES]
        table.add_row(method, str(len(reports)), *scores, "–" if closed is None else f"{closed:.0f} %")
    make_console().print(table)
