"""Pseudo-labels of the target: a teacher's predictions, selected class by class over the whole data set (Li et al.
2019, as xMUDA uses it, section 3.3), for a second run, which begins where the first one began."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.evaluation.evaluate import predicted
from clip2uda_core.files import writing
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.checkpoint import hash_state
from clip2uda_core.processes import own_share, process_rank, wait_for_all
from clip2uda_core.types import Prediction

logger = logging.getLogger(__name__)

CONFIDENCE_CEILING = 0.9
"""A class whose points are nearly all certain keeps every point above this, not only the better half."""

SELECTIONS = {"2d": (0, True), "3d": (1, True), "3d_alone": (1, False)}
"""What is selected by confidences of its own: for 2D and for 3D at the points that a camera sees, and for 3D at the
others. A fused label and one of 3D alone are not sure by one measure, and most points of a scan have the latter."""

PseudoLabelKind = Literal["fused", "own"]

Selection = tuple[tuple[NDArray[np.intp], int], NDArray[np.uint8], NDArray[np.float32]]
"""Rows and column in a frame's pseudo-labels, and labels and confidences there."""


class ConfidenceThresholds:
    """Collects what is predicted for every target point, then gives the least confidence kept per class.

    Holds 4 bytes a point: the median is exact and over the whole data set, not a mean of medians over frames.
    """

    def __init__(self, classes: int) -> None:
        self._confidences: list[list[NDArray[np.float32]]] = [[] for _ in range(classes)]

    def add(self, labels: NDArray[np.uint8], confidences: NDArray[np.float32]) -> None:
        """(P,) predicted classes and their probabilities; IGNORE (no prediction) does not count."""
        for index, collected in enumerate(self._confidences):
            collected.append(confidences[labels == index])

    def counts(self) -> NDArray[np.int64]:
        """(K,) points predicted as each class."""
        return np.array([sum(map(len, collected)) for collected in self._confidences], np.int64)

    def thresholds(self) -> NDArray[np.float32]:
        """(K,) min(median confidence, 0.9); the lower median of an even number, infinite for a class never
        predicted."""
        result = np.full(len(self._confidences), np.inf, np.float32)
        for index, collected in enumerate(self._confidences):
            confidences = np.concatenate(collected) if collected else np.empty(0, np.float32)
            if len(confidences):
                middle = (len(confidences) - 1) // 2
                result[index] = min(np.partition(confidences, middle)[middle], np.float32(CONFIDENCE_CEILING))
        return result


def _said(prediction: Prediction, kind: PseudoLabelKind) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """What is to teach 2D, and what 3D: labels and confidences, (P,) each."""
    if kind == "fused":
        return [(prediction.labels, prediction.confidence)] * 2
    return [predicted(prediction.probabilities_2d), predicted(prediction.probabilities_3d)]


def select_pseudo_labels(
    labels: NDArray[np.uint8], confidences: NDArray[np.float32], thresholds: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """(P,): the predicted class where its confidence reaches the class's threshold, else IGNORE."""
    known = labels != IGNORE
    kept = known.copy()
    kept[known] = confidences[known] >= thresholds[labels[known]]
    return np.where(kept, labels, IGNORE).astype(np.uint8)


@dataclass(frozen=True)
class PseudoLabels:
    """The pseudo-labels of a store's frames in a folder: (M, 2) uint8 for 2D and 3D in `<frame>.npy`, and statistics.

    summary: `teacher` (what it was trained on, and the sha256 of its weights) and, per selection and class,
    `threshold`, `predicted` and `kept` points and `kept_share`; None where a class was never predicted.
    """

    folder: Path
    summary: dict[str, Any]

    @staticmethod
    def make(
        teacher: Segmenter, frames: FrameStore, kind: PseudoLabelKind, folder: Path, progress: Progress
    ) -> "PseudoLabels":
        """Labels all frames, once; several processes share the work. An unfinished folder of a run that was killed is
        replaced.

        kind: see `LossConfig.pseudo_labels`. Raises DataError when the folder cannot be written."""
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        remedy = "free space, or choose another folder"
        if process_rank() == 0:
            with writing(f"{folder}: pseudo-labels", DataError, remedy):
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
        wait_for_all()
        mine = list(own_share(range(len(frames))))
        try:
            for index in progress.track(mine, description="labelling the target domain"):
                prediction = teacher.segment_sample(frames[index].sample(teacher.config.prepare))
                labels, confidences = (np.stack(columns, 1) for columns in zip(*_said(prediction, kind), strict=True))
                with writing(f"{folder}: pseudo-labels", DataError, remedy):
                    np.savez(
                        _prediction(unfinished, index), labels=labels, confidences=confidences, seen=prediction.seen
                    )
            wait_for_all()
            if process_rank() == 0:
                summary = {"teacher": teacher_identity(teacher)} | _select(unfinished, len(frames), teacher.labels)
                with writing(f"{folder}: pseudo-labels", DataError, remedy):
                    (unfinished / "index.json").write_text(json.dumps(summary, indent=1))
                    unfinished.rename(folder)
        except DataError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        wait_for_all()
        return PseudoLabels.open(folder)

    @staticmethod
    def open(folder: Path) -> "PseudoLabels":
        """A folder that `make` finished. Raises DataError when it is damaged."""
        try:
            return PseudoLabels(folder, json.loads((folder / "index.json").read_text()))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder}: not the pseudo-labels of a run ({error}); remove it to make them again"
            ) from None

    def log_statistics(self) -> None:
        for selection in SELECTIONS:
            classes = self.summary[selection]
            shares = [
                f"{name} {100 * values['kept_share']:.0f} %" if values["predicted"] else f"{name} never predicted"
                for name, values in classes.items()
            ]
            if any(values["predicted"] for values in classes.values()):
                logger.info("pseudo-labels kept in %s: %s", selection, ", ".join(shares))


