"""Projection of clouds, by hand and on the real KITTI drive."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clip2uda_core.geometry import SE3, PinholeCamera, project


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """KITTI's `name: numbers` lines."""
    pairs = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line]
    return {key: np.array(values.split(), float) for key, values in pairs if key != "calib_time"}


def kitti(drive: Path) -> tuple[SE3, PinholeCamera]:
    intrinsics, extrinsics = (read_calibration(drive / f"calib_{n}.txt") for n in ("cam_to_cam", "velo_to_cam"))
    p = intrinsics["P_rect_02"].reshape(3, 4)
    rectification = SE3.from_rotation_translation(intrinsics["R_rect_00"].reshape(3, 3), np.zeros(3), "rect", "cam0")
    cam0_SE3_lidar = SE3.from_rotation_translation(extrinsics["R"].reshape(3, 3), extrinsics["T"], "cam0", "lidar")
    camera = PinholeCamera(1242, 375, p[0, 0], p[1, 1], p[0, 2], p[1, 2], offset_m=np.linalg.solve(p[:, :3], p[:, 3]))
    return rectification @ cam0_SE3_lidar, camera


def test_a_point_ahead_of_the_lidar_by_hand():
    camera_SE3_lidar = SE3.from_rotation_translation([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0, 0.2, 0], "cam", "lidar")
    camera = PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5)
    cloud = np.array([[10, 2, 1], [-10, 0, 0], [np.nan] * 3, [10, 20, 0]], np.float32)
    projection = project(cloud, camera_SE3_lidar, camera)
    assert projection.uv_px.dtype == projection.depth_m.dtype == np.float32
    assert_allclose(projection.uv_px[0], [319.5 - 80, 239.5 - 32], rtol=1e-6)
    assert_allclose(projection.depth_m[[0, 1, 3]], [10, -10, 10])
    assert_array_equal(projection.visible, [True, False, False, False])


@pytest.mark.filterwarnings("error")
def test_an_empty_cloud_and_one_without_returns():
    camera_SE3_lidar, camera = SE3(np.eye(4), "cam", "lidar"), PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5)
    assert project(np.zeros((0, 3), np.float32), camera_SE3_lidar, camera).visible.shape == (0,)
    assert not project(np.full((9, 3), np.nan, np.float32), camera_SE3_lidar, camera).visible.any()


@pytest.mark.real_data
def test_kitti_points_fall_in_the_image_as_the_recording_says(real_data):
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    camera_SE3_lidar, camera = kitti(drive)
    clouds = sorted((drive / "velodyne_points" / "data").glob("*.bin"))
    assert len(clouds) == 37
    for path in clouds[::6]:
        xyz = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]
        assert 0.155 <= project(xyz, camera_SE3_lidar, camera).visible.mean() <= 0.160


@pytest.mark.real_data
def test_kitti_pixels_are_those_of_the_calibration_files_own_equation(real_data):
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    projection_inputs = kitti(drive)
    intrinsics, extrinsics = (read_calibration(drive / f"calib_{n}.txt") for n in ("cam_to_cam", "velo_to_cam"))
    rectification, velo = np.eye(4), np.eye(4)
    rectification[:3, :3] = intrinsics["R_rect_00"].reshape(3, 3)
    velo[:3] = np.column_stack([extrinsics["R"].reshape(3, 3), extrinsics["T"]])
    xyz = np.fromfile(drive / "velodyne_points" / "data" / "0000000000.bin", np.float32).reshape(-1, 4)[:, :3]
    homogeneous = (
        np.column_stack([xyz, np.ones(len(xyz))]) @ (intrinsics["P_rect_02"].reshape(3, 4) @ rectification @ velo).T
    )
    expected = homogeneous[:, :2] / homogeneous[:, 2:]

    projection = project(xyz, *projection_inputs)
    assert np.abs(projection.uv_px - expected)[projection.visible].max() < 0.01


@pytest.mark.real_data
def test_kitti_depth_edges_lie_on_image_edges(real_data):
    """The rims of objects are where the image has strong gradients; a projection that is off by 12 px loses them."""
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    strengths = np.mean([edge_strengths(drive, name, (-20, -12, 0, 12, 20)) for name in FRAMES], axis=0)
    assert strengths[2] > 1.25 * np.delete(strengths, 2).max()


FRAMES = ("0000000000", "0000000003", "0000000006", "0000000009", "0000000012")


def edge_strengths(drive: Path, name: str, shifts_px: tuple[int, ...]) -> list[float]:
    """Mean image gradient at the points on rims in depth, with their pixels shifted sideways."""
    camera_SE3_lidar, camera = kitti(drive)
    xyz = np.fromfile(drive / "velodyne_points" / "data" / f"{name}.bin", np.float32).reshape(-1, 4)[:, :3]
    gray = cv2.imread(str(drive / "image_02" / "data" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    gradient = cv2.GaussianBlur(np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0)), (0, 0), 1)
    range_m = np.linalg.norm(xyz, axis=1)  # consecutive points are neighbours on a ring
    rim = (range_m < 0.7 * np.roll(range_m, -1)) | (range_m < 0.7 * np.roll(range_m, 1))
    projection = project(xyz, camera_SE3_lidar, camera)
    u, v = np.floor(projection.uv_px[rim & projection.visible & (range_m < 30)] + 0.5).astype(int).T
    return [gradient[v, np.clip(u + shift, 0, camera.width_px - 1)].mean() for shift in shifts_px]
