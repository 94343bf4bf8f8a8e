"""Camera models against numbers by hand, OpenCV's own projection, and dense sampling of the distortion."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import CameraModel, FisheyeCamera, PinholeCamera
from clip2uda_core.geometry.distortion import distort_fisheye, distort_pinhole, fisheye_limit, pinhole_limit

PLUMB_BOB = (-0.3691481, 0.1968681, 0.001353473, 0.0005677587, -0.06770705)  # KITTI 2011_09_26, camera 2
RATIONAL = (0.52, -2.71, 0.0007, -0.0002, 1.58, 0.40, -2.53, 1.50)  # of the kind that depth cameras carry
THIN_PRISM = (*RATIONAL, 0.002, -0.001, 0.0015, 0.0005)
TILTED = (*THIN_PRISM, 0.02, -0.03)


def pinhole(distortion: tuple[float, ...] = (), **changes) -> PinholeCamera:
    values = {"width_px": 640, "height_px": 480, "fx": 400.0, "fy": 410.0, "cx": 320.5, "cy": 239.0, **changes}
    return PinholeCamera(distortion=distortion, **values)


def fisheye(distortion: tuple[float, float, float, float] = (0, 0, 0, 0), **changes) -> FisheyeCamera:
    values = {"width_px": 800, "height_px": 800, "fx": 200.0, "fy": 200.0, "cx": 399.5, "cy": 399.5, **changes}
    return FisheyeCamera(distortion=distortion, **values)


CAMERAS = [pinhole(d) for d in ((), (-0.2, 0.05, 0.001, 0.002), PLUMB_BOB, RATIONAL, THIN_PRISM, TILTED)] + [
    fisheye(),
    fisheye((0.02, -0.01, 0.003, -0.0004)),
]


def scattered_points(count: int = 4000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([-30, -20, -30], [30, 20, 30], (count, 3))


# --- by hand -------------------------------------------------------------------------------------------------------


def test_pinhole_by_hand():
    uv, visible = pinhole().project(np.array([[1.0, -0.5, 2.0], [0, 0, 5], [10, 0, 1], [0, 0, -5], [0, 0, 0]]))
    assert_allclose(uv[:3], [[520.5, 136.5], [320.5, 239.0], [4320.5, 239.0]])
    assert np.isnan(uv[3:]).all()
    assert_array_equal(visible, [True, True, False, False, False])


def test_the_image_reaches_half_a_pixel_around_the_outer_pixel_centres():
    camera = PinholeCamera(4, 2, 1.0, 1.0, 0.0, 0.0)
    u = np.array([-0.5, -0.5001, 3.4999, 3.5])
    v = np.array([-0.5, -0.5001, 1.4999, 1.5])
    assert_array_equal(camera.project(np.stack([u, u * 0, u * 0 + 1], 1))[1], [True, False, True, False])
    assert_array_equal(camera.project(np.stack([v * 0, v, v * 0 + 1], 1))[1], [True, False, True, False])


def test_no_visible_pixel_rounds_out_of_the_image_in_float32():
    camera = PinholeCamera(1242, 375, 700.0, 700.0, 600.0, 180.0)
    edge = (np.linspace(1241.499, 1241.501, 2001) - 600) / 700
    points = np.stack([edge, 0 * edge, 0 * edge + 1], 1).astype(np.float32)
    uv, visible = camera.project(points)
    assert visible.any()
    assert not visible.all()
    assert np.floor(uv[visible, 0] + 0.5).max() == 1241


def test_fisheye_by_hand_also_beyond_90_degrees():
    # equidistant without coefficients: the distance from the centre is f times the angle off the axis
    angles = np.radians([0, 45, 90, 110, 120])
    points = 3 * np.stack([np.sin(angles), np.zeros(5), np.cos(angles)], 1)
    uv, visible = fisheye().project(points)
    assert_allclose(uv, np.stack([399.5 + 200 * angles, np.full(5, 399.5)], 1))
    assert_array_equal(visible, [True, True, True, True, False])  # 110°: 783 px, 120°: 818 px of 800


def test_fisheye_has_no_pixel_straight_behind_or_at_the_camera():
    uv, visible = fisheye().project(np.array([[0.0, 0, -1], [0, 0, 0]]))
    assert np.isnan(uv).all()
    assert not visible.any()


def test_raw_image_with_rectified_frame_turns_points_back():
    # CameraInfo.R takes the raw camera to the rectified one; a point on the rectified axis is seen off the raw axis
    rectification = cv2.Rodrigues(np.array([0, 0.1, 0]))[0]
    uv, _ = pinhole(rotation=rectification.T).project(np.array([[0.0, 0, 4]]))
    assert_allclose(uv, [[320.5 - 400 * np.tan(0.1), 239]])
    uv, _ = fisheye(rotation=rectification.T).project(np.array([[0.0, 0, 4]]))
    assert_allclose(uv, [[399.5 - 200 * 0.1, 399.5]])


def test_fourth_column_of_p_is_an_offset_of_the_points():
    p = np.array([[400.0, 0, 320.5, -48.0], [0, 410, 239, 2.0], [0, 0, 1, 0.003]])
    points = scattered_points()
    uv, visible = pinhole(offset_m=np.linalg.solve(p[:, :3], p[:, 3])).project(points)
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ p.T
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    assert visible.sum() > 100
    assert_allclose(uv[visible], expected[visible])


# --- OpenCV --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{type(c).__name__}{len(c.distortion)}")
def test_pixels_are_those_of_opencv(camera):
    points = scattered_points()
    uv, visible = camera.project(points)
    seen = visible & (points[:, 2] > 0)  # cv2.fisheye stops at 90 degrees
    arguments = (points[seen].reshape(-1, 1, 3), np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion))
    if isinstance(camera, FisheyeCamera):
        expected = cv2.fisheye.projectPoints(*arguments)[0]
    else:
        expected = cv2.projectPoints(*arguments)[0]
    assert seen.sum() > 200
    assert_allclose(uv[seen], expected.reshape(-1, 2), atol=1e-6)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{type(c).__name__}{len(c.distortion)}")
def test_float32_is_within_a_hundredth_of_a_pixel(camera):
    points = scattered_points().astype(np.float32)
    uv, visible = camera.project(points)
    expected, expected_visible = camera.project(points.astype(np.float64))
    assert uv.dtype == np.float32
    both = visible & expected_visible
    assert np.abs(uv - expected)[both].max() < 0.01
    assert (visible != expected_visible).sum() <= 1


# --- what the lens model cannot project ----------------------------------------------------------------------------


def test_points_that_the_polynomial_folds_back_are_not_visible():
    camera = pinhole((-0.3, 0.0, 0.0, 0.0, 0.0))  # r (1 - 0.3 r²) is largest at r = 1/sqrt(0.9) = 1.054
    folded = np.array([[1.7, 0.0, 1.0]])
    in_opencv = cv2.projectPoints(folded, np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion))[0]
    assert 0 < in_opencv[0, 0, 0] < 640  # what we must not do
    uv, visible = camera.project(np.array([[1.05, 0, 1.0], [1.06, 0, 1.0], folded[0]]))
    assert_array_equal(visible, [True, False, False])
    assert_array_equal(np.isnan(uv[:, 0]), [False, True, True])


def test_limits_by_hand():
    assert pinhole_limit(()) == np.inf
    assert pinhole_limit((0.1, 0.0, 0.0, 0.0, 0.0)) == np.inf
    assert_allclose(pinhole_limit((-0.3, 0.0, 0.0, 0.0)), 1 / 0.9)
    assert_allclose(pinhole_limit((0, 0, 0, 0, 0, -0.25, 0, 0)), 4)  # a pole at r² = 4, growing up to it
    assert fisheye_limit((0, 0, 0, 0)) == np.pi
    assert_allclose(fisheye_limit((-1 / 12, 0, 0, 0)), 2)  # 1 - 3 t²/12 = 0


# steps of a tenth: finer ones give poles that a zero cancels so nearly that no sampling finds them
small = st.integers(-10, 10).map(lambda tenths: tenths / 10)


@given(st.tuples(*[small] * 6))
def test_pinhole_limit_is_where_dense_sampling_stops_growing(k):
    k1, k2, k3, k4, k5, k6 = k
    coefficients = (k1, k2, 0.0, 0.0, k3, k4, k5, k6)
    radius = np.linspace(0, 3, 30001)
    limit = np.sqrt(min(pinhole_limit(coefficients), 9.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        mapped = distort_pinhole(radius, np.zeros_like(radius), coefficients)[0]
        steps = np.diff(mapped)
    assert (steps[radius[1:] < limit - 1e-9] > -1e-9).all()
    beyond = steps[(radius[1:] > limit) & (radius[1:] < limit + 0.002)]
    at_pole = abs(1 + k4 * limit**2 + k5 * limit**4 + k6 * limit**6) < 1e-6  # which the numerator may cancel
    if limit < 2.99 and not at_pole:
        assert not (beyond > 1e-6).all()


@given(st.tuples(*[st.floats(-0.3, 0.3)] * 4))
def test_fisheye_limit_is_where_dense_sampling_stops_growing(coefficients):
    theta = np.linspace(0, np.pi, 30001)
    limit = fisheye_limit(coefficients)
    mapped = distort_fisheye(theta, coefficients)
    assert (np.diff(mapped[theta < limit]) > -1e-9).all()
    if limit < np.pi - 0.01:
        at = int(np.searchsorted(theta, limit))
        assert np.diff(mapped[at : at + 20]).min() < 1e-6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{type(c).__name__}{len(c.distortion)}")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_that_are_nowhere_are_not_visible_and_warn_nobody(camera, dtype):
    nan, inf, tiny, huge = np.nan, np.inf, np.finfo(dtype).tiny, np.finfo(dtype).max
    points = [[nan, nan, nan], [nan, 0, 1], [0, 0, nan], [inf, 0, 1], [0, -inf, 1], [0, 0, inf], [inf, inf, inf]]
    points += [[0, 0, 0], [0, 0, -1], [1, 1, 0], [huge, huge, 1], [1, 1, tiny], [huge, 0, tiny], [0, 0, -inf]]
    uv, visible = camera.project(np.array(points, dtype))
    assert uv.shape == (len(points), 2)
    grazing = isinstance(camera, FisheyeCamera)  # it does see what is 90 degrees off its axis
    assert not np.delete(visible, [9, 10, 11, 12] if grazing else []).any()


def test_no_points_and_misshapen_points():
    for camera in CAMERAS:
        uv, visible = camera.project(np.zeros((0, 3), np.float32))
        assert (uv.shape, visible.shape) == ((0, 2), (0,))
        with pytest.raises(CalibrationError, match=r"\(3, 4\)"):
            camera.project(np.zeros((3, 4)))


# --- other image sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{type(c).__name__}{len(c.distortion)}")
def test_resized_moves_pixels_as_cv2_resize_does(camera):
    points = scattered_points()
    uv, visible = camera.project(points)
    half = camera.resized(camera.width_px // 2, camera.height_px // 4)
    uv_half, visible_half = half.project(points)
    assert_allclose(uv_half[visible], (uv[visible] + 0.5) * [0.5, 0.25] - 0.5, atol=1e-9)
    assert_array_equal(visible_half, visible)


def test_a_bright_pixel_is_found_where_the_resized_camera_says():
    image = np.zeros((48, 64), np.float32)
    image[20:24, 40:44] = 1
    small_image = cv2.resize(image, (16, 12), interpolation=cv2.INTER_AREA)
    camera = PinholeCamera(64, 48, 50.0, 50.0, 31.5, 23.5)
    ray = np.array([[(41.5 - 31.5) / 50, (21.5 - 23.5) / 50, 1.0]])  # the centre of the bright block
    uv = camera.resized(16, 12).project(ray)[0][0]
    assert small_image[round(uv[1]), round(uv[0])] == 1
    assert_allclose(uv, [10, 5], atol=1e-12)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{type(c).__name__}{len(c.distortion)}")
def test_cropped_moves_pixels_by_the_corner_and_sees_only_the_window(camera):
    points = scattered_points()
    uv, visible = camera.project(points)
    window = camera.cropped(100, 50, 200, 120)
    uv_window, visible_window = window.project(points)
    assert_allclose(uv_window[visible], uv[visible] - [100, 50], atol=1e-9)
    inside = visible & (uv[:, 0] >= 99.5) & (uv[:, 0] < 299.5) & (uv[:, 1] >= 49.5) & (uv[:, 1] < 169.5)
    assert_array_equal(visible_window, inside)


def test_crop_and_resize_keep_distortion_rotation_and_offset():
    camera = pinhole(PLUMB_BOB, rotation=cv2.Rodrigues(np.array([0, 0.1, 0]))[0], offset_m=np.array([0.1, 0, 0]))
    changed = camera.cropped(10, 20, 300, 200).resized(600, 400)
    assert changed.distortion == camera.distortion
    assert_array_equal(changed.rotation, camera.rotation)
    assert_array_equal(changed.offset_m, camera.offset_m)


# --- as values -----------------------------------------------------------------------------------------------------


def test_cameras_are_equal_by_value():
    def copy(camera: CameraModel) -> CameraModel:
        return camera.cropped(0, 0, camera.width_px, camera.height_px)

    for camera in CAMERAS:
        assert copy(camera) == camera
        assert camera.resized(320, 240) != camera
    assert pinhole() != pinhole(offset_m=np.array([0.1, 0, 0]))
    assert pinhole((0.0, 0, 0, 0)) != fisheye()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fx": 0.0, "fy": 0.0}, "fx=0.0"),
        ({"fy": -1.0}, "positive focal"),
        ({"cx": np.nan}, "finite"),
        ({"width_px": 0}, "0x480"),
        ({"distortion": (0.1, 0.2, 0.3)}, "got 3"),
        ({"distortion": (np.nan,) * 5}, "finite distortion"),
        ({"rotation": np.diag([1.0, 1, -1])}, "rotation"),
        ({"rotation": np.zeros((3, 3))}, "rotation"),
        ({"offset_m": np.zeros(2)}, "offset"),
    ],
)
def test_impossible_cameras_are_refused(changes, message):
    with pytest.raises(CalibrationError, match=message):
        pinhole(**changes)


def test_fisheye_needs_four_coefficients():
    with pytest.raises(CalibrationError, match=r"expected 4 .* got 5"):
        fisheye(PLUMB_BOB)
