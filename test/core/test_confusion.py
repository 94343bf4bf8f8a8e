"""IoU against numbers worked out by hand, and against a per-class loop."""

import numpy as np
import pytest

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.confusion import ConfusionMatrix
from clip2uda_core.labels import IGNORE, LabelSpace

STREET8 = LabelSpace.load("street8")


def test_iou_by_hand() -> None:
    matrix = ConfusionMatrix.empty(STREET8)
    truth = np.array([0, 0, 0, 1, 1, IGNORE, 2], np.uint8)
    predicted = np.array([0, 0, 1, 1, 1, 0, IGNORE], np.uint8)
    matrix.add(truth, predicted)
    iou = matrix.iou()
    assert iou[0] == pytest.approx(2 / 3)  # two hits, one missed; the point without truth is no false positive
    assert iou[1] == pytest.approx(2 / 3)  # two hits, one false positive
    assert iou[2] == 0.0  # there, and not predicted
    assert np.isnan(iou[3:]).all()  # never there
    assert matrix.mean_iou() == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert matrix.accuracy() == pytest.approx(4 / 6)


def test_one_matrix_over_many_frames_equals_all_points_at_once() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(np.array([*range(8), IGNORE], np.uint8), 5000)
    predicted = rng.choice(np.array([*range(8), IGNORE], np.uint8), 5000)
    parts, whole = ConfusionMatrix.empty(STREET8), ConfusionMatrix.empty(STREET8)
    for chunk in np.array_split(np.arange(5000), 7):
        parts.add(truth[chunk], predicted[chunk])
    whole.add(truth, predicted)
    assert np.array_equal(parts.counts, whole.counts)
    for c in range(8):
        counted = truth != IGNORE
        hit = np.sum(counted & (truth == c) & (predicted == c))
        union = np.sum(counted & ((truth == c) | (predicted == c)))
        assert whole.iou()[c] == pytest.approx(hit / union)


def test_nothing_counted_is_nan_not_zero() -> None:
    matrix = ConfusionMatrix.empty(STREET8)
    matrix.add(np.full(3, IGNORE, np.uint8), np.zeros(3, np.uint8))
    assert np.isnan(matrix.mean_iou())
    assert np.isnan(matrix.accuracy())


@pytest.mark.parametrize(
    ("truth", "predicted", "said"),
    [([0, 1], [0], "differ in shape"), ([9], [0], "truth holds label 9"), ([0], [8], "prediction holds label 8")],
)
def test_bad_labels_are_refused(truth: list[int], predicted: list[int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ConfusionMatrix.empty(STREET8).add(np.array(truth, np.uint8), np.array(predicted, np.uint8))
