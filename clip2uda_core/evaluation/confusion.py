"""The confusion matrix over a whole set of points, and the IoU per class that follows from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.labels import IGNORE, LabelSpace


@dataclass
class ConfusionMatrix:
    """Counts of (true class, predicted class) over every point added; row i holds the points that truly are i.

    One matrix is kept over the whole test set (never a mean over frames), as in the xMUDA protocol. Points whose truth
    is IGNORE do not count. Points with a truth that were *not* predicted (label IGNORE) count as missed: they have a
    column of their own, so that they lower the recall of their class.
    """

    labels: LabelSpace
    counts: NDArray[np.int64]

    @staticmethod
    def empty(labels: LabelSpace) -> "ConfusionMatrix":
        return ConfusionMatrix(labels, np.zeros((len(labels), len(labels) + 1), np.int64))

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        """Counts N points: truth (N,) and predicted (N,), class indices or IGNORE. Raises DataError on other shapes."""
        if truth.shape != predicted.shape:
            raise DataError(f"truth and prediction differ in shape: {truth.shape} and {predicted.shape}")
        classes = len(self.labels)
        for name, values in (("truth", truth), ("prediction", predicted)):
            wrong = values[(values >= classes) & (values != IGNORE)]
            if wrong.size:
                raise DataError(f"{name} holds label {wrong[0]}, but '{self.labels.name}' has {classes} classes")
        known = truth != IGNORE
        column = np.where(predicted == IGNORE, classes, predicted).astype(np.int64)
        index = truth[known].astype(np.int64) * (classes + 1) + column[known]
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)

    def iou(self) -> NDArray[np.float64]:
        """(K,) intersection over union per class; NaN for a class that no point truly is."""
        hit = np.diagonal(self.counts).astype(np.float64)
        truly = self.counts.sum(1)
        union = truly + self.counts[:, : len(self.labels)].sum(0) - hit
        return np.divide(hit, union, out=np.full(len(self.labels), np.nan), where=truly > 0)

    def mean_iou(self) -> float:
        """Mean over the classes that occur; NaN when none does."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def accuracy(self) -> float:
        """Share of the counted points whose label is right; NaN when there is none."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")
