"""Evaluation on frames and predictions made by hand."""

import numpy as np
import pytest

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.evaluate import best_class, evaluate, fused_probabilities, seen_by_a_camera
from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import CameraView, Frame, PointCloud, Prediction

STREET8 = LabelSpace.load("street8")
ROAD, SIDEWALK, BUILDING = (STREET8.names.index(name) for name in ("road", "sidewalk", "building"))
AHEAD, BEHIND = (5.0, 0.0, 0.0), (-5.0, 0.0, 0.0)
# What 2D says with 0.93 and 3D with 0.65, a fifth of each spread over the eight classes: 0.769 and 0.545, the others
# 0.033 and 0.065. Fused, where both say one class, and 2D's where they say two.
AGREED = 0.769 * 0.545 / (0.769 * 0.545 + 7 * 0.033 * 0.065)
APART = 0.769 * 0.065 / (0.769 * 0.065 + 0.033 * 0.545 + 6 * 0.033 * 0.065)


def _frame(points: list[tuple[float, float, float]], labels: list[int] | None) -> Frame:
    """One camera that looks along x of the LiDAR."""
    rotation = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    pose = SE3.from_rotation_translation(rotation, np.zeros(3), "camera", "lidar")
    camera = PinholeCamera(10, 8, 5, 5, 4.5, 3.5)
    view = CameraView("front", np.zeros((8, 10, 3), np.uint8), 0, camera, pose)
    truth = None if labels is None else np.array(labels, np.uint8)
    return Frame(PointCloud(np.array(points, np.float32), 0, labels=truth), (view,), "made")


def _probabilities(labels: list[int], confidence: float) -> np.ndarray:
    """Rows of which `confidence` is on a class, the rest spread evenly; IGNORE is a row of NaN."""
    rows = np.full((len(labels), len(STREET8)), (1 - confidence) / (len(STREET8) - 1), np.float32)
    for row, label in zip(rows, labels, strict=True):
        row[:] = np.nan if label == IGNORE else row
        if label != IGNORE:
            row[label] = confidence
    return rows


def _prediction(labels_2d: list[int], labels_3d: list[int], confidence: float = 0.93) -> Prediction:
    """2D is more certain than 3D, so fused is 2D's class where there is one."""
    p2, p3 = _probabilities(labels_2d, confidence), _probabilities(labels_3d, 0.65)
    doubted = (0.8 * p2 + 0.2 / 8) * (0.8 * p3 + 0.2 / 8)
    both = np.where(np.isnan(p2), p3, doubted / doubted.sum(1, keepdims=True))
    return Prediction(best_class(both), np.nan_to_num(both).max(1), ~np.isnan(p2[:, 0]), p2, p3)


def test_each_modality_by_hand() -> None:
    frame = _frame([AHEAD, AHEAD, AHEAD, BEHIND, AHEAD], [ROAD, ROAD, BUILDING, SIDEWALK, IGNORE])
    prediction = _prediction([ROAD, BUILDING, BUILDING, IGNORE, ROAD], [ROAD, ROAD, ROAD, SIDEWALK, ROAD])
    result = evaluate(lambda _: prediction, [frame], STREET8).summary()
    iou = result["iou_percent"]
    assert iou["2d"]["classes"]["road"] == 50  # one of two; the point without truth is no false positive
    assert iou["2d"]["classes"]["building"] == 50  # one hit, one false positive
    assert iou["2d"]["mean"] == 50
    assert iou["3d"]["classes"]["road"] == pytest.approx(66.67)
    assert iou["3d"]["classes"]["building"] == 0
    assert iou["fused"] == iou["xm"] == iou["2d"]
    assert iou["3d"]["classes"]["sidewalk"] is None  # the only one lies behind the camera
    assert iou["all"]["classes"]["sidewalk"] == 100
    assert result["labelled_points"] == {"2d": 3, "3d": 3, "fused": 3, "xm": 3, "all": 4}


def test_confidence_and_accuracy_by_hand() -> None:
    """3D is right in three of four and sure of 65 % each time; 2D has nothing to say of the last, and is right in two
    of three with 93 %."""
    frame = _frame([AHEAD, AHEAD, AHEAD, AHEAD, BEHIND, AHEAD], [ROAD, ROAD, BUILDING, SIDEWALK, ROAD, IGNORE])
    prediction = _prediction(
        [ROAD, BUILDING, BUILDING, IGNORE, IGNORE, ROAD], [ROAD, ROAD, ROAD, SIDEWALK, BUILDING, ROAD]
    )
    reliability = evaluate(lambda _: prediction, [frame], STREET8).summary()["reliability_percent"]
    assert reliability["2d"] == {"confidence": 93.0, "accuracy": 66.67, "calibration_error": 26.33}
    assert reliability["3d"] == {"confidence": 65.0, "accuracy": 75.0, "calibration_error": 10.0}
    # xM: road with 0.79, twice building with 0.49, sidewalk with nothing; right but for one building. The building's
    # bin is 1 - 0.98 apart, the road's 0.21.
    assert reliability["xm"]["confidence"] == pytest.approx(100 * (0.79 + 0.49 + 0.49) / 3, abs=0.01)
    assert reliability["xm"]["accuracy"] == 66.67
    assert reliability["xm"]["calibration_error"] == pytest.approx(100 * (0.21 + 0.02) / 3, abs=0.01)
    confidence = 100 * (AGREED + APART + APART + 0.65) / 4
    assert reliability["fused"]["confidence"] == pytest.approx(confidence, abs=0.01)
    assert reliability["fused"]["accuracy"] == 75.0
    # 0.62 and 0.65 lie in one bin, the tenth: two of its three points are right.
    error = 100 * ((1 - AGREED) + abs(2 - 2 * APART - 0.65)) / 4
    assert reliability["fused"]["calibration_error"] == pytest.approx(error, abs=0.01)


