"""CameraInfo <-> camera models, against OpenCV and pixels worked out by hand."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from message_runtimes import STAMP_NS, changed, each_runtime, header

from clip2uda_core.data.messages import RosbagsFactory, decode_camera_info, encode_camera_info
from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import FisheyeCamera, PinholeCamera

ROSBAGS = RosbagsFactory()
SIZE = (640, 480)
K = np.array([[500.0, 0, 310], [0, 510, 250], [0, 0, 1]])
D = np.array([-0.2, 0.05, 0.001, -0.002, 0.01])
P = np.array([[480.0, 0, 320, -48], [0, 480, 240, 0], [0, 0, 1, 0]])
R = cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0]
RNG = np.random.default_rng(8)
POINTS = np.column_stack([RNG.uniform(-2, 2, 200), RNG.uniform(-1.5, 1.5, 200), RNG.uniform(4, 20, 200)])


def info(factory=ROSBAGS, **overrides):
    roi = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False, **overrides.pop("roi", {})}
    fields = {
        "header": header(factory, "camera"),
        "width": SIZE[0],
        "height": SIZE[1],
        "distortion_model": "plumb_bob",
        "d": D,
        "k": K.reshape(-1),
        "r": np.eye(3).reshape(-1),
        "p": np.column_stack([K, np.zeros(3)]).reshape(-1),
        "binning_x": 0,
        "binning_y": 0,
        "roi": factory.make("sensor_msgs/msg/RegionOfInterest", **roi),
        **overrides,
    }
    return factory.make("sensor_msgs/msg/CameraInfo", **fields)


def opencv_pixels(points, d=D):
    return cv2.projectPoints(points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), K, d)[0][:, 0]


def pixels(camera, points=POINTS):
    uv, visible = camera.project(points)
    assert visible.sum() > 50
    return uv, visible


@each_runtime
@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", D),
        ("plumb_bob", D[:4]),
        ("rational_polynomial", [0.1, -0.02, 0.001, 0.002, 0.003, 0.2, -0.01, 0.001]),
        ("rational_polynomial", [0.1, -0.02, 0.001, 0.002, 0.003, 0.2, -0.01, 0.001, 0.01, 0.02, -0.01, 0.005]),
        ("", []),
        ("plumb_bob", [0] * 5),
        ("something of the driver's", [0] * 7),
    ],
)
def test_raw_image(factory, model, d):
    camera = decode_camera_info(info(factory, distortion_model=model, d=np.array(d, float)), "/info", False, SIZE)
    assert isinstance(camera, PinholeCamera)
    uv, visible = pixels(camera)
    known = d if len(d) in (4, 5, 8, 12) else []
    np.testing.assert_allclose(uv[visible], opencv_pixels(POINTS, d=np.array(known, float))[visible], atol=1e-6)


def test_ros1_names():
    msg = info()
    upper = {name.upper(): getattr(msg, name) for name in "kdrp"}
    rest = {
        name: getattr(msg, name) for name in ("width", "height", "distortion_model", "binning_x", "binning_y", "roi")
    }
    ros1 = SimpleNamespace(**rest, **upper)
    assert decode_camera_info(ros1, "/info", False, SIZE) == decode_camera_info(msg, "/info", False, SIZE)


@each_runtime
@pytest.mark.parametrize("model", ["equidistant", "fisheye"])
def test_fisheye(factory, model):
    d = np.array([0.02, -0.01, 0.002, -0.001])
    camera = decode_camera_info(info(factory, distortion_model=model, d=d), "/info", False, SIZE)
    uv, visible = pixels(camera)
    expected = cv2.fisheye.projectPoints(POINTS.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), K, d)[0][:, 0]
    np.testing.assert_allclose(uv[visible], expected[visible], atol=1e-6)


@pytest.mark.parametrize("d", [[], [0, 0, 0, 0], [0, 0, 0, 0, 0]])
def test_fisheye_without_coefficients_is_still_a_fisheye(d):
    msg = info(distortion_model="equidistant", d=np.array(d, float))
    assert decode_camera_info(msg, "/info", False, SIZE) == FisheyeCamera(*SIZE, 500, 510, 310, 250)


@each_runtime
def test_rectified_image_takes_p(factory):
    msg = info(factory, p=P.reshape(-1), r=R.reshape(-1))
    camera = decode_camera_info(msg, "/info", True, SIZE)
    homogeneous = np.column_stack([POINTS, np.ones(len(POINTS))]) @ P.T
    uv, visible = pixels(camera)
    np.testing.assert_allclose(uv[visible], (homogeneous[:, :2] / homogeneous[:, 2:])[visible], atol=1e-9)


def test_raw_image_of_a_second_stereo_camera():
    """Its frame is that of the first, rectified camera: the offset of P, then R backwards, then K and D."""
    msg = info(p=P.reshape(-1), r=R.reshape(-1))
    camera = decode_camera_info(msg, "/info", False, SIZE)
    offset_m = np.array([-48 / 480, 0, 0])
    uv, visible = pixels(camera)
    np.testing.assert_allclose(uv[visible], opencv_pixels((POINTS + offset_m) @ R)[visible], atol=1e-6)


def test_without_p_a_rectified_image_takes_k():
    camera = decode_camera_info(info(p=np.zeros(12)), "/info", True, SIZE)
    assert camera == PinholeCamera(*SIZE, 500, 510, 310, 250)


def test_without_r_and_p_a_raw_image_takes_k_and_d():
    camera = decode_camera_info(info(p=np.zeros(12), r=np.zeros(9)), "/info", False, SIZE)
    assert camera == PinholeCamera(*SIZE, 500, 510, 310, 250, tuple(D))


def test_region_of_interest_and_binning():
    """Sensor pixel u of a region at 100, binned by 2: columns 100 and 101 become column 0, centred between them."""
    msg = info(roi={"x_offset": 100, "y_offset": 60, "width": 400, "height": 300}, binning_x=2, binning_y=3)
    camera = decode_camera_info(msg, "/info", False, (200, 100))
    uv, visible = pixels(camera)
    sensor = opencv_pixels(POINTS)
    expected = np.column_stack([(sensor[:, 0] - 100 - 0.5) / 2, (sensor[:, 1] - 60 - 1) / 3])
    np.testing.assert_allclose(uv[visible], expected[visible], atol=1e-6)
    inside = (np.abs(expected[:, 0] - 99.5) < 100) & (np.abs(expected[:, 1] - 49.5) < 50)
    np.testing.assert_array_equal(visible, inside)


def test_bins_that_do_not_divide_the_sensor():
    camera = decode_camera_info(info(width=641, height=481, binning_x=2, binning_y=2), "/info", False, (320, 240))
    assert (camera.fx, camera.fy) == (250, 255)


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (427, 320)])
def test_resized_image(size):
    camera = decode_camera_info(info(), "/info", False, size)
    assert (camera.width_px, camera.height_px) == size
    uv, visible = pixels(camera)
    expected = (opencv_pixels(POINTS) + 0.5) * np.array(size) / SIZE - 0.5
    np.testing.assert_allclose(uv[visible], expected[visible], atol=1e-6)


def matrix(values, **entries):
    values = np.array(values, float).copy()
    for position, value in entries.items():
        values[int(position[1]), int(position[2])] = value
    return values.reshape(-1)


@each_runtime
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (
            {"k": np.zeros(9), "p": np.zeros(12)},
            r"/front/info: .*in K, got fx=0.0, fy=0.0 \(zero means not calibrated\)",
        ),
        ({"k": matrix(K, _00=np.nan), "p": np.zeros(12)}, "/front/info: expected sane numbers in K"),
        ({"k": matrix(K, _01=3.0), "p": np.zeros(12)}, r"/front/info: expected K of the form \[fx 0 cx"),
        ({"width": 0}, "/front/info: expected the image size that was calibrated, got 0x480"),
        ({"width": 800}, "/front/info: expected an image of 800x480 pixels .* got 640x480"),
        ({"roi": SimpleNamespace(x_offset=600, y_offset=0, width=100, height=0)}, "region of interest within 640x480"),
        ({"p": matrix(P, _03=np.inf)}, "expected sane numbers in P"),
        ({"binning_x": 4_000_000_000, "binning_y": 4_000_000_000}, "expected an image of 0x0 pixels"),
    ],
)
def test_calibrations_that_cannot_be_used(factory, rectified, fields, match):
    with pytest.raises(CalibrationError, match=match):
        decode_camera_info(changed(info(factory), **fields), "/front/info", rectified, SIZE)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        (
            {"distortion_model": "omni"},
            "unknown distortion model 'omni', known are plumb_bob, rational_polynomial, equi",
        ),
        ({"d": D[:3]}, "expected 0, 4, 5, 8, 12, 14 distortion coefficients for plumb_bob, got 3"),
        ({"d": D * np.nan}, "expected sane numbers in D"),
        ({"distortion_model": "equidistant"}, "expected 4 distortion coefficients of a fisheye model"),
        ({"distortion_model": "equidistant", "d": D[:4], "p": P.reshape(-1)}, "fisheye camera in a frame of its own"),
        ({"r": 2 * np.eye(3).reshape(-1)}, "/front/info: R: expected a rotation matrix"),
        ({"k": K.reshape(-1)[:6]}, "expected 9 numbers in K, got 6"),
        ({"p": matrix(np.zeros((3, 4)), _03=1.0)}, "expected positive focal lengths in P"),
    ],
)
def test_raw_calibrations_that_cannot_be_used(fields, match):
    with pytest.raises(CalibrationError, match=match):
        decode_camera_info(changed(info(), **fields), "/front/info", False, SIZE)


@each_runtime
@pytest.mark.parametrize(
    "camera",
    [
        PinholeCamera(*SIZE, 500, 510, 310, 250),
        PinholeCamera(*SIZE, 500, 510, 310, 250, tuple(D)),
        PinholeCamera(*SIZE, 500, 510, 310, 250, (*D, 0.2, -0.01, 0.001)),
        PinholeCamera(*SIZE, 500, 510, 310, 250, tuple(D), R),
        FisheyeCamera(*SIZE, 500, 510, 310, 250, (0.02, -0.01, 0.002, -0.001), R),
    ],
)
def test_round_trip(factory, camera):
    msg = encode_camera_info(camera, STAMP_NS, "front_optical_frame", factory)
    assert msg.header == header(factory, "front_optical_frame")
    assert decode_camera_info(msg, "/info", False, SIZE) == camera


@pytest.mark.parametrize("rectified", [False, True])
def test_round_trip_of_kittis_p2(rectified):
    camera = PinholeCamera(1242, 375, 721.5377, 721.5377, 609.5593, 172.854, offset_m=[0.0597, -0.00036, 0.0027])
    msg = encode_camera_info(camera, STAMP_NS, "front", ROSBAGS)
    expected = camera.matrix @ np.column_stack([np.eye(3), camera.offset_m])
    np.testing.assert_allclose(msg.p.reshape(3, 4), expected, rtol=1e-15)
    decoded = decode_camera_info(msg, "/info", rectified, (1242, 375))
    np.testing.assert_allclose(decoded.offset_m, camera.offset_m, atol=1e-15)
    np.testing.assert_array_equal(decoded.matrix, camera.matrix)


def test_round_trip_of_a_turned_and_shifted_camera():
    camera = PinholeCamera(*SIZE, 500, 510, 310, 250, tuple(D), R, [0.1, -0.02, 0.01])
    msg = encode_camera_info(camera, STAMP_NS, "front", ROSBAGS)
    decoded = decode_camera_info(msg, "/info", False, SIZE)
    np.testing.assert_allclose(decoded.project(POINTS)[0], camera.project(POINTS)[0], atol=1e-9)


def test_a_short_distortion_is_written_as_five_numbers():
    msg = encode_camera_info(PinholeCamera(*SIZE, 500, 510, 310, 250, tuple(D[:4])), STAMP_NS, "front", ROSBAGS)
    assert msg.distortion_model == "plumb_bob"
    assert msg.d.tolist() == [*D[:4], 0]
