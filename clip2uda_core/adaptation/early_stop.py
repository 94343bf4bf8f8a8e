"""Early stop without labels: training ends when the labels of the target no longer hold together better.

The signal is taken from what the verdict looks at: whether 2D and 3D give a point one class, and whether a surface
keeps its class from one frame to the next. The verdict compares these above chance (Cohen's kappa), and looks for lost
classes beside it. Over a whole training, kappa alone is fooled in both directions: a model that knows ground and
building alone has a high one, so a state that tells more classes apart looks worse, and a collapse to two classes looks
better. So here each class counts alike: for each, the share of the points that either side gives it which both do, and
the mean of that over *all* classes, with 0 for a class that is never given. A model of one class has 1/K, as labels
drawn at random do, and one of two classes at most 2/K.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.adaptation.saved_states import SavedStates
from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.data.sample import Sample
from clip2uda_core.geometry import SE3
from clip2uda_core.geometry.registration import SurfaceMap, register
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.processes import own_share, sum_array_over_processes
from clip2uda_core.survey.signals import ModelSignals
from clip2uda_core.survey.temporal import match_static, shares_by_class

PLACES = 4
"""Where the target is looked at: two neighbouring frames at each, eight in all."""


class TargetProbe:
    """A few of the target's training frames, spread over them, as inference sees them: not augmented.

    Neighbours are registered, each from the guess that nothing moved; pairs for which that fails, because the frames
    are from two recordings or too far apart, say nothing about consistency.
    """

    def __init__(self, frames: FrameStore, labels: LabelSpace) -> None:
        self._frames = frames
        self._labels = labels
        self._places = list(own_share(places(len(frames))))

    def measure(self, segmenter: Segmenter) -> dict[str, Any]:
        """`score`, the signal, 0 to 1: the mean of `agreement` (of 2D and 3D) and `consistency` (of neighbours), or the
        one that can be told; None where neither can."""
        signals = ModelSignals.empty(self._labels)
        for place, matched in zip(self._places, self._matched, strict=True):
            predictions = [segmenter.segment_sample(self._sample(index, segmenter)) for index in place]
            for prediction in predictions:
                signals.add(prediction)
            if matched is not None:
                earlier, later = predictions
                signals.consistency.add(earlier.labels[matched[0]], later.labels[matched[1]])
        agreement = balanced(sum_array_over_processes(signals.agreement_2d_3d))
        consistency = balanced(sum_array_over_processes(signals.consistency.counts))
        told = [value for value in (agreement, consistency) if value is not None]
        score = sum(told) / len(told) if told else None
        return {"score": score, "agreement": agreement, "consistency": consistency}

    @cached_property
    def _matched(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]] | None]:
        """Indices of the points of each two neighbours that are one place of something static; None for no such."""
        return [self._match(*place) if len(place) == 2 else None for place in self._places]

    def _match(self, earlier: int, later: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        before, after = self._frames[earlier].xyz_m, self._frames[later].xyz_m
        motion = register(after, SurfaceMap(before), SE3.identity("lidar"))
        if motion.failure is not None:
            return None
        return match_static(before, after, motion.target_SE3_source)

    def _sample(self, index: int, segmenter: Segmenter) -> Sample:
        return self._frames[index].sample(segmenter.config.prepare)


class EarlyStop(SavedStates):
    """The signal of a run, one value a saved state, in `signal.jsonl`; the model with the highest so far is kept as
    `steadiest.safetensors`.

    patience: values in a row that may be no higher than the highest; 0 never ends a run. is_regular: whether the state
    of a step counts; those of an interruption do not, so that a run which was interrupted ends where it would have.
    measure: the signal of the model as it is now. save_model: writes it to a path.
    """

    def __init__(
        self,
        out: Path,
        patience: int,
        is_regular: Callable[[int], bool],
        measure: Callable[[], dict[str, Any]],
        save_model: Callable[[Path], None],
    ) -> None:
        super().__init__(out / "signal.jsonl", out / "steadiest.safetensors", measure, save_model)
        self._patience = patience
        self._is_regular = is_regular

    def is_due(self, step: int) -> bool:
        return self._is_regular(step)

    @property
    def is_over(self) -> bool:
        """Whether patience is at its end. A signal that could never be told ends nothing."""
        best = self.best
        return best is not None and 0 < self._patience <= sum(result["step"] > best["step"] for result in self.results)


def places(frames: int) -> list[tuple[int, ...]]:
    """Up to PLACES pairs of neighbours among so many frames, spread over them, no frame twice; a single frame is a
    place of its own."""
    if frames == 1:
        return [(0,)]
    starts = np.linspace(0, frames - 2, min(PLACES, frames // 2)).astype(int).tolist()
    return [(start, start + 1) for start in starts]


def balanced(counts: NDArray[np.int64]) -> float | None:
    """Mean over all K classes of the share of a class's points, in a (K, K) table of two labellings, that both give it;
    0 for a class that neither gives. None for an empty table."""
    return float(np.nan_to_num(shares_by_class(counts)).mean()) if counts.any() else None
