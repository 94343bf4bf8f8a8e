"""A whole run: train, validate on the way, save, evaluate, draw, report. What is done already is not done again."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import Progress

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.domains import FrameSource
from clip2uda_core.adaptation.early_stop import EarlyStop
from clip2uda_core.adaptation.folder_lock import alone_in
from clip2uda_core.adaptation.log import training_times
from clip2uda_core.adaptation.pictures import draw_result, draw_training
from clip2uda_core.adaptation.report import Report, Summary, environment
from clip2uda_core.adaptation.run_data import Recording, RunData, RunOptions
from clip2uda_core.adaptation.shared_frames import shared_store
from clip2uda_core.adaptation.tensorboard import TensorBoard
from clip2uda_core.adaptation.validation import Validation
from clip2uda_core.config import load_config
from clip2uda_core.data.frame_store import Domain, FrameStore
from clip2uda_core.errors import CheckpointError, ConfigError, DataError
from clip2uda_core.evaluation.evaluate import Evaluation, evaluate
from clip2uda_core.evaluation.gallery import Gallery
from clip2uda_core.files import writing
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.checkpoint import Checkpoint, load_checkpoint
from clip2uda_core.processes import process_count, process_rank, wait_for_all
from clip2uda_core.types import Frame, Prediction

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"

UNLABELLED_FRAMES = 200
"""Frames of the target, spread over it, that give the label-free signals where no test recording was given."""


def run(
    config: AdaptConfig,
    data: RunData,
    out: Path,
    teacher: AdaptConfig | Path | None = None,
    options: RunOptions | None = None,
    given: Path | None = None,
) -> Report:
    """Does what is left to do of a run in the folder `out`, and returns its report, which is also in report.json.

    teacher: for a method that learns from pseudo-labels, the method of the run that makes them, in `out/teacher`, or
        the checkpoint or folder of a run that is finished. given: the checkpoint that training begins with, and the
        teacher of a method without a source.

    A run ends with `finished` False when it is interrupted or its time is over; the same call goes on with it. Time
    that is over still gives an evaluation, an interruption none. Raises ConfigError when `out` holds a run with
    other settings or data, or one that another process is working on; KeyboardInterrupt when it is interrupted while it
    evaluates.
    """
    options = options or RunOptions()
    with alone_in(out):
        report = _finished(config, data, out)
        if report is not None:
            return report
        labels_maker = None
        if config.losses.pseudo_label:
            checkpoint = _teacher_checkpoint(config, data, out, teacher, options, given)
            if checkpoint is None:
                return _untrained(config, data, teacher, options)
            labels, own_clip = LabelSpace.load(config.labels), config.model.clip.weights
            clip_weights = own_clip if config.teacher == "given" else None
            labels_maker = Segmenter.from_checkpoint(checkpoint, options.device, clip_weights, labels)
            teacher = checkpoint
        begin_with = load_checkpoint(given) if given is not None and config.initial == "given" else None
        return _Run(config, data, out, options).complete(labels_maker, teacher, begin_with)


class _Run:
    """A run whose teacher, if it needs one, is there."""

    def __init__(self, config: AdaptConfig, data: RunData, out: Path, options: RunOptions) -> None:
        self.config, self.data, self.out, self.options = config, data, out, options
        self.adapter = Adapter(config, out, options.device, options.progress)
        self.labels = self.adapter.labels

    def complete(
        self, labels_maker: Segmenter | None, teacher: AdaptConfig | Path | None, given: Checkpoint | None
    ) -> Report:
        adapter, out = self.adapter, self.out
        source, target = self._domains()
        adapter.setup(source, target, labels_maker)
        adapter.build(given)
        validation = Validation(out, self._validate, adapter.save_model)
        early_stop = EarlyStop(out, self.config.patience, self._is_measured, adapter.measure_target, adapter.save_model)
        finished = self._fit(validation, early_stop)
        model, model_step = self._save_model(early_stop)
        if process_rank() == 0:
            draw_training(out, validation.results, validation.best)
        started = time.perf_counter()
        last = best = None
        if not self.options.interrupted():
            last = self._test(model)
            best = self._test_best(validation, last, model_step)
        evaluation_s = time.perf_counter() - started
        times_s = {"validation": validation.time_s, "signal": early_stop.time_s, "evaluation": evaluation_s}
        report = Report(
            **_asked(self.config, self.data),
            steps=adapter.state.step,
            finished=finished,
            teacher=str(teacher) if teacher is not None else None,
            last=last,
            best=best,
            validation=[{"step": result["step"], "val": result["val"]} for result in validation.results],
            timing_s=training_times(out) | times_s,
            environment=environment(adapter.device),
            model_step=model_step,
            stopped_early=finished and adapter.state.step < self.config.steps,
            signal=early_stop.results,
        )
        if process_rank() == 0:
            report.write(out)
        return report

    def _domains(self) -> tuple[FrameSource | FrameStore | None, FrameSource | FrameStore | None]:
        """The frames of both domains; each is opened only where the method looks at it."""
        data, config = self.data, self.config
        labelled = data.target if config.train_on == "target" else data.source
        source = self._frames(labelled, "source", self.labels) if config.losses.use_source else None
        target = self._frames(data.target, "target", None) if config.losses.use_target else None
        return source, target

    def _frames(
        self, recording: Recording | None, domain: Domain, labels: LabelSpace | None
    ) -> FrameSource | FrameStore | None:
        if recording is None:
            return None
        frames = recording.open(labels)
        if self.options.frames is None:
            return frames
        which = f"{recording.name}, {recording.options}"
        return shared_store(self.options.frames, which, frames, domain, self.config, self.labels, self.options.progress)

    def _fit(self, validation: Validation, early_stop: EarlyStop) -> bool:
        """Trains with what is to happen after each saved state; returns whether the run is finished."""
        after_save: list[Callable[[int], None]] = []
        if self.data.val is not None:
            validation.begin(self.adapter.state.step)
            after_save.append(validation.after_save)
        if self.config.patience:
            early_stop.begin(self.adapter.state.step)
            after_save.append(early_stop.after_save)
        if self.options.tensorboard and process_rank() == 0:
            board = TensorBoard(self.out)
            after_save.append(lambda step: board.update(validation.results))

        def follow(step: int) -> None:
            if not self.options.interrupted():  # then a validation waits for the resumed run
                for each in after_save:
                    each(step)

        def should_stop() -> bool:
            return self.options.should_stop() or early_stop.is_over

        return self.adapter.fit(should_stop, follow) or early_stop.is_over

    def _is_measured(self, step: int) -> bool:
        """Whether the signal of the early stop is due: at each regular state, and where a run begins with a model, of
        this one too. States of an interruption do not count."""
        regular = step % self.config.save_every == 0 or step == self.config.steps
        return regular and (step > 0 or self.config.initial == "given")

    def _save_model(self, early_stop: EarlyStop) -> tuple[Segmenter, int]:
        """Saves the run's model: that of the last iteration, or the one with the highest signal. Returns it, and the
        iteration that it is of."""
        adapter, best, path = self.adapter, early_stop.best, self.out / MODEL
        if early_stop.results and best is None:
            logger.warning("patience: nothing could be measured on the target, so the run did not end early")
        if best is None or best["step"] == adapter.state.step:
            adapter.save_model(path)
            return adapter.segmenter(), adapter.state.step
        if process_rank() == 0:
            with writing(f"checkpoint '{path}'", CheckpointError, "free space and resume"):
                shutil.copyfile(early_stop.best_model, path)
        wait_for_all()
        return Segmenter.from_checkpoint(early_stop.best_model, self.options.device), best["step"]

    def _validate(self) -> Summary:
        assert self.data.val is not None
        frames = self.data.val.open(self.labels)
        return self._evaluate(self.adapter.segmenter().segment, frames, len(frames), "validating").summary()

    def _test(self, segmenter: Segmenter) -> Summary | None:
        """Evaluates the run's model, with pictures."""
        if self.data.test is not None:
            frames = self.data.test.open(self.labels)
            count, of_them = len(frames), iter(frames)
        elif self.data.target is not None:
            frames = self.data.target.open(None)
            every = -(-len(frames) // UNLABELLED_FRAMES)
            count, of_them = -(-len(frames) // every), islice(frames, 0, None, every)
        else:
            return None
        gallery = Gallery(segmenter.segment, -(-count // process_count()))
        evaluation = self._evaluate(gallery.segment, of_them, count, "evaluating")
        if process_rank() == 0:
            draw_result(self.out, evaluation, gallery)
        return evaluation.summary()

    def _test_best(self, validation: Validation, last: Summary | None, model_step: int) -> Summary | None:
        """Evaluates the checkpoint that validation chose; it often is the run's model."""
        best = validation.best
        if best is None or self.data.test is None:
            return None
        if best["step"] == model_step:
            assert last is not None
            return {"step": best["step"], **last}
        segmenter = Segmenter.from_checkpoint(validation.best_model, self.options.device)
        frames = self.data.test.open(self.labels)
        summary = self._evaluate(segmenter.segment, frames, len(frames), "evaluating the best").summary()
        return {"step": best["step"], **summary}

    def _evaluate(
        self, segment: Callable[[Frame], Prediction], frames: Iterable[Frame], count: int, description: str
    ) -> Evaluation:
        progress = self.options.progress if process_rank() == 0 else Progress(disable=True)
        task = progress.add_task(description, total=count)

        def watched() -> Iterator[Frame]:
            for frame in frames:
                if self.options.interrupted():
                    raise KeyboardInterrupt
                yield frame
                progress.advance(task)

        try:
            return evaluate(segment, watched(), self.labels)
        finally:
            progress.remove_task(task)


def _asked(config: AdaptConfig, data: RunData) -> dict[str, Any]:
    """What identifies a run, as its report says it."""
    names = {kind: getattr(data, kind) for kind in ("source", "target", "val", "test")}
    return {
        "method": config.method,
        "seed": config.seed,
        **{kind: None if recording is None else recording.name for kind, recording in names.items()},
    }


def _finished(config: AdaptConfig, data: RunData, out: Path) -> Report | None:
    """The report of just this run, where it is finished; None where anything is left to do."""
    try:
        report = Report.read(out)
        same = load_config(AdaptConfig, out / "config.yaml") == config
    except (ConfigError, DataError):
        return None
    same = same and all(getattr(report, name) == value for name, value in _asked(config, data).items())
    return report if same and report.finished and report.last is not None else None


def _teacher_checkpoint(
    config: AdaptConfig,
    data: RunData,
    out: Path,
    teacher: AdaptConfig | Path | None,
    options: RunOptions,
    given: Path | None,
) -> Path | None:
    """The model that makes the pseudo-labels, trained first where that is to be done; None when time ended before."""
    if config.teacher == "given":
        teacher = given
    if teacher is None:
        raise ConfigError(f"method '{config.method}' learns from a teacher ({config.teacher}), but none was given")
    if isinstance(teacher, AdaptConfig):
        report = run(teacher, data, out / "teacher", None, options, given)
        return out / "teacher" / MODEL if report.finished else None
    if not teacher.is_dir():
        return teacher
    if not Report.read(teacher).finished:
        raise ConfigError(f"the teacher's run in {teacher} is not finished; finish it with --resume first")
    return teacher / MODEL


def _untrained(config: AdaptConfig, data: RunData, teacher: AdaptConfig | Path | None, options: RunOptions) -> Report:
    """The report, not written, of a run whose time was over before its teacher was finished."""
    name = teacher.method if isinstance(teacher, AdaptConfig) else str(teacher)
    return Report(
        **_asked(config, data),
        steps=0,
        finished=False,
        teacher=name,
        last=None,
        best=None,
        validation=[],
        timing_s={},
        environment={},
    )
