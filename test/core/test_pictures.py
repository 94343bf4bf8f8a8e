"""Pictures: what is drawn where, in which colour, and that nothing odd in a cloud stops the drawing."""

import cv2
import numpy as np
import pytest

from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.pictures import draw_birds_eye, draw_depth_overlay, draw_overlay, save_png
from clip2uda_core.geometry import Projection, project
from clip2uda_core.labels import IGNORE, LabelSpace

LABELS = LabelSpace.load("street8")
CAR, POLE = LABELS.names.index("vehicle"), LABELS.names.index("pole")
WIDTH, HEIGHT = 640, 200


def projection(uv: list[tuple[float, float]], depth_m: list[float], visible: list[bool] | None = None) -> Projection:
    flags = [True] * len(uv) if visible is None else visible
    return Projection(np.array(uv, np.float32).reshape(-1, 2), np.array(depth_m, np.float32), np.array(flags, bool))


def gray(value: int = 100) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def changed(picture: np.ndarray) -> np.ndarray:
    """(HEIGHT, WIDTH) where the picture differs from its dimmed gray ground."""
    return (picture[:HEIGHT] != picture[0, 0]).any(axis=2)


def test_points_have_the_colour_of_their_class_at_their_pixel() -> None:
    labels = np.array([CAR, POLE, CAR, IGNORE], np.uint8)
    uv = [(100, 50), (300.4, 120.4), (5, 5), (500, 150)]
    picture = draw_overlay(gray(), projection(uv, [5, 6, 7, 8], [True, True, False, True]), labels, LABELS)
    assert picture.shape[1:] == (WIDTH, 3)
    assert picture.shape[0] > HEIGHT
    assert tuple(picture[50, 100]) == tuple(LABELS.colors[CAR])
    assert tuple(picture[120, 300]) == tuple(LABELS.colors[POLE])
    rows, columns = np.nonzero(changed(picture))
    assert {round(c, -2) for c in columns.tolist()} == {100, 300, 500}
    assert rows.max() <= 152
    ignored = changed(picture)[140:160, 490:510].sum()
    assert 0 < ignored < changed(picture)[40:60, 90:110].sum()


def test_image_keeps_its_structure_under_the_points() -> None:
    ramp = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None], (HEIGHT, 1, 3))
    picture = draw_overlay(ramp, projection([], []), np.empty(0, np.uint8), LABELS)
    assert np.all(np.diff(picture[0, :, 0].astype(int)) >= 0)
    assert picture[0, -1, 0] < 255


def test_near_points_cover_far_ones() -> None:
    labels = np.array([CAR, POLE, CAR], np.uint8)
    for order in ([0, 1], [1, 0]):
        uv, depth = [(200, 100), (200.5, 100)], np.array([30.0, 5.0])
        both = projection([uv[i] for i in order], depth[order].tolist())
        picture = draw_overlay(gray(), both, labels[order], LABELS)
        assert tuple(picture[100, 200]) == tuple(LABELS.colors[POLE])


def test_points_on_the_border_are_drawn_within_the_image() -> None:
    uv = [(-0.5, -0.5), (WIDTH - 0.51, HEIGHT - 0.51)]
    picture = draw_overlay(gray(), projection(uv, [5, 5]), np.full(2, CAR, np.uint8), LABELS)
    assert tuple(picture[0, 0]) != (70, 70, 70)
    assert tuple(picture[HEIGHT - 1, WIDTH - 1]) != (70, 70, 70)


def test_depth_goes_from_red_to_blue() -> None:
    n = 50
    uv = [(10 + 12 * i, 100) for i in range(n)]
    picture = draw_depth_overlay(gray(), projection(uv, np.geomspace(3, 60, n).tolist()))
    dots = picture[100, [10 + 12 * i for i in range(n)]].astype(int)
    assert dots[0, 0] > dots[0, 2] + 100
    assert dots[-1, 2] > dots[-1, 0] + 60
    green = np.argmax(dots[:, 1])
    assert 10 < green < 40


@pytest.mark.parametrize("depth_m", [[], [4.0], [4.0] * 5, [-1.0, 0.0, 2.0]])
def test_depth_scale_of_few_or_equal_points(depth_m) -> None:
    picture = draw_depth_overlay(gray(), projection([(50, 50)] * len(depth_m), depth_m))
    assert picture.shape[1] == WIDTH


def test_birds_eye_has_forward_up_and_left_left() -> None:
    """20 m of range on 400 pixels: 10 pixels a metre around (200, 200)."""
    xyz_m = np.array([[10, 0, 0], [0, 15, 0], [np.nan, 0, 0], [0, -100, 0]], np.float32)
    labels = np.array([CAR, POLE, CAR, CAR], np.uint8)
    picture = draw_birds_eye(xyz_m, labels, LABELS, range_m=20, size_px=400)
    assert picture.shape[0] == 400
    assert picture.shape[1] > 400
    ground = draw_birds_eye(np.empty((0, 3), np.float32), range_m=20, size_px=400)[:, :400]
    rows, columns = np.nonzero((picture[:, :400] != ground).any(axis=2))
    for row, column in ((100, 200), (200, 50)):
        near = (abs(rows - row) <= 2) & (abs(columns - column) <= 2)
        assert near.any(), (row, column)
        rows, columns = rows[~near], columns[~near]
    assert len(rows) == 0
    red, green, blue = picture[99:102, 199:202].reshape(-1, 3).max(axis=0).astype(int)
    assert blue > red + 50, (red, green, blue)


def test_birds_eye_of_odd_clouds() -> None:
    for xyz in (np.empty((0, 3)), np.full((4, 3), np.nan), np.zeros((3, 3)), np.full((2, 3), 1e6)):
        picture = draw_birds_eye(xyz.astype(np.float32), size_px=200)
        assert picture.shape[0] == 200


def test_png_round_trip_and_failure(tmp_path) -> None:
    picture = draw_birds_eye(np.random.default_rng(0).uniform(-9, 9, (500, 3)).astype(np.float32), size_px=200)
    save_png(picture, tmp_path / "deep" / "er" / "picture.png")
    read = cv2.imread(str(tmp_path / "deep" / "er" / "picture.png"))[..., ::-1]
    np.testing.assert_array_equal(read, picture)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"picture\.png"):
        save_png(picture, tmp_path / "file" / "picture.png")


@pytest.mark.real_data
def test_depth_edges_lie_on_image_edges_of_real_frames(real_data) -> None:
    """Where depth jumps between neighbours on a scan line, the image has an edge: gradients are strongest there, give
    or take what the car drove between scan and image. This is what a viewer judges a calibration by."""
    shifts = np.arange(-12, 13)
    strengths = []
    for frame in open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions(max_frames=8)):
        view = frame.views[0]
        seen = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
        uv, depth = seen.uv_px[seen.visible], seen.depth_m[seen.visible]
        neighbours = np.hypot(*np.diff(uv, axis=0).T) < 6
        between = (uv[:-1] + uv[1:])[neighbours & (abs(np.diff(depth)) > 3)] / 2
        u, v = np.rint(between).astype(int).T
        smooth = cv2.GaussianBlur(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY), (0, 0), 1)
        edge = abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0))
        strengths.append([edge[v, np.clip(u + shift, 0, edge.shape[1] - 1)].mean() for shift in shifts])
    strength = np.mean(strengths, axis=0)
    assert abs(shifts[np.argmax(strength)]) <= 3
    assert strength.max() > 1.3 * strength[abs(shifts) >= 8].mean()
