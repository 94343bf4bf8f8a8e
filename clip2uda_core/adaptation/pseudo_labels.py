"""Class-wise selection of pseudo-labels over a whole data set (Li et al. 2019, as xMUDA uses it, section 3.3)."""

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.evaluation.evaluate import best_class
from clip2uda_core.labels import IGNORE

CONFIDENCE_CEILING = 0.9
"""A class whose points are nearly all certain keeps every point above this, not only the better half."""


class ConfidenceThresholds:
    """Collects what one modality predicts for every target point, then gives the least confidence kept per class.

    Holds 4 bytes a point: the median is exact and over the whole data set, not a mean of medians over frames.
    """

    def __init__(self, classes: int) -> None:
        self._confidences: list[list[NDArray[np.float32]]] = [[] for _ in range(classes)]

    def add(self, probabilities: NDArray[np.float32]) -> None:
        """(P, K) softmax of P points; rows of NaN (no prediction in this modality) do not count."""
        labels, confidences = _predicted(probabilities)
        for index, collected in enumerate(self._confidences):
            collected.append(confidences[labels == index])

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


def select_pseudo_labels(probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(P, K) softmax to (P,) labels: the predicted class where its confidence reaches the class's threshold, else
    IGNORE."""
    labels, confidences = _predicted(probabilities)
    known = labels != IGNORE
    kept = known.copy()
    kept[known] = confidences[known] >= thresholds[labels[known]]
    return np.where(kept, labels, IGNORE).astype(np.uint8)


def _predicted(probabilities: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(P, K) softmax to the best class and its probability, (P,) each; IGNORE and 0 for rows of NaN."""
    return best_class(probabilities), np.nan_to_num(probabilities).max(1, initial=0)
