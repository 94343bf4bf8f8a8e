"""What a benchmark consists of: its runs, each the method's own settings with those of the benchmark over them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clip2uda_core.adaptation.checkpoint import check_identity
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.report import Report
from clip2uda_core.adaptation.run import MODEL
from clip2uda_core.benchmark.source_models import SourceModel, SourceModels, source_model_of
from clip2uda_core.config import load_config, merged, parse_config, read_yaml
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.files import write_text
from clip2uda_core.paths import config_file, share_dir

METHODS = ("source_only_unet", "xmuda", "xmuda_pl", "source_only", "clip2uda", "clip2uda_pl", "oracle")
"""By 2D network: the U-Net, then CLIP with prompts and decoder; each after the source alone."""

SOURCE_STAGE = "source_stage"


@dataclass(frozen=True)
class PlannedRun:
    """One run: a method's settings, in a YAML file of their own, with one seed, in one folder.

    begins_with: the run whose model it begins with, or a model that is there already. teacher: the run whose model
    makes its pseudo-labels.
    """

    config: AdaptConfig
    settings: Path
    seed: int
    folder: Path
    begins_with: "PlannedRun | SourceModel | None" = None
    teacher: "PlannedRun | None" = None

    @property
    def needs(self) -> list["PlannedRun"]:
        """The runs that come first."""
        return [run for run in (self.begins_with, self.teacher) if isinstance(run, PlannedRun)]

    @property
    def initial_model(self) -> Path | None:
        """The checkpoint that it begins with; None: it begins at random."""
        if isinstance(self.begins_with, PlannedRun):
            return self.begins_with.folder / MODEL
        return None if self.begins_with is None else self.begins_with.path

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
    """All runs of a benchmark, each after those that it needs.

    methods: as asked for, in the table's order. Among `runs` are also teachers that were not asked for, and the source
    stages: trained on the labelled source alone, one for each seed and each network that the methods train.
    source_models: those that all seeds begin with in their place, by 2D network.
    """

    scenario: str
    steps: int
    methods: tuple[str, ...]
    seeds: int
    runs: tuple[PlannedRun, ...]
    source_models: SourceModels = field(default_factory=dict)

    def of(self, method: str) -> list[PlannedRun]:
        return [run for run in self.runs if run.config.method == method]


def settings_of(scenario: str) -> list[Path]:
    """The YAML files of a scenario's settings: the standard ones and, where it has some, what differs in its own."""
    own = share_dir() / "config" / "benchmarks" / f"{scenario}.yaml"
    return [config_file("standard", "benchmarks"), *([own] if own.is_file() else [])]


def read_settings(paths: Sequence[Path], steps: int | None, source_steps: int | None, features: Path) -> dict[str, Any]:
    """The settings that all runs of a benchmark share, a later file over the ones before: those of a method's YAML and,
    below `source_stage`, the ones of the source stage that differ; without it, runs begin at random.

    features: where all runs keep what CLIP says of their images. source_steps: 0 is for no source stage.
    """
    values: dict[str, Any] = {"cache": {"folder": str(features)}}
    for path in paths:
        values = merged(values, read_yaml(path) or {})
    if steps is not None:
        values["steps"] = steps
    if source_steps == 0:
        values.pop("source_stage", None)
    elif source_steps is not None:
        values["source_stage"] = merged(values.get("source_stage") or {}, {"steps": source_steps})
    return values


