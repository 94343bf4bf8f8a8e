"""Figures of a run, and frames beside their truth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_model
import tiny_run

from clip2uda_core.evaluation.confusion import ConfusionMatrix
from clip2uda_core.evaluation.curves import draw_confusion, draw_losses, draw_validation, smooth
from clip2uda_core.evaluation.gallery import Gallery, draw_comparison
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame, PointCloud, Prediction

STREET8 = LabelSpace.load("street8")
VEHICLE, BUILDING = STREET8.names.index("vehicle"), STREET8.names.index("building")


def test_the_moving_average_by_hand() -> None:
    assert smooth(np.array([1.0, 2.0, 6.0, 3.0]), 3).tolist() == pytest.approx([1.5, 3.0, 11 / 3, 4.5])
    assert smooth(np.array([1.0, 2.0]), 1).tolist() == [1.0, 2.0]
    assert smooth(np.full(40, 7.0), 4).tolist() == pytest.approx([7.0] * 40)


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def _ink(path: Path) -> float:
    """Share of a picture that is not white."""
    return float((_read(path).min(axis=2) < 250).mean())


def test_figures_show_what_there_is(tmp_path: Path) -> None:
    log = [{"step": i, "time_s": 1.0, "segmentation": 2.0 / i, "prompt": 0.0} for i in range(1, 100)]
    draw_losses(log, tmp_path / "losses.png")
    draw_validation({"2d": [(10, 30.0), (20, 40.0)], "3d": []}, 20, tmp_path / "validation.png")
    assert _ink(tmp_path / "losses.png") > 0.01
    assert _ink(tmp_path / "validation.png") > 0.01
    draw_losses([], tmp_path / "nothing.png")
    draw_validation({}, None, tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


def test_the_confusion_matrix_shows_points_without_a_label_where_there_are_any(tmp_path: Path) -> None:
    widths = []
    for label in (VEHICLE, IGNORE):
        matrix = ConfusionMatrix.empty(STREET8)
        matrix.add(np.array([VEHICLE, BUILDING], np.uint8), np.array([VEHICLE, label], np.uint8))
        draw_confusion(matrix, "two points", tmp_path / "confusion.png")
        widths.append(_read(tmp_path / "confusion.png").shape[1])
    assert widths[1] > widths[0]


def _prediction(frame: Frame, label: int, seen: bool) -> Prediction:
    count = len(frame.cloud)
    nothing = np.full((count, len(STREET8)), np.nan, np.float32)
    return Prediction(
        np.full(count, label, np.uint8), np.ones(count, np.float32), np.full(count, seen), nothing, nothing
    )


def _count(picture: np.ndarray, label: int) -> int:
    return int((picture == STREET8.colors[label]).all(axis=2).sum())


def _near(picture: np.ndarray, label: int) -> int:
    """Pixels of about the class's colour: dots have soft edges from above."""
    return int((np.abs(picture.astype(int) - STREET8.colors[label]).sum(axis=2) < 120).sum())


def test_truth_and_prediction_are_below_the_image() -> None:
    view = tiny_model.camera_view(width_px=320, height_px=96)
    xyz_m = tiny_model.scattered_points(3000)
    frame = Frame(PointCloud(xyz_m, 0, labels=np.full(3000, VEHICLE, np.uint8)), (view,), "made")
    picture = draw_comparison(frame, _prediction(frame, BUILDING, seen=True), STREET8)
    third = len(picture) // 3
    assert _count(picture[:third], VEHICLE) == _count(picture[:third], BUILDING) == 0
    assert _count(picture[third : 2 * third], VEHICLE) > 1000
    assert _count(picture[2 * third :], BUILDING) > 1000
    assert _count(picture[2 * third :], VEHICLE) == 0

    unlabelled = Frame(PointCloud(xyz_m, 0), (view,), "made")
    assert _count(draw_comparison(unlabelled, _prediction(frame, BUILDING, seen=True), STREET8), VEHICLE) == 0


def test_a_model_of_points_alone_is_drawn_from_above() -> None:
    cloud = PointCloud(tiny_model.scattered_points(3000), 0, labels=np.full(3000, VEHICLE, np.uint8))
    frame = Frame(cloud, (tiny_model.camera_view(),), "made")
    picture = draw_comparison(frame, _prediction(frame, BUILDING, seen=False), STREET8)
    truth, prediction = picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]
    assert _near(truth, VEHICLE) > 1000 > 100 > _near(prediction, VEHICLE)
    assert _near(prediction, BUILDING) > 1000 > 100 > _near(truth, BUILDING)


def test_a_gallery_keeps_frames_that_are_spread_over_the_recording() -> None:
    frames = tiny_run.frames(10, 0)
    gallery = Gallery(lambda frame: _prediction(frame, BUILDING, seen=True), len(frames))
    for frame in frames:
        assert (gallery.segment(frame).labels == BUILDING).all()
    assert [frame.source for frame, _ in gallery.kept] == ["town0[0]", "town0[3]", "town0[6]", "town0[9]"]
