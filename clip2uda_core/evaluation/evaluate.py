"""How well a model labels a data set, and, where there are no labels, what can be told without them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.confusion import ConfusionMatrix
from clip2uda_core.evaluation.reliability import Reliability
from clip2uda_core.geometry import project
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.fusion import fuse
from clip2uda_core.processes import own_share, sum_array_over_processes
from clip2uda_core.types import Frame, Prediction

MODALITIES = ("2d", "3d", "fused", "xm")
"""`xm`: the mean of both softmaxes, which the xMUDA family's tables call xM, beside the fusion that the model has."""


@dataclass
class LabelFreeSignals:
    """What predictions say about themselves on points with a 3D prediction; nothing in here looks at labels.

    points: all of them. points_with_2d: those that have a 2D prediction too. agreeing: of those, points with one class
    in 2D and 3D. confidence_sum, entropy_sum: of the fused prediction; entropy in nats. histogram: (K,) points by
    fused label.
    """

    histogram: NDArray[np.int64]
    points: int = 0
    points_with_2d: int = 0
    agreeing: int = 0
    confidence_sum: float = 0.0
    entropy_sum: float = 0.0

    def add(self, prediction: Prediction) -> None:
        known = prediction.labels != IGNORE
        fused = fused_probabilities(prediction)[known].astype(np.float64)
        labels_2d = best_class(prediction.probabilities_2d[known])
        both = labels_2d != IGNORE
        self.points += int(known.sum())
        self.points_with_2d += int(both.sum())
        self.agreeing += int((labels_2d == best_class(prediction.probabilities_3d[known]))[both].sum())
        self.confidence_sum += float(fused.max(1, initial=0).sum())
        self.entropy_sum -= float((fused * np.log(np.maximum(fused, 1e-12))).sum())
        self.histogram += np.bincount(prediction.labels[known], minlength=len(self.histogram))

    def summary(self, labels: LabelSpace) -> dict[str, Any]:
        """Shares and means by name; None where there is no point to take them over."""
        return {
            "agreement_2d_3d": _ratio(self.agreeing, self.points_with_2d),
            "mean_confidence": _ratio(self.confidence_sum, self.points),
            "mean_entropy_nats": _ratio(self.entropy_sum, self.points),
            "class_shares": {n: _ratio(c, self.points) for n, c in zip(labels.names, self.histogram, strict=True)},
        }


@dataclass
class Evaluation:
    """The result over a whole data set.

    seen: by modality, on the points that a camera sees, the protocol of the xMUDA family. `all`: the model's labels on
    every labelled point, of 3D alone where no camera sees one. reliability: as seen, on the same points. same_mistakes:
    points seen that 2D and 3D give one and the same wrong class. All are empty without labels.
    """

    labels: LabelSpace
    signals: LabelFreeSignals
    seen: dict[str, ConfusionMatrix]
    all: ConfusionMatrix
    reliability: dict[str, Reliability]
    same_mistakes: int = 0
    frames: int = 0
    labelled_frames: int = 0

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON. `iou_percent` and `reliability_percent` have `2d` and `xm` only where the model has a
        2D prediction, and nothing where there are no labels; `same_mistakes_percent` is None in both cases."""
        matrices = {**self.seen, "all": self.all} if self.labelled_frames else {}
        if self.signals.points_with_2d == 0:
            matrices = {name: matrix for name, matrix in matrices.items() if name not in ("2d", "xm")}
        reliability = {name: each.summary() for name, each in self.reliability.items() if name in matrices}
        return {
            "frames": self.frames,
            "labelled_frames": self.labelled_frames,
            "labelled_points": {name: int(matrix.counts.sum()) for name, matrix in matrices.items()},
            "iou_percent": {name: _iou_percent(matrix) for name, matrix in matrices.items()},
            "reliability_percent": reliability,
            "same_mistakes_percent": self._same_mistakes_percent() if "2d" in matrices else None,
            "label_free": self.signals.summary(self.labels),
        }

    def _same_mistakes_percent(self) -> dict[str, float | None]:
        """`counted`, and `independent`: how many there would be if what 2D and 3D say of a point depended on its class
        alone. The more a branch repeats the other's mistakes, the less two know together."""
        of_2d, of_3d = (self.seen[name].counts[:, :-1].astype(np.float64) for name in ("2d", "3d"))
        of_class = self.seen["2d"].counts.sum(1)
        both = np.divide((of_2d * of_3d).T, of_class, out=np.zeros_like(of_2d.T), where=of_class > 0)
        counted, independent, points = self.same_mistakes, float(both.sum() - np.trace(both)), int(of_class.sum())
        shares = {"counted": _ratio(counted, points), "independent": _ratio(independent, points)}
        return {name: None if share is None else round(100 * share, 2) for name, share in shares.items()}


