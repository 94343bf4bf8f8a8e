"""What a model's predictions say about it without labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.evaluation.evaluate import LabelFreeSignals, best_class
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.survey.temporal import Consistency, kappa
from clip2uda_core.types import Prediction


@dataclass
class ModelSignals:
    """What one model's predictions say. agreement_2d_3d: (K, K) points by class in 2D and in 3D."""

    labels: LabelSpace
    label_free: LabelFreeSignals
    agreement_2d_3d: NDArray[np.int64]
    consistency: Consistency

    @staticmethod
    def empty(labels: LabelSpace) -> "ModelSignals":
        classes = len(labels)
        signals = LabelFreeSignals(np.zeros(classes, np.int64))
        return ModelSignals(labels, signals, np.zeros((classes, classes), np.int64), Consistency.empty(classes))

    def add(self, prediction: Prediction) -> None:
        self.label_free.add(prediction)
        in_2d, in_3d = best_class(prediction.probabilities_2d), best_class(prediction.probabilities_3d)
        both = (in_2d != IGNORE) & (in_3d != IGNORE)
        np.add.at(self.agreement_2d_3d, (in_2d[both], in_3d[both]), 1)

    @property
    def class_shares(self) -> NDArray[np.float64]:
        return self.label_free.histogram / max(1, self.label_free.points)

    @property
    def agreement(self) -> float | None:
        return kappa(self.agreement_2d_3d)

    @property
    def diversity(self) -> float:
        """How many classes it tells apart: the exponential of the entropy of the class shares."""
        return diversity(self.class_shares)

    def summary(self) -> dict[str, Any]:
        per_class = self.consistency.class_shares()
        return {
            **self.label_free.summary(self.labels),
            "agreement_2d_3d_above_chance": self.agreement,
            "consistency": self.consistency.share(),
            "consistency_above_chance": self.consistency.kappa(),
            "consistency_by_class": {
                name: None if np.isnan(share) else float(share)
                for name, share in zip(self.labels.names, per_class, strict=True)
            },
            "classes_told_apart": self.diversity,
        }


def diversity(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return float(np.exp(-(some * np.log(some)).sum()))


def js_distance(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """Jensen-Shannon distance of two distributions over K classes, 0 to 1 (base 2)."""
    middle = (np.asarray(p, np.float64) + q) / 2
    divergence = 0.0
    for part in (p, q):
        some = part > 0
        divergence += 0.5 * float((part[some] * np.log2(part[some] / middle[some])).sum())
    return float(np.sqrt(max(0.0, divergence)))
