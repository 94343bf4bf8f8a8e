"""Registration of scans: nearest neighbours against brute force, motion against truth, and no motion from nothing."""

import json
from itertools import pairwise

import numpy as np
import pytest
from tiny_street import cloud, pose, scan

from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.geometry import SE3
from clip2uda_core.geometry.point_grid import PointGrid, one_per_voxel, voxel_keys
from clip2uda_core.geometry.registration import SurfaceMap, register
from clip2uda_core.survey.motion import MotionEstimator

HERE = SE3.identity("lidar")


@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_what_brute_force_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, queries = rng.uniform(-5, 5, (400, 3)), rng.uniform(-6, 6, (300, 3))
    index, distance = PointGrid(points, 0.8).nearest(queries)
    all_distances = np.linalg.norm(points[None] - queries[:, None], axis=2)
    within = all_distances.min(1) <= 0.8
    assert 20 < within.sum() < 280
    np.testing.assert_array_equal(index, np.where(within, all_distances.argmin(1), -1))
    np.testing.assert_allclose(distance, np.where(within, all_distances.min(1), np.inf))


def test_grid_of_nothing_and_voxels_by_hand() -> None:
    index, distance = PointGrid(np.empty((0, 3)), 1.0).nearest(np.zeros((2, 3)))
    assert index.tolist() == [-1, -1]
    assert np.isinf(distance).all()
    xyz = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0.9, 0.9, 0.9], [1.1, 0, 0], [0.2, 0.2, 0.2]])
    keys = voxel_keys(xyz, 1.0)
    assert keys[0] == keys[2] == keys[4]
    assert len(set(keys.tolist())) == 3
    assert one_per_voxel(xyz, 1.0).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("x_m", "y_m", "yaw_deg"), [(0, 0, 0), (0.02, 0, 0), (1.2, 0.1, 1.5), (-0.8, 0, -3), (0, 0.3, 6)]
)
def test_motion_is_found_within_centimetres(x_m: float, y_m: float, yaw_deg: float) -> None:
    start, end = pose(0), pose(x_m, yaw_deg, y_m)
    truth = start.inverse() @ end
    result = register(scan(end, 1)[0], SurfaceMap(scan(start, 0)[0]), HERE)
    assert result.failure is None, result
    assert np.linalg.norm(result.target_SE3_source.translation - truth.translation) < 0.03
    assert angle_deg(result.target_SE3_source, truth) < 0.1


def test_moving_car_does_not_pull_the_motion_along() -> None:
    start, end = pose(0), pose(1.0)
    target = SurfaceMap(scan(start, 0, car_x_m=4.0)[0])
    moved = register(scan(end, 1, car_x_m=7.0)[0], target, HERE).target_SE3_source
    np.testing.assert_allclose(moved.translation, (1, 0, 0), atol=0.03)


def test_motion_that_cannot_be_told_is_not_told() -> None:
    here = SurfaceMap(scan(pose(0), 0)[0])
    other = scan(pose(23, 35), 1)[0]
    assert register(other, here, HERE).failure is not None
    few = register(other[:50], here, HERE)
    assert "too few points" in str(few.failure)
    assert few.target_SE3_source is HERE
    assert register(np.full((200, 3), np.nan, np.float32), here, HERE).failure is not None
    field = np.random.default_rng(0).uniform(-20, 20, (30_000, 3)).astype(np.float32)
    field[:, 2] = -1.7 + np.random.default_rng(1).normal(0, 0.01, len(field))
    assert "does not determine" in str(register(field, SurfaceMap(field[::2]), HERE).failure)


def test_drive_is_followed_also_over_a_gap() -> None:
    """0.9 m a scan, with a bend, and four scans lost: 4.5 m, which only the last speed tells where to look for."""
    kept = [0, 1, 2, 3, 8, 9]
    poses = [pose(0.9 * i, 0.3 * i) for i in range(10)]
    estimator = MotionEstimator()
    assert estimator.add(cloud(poses[0], 0)) is None
    for before, now in pairwise(kept):
        motion = estimator.add(cloud(poses[now], now))
        assert motion is not None, (now, estimator.last_failure)
        truth = poses[before].inverse() @ poses[now]
        assert np.linalg.norm(motion.earlier_SE3_later.translation - truth.translation) < 0.04, now
        assert angle_deg(motion.earlier_SE3_later, truth) < 0.1


def test_another_drive_is_not_joined_to_the_one_before() -> None:
    estimator = MotionEstimator()
    for index in (0, 1, 100, 101):
        motion = estimator.add(cloud(pose(0.5 * (index % 100)), index))
        assert (motion is None) == (index in (0, 100))
    assert estimator.add(cloud(pose(0), 0)) is None
    assert "after the scan before" in str(estimator.last_failure)


def angle_deg(a: SE3, b: SE3) -> float:
    trace = np.trace(a.rotation.T @ b.rotation)
    return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


@pytest.mark.real_data
def test_real_drive_goes_where_its_parked_cars_say(real_data) -> None:
    """KITTI drive 0001, 17 m in 14 scans: two parked cars, which people marked in each scan, stand still in the world
    that the chained motions make."""
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    marked = json.loads((drive / "supervisely_annotation_cuboids.json").read_text())["frames"]
    places: dict[str, dict[int, np.ndarray]] = {}
    estimator, world_SE3_lidar = MotionEstimator(), SE3.identity("velo_link")
    for number, frame in enumerate(open_source(drive, ReaderOptions(cameras={}, max_frames=14))):
        motion = estimator.add(frame.cloud)
        assert (motion is None) == (number == 0), estimator.last_failure
        if motion is not None:
            world_SE3_lidar = world_SE3_lidar @ SE3(motion.earlier_SE3_later.matrix, "velo_link", "velo_link")
        for figure in marked[number]["figures"]:
            center = np.array([[figure["geometry"]["position"][axis] for axis in "xyz"]])
            places.setdefault(figure["objectKey"], {})[number] = world_SE3_lidar.transform(center)[0]
    assert 17.0 < world_SE3_lidar.translation[0] < 17.4
    parked = [places["ede8256a43584101bfd47637875fbf4f"], places["ace44da363a541ac8cf7f24eaa2b6cb7"]]
    for seen in parked:
        assert len(seen) == 14
        assert np.linalg.norm(seen[13][:2] - seen[0][:2]) < 0.2
