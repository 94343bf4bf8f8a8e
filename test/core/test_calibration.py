"""Calibration files: the shipped example, what users may write, and what is refused."""

import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose

from clip2uda_core.data.calibration import (
    Calibration,
    describe_camera,
    load_calibration,
    save_calibration,
)
from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import SE3, FisheyeCamera, PinholeCamera, project
from clip2uda_core.paths import config_file

FORWARD = {"translation": [0.1, 0.2, 0.3], "quaternion_xyzw": [0.5, -0.5, 0.5, 0.5]}
FRONT = {
    "width": 640,
    "height": 480,
    "K": [400.0, 0, 319.5, 0, 400.0, 239.5, 0, 0, 1],
    "camera_SE3_lidar": FORWARD,
}


def load(tmp_path, **front) -> Calibration:
    """Loads a file with one camera: FRONT with changes; None takes a key away."""
    camera = {key: value for key, value in {**FRONT, **front}.items() if value is not None}
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump({"lidar_frame": "lidar", "cameras": {"front": camera}}))
    return load_calibration(path)


def test_the_shipped_example_is_a_calibration():
    calibration = load_calibration(config_file("calibration.example"))
    assert calibration.lidar_frame == "velodyne"
    front, left = calibration.cameras["front"], calibration.cameras["left"]
    raw = front.camera("front", (1392, 512))
    assert isinstance(raw, PinholeCamera)
    assert (raw.fx, raw.cy, len(raw.distortion)) == (984.2439, 233.1966, 5)
    rectified = left.camera("left", (1242, 375))
    assert isinstance(rectified, PinholeCamera)
    assert (rectified.fx, rectified.distortion) == (721.5377, ())
    for camera in (front, left):  # both look ahead: 10 m ahead of the LiDAR, 1 m left of it, 1 m above it
        x, y, z = camera.camera_SE3_lidar.to_se3("camera", "velodyne").transform(np.array([[10.0, 1, 1]]))[0]
        assert (z > 9, x < 0, y < 0) == (True, True, True)


def test_the_two_forms_of_extrinsics_mean_the_same(tmp_path):
    matrix = [[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]]
    by_matrix = load(tmp_path, camera_SE3_lidar={"matrix": matrix}).cameras["front"].camera_SE3_lidar
    by_quaternion = load(tmp_path).cameras["front"].camera_SE3_lidar
    assert_allclose(by_matrix.to_se3("c", "l").matrix, by_quaternion.to_se3("c", "l").matrix, atol=1e-15)


def test_matrices_may_be_written_flat_or_by_rows(tmp_path):
    rows = [[400.0, 0, 319.5], [0, 400.0, 239.5], [0, 0, 1]]
    assert load(tmp_path, K=rows) == load(tmp_path)


def test_fisheye(tmp_path):
    camera = load(tmp_path, model="equidistant", D=[0.1, 0.01, 0, 0]).cameras["front"].camera("front", (640, 480))
    assert isinstance(camera, FisheyeCamera)
    assert camera.distortion == (0.1, 0.01, 0, 0)


def test_the_fourth_column_of_p_counts(tmp_path):
    p = [400.0, 0, 319.5, 40.0, 0, 400.0, 239.5, 0, 0, 0, 1, 0]
    camera = load(tmp_path, K=None, P=p, rectified=True).cameras["front"].camera("front", (640, 480))
    assert_allclose(camera.project(np.array([[0.0, 0, 10]]))[0], [[319.5 + 4, 239.5]])


def test_raw_images_are_not_described_by_p(tmp_path):
    p = [300.0, 0, 300.0, 30.0, 0, 300.0, 200.0, 0, 0, 0, 1, 0]
    assert load(tmp_path, P=p).cameras["front"].camera("front", (640, 480)) == PinholeCamera(
        640, 480, 400.0, 400.0, 319.5, 239.5
    )


def test_a_resized_image_has_a_resized_camera_and_another_aspect_is_refused(tmp_path):
    front = load(tmp_path).cameras["front"]
    assert front.camera("front", (320, 240)) == front.camera("front", (640, 480)).resized(320, 240)
    with pytest.raises(CalibrationError, match=r"'front'.*640x480.*640x360"):
        front.camera("front", (640, 360))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": [0.0] * 9}, "front.*fx=0"),
        ({"K": [400.0, 0, 319.5]}, r"front\.K"),
        ({"K": None}, "expected k, or p"),
        ({"K": None, "P": [1.0] * 12}, "rectified"),
        ({"width": 0}, "width"),
        ({"height": None}, "height"),
        ({"model": "pinhole"}, "plumb_bob"),
        ({"D": [0.1, 0.2]}, "front.*distortion.*got 2"),
        ({"focal": 3}, r"front\.focal: unknown"),
        ({"camera_SE3_lidar": None}, "camera_SE3_lidar"),
        ({"camera_SE3_lidar": {"translation": [0, 0, 0]}}, "either matrix, or"),
        ({"camera_SE3_lidar": {"translation": [0, 0, 0], "quaternion_xyzw": [0, 0, 0, 0]}}, "front.*unit quaternion"),
        ({"camera_SE3_lidar": {"matrix": np.diag([1.0, 1, -1, 1]).tolist()}}, "front.*rotation matrix"),
        ({"camera_SE3_lidar": {"matrix": np.eye(3).tolist()}}, "matrix"),
    ],
)
def test_mistakes_are_refused_with_file_camera_and_cause(tmp_path, changes, message):
    with pytest.raises(CalibrationError, match=rf"rig\.yaml(.|\n)*{message}"):
        load(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "cameras: {}", "cameras: [1", "lidar_frame: x"])
def test_files_that_are_no_calibration_are_refused(tmp_path, text):
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"rig\.yaml"):
        load_calibration(path)
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(tmp_path / "missing.yaml")


TURN = SE3.from_quaternion_xyzw([0, 0.0998334, 0, 0.9950042], [0, 0, 0], "a", "b").rotation


@pytest.mark.parametrize(
    "camera",
    [
        PinholeCamera(640, 480, 400.0, 410.0, 320.0, 240.0),
        PinholeCamera(
            640, 480, 400.0, 410.0, 320.0, 240.0, (-0.3, 0.1, 0.001, 0.002, 0.0), TURN, np.array([0.1, 0, 0.2])
        ),
        FisheyeCamera(640, 480, 200.0, 210.0, 320.0, 240.0, (0.1, 0.02, 0.0, 0.0), TURN),
    ],
)
def test_saved_cameras_project_as_before(tmp_path, camera):
    camera_SE3_lidar = SE3.from_quaternion_xyzw([0.5, -0.5, 0.5, 0.5], [0.1, 0.2, 0.3], "camera", "lidar")
    saved = Calibration(lidar_frame="lidar", cameras={"front": describe_camera(camera, camera_SE3_lidar)})
    save_calibration(saved, tmp_path / "rig.yaml")
    loaded = load_calibration(tmp_path / "rig.yaml")
    assert loaded == saved

    front = loaded.cameras["front"]
    cloud = np.random.default_rng(0).uniform([-5, -5, -2], [20, 5, 2], (500, 3))
    before = project(cloud, camera_SE3_lidar, camera)
    after = project(cloud, front.camera_SE3_lidar.to_se3("camera", "lidar"), front.camera("front", (640, 480)))
    assert before.visible.sum() > 50
    assert (after.visible == before.visible).mean() > 0.99
    both = after.visible & before.visible
    assert_allclose(after.uv_px[both], before.uv_px[both], atol=0.01)