def make_plan(
    scenario: str,
    methods: Sequence[str],
    seeds: int,
    settings: Mapping[str, Any],
    folder: Path,
    source_models: SourceModels | None = None,
) -> Plan:
    """Writes each method's settings into `folder` and plans its runs there.

    settings: see `read_settings`. source_models: in place of source stages. Raises ConfigError for a method or setting
    that there is not, for a model that does not fit, and for runs that were begun in this folder with other settings.
    """
    source_models = source_models or {}
    common = {**settings, "initial": "given" if source_models or "source_stage" in settings else "random"}
    source_stage = common.pop("source_stage", None)
    runs: dict[tuple[str, int], PlannedRun] = {}

    def add(values: dict[str, Any], seed: int, origin: str) -> PlannedRun:
        config = parse_config(AdaptConfig, values, f"{origin} with the settings of the benchmark")
        if (config.method, seed) not in runs:
            begins_with: PlannedRun | SourceModel | None = None
            if config.initial == "given" and source_models:
                begins_with = source_model_of(config, source_models)
            elif config.initial == "given":
                begins_with = add(_of_source_stage(values, source_stage), seed, "source_stage")
            teacher = add_method(config.teacher, seed) if config.teacher is not None else None
            path = folder / config.method / "method.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, yaml.safe_dump(values, sort_keys=False))
            run = PlannedRun(config, path, seed, folder / config.method / f"seed{seed}", begins_with, teacher)
            _check_begun(run)
            runs[config.method, seed] = run
        return runs[config.method, seed]

    def add_method(method: str, seed: int) -> PlannedRun:
        origin = config_file(method, "adapt")
        return add(merged(read_yaml(origin) or {}, common), seed, str(origin))

    # Seed by seed: an unfinished benchmark already compares all methods.
    for seed in range(seeds):
        names = [add_method(method, seed).config.method for method in methods]
    if len(set(names)) < len(names):
        raise ConfigError(f"methods must have names of their own, got {', '.join(names)}; change `method:` in the YAML")
    all_steps = {run.config.steps for run in runs.values() if not is_source_stage(run)}
    if len(all_steps) > 1:
        raise ConfigError(
            f"methods of a benchmark share one number of steps, got {sorted(all_steps)}; give --steps, or set steps in "
            f"the YAML of --settings"
        )
    return Plan(scenario, all_steps.pop(), tuple(names), seeds, tuple(runs.values()), source_models)


def check_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Remembers which recordings, and how many frames of them, the runs in a folder are about, and what they begin
    with. Raises ConfigError when those that are there already are about others."""
    path = folder / "data.yaml"
    if path.exists():
        try:
            check_identity(read_yaml(path), data)
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(dict(data)))


def is_source_stage(run: PlannedRun) -> bool:
    return run.config.method.startswith(SOURCE_STAGE)


def _of_source_stage(values: dict[str, Any], source_stage: dict[str, Any]) -> dict[str, Any]:
    """Settings of the training on the source alone that a method begins with. Methods which train the same network
    there have the same one."""
    source_alone = {
        "initial": "random",
        "train_on": "source",
        "schedule": "alternate",
        "teacher": None,
        "target_statistics": False,
        "calibrate": True,
        "losses": {
            "cross_modal_source": 0.0,
            "cross_modal_target": 0.0,
            "prompt_target": 0.0,
            "pseudo_label": 0.0,
            "pseudo_labels": "fused",
        },
    }
    values = merged(merged(values, source_alone), source_stage) | {"method": SOURCE_STAGE}
    settings = parse_config(AdaptConfig, values, "source_stage of the benchmark")
    # Without the defaults: a setting that is new in a later version does not make it another source stage.
    chosen = json.dumps(_of_interest(settings, exclude_defaults=True), sort_keys=True)
    digest = hashlib.blake2b(chosen.encode(), digest_size=3).hexdigest()
    return values | {"method": f"{SOURCE_STAGE}_{settings.model.image_network}_{digest}"}


def _check_begun(run: PlannedRun) -> None:
    """Refuses runs that were begun with other settings: a table compares runs of one budget."""
    path = run.folder / "config.yaml"
    if path.exists():
        try:
            check_identity(_of_interest(load_config(AdaptConfig, path)), _of_interest(run.config))
        except ConfigError as error:
            raise ConfigError(f"{run.folder}: {error}") from None


def _of_interest(config: AdaptConfig, exclude_defaults: bool = False) -> dict[str, Any]:
    no_matter: Any = {"seed": True, "save_every": True, "cache": True, "model": {"clip"}, "loader": {"workers"}}
    return config.model_dump(mode="json", exclude=no_matter, exclude_defaults=exclude_defaults)
