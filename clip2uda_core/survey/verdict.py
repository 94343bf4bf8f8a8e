"""Two models on the same frames, without labels: whether the new one should replace the old one.

Nothing in here is proof. The signals are those that fall when a model breaks: 2D and 3D agree less, labels flicker from
scan to scan, classes vanish. Confidence and entropy are reported and decide nothing: a model that is sure of one class
for everything has the best of both. Agreement and consistency are compared above chance (Cohen's kappa), since labels
that are all one class agree with themselves by chance alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.labels import LabelSpace
from clip2uda_core.survey.motion import MotionEstimator
from clip2uda_core.survey.signals import ModelSignals, diversity, js_distance
from clip2uda_core.survey.temporal import match_static
from clip2uda_core.types import Frame, PointCloud, Prediction


class Model(Protocol):
    """A Segmenter, or what looks like one."""

    labels: LabelSpace

    def segment(self, frame: Frame) -> Prediction: ...


@dataclass(frozen=True)
class Rule:
    """When the new model replaces the old one. Shares are of points; agreement and consistency are kappas, 0 to 1.

    It does when agreement or consistency rises by `least_gain`, neither falls by more than `most_loss`, and its classes
    are believable:
    - the number of classes that it tells apart (the exponential of the entropy of its class shares) is at least
      `least_diversity` of the old model's or, where known, of the source's, whichever is less;
    - no class that had `class_share` of the points, by the old model and, where known, in the source, falls to a tenth
      of that and below a fifth of `class_share`;
    - its class shares do not move away from the source's by more than `most_drift` (Jensen-Shannon distance, base 2),
      or, where those are not known, from the old model's by more than `most_change`.
    """

    least_gain: float = 0.01
    most_loss: float = 0.01
    least_diversity: float = 0.6
    class_share: float = 0.01
    most_drift: float = 0.05
    most_change: float = 0.3
    least_pairs: int = 1000


@dataclass(frozen=True)
class Verdict:
    """replace: whether the new model is to take the old one's place. reasons: why, each a sentence; the deciding ones
    alone. frames: looked at; scan_pairs: of them, pairs of consecutive scans whose motion could be told.
    drift: Jensen-Shannon distances between class shares, by what is compared.
    """

    replace: bool
    reasons: tuple[str, ...]
    before: ModelSignals
    after: ModelSignals
    frames: int
    scan_pairs: int
    drift: dict[str, float] = field(default_factory=dict)

    @property
    def decision(self) -> str:
        return "replace" if self.replace else "keep"

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "decision": self.decision,
            "reasons": list(self.reasons),
            "frames": self.frames,
            "scan_pairs": self.scan_pairs,
            "before": self.before.summary(),
            "after": self.after.summary(),
            "drift": dict(self.drift),
        }

    def lines(self) -> list[str]:
        """For people: the decision, why, and the signals before and after."""
        head = "replace: the new model takes the old one's place" if self.replace else "keep: the old model stays"
        before, after = self.before.summary(), self.after.summary()
        rows = [
            f"{text}: {_percent(before[key])} before, {_percent(after[key])} after"
            for key, text in (
                ("agreement_2d_3d", "2D and 3D agree"),
                ("consistency", "labels last from scan to scan"),
                ("mean_confidence", "mean confidence"),
            )
        ]
        entropy = [values["mean_entropy_nats"] for values in (before, after)]
        if None not in entropy:
            rows.append("mean entropy: {:.3f} nats before, {:.3f} after".format(*entropy))
        rows.append(f"classes told apart: {self.before.diversity:.1f} before, {self.after.diversity:.1f} after")
        looked = f"{self.frames} frames, {self.scan_pairs} pairs of consecutive scans"
        return [head, *(f"- {reason}" for reason in self.reasons), f"on {looked}, without labels:", *rows]


def compare(
    before: Model,
    after: Model,
    frames: Iterable[Frame],
    source_shares: Mapping[str, float] | Sequence[float] | None = None,
    rule: Rule | None = None,
) -> Verdict:
    """Looks at both models' labels on the same frames, in order of time, and judges by `rule`.

    source_shares: the class shares of the labelled source, by name or in order, if there is one. Labels of the frames
    are never looked at. Raises ConfigError when the models label different classes or the shares are of others, and
    DataError when there is no frame.
    """
    names = before.labels.names
    if after.labels.names != names:
        raise ConfigError(
            f"two models are compared that label different classes: {', '.join(names)}, and "
            f"{', '.join(after.labels.names)}"
        )
    shares = None if source_shares is None else _shares(source_shares, names)
    signals = ModelSignals.empty(before.labels), ModelSignals.empty(before.labels)
    motion = MotionEstimator()
    earlier: tuple[PointCloud, tuple[Prediction, Prediction]] | None = None
    count = scan_pairs = 0
    for frame in frames:
        count += 1
        predictions = before.segment(frame), after.segment(frame)
        for model, prediction in zip(signals, predictions, strict=True):
            model.add(prediction)
        moved = motion.add(frame.cloud)
        if moved is not None and earlier is not None:
            scan_pairs += 1
            then, now = match_static(earlier[0].xyz_m, frame.cloud.xyz_m, moved.earlier_SE3_later)
            for model, old, new in zip(signals, earlier[1], predictions, strict=True):
                model.consistency.add(old.labels[then], new.labels[now])
        earlier = frame.cloud, predictions
    if count == 0:
        raise DataError("nothing to compare two models on: the source gave no frame")
    return _judge(*signals, count, scan_pairs, shares, rule or Rule())


def _judge(
    before: ModelSignals,
    after: ModelSignals,
    frames: int,
    scan_pairs: int,
    source: NDArray[np.float64] | None,
    rule: Rule,
) -> Verdict:
    drift = {"after_from_before": js_distance(before.class_shares, after.class_shares)}
    if source is not None:
        drift["before_from_source"] = js_distance(source, before.class_shares)
        drift["after_from_source"] = js_distance(source, after.class_shares)
    against = _collapse(before, after, source, rule) + _drifted(drift, rule)
    gains, losses = _changes(before, after, rule)
    if against:
        surer = after.label_free.entropy_sum < before.label_free.entropy_sum
        against += ["its lower entropy is no merit: fewer classes are easier to be sure of"] if surer else []
    against += losses
    if against:
        return Verdict(False, tuple(against), before, after, frames, scan_pairs, drift)
    if not gains:
        gains = ["neither the agreement of 2D and 3D nor the consistency from scan to scan rises enough to tell"]
        return Verdict(False, tuple(gains), before, after, frames, scan_pairs, drift)
    return Verdict(True, tuple(gains), before, after, frames, scan_pairs, drift)


def _changes(before: ModelSignals, after: ModelSignals, rule: Rule) -> tuple[list[str], list[str]]:
    """What rose and what fell, in words."""
    gains: list[str] = []
    losses: list[str] = []
    measured = (
        ("the agreement of 2D and 3D", before.agreement, after.agreement, int(after.agreement_2d_3d.sum())),
        (
            "the consistency of labels from scan to scan",
            before.consistency.kappa(),
            after.consistency.kappa(),
            after.consistency.pairs,
        ),
    )
    for what, old, new, pairs in measured:
        if old is None or new is None or pairs < rule.least_pairs:
            continue
        told = f"{what}, above chance, {{}} from {100 * old:.1f} to {100 * new:.1f} %"
        if new - old >= rule.least_gain:
            gains.append(told.format("rises"))
        elif old - new > rule.most_loss:
            losses.append(told.format("falls"))
    return gains, losses


def _collapse(before: ModelSignals, after: ModelSignals, source: NDArray[np.float64] | None, rule: Rule) -> list[str]:
    found = []
    reference = before.diversity if source is None else min(before.diversity, diversity(source))
    if after.diversity < rule.least_diversity * reference:
        most = int(after.class_shares.argmax())
        found.append(
            f"the labels collapse: {after.diversity:.1f} classes told apart instead of {before.diversity:.1f}, "
            f"{100 * after.class_shares[most]:.0f} % of the points are {before.labels.names[most]}"
        )
    for index, name in enumerate(before.labels.names):
        old, new = before.class_shares[index], after.class_shares[index]
        known = source is None or source[index] >= rule.class_share
        if known and old >= rule.class_share and new <= min(old / 10, rule.class_share / 5):
            found.append(f"class {name} is lost: {100 * old:.1f} % of the points before, {100 * new:.1f} % after")
    return found


def _drifted(drift: Mapping[str, float], rule: Rule) -> list[str]:
    if "after_from_source" in drift:
        old, new = drift["before_from_source"], drift["after_from_source"]
        if new - old > rule.most_drift:
            return [f"its class shares move away from the source's: distance {new:.2f} instead of {old:.2f}"]
    elif drift["after_from_before"] > rule.most_change:
        return [f"its class shares are too far from the old model's to be believed: {drift['after_from_before']:.2f}"]
    return []


def _shares(given: Mapping[str, float] | Sequence[float], names: Sequence[str]) -> NDArray[np.float64]:
    if len(given) != len(names) or (isinstance(given, Mapping) and set(given) != set(names)):
        raise ConfigError(f"class shares of the source: expected one for each of {', '.join(names)}, got {given}")
    values = [given[name] for name in names] if isinstance(given, Mapping) else given
    shares = np.asarray(values, np.float64)
    if not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() == 0:
        raise ConfigError(f"class shares of the source: expected shares or counts of 0 or more, got {shares.tolist()}")
    return shares / shares.sum()


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.1f} %"
