"""After a run whose target nobody labelled: should the new model replace the old one, and a page that shows why."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.report import FILE as REPORT_FILE
from clip2uda_core.adaptation.report import Report
from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.data.readers import Reader
from clip2uda_core.errors import CheckpointError, Clip2udaError, DataError
from clip2uda_core.files import write_text, writing
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.report import (
    CloudView,
    Fact,
    OverlayPair,
    Recording,
    ReportContent,
    class_rows,
    cloud_view,
    deploy_commands,
    early_stop_charts,
    flat_settings,
    overlay_pair,
    signal_rows,
    training_charts,
    validation_charts,
    write_report,
)
from clip2uda_core.report import Verdict as ShownVerdict
from clip2uda_core.survey.target import TargetSurvey
from clip2uda_core.survey.verdict import Verdict, compare
from clip2uda_core.types import Frame

CHOSEN = "chosen.safetensors"
PAGE = "report.html"
VERDICT = "verdict.json"

STRETCHES, STRETCH_FRAMES = 4, 8
"""Frames that both models label: consecutive ones, because labels are followed from scan to scan, at several places."""


@dataclass(frozen=True)
class Judgement:
    """verdict: None where there was no old model to compare with. chosen: the checkpoint to deploy: the new one, or the
    old one where it stays."""

    verdict: Verdict | None
    chosen: Path
    page: Path


def judge(
    run: Path,
    config: AdaptConfig,
    report: Report,
    old: Path | None,
    target: Reader,
    survey: TargetSurvey | None,
    device: str,
    command: str,
    watch: Callable[[Iterator[Frame], int], Iterator[Frame]] = lambda frames, _: frames,
) -> Judgement:
    """Compares the model of a finished run with the old one on frames of the target, and writes verdict.json,
    chosen.safetensors and report.html into the run's folder.

    target: every cloud of it, also those that training left out. survey: the look at it before training. watch: wraps
    the iteration over so many frames, for a progress bar. An old model that labels other classes, or that cannot be
    loaded, is no reason to lose the run: there is no verdict then, and the page says why.
    """
    new_path = run / "model.safetensors"
    new = Segmenter.from_checkpoint(new_path, device)
    before, warnings = _load_old(old, new, device)
    count = len(target)
    frames = list(watch(_stretches(target, count), min(count, STRETCHES * STRETCH_FRAMES)))
    if not frames:
        raise DataError("nothing to judge the new model by: the target gave no frame")
    verdict = None
    if before is not None:
        verdict = compare(before, new, frames, _source_shares(run, new))
        write_text(run / VERDICT, json.dumps(verdict.summary(), indent=1) + "\n")
    chosen = new_path if verdict is None or verdict.replace or old is None else old
    with writing(str(run / CHOSEN), CheckpointError, f"copy {chosen} yourself"):
        shutil.copyfile(chosen, run / CHOSEN)
    content = _page(run, config, report, frames, before, new, verdict, target, survey, command, warnings)
    write_report(content, run / PAGE)
    return Judgement(verdict, run / CHOSEN, run / PAGE)


def is_judged(run: Path) -> bool:
    """Whether the run has been judged since its report was written. The page is what judging writes last."""
    try:
        return (run / PAGE).stat().st_mtime_ns >= (run / REPORT_FILE).stat().st_mtime_ns
    except OSError:
        return False


def _load_old(old: Path | None, new: Segmenter, device: str) -> tuple[Segmenter | None, tuple[str, ...]]:
    """The old model, and why there is none to compare with."""
    if old is None:
        return None, ("There is no old model to compare with.",)
    try:
        before = Segmenter.from_checkpoint(old, device)
    except Clip2udaError as error:
        return None, (f"The old model could not be loaded, so nothing is compared: {error}",)
    if before.labels.names != new.labels.names:
        return None, (f"The old model {old} labels other classes, so nothing is compared.",)
    return before, ()


def _stretches(target: Reader, count: int) -> Iterator[Frame]:
    """`STRETCHES` runs of `STRETCH_FRAMES` consecutive frames, spread over the target; all of a short one."""
    if count <= STRETCHES * STRETCH_FRAMES:
        yield from target
        return
    every = count // STRETCHES
    yield from (
        frame for index, frame in enumerate(islice(target, STRETCHES * every)) if index % every < STRETCH_FRAMES
    )


def _source_shares(run: Path, model: Segmenter) -> Mapping[str, float] | None:
    """Class shares of the labelled source; None for a run without one, or whose frames lie elsewhere."""
    folder = run / "frames" / "source"
    if not folder.exists():
        return None
    counts = FrameStore.open(folder).all_counts
    return dict(zip(model.labels.names, (counts / max(1, counts.sum())).tolist(), strict=True))


def _page(
    run: Path,
    config: AdaptConfig,
    report: Report,
    frames: list[Frame],
    before: Segmenter | None,
    after: Segmenter,
    verdict: Verdict | None,
    target: Reader,
    survey: TargetSurvey | None,
    command: str,
    warnings: tuple[str, ...],
) -> ReportContent:
    overlays, clouds = _pictures(frames, before, after)
    signals = () if verdict is None else signal_rows(verdict.before.summary(), verdict.after.summary())
    # IoU is of the test recording, which the old model was not evaluated on; shares are of the frames of the verdict.
    after_summary: dict[str, Any] = {} if report.last is None else dict(report.last)
    before_summary = None
    if verdict is not None:
        after_summary["label_free"] = verdict.after.summary()
        before_summary = {"label_free": verdict.before.summary()}
    return ReportContent(
        title=f"Adapted to {report.target}" if report.target else "A trained model",
        subtitle=f"{config.method}, {report.steps} steps, seed {config.seed}{_ended(report)}",
        command=command,
        created=f"{datetime.now():%Y-%m-%d %H:%M}",
        verdict=None if verdict is None else ShownVerdict("replace" if verdict.replace else "keep", verdict.reasons),
        warnings=(*warnings, *target.warnings, *(survey.sensors.warnings if survey else ())),
        recordings=() if survey is None else tuple(Recording(**vars(read)) for read in survey.recordings),
        skipped={} if survey is None else dict(survey.dropped),
        findings=_findings(survey),
        overlays=overlays,
        clouds=clouds,
        charts=(
            *training_charts(run / "log.jsonl"),
            *validation_charts(report.validation),
            *early_stop_charts(report.signal, report.model_step),
        ),
        classes=class_rows(after.labels, before_summary, after_summary) if after_summary else (),
        iou_note=f"IoU on {report.test}" if report.test else "",
        signals=signals,
        settings=flat_settings(config.model_dump(mode="json")),
        environment={key: str(value) for key, value in report.environment.items()},
        deploy=deploy_commands(run / CHOSEN, report.target or ""),
    )


def _pictures(
    frames: list[Frame], before: Segmenter | None, after: Segmenter
) -> tuple[tuple[OverlayPair, ...], tuple[CloudView, ...]]:
    """The first, the middle and the last frame, as images and as clouds."""
    overlays, clouds = [], []
    for index in sorted({0, len(frames) // 2, len(frames) - 1}):
        frame = frames[index]
        old = None if before is None else before.segment(frame)
        new = after.segment(frame)
        clouds.append(cloud_view(frame, old, new, after.labels))
        overlays += [overlay_pair(frame, old, new, after.labels, view.name) for view in frame.views]
    return tuple(overlays), tuple(clouds)


def _ended(report: Report) -> str:
    """Where the model is not that of the last iteration asked for, why."""
    if not report.signal:
        return ""
    stopped = ", stopped early" if report.stopped_early else ""
    return f"{stopped}; the model is that of iteration {report.model_step}"


def _findings(survey: TargetSurvey | None) -> tuple[Fact, ...]:
    if survey is None:
        return ()
    sensors = [line.partition(": ") for line in survey.sensors.describe()]
    facts = [Fact(name, value) for name, _, value in sensors]
    for check in survey.calibration.values():
        state = {"plausible": "good", "wrong": "warning", "doubtful": "warning"}.get(check.verdict, "plain")
        facts.append(Fact(f"calibration of {check.camera}", check.verdict, check.message, state))  # type: ignore[arg-type]
    return tuple(facts)