def evaluate(segment: Callable[[Frame], Prediction], frames: Iterable[Frame], labels: LabelSpace) -> Evaluation:
    """Segments every frame and compares with its labels, where it has some.

    A point is seen if some camera of the frame sees it, whatever the model looks at, so that all models are compared on
    the same points. Where several processes work together, each takes its share of the frames, and all get the whole
    result. Raises DataError when there is no frame.
    """
    seen = {name: ConfusionMatrix.empty(labels) for name in MODALITIES}
    signals = LabelFreeSignals(np.zeros(len(labels), np.int64))
    reliability = {name: Reliability() for name in seen}
    result = Evaluation(labels, signals, seen, ConfusionMatrix.empty(labels), reliability)
    for frame in own_share(frames):
        prediction = segment(frame)
        result.frames += 1
        signals.add(prediction)
        if frame.cloud.labels is None:
            continue
        result.labelled_frames += 1
        truth, visible = frame.cloud.labels, seen_by_a_camera(frame)
        said = said_by_modality(prediction, visible)
        for name, (label, confidence) in said.items():
            seen[name].add(truth[visible], label)
            reliability[name].add(truth[visible], label, confidence)
        of_2d, of_3d = said["2d"][0], said["3d"][0]
        wrong = (of_2d != IGNORE) & (of_2d != truth[visible]) & (truth[visible] != IGNORE)
        result.same_mistakes += int((wrong & (of_2d == of_3d)).sum())
        result.all.add(truth, prediction.labels)
    _add_up_over_processes(result)
    if result.frames == 0:
        raise DataError("nothing to evaluate: the source gave no frame")
    return result


def _add_up_over_processes(result: Evaluation) -> None:
    """Adds what the other processes found."""
    signals, matrices = result.signals, [*result.seen.values(), result.all]
    for matrix in matrices:
        matrix.counts = sum_array_over_processes(matrix.counts)
    for each in result.reliability.values():
        each.points = sum_array_over_processes(each.points)
        each.confidence = sum_array_over_processes(each.confidence)
        each.correct = sum_array_over_processes(each.correct)
    signals.histogram = sum_array_over_processes(signals.histogram)
    of_signals = (signals.points, signals.points_with_2d, signals.agreeing)
    counts = np.array([result.frames, result.labelled_frames, result.same_mistakes, *of_signals], np.int64)
    result.frames, result.labelled_frames, result.same_mistakes, *of_all = sum_array_over_processes(counts).tolist()
    signals.points, signals.points_with_2d, signals.agreeing = of_all
    of_confidence, of_entropy = np.float64(signals.confidence_sum), np.float64(signals.entropy_sum)
    signals.confidence_sum = float(sum_array_over_processes(np.array([of_confidence]))[0])
    signals.entropy_sum = float(sum_array_over_processes(np.array([of_entropy]))[0])


def seen_by_a_camera(frame: Frame) -> NDArray[np.bool_]:
    """(N,) whether a point lies in some image of the frame."""
    seen = np.zeros(len(frame.cloud), bool)
    for view in frame.views:
        seen |= project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera).visible
    return seen


def fused_probabilities(prediction: Prediction) -> NDArray[np.float32]:
    """(N, K): the 2D and 3D probabilities fused where both are there, 3D alone elsewhere."""
    with_2d = ~np.isnan(prediction.probabilities_2d[:, :1])
    both = fuse(torch.from_numpy(prediction.probabilities_2d), torch.from_numpy(prediction.probabilities_3d)).numpy()
    return np.where(with_2d, both, prediction.probabilities_3d)


def said_by_modality(
    prediction: Prediction, points: NDArray[np.bool_]
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Label and confidence of each of MODALITIES, (P,) each, at P of a prediction's points; IGNORE and 0 where one says
    nothing."""
    of_2d, of_3d = prediction.probabilities_2d[points], prediction.probabilities_3d[points]
    return {
        "2d": predicted(of_2d),
        "3d": predicted(of_3d),
        "fused": (prediction.labels[points], prediction.confidence[points]),
        "xm": predicted(np.float32(0.5) * (of_2d + of_3d)),
    }


def best_class(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(N, K) to the most probable class of each row, IGNORE for rows of NaN."""
    known = ~np.isnan(probabilities).any(1)
    return np.where(known, np.nan_to_num(probabilities).argmax(1), IGNORE).astype(np.uint8)


def predicted(probabilities: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(P, K) softmax to the best class and its probability, (P,) each; IGNORE and 0 for rows of NaN."""
    return best_class(probabilities), np.nan_to_num(probabilities).max(1, initial=0)


def _iou_percent(matrix: ConfusionMatrix) -> dict[str, Any]:
    """Mean IoU and IoU per class; None for a class that no point truly is."""
    per_class = dict(zip(matrix.labels.names, matrix.iou(), strict=True))
    return {"mean": _percent(matrix.mean_iou()), "classes": {name: _percent(iou) for name, iou in per_class.items()}}


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else round(100 * float(share), 2)


def _ratio(part: float, whole: int) -> float | None:
    return float(part) / whole if whole else None