def check_teacher(teacher: Segmenter, labels: LabelSpace, student: ModelConfig) -> None:
    """Raises ConfigError when a teacher's labels mean something else than the run's, or it looks at images of another
    size than those that the run keeps."""
    if teacher.labels.names != labels.names:
        raise ConfigError(
            f"the teacher was made for label space '{teacher.labels.name}' with the classes "
            f"{list(teacher.labels.names)}; expected '{labels.name}' with {list(labels.names)}: train a teacher for "
            f"it, or name the teacher's with --set labels=FILE"
        )
    own_px, kept_px = teacher.config.prepare.image_max_width_px, student.prepare.image_max_width_px
    if teacher.config.uses_images and student.uses_images and own_px != kept_px:
        raise ConfigError(
            f"the teacher was trained on images of at most {own_px} px, this run keeps them at {kept_px} px; "
            f"give both the same model.prepare.image_max_width_px"
        )


def teacher_identity(teacher: Segmenter) -> dict[str, str]:
    return {"training": teacher.training, "weights": hash_state(teacher.network.state_dict())}


def _prediction(folder: Path, index: int) -> Path:
    return folder / f"{index}.prediction.npz"


def _select(folder: Path, frames: int, labels: LabelSpace) -> dict[str, Any]:
    """Predictions in a folder to pseudo-labels in their place; returns thresholds and counts."""
    collected = {name: ConfidenceThresholds(len(labels)) for name in SELECTIONS}
    for index in range(frames):
        said, _ = _read(folder, index)
        for name, (_, predicted_labels, confidences) in said.items():
            collected[name].add(predicted_labels, confidences)
    thresholds = {name: each.thresholds() for name, each in collected.items()}

    kept = {name: np.zeros(len(labels), np.int64) for name in SELECTIONS}
    for index in range(frames):
        said, selected = _read(folder, index)
        for name, (place, predicted_labels, confidences) in said.items():
            selected[place] = select_pseudo_labels(predicted_labels, confidences, thresholds[name])
            kept[name] += np.bincount(selected[place][selected[place] != IGNORE], minlength=len(labels))
        with writing(f"{folder}: pseudo-labels", DataError, "free space, or choose another folder"):
            np.save(folder / f"{index}.npy", selected)
            _prediction(folder, index).unlink()
    return {
        selection: {
            name: {
                "threshold": float(threshold) if count else None,
                "predicted": int(count),
                "kept": int(kept_points),
                "kept_share": float(kept_points / count) if count else None,
            }
            for name, threshold, count, kept_points in zip(
                labels.names, thresholds[selection], collected[selection].counts(), kept[selection], strict=True
            )
        }
        for selection in SELECTIONS
    }


def _read(folder: Path, index: int) -> tuple[dict[str, Selection], NDArray[np.uint8]]:
    """A frame's predictions by selection, and its (M, 2) pseudo-labels, all IGNORE as yet."""
    with np.load(_prediction(folder, index)) as file:
        labels, confidences, seen = file["labels"], file["confidences"], file["seen"]
    places = {name: (np.flatnonzero(seen == of_seen), column) for name, (column, of_seen) in SELECTIONS.items()}
    said = {name: (place, labels[place], confidences[place]) for name, place in places.items()}
    return said, np.full_like(labels, IGNORE)