def test_same_mistakes_by_hand() -> None:
    """Of four points of road, 2D takes two for building, and 3D two; one is the same. If they were independent, two of
    four times two of four would be: one point. Of the two sidewalks, 2D calls one building, and 3D the other: none
    is the same, and if they were independent, a quarter of two would be."""
    frame = _frame([AHEAD] * 8 + [BEHIND], [ROAD] * 4 + [SIDEWALK] * 2 + [IGNORE, BUILDING, ROAD])
    of_2d = [BUILDING, BUILDING, ROAD, ROAD, BUILDING, ROAD, ROAD, IGNORE, IGNORE]
    of_3d = [ROAD, BUILDING, BUILDING, ROAD, IGNORE, BUILDING, ROAD, ROAD, SIDEWALK]
    result = evaluate(lambda _: _prediction(of_2d, of_3d), [frame], STREET8).summary()
    assert result["same_mistakes_percent"] == {"counted": round(100 / 7, 2), "independent": round(100 * 1.5 / 7, 2)}


def test_no_2d_has_no_mistake_in_common() -> None:
    frame = _frame([AHEAD], [ROAD])
    result = evaluate(lambda _: _prediction([IGNORE], [ROAD]), [frame], STREET8).summary()
    assert result["same_mistakes_percent"] is None


def test_one_matrix_over_all_frames() -> None:
    # Mean over frames would be (100 + 0) / 2; over the points it is 3 of 4.
    frames = [_frame([AHEAD] * 3, [ROAD] * 3), _frame([AHEAD], [ROAD])]
    predictions = iter([_prediction([ROAD] * 3, [ROAD] * 3), _prediction([SIDEWALK], [SIDEWALK])])
    result = evaluate(lambda _: next(predictions), frames, STREET8).summary()
    assert result["iou_percent"]["fused"]["mean"] == 75
    assert result["frames"] == 2


def test_label_free_signals_by_hand() -> None:
    frame = _frame([AHEAD, AHEAD, BEHIND, (np.nan,) * 3], None)
    prediction = _prediction([ROAD, BUILDING, IGNORE, IGNORE], [ROAD, ROAD, SIDEWALK, IGNORE])
    result = evaluate(lambda _: prediction, [frame], STREET8).summary()
    signals = result["label_free"]
    assert signals["agreement_2d_3d"] == 0.5  # of the two that have both
    assert signals["class_shares"]["road"] == pytest.approx(1 / 3)
    assert signals["class_shares"]["building"] == pytest.approx(1 / 3)
    road, building, whole = AGREED, APART, 0.769 * 0.065 + 0.033 * 0.545 + 6 * 0.033 * 0.065
    assert signals["mean_confidence"] == pytest.approx((road + building + 0.65) / 3)
    rows = [
        [road] + [(1 - road) / 7] * 7,
        [building, 0.033 * 0.545 / whole] + [0.033 * 0.065 / whole] * 6,
        [0.65] + [0.05] * 7,
    ]
    assert signals["mean_entropy_nats"] == pytest.approx(-sum(p * np.log(p) for row in rows for p in row) / 3, rel=1e-4)
    assert result["iou_percent"] == {}
    assert result["reliability_percent"] == {}
    assert result["labelled_frames"] == 0


def test_a_model_without_2d_has_no_2d_result() -> None:
    frame = _frame([AHEAD, BEHIND], [ROAD, ROAD])
    result = evaluate(lambda _: _prediction([IGNORE] * 2, [ROAD] * 2), [frame], STREET8).summary()
    assert set(result["iou_percent"]) == {"3d", "fused", "all"}
    assert result["label_free"]["agreement_2d_3d"] is None


def test_points_that_were_not_segmented_count_as_missed() -> None:
    frame = _frame([AHEAD, AHEAD], [ROAD, ROAD])
    result = evaluate(lambda _: _prediction([ROAD, IGNORE], [ROAD, IGNORE]), [frame], STREET8).summary()
    assert result["iou_percent"]["fused"]["classes"]["road"] == 50


def test_seen_is_the_geometry_and_not_the_model() -> None:
    assert seen_by_a_camera(_frame([AHEAD, BEHIND, (np.nan,) * 3], None)).tolist() == [True, False, False]


def test_fused_where_both_are_there_and_3d_elsewhere() -> None:
    fused = fused_probabilities(_prediction([ROAD, IGNORE, IGNORE], [ROAD, ROAD, IGNORE]))
    assert fused[0, ROAD] == pytest.approx(AGREED, rel=1e-5)
    assert fused[1, ROAD] == pytest.approx(0.65)
    assert np.isnan(fused[2]).all()


def test_an_empty_source_is_an_error() -> None:
    with pytest.raises(DataError, match="no frame"):
        evaluate(lambda _: _prediction([], []), [], STREET8)
