"""Pseudo-label selection against thresholds and labels worked out by hand."""

import numpy as np
import pytest

from clip2uda_core.adaptation.pseudo_labels import ConfidenceThresholds, select_pseudo_labels
from clip2uda_core.evaluation.evaluate import predicted
from clip2uda_core.labels import IGNORE

NONE = (np.nan, np.nan, np.nan)
# Class 0 is predicted with .6 .8 .5 .7, class 1 with .95 .99 .92; class 2 never; one point has no prediction.
FRAMES = (
    np.array([(0.6, 0.2, 0.2), (0.01, 0.95, 0.04), NONE, (0.8, 0.1, 0.1)], np.float32),
    np.array([(0.5, 0.4, 0.1), (0.005, 0.99, 0.005), (0.7, 0.2, 0.1), (0.04, 0.92, 0.04)], np.float32),
)


def test_thresholds_and_labels_by_hand() -> None:
    collected = ConfidenceThresholds(classes=3)
    for frame in FRAMES:
        collected.add(*predicted(frame))
    thresholds = collected.thresholds()
    assert thresholds[0] == pytest.approx(0.6)  # lower median of .5 .6 .7 .8
    assert thresholds[1] == pytest.approx(0.9)  # the median is .95, but .9 is certain enough
    assert thresholds[2] == np.inf
    assert select_pseudo_labels(*predicted(FRAMES[0]), thresholds).tolist() == [0, 1, IGNORE, 0]
    assert select_pseudo_labels(*predicted(FRAMES[1]), thresholds).tolist() == [IGNORE, 1, 0, 1]


def test_at_least_half_of_every_predicted_class_is_kept() -> None:
    probabilities = np.random.default_rng(0).dirichlet((0.7,) * 5, 4001).astype(np.float32)
    collected = ConfidenceThresholds(classes=5)
    collected.add(*predicted(probabilities))
    selected = select_pseudo_labels(*predicted(probabilities), collected.thresholds())
    best = probabilities.argmax(1)
    for index in range(5):
        kept = (selected == index).sum() / (best == index).sum()
        assert 0.5 <= kept <= 1
    assert (selected[selected != IGNORE] == best[selected != IGNORE]).all()


def test_nothing_predicted_gives_no_label() -> None:
    collected = ConfidenceThresholds(classes=3)
    collected.add(*predicted(np.array([NONE], np.float32)))
    thresholds = collected.thresholds()
    assert np.isinf(thresholds).all()
    assert select_pseudo_labels(*predicted(np.array([NONE], np.float32)), thresholds).tolist() == [IGNORE]
    assert select_pseudo_labels(*predicted(np.empty((0, 3), np.float32)), thresholds).shape == (0,)
