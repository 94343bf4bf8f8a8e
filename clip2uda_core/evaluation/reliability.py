"""Whether a model is as sure as it is right: confidence beside accuracy, and the expected calibration error."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.labels import IGNORE

BINS = 15
"""Of confidence, all of one width, as in Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017."""


@dataclass
class Reliability:
    """Sums over labelled points with a prediction, (BINS,) each, by the confidence of the predicted class: points,
    their confidences, and how many of them are right.

    Why it is measured: a branch that is surer than it is right overrules one that is right in the fused label.
    """

    points: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    correct: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, truth: NDArray[np.uint8], label: NDArray[np.uint8], confidence: NDArray[np.float32]) -> None:
        """True and predicted class, and the probability of the predicted one, (P,) each; points without truth or
        prediction (IGNORE) do not count."""
        counts = (truth != IGNORE) & (label != IGNORE)
        sure, right = confidence[counts].astype(np.float64), (truth == label)[counts]
        place = np.minimum((sure * BINS).astype(int), BINS - 1)
        self.points += np.bincount(place, minlength=BINS)
        self.confidence += np.bincount(place, weights=sure, minlength=BINS)
        self.correct += np.bincount(place[right], minlength=BINS)

    def summary(self) -> dict[str, float | None]:
        """In percent: mean confidence, accuracy, and the mean over the points of how far the two are apart in their
        bin; None where there is no point."""
        total = int(self.points.sum())
        if total == 0:
            return {"confidence": None, "accuracy": None, "calibration_error": None}
        apart = np.abs(self.correct - self.confidence).sum() / total
        shares = (self.confidence.sum() / total, self.correct.sum() / total, apart)
        names = ("confidence", "accuracy", "calibration_error")
        return {name: round(100 * float(share), 2) for name, share in zip(names, shares, strict=True)}
