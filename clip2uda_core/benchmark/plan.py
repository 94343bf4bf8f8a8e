"""What a benchmark consists of: its runs, each the method's own settings with those of the benchmark over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clip2uda_core.adaptation.checkpoint import check_identity
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.report import Report
from clip2uda_core.config import load_config, merged, parse_config, read_yaml
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.files import write_text
from clip2uda_core.paths import config_file

METHODS = ("source_only", "xmuda", "xmuda_pl", "clip2uda", "clip2uda_pl", "oracle")


@dataclass(frozen=True)
class PlannedRun:
    """One run: a method's settings, in a YAML file of their own, with one seed, in one folder.

    teacher: the run whose model makes its pseudo-labels; it comes first.
    """

    config: AdaptConfig
    settings: Path
    seed: int
    folder: Path
    teacher: "PlannedRun | None" = None

    @property
    def name(self) -> str:
        return f"{self.config.method}, seed {self.seed}"

    def report(self) -> Report | None:
        """The report of the finished run; None where anything is left to do."""
        try:
            report = Report.read(self.folder)
        except DataError:
            return None
        return report if report.finished and report.last is not None else None


@dataclass(frozen=True)
class Plan:
    """All runs of a benchmark, teachers before those who learn from them.

    methods: as asked for, in the table's order; runs of teachers that were not asked for are among `runs` too.
    """

    scenario: str
    steps: int
    methods: tuple[str, ...]
    seeds: int
    runs: tuple[PlannedRun, ...]

    def of(self, method: str) -> list[PlannedRun]:
        return [run for run in self.runs if run.config.method == method]


def make_plan(
    scenario: str, methods: Sequence[str], seeds: int, steps: int | None, settings: Path, features: Path, folder: Path
) -> Plan:
    """Writes each method's settings into `folder` and plans its runs there.

    settings: the YAML of the benchmark's own. features: where all runs keep what CLIP says of their images. Raises
    ConfigError for a method or setting that there is not, and for runs that were begun in this folder with others.
    """
    common = read_yaml(settings) or {}
    if steps is not None:
        common["steps"] = steps
    common = merged({"cache": {"folder": str(features)}}, common)
    runs: dict[tuple[str, int], PlannedRun] = {}

    def add(method: str, seed: int) -> PlannedRun:
        config, path = _write_settings(method, common, folder)
        if (config.method, seed) not in runs:
            teacher = add(config.teacher, seed) if config.teacher is not None else None
            run = PlannedRun(config, path, seed, folder / config.method / f"seed{seed}", teacher)
            _check_begun(run)
            runs[config.method, seed] = run
        return runs[config.method, seed]

    # Seed by seed: an unfinished benchmark already compares all methods.
    for seed in range(seeds):
        names = [add(method, seed).config.method for method in methods]
    if len(set(names)) < len(names):
        raise ConfigError(f"methods must have names of their own, got {', '.join(names)}; change `method:` in the YAML")
    all_steps = {run.config.steps for run in runs.values()}
    if len(all_steps) > 1:
        raise ConfigError(
            f"{settings}: methods of a benchmark share one number of steps, got {sorted(all_steps)}; set steps there, "
            f"or give --steps"
        )
    return Plan(scenario, all_steps.pop(), tuple(names), seeds, tuple(runs.values()))


def check_data(folder: Path, data: Mapping[str, str | int | None]) -> None:
    """Remembers which recordings, and how many frames of them, the runs in a folder are about. Raises ConfigError when
    those that are there already are about others."""
    path = folder / "data.yaml"
    if path.exists():
        try:
            check_identity(read_yaml(path), data)
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(dict(data)))


def _write_settings(method: str, common: dict[str, Any], folder: Path) -> tuple[AdaptConfig, Path]:
    origin = config_file(method, "adapt")
    values = merged(read_yaml(origin) or {}, common)
    config = parse_config(AdaptConfig, values, f"{origin} with the settings of the benchmark")
    path = folder / config.method / "method.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(values, sort_keys=False))
    return config, path


def _check_begun(run: PlannedRun) -> None:
    """Refuses runs that were begun with other settings: a table compares runs of one budget."""
    path = run.folder / "config.yaml"
    if path.exists():
        try:
            check_identity(_of_interest(load_config(AdaptConfig, path)), _of_interest(run.config))
        except ConfigError as error:
            raise ConfigError(f"{run.folder}: {error}") from None


def _of_interest(config: AdaptConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude={"seed", "save_every", "cache"})
    del settings["model"]["clip"], settings["loader"]["workers"]
    return settings
