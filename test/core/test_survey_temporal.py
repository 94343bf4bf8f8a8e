"""Consistency of labels over time, against what is known of the labels by construction."""

import numpy as np
import pytest
from tiny_street import CAR, GROUND, pose, scan

from clip2uda_core.labels import IGNORE
from clip2uda_core.survey.temporal import RADIUS_M, Consistency, kappa, match_static

CLASSES = 8
START, END = pose(0), pose(1.1, 1.0)
MOTION = START.inverse() @ END


@pytest.fixture(scope="module")
def scans() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Two scans with their true classes, a metre apart."""
    return scan(START, 0, beams=64), scan(END, 1, beams=64)


def consistency(labels_then: np.ndarray, labels_now: np.ndarray, scans) -> Consistency:
    result = Consistency.empty(CLASSES)
    then, now = match_static(scans[0][0], scans[1][0], MOTION)
    result.add(labels_then[then], labels_now[now])
    return result


def test_matched_points_are_one_place_and_each_is_matched_once(scans) -> None:
    then, now = match_static(scans[0][0], scans[1][0], MOTION)
    assert len(then) > 3000
    assert len(set(then.tolist())) == len(then)
    assert len(set(now.tolist())) == len(now)
    distance = np.linalg.norm(scans[0][0][then] - MOTION.transform(scans[1][0][now]), axis=1)
    assert distance.max() <= RADIUS_M + 1e-5
    wrong = pose(0).inverse() @ pose(40)
    assert len(match_static(scans[0][0], scans[1][0], wrong)[0]) < len(then) / 2


def test_one_class_is_consistent_and_says_nothing(scans) -> None:
    same = [np.full(len(labels), 3, np.uint8) for _, labels in scans]
    result = consistency(*same, scans)
    assert result.share() == 1
    assert result.kappa() is None


def test_true_labels_are_almost_consistent_though_a_car_drives_through() -> None:
    """Also with the car 1 m further on in the second scan; what little differs lies where two classes meet."""
    scans = scan(START, 0, beams=64, car_x_m=8.0), scan(END, 1, beams=64, car_x_m=9.0)
    result = consistency(scans[0][1], scans[1][1], scans)
    share, above_chance = result.share(), result.kappa()
    assert share is not None
    assert share > 0.99
    assert above_chance is not None
    assert above_chance > 0.98
    shares = result.class_shares()
    assert shares[GROUND] > 0.99
    assert shares[CAR] > 0.9
    assert np.isnan(shares[1])


def test_random_labels_agree_by_chance(scans) -> None:
    rng = np.random.default_rng(0)
    proportions = np.array([0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0])
    drawn = [rng.choice(CLASSES, len(labels), p=proportions).astype(np.uint8) for _, labels in scans]
    result = consistency(*drawn, scans)
    assert result.share() == pytest.approx((proportions**2).sum(), abs=0.03)
    assert result.kappa() == pytest.approx(0, abs=0.03)
    np.testing.assert_allclose(result.class_shares()[:4], proportions[:4], atol=0.05)


@pytest.mark.parametrize("flicker", [0.05, 0.2])
def test_flicker_is_measured(flicker: float, scans) -> None:
    """Each label is replaced by another of the 8 with a probability f: same with (1-f)^2 + f^2/7."""
    rng = np.random.default_rng(1)
    truth = [np.zeros(len(labels), np.uint8) for _, labels in scans]
    flickering = [
        np.where(rng.random(len(t)) < flicker, rng.integers(1, CLASSES, len(t)), t).astype(np.uint8) for t in truth
    ]
    result = consistency(*flickering, scans)
    assert result.share() == pytest.approx((1 - flicker) ** 2 + flicker**2 / 7, abs=0.02)


def test_counts_and_kappa_by_hand() -> None:
    result = Consistency.empty(3)
    result.add(np.array([0, 0, 1, 1, IGNORE, 2], np.uint8), np.array([0, 1, 1, 1, 2, IGNORE], np.uint8))
    assert result.counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert result.share() == 0.75
    np.testing.assert_allclose(result.class_shares(), [2 / 3, 4 / 5, np.nan])
    by_chance = (2 * 1 + 2 * 3) / 16
    assert result.kappa() == pytest.approx((0.75 - by_chance) / (1 - by_chance))
    assert kappa(np.zeros((3, 3), np.int64)) is None
    assert Consistency.empty(3).share() is None


def test_nothing_to_match() -> None:
    nothing = np.full((10, 3), np.nan, np.float32)
    then, now = match_static(nothing, nothing, MOTION)
    assert len(then) == len(now) == 0
