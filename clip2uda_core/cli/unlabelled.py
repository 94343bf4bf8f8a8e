"""What `clip2uda adapt` does around a run whose target is a recording: a look before, a verdict and a page after."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from clip2uda_core.data.readers import Reader, ReaderOptions, open_sources
from clip2uda_core.errors import ConfigError
from clip2uda_core.paths import config_file
from clip2uda_core.types import Frame

if TYPE_CHECKING:
    from clip2uda_core.adaptation.config import AdaptConfig
    from clip2uda_core.adaptation.judgement import Judgement
    from clip2uda_core.adaptation.report import Report
    from clip2uda_core.survey.target import TargetSurvey

STAND_IN_NOTE = (
    "CLIP is sim-clip, a stand-in that has seen simulated streets alone; --clip ViT-B-16:laion2b_s34b_b88k takes "
    "open_clip's, which knows real ones"
)


def look(addresses: Sequence[str], options: ReaderOptions, trust_calibration: bool, console: Console) -> "TargetSurvey":
    """Looks at the target and prints what was found. CalibrationError for a calibration that is plainly wrong."""
    from clip2uda_core.survey.target import survey_target

    reader = open_sources(addresses, options)
    with console.status("looking at the target: sensors, calibration"):
        survey = survey_target(reader)
    for line in survey.lines():
        console.print(line, highlight=False, soft_wrap=True)
    for warning in (*reader.warnings, *survey.sensors.warnings):
        console.print(f"[bold yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)
    if not trust_calibration:
        survey.raise_if_wrong()
    return survey


def own_sensors(survey: "TargetSurvey", out: Path, console: Console) -> list[str]:
    """The address of simulated streets seen by the target's own sensors; their scenario lies in the run's folder."""
    from clip2uda_core.survey.source_domain import source_address, write_source_scenario

    scenario = write_source_scenario(survey.sensors, out / "source")
    console.print(f"no --source: simulated streets, seen by these sensors, are the labelled source ({scenario})")
    return [source_address(scenario)]


def old_model(checkpoint: str) -> Path | None:
    """The model in use, by path or by the name of one that ships; `none` where there is none."""
    if checkpoint == "none":
        return None
    path = Path(checkpoint).expanduser()
    if path.suffix == ".safetensors" and not path.is_file():
        raise ConfigError(f"--checkpoint {checkpoint}: no such file; give the model in use, or 'none'")
    return config_file(checkpoint, "checkpoints", ".safetensors")


def judge_run(
    out: Path,
    config: "AdaptConfig",
    report: "Report",
    old: Path | None,
    target: Reader,
    survey: "TargetSurvey",
    device: str,
    console: Console,
    progress: Progress,
) -> None:
    """Compares the new model with the old one, writes the page, and says what came of it."""
    from clip2uda_core.adaptation.judgement import judge

    def watch(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
        yield from progress.track(frames, total=count, description="judging")

    command = shlex.join(["clip2uda", *sys.argv[1:]])
    _print_judgement(judge(out, config, report, old, target, survey, device, command, watch), console)


def print_verdict(out: Path, console: Console) -> None:
    """Says what came of a run that was judged before."""
    from clip2uda_core.adaptation.judgement import CHOSEN, PAGE, VERDICT

    if (out / VERDICT).exists():
        verdict = json.loads((out / VERDICT).read_text(encoding="utf-8"))
        for line in (f"judged before: {verdict['decision']}", *(f"- {reason}" for reason in verdict["reasons"])):
            console.print(line, highlight=False, soft_wrap=True)
    deploy = f"to deploy: {out / CHOSEN}; the report: {out / PAGE}"
    console.print(f"{deploy} (remove it to judge again)", highlight=False, soft_wrap=True)


def _print_judgement(judgement: "Judgement", console: Console) -> None:
    if judgement.verdict is not None:
        for line in judgement.verdict.lines():
            console.print(line, highlight=False, soft_wrap=True)
    console.print(f"to deploy: {judgement.chosen}; the report: {judgement.page}", highlight=False, soft_wrap=True)
