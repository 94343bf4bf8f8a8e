"""The verdict on hand-made models, whose worth is known by construction."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tiny_street import BUILDING, CAR, GROUND, cloud, pose

from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.survey.signals import diversity, js_distance
from clip2uda_core.survey.verdict import Verdict, compare
from clip2uda_core.types import Frame, Prediction

LABELS = LabelSpace.load("street8")
CLASSES = len(LABELS)
FRAMES = [Frame(cloud(pose(0.7 * i), i), source=f"street[{i}]") for i in range(4)]


@dataclass
class HandMade:
    """Labels the truth wrongly with a probability in 2D and in 3D, by an error of each scan's own; `always` maps the
    labels afterwards. sure: probability that it gives its label."""

    wrong_2d: float
    wrong_3d: float
    seed: int = 0
    sure: float = 0.7
    always: Callable[[np.ndarray], np.ndarray] = np.asarray
    has_2d: bool = True
    labels: LabelSpace = LABELS

    def segment(self, frame: Frame) -> Prediction:
        truth = frame.cloud.labels
        assert truth is not None
        rng = np.random.default_rng([self.seed, frame.cloud.stamp_ns % 2**32])
        in_2d, in_3d = self._drawn(truth, self.wrong_2d, rng), self._drawn(truth, self.wrong_3d, rng)
        seen = np.full(len(truth), self.has_2d) & (rng.random(len(truth)) < 0.5)
        probabilities_2d, probabilities_3d = self._spread(in_2d), self._spread(in_3d)
        probabilities_2d[~seen] = np.nan
        fused = np.where(seen[:, None], (probabilities_2d + probabilities_3d) / 2, probabilities_3d)
        labels = fused.argmax(1).astype(np.uint8)
        labels[:5] = IGNORE
        return Prediction(labels, fused.max(1), seen, probabilities_2d, probabilities_3d)

    def _drawn(self, truth: np.ndarray, wrong: float, rng: np.random.Generator) -> np.ndarray:
        return self.always(np.where(rng.random(len(truth)) < wrong, rng.integers(0, CLASSES, len(truth)), truth))

    def _spread(self, labels: np.ndarray) -> np.ndarray:
        probabilities = np.full((len(labels), CLASSES), (1 - self.sure) / (CLASSES - 1), np.float32)
        probabilities[np.arange(len(labels)), labels] = self.sure
        return probabilities


def shares_of_truth() -> dict[str, float]:
    counts = sum(np.bincount(frame.cloud.labels, minlength=CLASSES) for frame in FRAMES)
    return dict(zip(LABELS.names, counts.tolist(), strict=True))


def told(verdict: Verdict) -> str:
    return " ".join(verdict.reasons)


@pytest.mark.parametrize("shares", [None, "truth"])
def test_a_better_model_is_taken(shares: str | None) -> None:
    verdict = compare(HandMade(0.3, 0.35), HandMade(0.15, 0.2, 1), FRAMES, shares and shares_of_truth())
    assert verdict.decision == "replace", verdict.lines()
    assert "agreement of 2D and 3D" in told(verdict)
    assert "from scan to scan, above chance, rises" in told(verdict)
    assert (verdict.frames, verdict.scan_pairs) == (4, 3)


@pytest.mark.parametrize("shares", [None, "truth"])
def test_a_worse_model_is_kept_out(shares: str | None) -> None:
    verdict = compare(HandMade(0.15, 0.2), HandMade(0.3, 0.35, 1, sure=0.95), FRAMES, shares and shares_of_truth())
    assert not verdict.replace
    assert "falls" in told(verdict)


def test_an_equal_model_leaves_the_old_one() -> None:
    verdict = compare(HandMade(0.2, 0.2), HandMade(0.2, 0.2, 1), FRAMES)
    assert not verdict.replace
    assert "neither" in told(verdict)


def test_the_same_model_but_surer_leaves_the_old_one() -> None:
    """Confidence and entropy decide nothing."""
    verdict = compare(HandMade(0.2, 0.2), HandMade(0.2, 0.2, sure=0.99), FRAMES)
    assert not verdict.replace
    summary = verdict.summary()
    assert summary["after"]["mean_entropy_nats"] < summary["before"]["mean_entropy_nats"] / 2


@pytest.mark.parametrize("shares", [None, "truth"])
@pytest.mark.parametrize(
    ("always", "reason"),
    [
        (lambda labels: np.full_like(labels, BUILDING), "collapse"),
        (lambda labels: np.where(labels == GROUND, GROUND, BUILDING), "class"),
    ],
)
def test_a_collapsed_model_is_kept_out(always, reason: str, shares: str | None) -> None:
    """It agrees with itself in everything, lasts over time, and is sure of it."""
    collapsed = HandMade(0.0, 0.0, sure=0.95, always=always)
    verdict = compare(HandMade(0.3, 0.3), collapsed, FRAMES, shares and shares_of_truth())
    assert verdict.decision == "keep"
    assert reason in told(verdict)
    assert "lower entropy is no merit" in told(verdict)


def test_a_lost_class_is_told_by_name() -> None:
    without_cars = HandMade(0.1, 0.1, always=lambda labels: np.where(labels == CAR, GROUND, labels))
    verdict = compare(HandMade(0.2, 0.2), without_cars, FRAMES)
    assert not verdict.replace
    assert f"class {LABELS.names[CAR]} is lost" in told(verdict)


def test_noise_that_goes_away_is_no_lost_class() -> None:
    """Before, errors put a tenth of the points into classes that the street has not."""
    absent = [name for name, count in shares_of_truth().items() if count == 0]
    assert len(absent) >= 3
    verdict = compare(HandMade(0.3, 0.3), HandMade(0.0, 0.0), FRAMES, shares_of_truth())
    assert verdict.decision == "replace", verdict.lines()


def test_3d_alone_is_judged_by_time() -> None:
    verdict = compare(HandMade(0, 0.3, has_2d=False), HandMade(0, 0.1, 1, has_2d=False), FRAMES)
    assert verdict.decision == "replace"
    assert verdict.summary()["before"]["agreement_2d_3d"] is None
    assert "2D and 3D agree: not measured before" in "\n".join(verdict.lines())


def test_single_scans_are_judged_by_agreement() -> None:
    apart = [replace(f, cloud=replace(f.cloud, stamp_ns=f.cloud.stamp_ns + i * 10**11)) for i, f in enumerate(FRAMES)]
    verdict = compare(HandMade(0.3, 0.3), HandMade(0.1, 0.1, 1), apart)
    assert verdict.scan_pairs == 0
    assert verdict.summary()["after"]["consistency"] is None
    assert verdict.replace
    nothing = compare(HandMade(0, 0.3, has_2d=False), HandMade(0, 0.1, 1, has_2d=False), apart)
    assert not nothing.replace


def test_summary_is_json_and_lines_are_read_by_people() -> None:
    verdict = compare(HandMade(0.3, 0.3), HandMade(0.1, 0.1, 1), FRAMES, list(shares_of_truth().values()))
    again = json.loads(json.dumps(verdict.summary()))
    assert again["decision"] == "replace"
    assert set(again["before"]["consistency_by_class"]) == set(LABELS.names)
    assert again["after"]["consistency"] == pytest.approx(0.82, abs=0.1)
    assert again["drift"]["after_from_source"] < again["drift"]["before_from_source"]
    assert verdict.lines()[0].startswith("replace")
    assert any("3 pairs of consecutive scans" in line for line in verdict.lines())


def test_what_cannot_be_compared_is_refused() -> None:
    other = LabelSpace(LABELS.config.model_copy(update={"classes": LABELS.config.classes[:5]}))
    with pytest.raises(ConfigError, match="different classes"):
        compare(HandMade(0, 0), HandMade(0, 0, labels=other), FRAMES)
    with pytest.raises(ConfigError, match="class shares of the source"):
        compare(HandMade(0, 0), HandMade(0, 0), FRAMES, {"road": 1.0})
    with pytest.raises(DataError, match="no frame"):
        compare(HandMade(0, 0), HandMade(0, 0), iter(()))


def test_frames_are_streamed() -> None:
    """One pass, and no frame is asked for before the one before is done with."""
    asked: list[int] = []

    def stream() -> Iterator[Frame]:
        for index, frame in enumerate(FRAMES):
            asked.append(index)
            yield frame

    compare(HandMade(0, 0), HandMade(0, 0), stream())
    assert asked == [0, 1, 2, 3]


def test_distances_by_hand() -> None:
    assert js_distance(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)
    assert js_distance(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == pytest.approx(0, abs=1e-7)
    assert diversity(np.array([0.25, 0.25, 0.25, 0.25, 0])) == pytest.approx(4)
