"""What `clip2uda inspect` measures and warns of, and the command itself on tiny bags and on real recordings."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from tiny_recordings import PERIOD_NS, START_NS, TinyBag, frame_messages, write_bag
from typer.testing import CliRunner

from clip2uda_core.cli.inspect import inspect
from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.calibration import Calibration, save_calibration
from clip2uda_core.data.calibration import describe_camera as describe_calibration
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.evaluation.inspection import (
    CameraStatistics,
    camera_pose,
    camera_warnings,
    cloud_warnings,
    describe_camera,
    measure_cloud,
    measure_times,
    merge_clouds,
    pairing_warnings,
    time_warnings,
)
from clip2uda_core.geometry import SE3, FisheyeCamera, PinholeCamera, project
from clip2uda_core.types import CameraView, PointCloud

STAMPS = START_NS + np.arange(100, dtype=np.int64) * PERIOD_NS
OPTICAL = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
app = typer.Typer()
app.command()(inspect)


def times(stamps: np.ndarray, logged: np.ndarray | None = None, name: str = "/points"):
    measured = measure_times(name, stamps, logged)
    assert measured is not None
    return measured


def view(rotation: np.ndarray = OPTICAL, translation=(0, 0, 0), camera=None) -> CameraView:
    camera = camera or PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5)
    camera_SE3_lidar = SE3.from_rotation_translation(rotation, np.array(translation, float), "camera", "lidar")
    return CameraView("front", np.zeros((480, 640, 3), np.uint8), 0, camera, camera_SE3_lidar)


def sphere(points: int = 5000) -> np.ndarray:
    directions = np.random.default_rng(0).normal(size=(points, 3))
    return (10 * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def statistics(camera_view: CameraView) -> CameraStatistics:
    measured = CameraStatistics(camera_view)
    measured.add(project(sphere(), camera_view.camera_SE3_lidar, camera_view.camera))
    return measured


def test_times_of_a_steady_stream() -> None:
    measured = times(STAMPS, STAMPS + 20_000_000)
    assert measured.rate_hz == pytest.approx(10)
    assert (measured.gaps, measured.backwards, measured.repeated, measured.unset) == (0, 0, 0, 0)
    assert measured.log_delay_s == pytest.approx(0.02)
    assert time_warnings(measured) == []
    assert measure_times("/points", STAMPS[:0]) is None
    assert times(STAMPS[:1]).rate_hz == 0


@pytest.mark.parametrize(
    ("stamps", "told"),
    [
        (np.delete(STAMPS, slice(50, 55)), "1 gaps, the longest 0.60 s"),
        (np.concatenate([STAMPS[:50], STAMPS[:50]]), "jump back 1 times"),
        (np.repeat(STAMPS, 2), "100 stamps repeat"),
        (STAMPS * 0, "100 of 100 stamps are zero"),
    ],
)
def test_odd_stamps_are_told(stamps, told) -> None:
    assert any(told in warning for warning in time_warnings(times(stamps)))


@pytest.mark.parametrize(
    ("delay_s", "told"), [(3600, "3600.0 s before the recorder"), (-60, "60.0 s after the recorder")]
)
def test_header_against_log_time(delay_s, told) -> None:
    (warning,) = time_warnings(times(STAMPS, STAMPS + delay_s * 10**9))
    assert told in warning
    assert "not synchronised" in warning


def test_streams_that_do_not_fit_each_other() -> None:
    cloud = times(STAMPS, STAMPS + 10_000_000)
    assert pairing_warnings(cloud, times(STAMPS + 3 * 10**7, STAMPS + 4 * 10**7), "front", 0.05) == []
    slow = pairing_warnings(cloud, times(STAMPS[::4]), "front", 0.05)
    assert any("2.5 images a second for 10.0 clouds" in warning for warning in slow)
    apart = pairing_warnings(cloud, times(STAMPS + 60 * 10**9), "front", 0.05)
    assert any("50.1 s beside" in warning for warning in apart)
    offset = pairing_warnings(cloud, times(STAMPS + 10**9, STAMPS + 10_000_000), "front", 0.05)
    assert any("--stamp-offset front=1.00" in warning for warning in offset), offset


def test_cloud_statistics_of_a_known_sensor() -> None:
    """16 lines from -15 to 15 degrees, 2 m over flat ground, 1800 steps a turn; those that look up see nothing."""
    elevation = np.radians(np.linspace(-15, 15, 16))
    azimuth = np.radians(np.arange(0, 360, 0.2))
    a, e = np.meshgrid(azimuth, elevation)
    with np.errstate(divide="ignore"):
        range_m = np.where(e < 0, -2 / np.sin(e), np.nan)
    range_m = np.where(range_m < 60, range_m, 15 * np.ones_like(range_m))
    xyz = np.stack([range_m * np.cos(e) * np.cos(a), range_m * np.cos(e) * np.sin(a), range_m * np.sin(e)], -1)
    xyz = xyz.reshape(-1, 3).astype(np.float32)
    measured = measure_cloud(PointCloud(xyz, START_NS))
    assert measured.points == 16 * 1800
    assert measured.beams == 16
    assert measured.height_m == pytest.approx(2.0, abs=0.1)
    half = measure_cloud(PointCloud(np.where(np.arange(len(xyz))[:, None] % 2, xyz, np.nan).astype(np.float32), 0))
    assert half.nan_share == pytest.approx(0.5)
    merged = merge_clouds([measured, measured, half])
    assert merged is not None
    assert (merged.clouds, merged.beams, merged.nan_share) == (3, 16, 0)
    assert merge_clouds([]) is None


@pytest.mark.parametrize(
    ("xyz", "told"),
    [
        (np.empty((0, 3)), "some clouds are empty"),
        (np.full((5, 3), np.nan), "100 % of the points are NaN"),
        (1000 * sphere(), "millimetres"),
    ],
)
def test_odd_clouds_are_told(xyz, told) -> None:
    measured = measure_cloud(PointCloud(xyz.astype(np.float32), 0))
    (warning,) = cloud_warnings(measured)
    assert told in warning


def test_a_cloud_of_one_point_has_no_ground() -> None:
    measured = measure_cloud(PointCloud(np.zeros((1, 3), np.float32), 0))
    assert (measured.points, measured.height_m) == (1, None)
    assert cloud_warnings(measured) == []


def test_pose_of_a_camera_in_the_words_of_the_robot() -> None:
    """Mounted 0.5 m ahead and 0.3 m below the LiDAR, turned 90 degrees to the left and tipped down by 10."""
    yaw, pitch = np.radians(90), np.radians(10)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    tip = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    lidar_from_optical = turn @ tip @ OPTICAL.T
    place = np.array([0.5, 0, -0.3])
    rotation = lidar_from_optical.T
    measured, angles = camera_pose(view(rotation, -rotation @ place))
    np.testing.assert_allclose(measured, place, atol=1e-12)
    np.testing.assert_allclose(angles, (0, 10, 90), atol=1e-9)
    stereo = PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5, offset_m=np.array([-0.5, 0, 0]))
    np.testing.assert_allclose(camera_pose(view(camera=stereo))[0], (0, -0.5, 0), atol=1e-12)


def test_cameras_are_described_by_model() -> None:
    assert "no distortion, 640x480, f 400.0 400.0, c 319.5 239.5, 77° wide" in describe_camera(view().camera)
    bent = PinholeCamera(640, 480, 400.0, 400.0, 319.5, 239.5, distortion=(-0.1, 0.01, 0, 0, 0))
    assert "5 distortion coefficients" in describe_camera(bent)
    assert "fisheye" in describe_camera(FisheyeCamera(640, 480, 200.0, 200.0, 319.5, 239.5))


def test_a_sound_camera_gives_no_warning() -> None:
    assert camera_warnings(statistics(view())) == []


def test_a_body_frame_in_place_of_the_optical_one_is_told() -> None:
    told = camera_warnings(statistics(view(np.eye(3))))
    assert any("looks straight up" in warning and "REP 103" in warning for warning in told)


def test_a_camera_that_sees_no_points_is_told() -> None:
    told = camera_warnings(statistics(view(camera=PinholeCamera(640, 480, 40_000.0, 40_000.0, 319.5, 239.5))))
    assert any("0.0 % of the points" in warning for warning in told)


def test_points_in_a_narrow_strip_are_told() -> None:
    narrow = CameraStatistics(view())
    xyz = sphere() * np.array([1, 0.02, 1], np.float32)
    narrow.add(project(xyz, narrow.view.camera_SE3_lidar, narrow.view.camera))
    assert any("narrow strip" in warning for warning in camera_warnings(narrow))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_inspect_a_bag(tmp_path) -> None:
    bag = write_bag(tmp_path / "bag", "mcap", frame_messages("mcap", 6, points=3000))
    output = run(str(bag), "--out", str(tmp_path / "pictures"))
    for expected in ("/lidar/points", "camera front", "10.00", "clouds with all images", "64x48", "wrote"):
        assert expected in output, output
    warnings = [line for line in output.splitlines() if line.startswith("warning")]
    assert [w for w in warnings if not w.startswith("warning: sensors: no ")] == [], "random points have no beams"
    assert "calibration of front: cannot tell" in output
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert pictures == {"birds_eye.png", "depth_front.png", "edges_front.png"}


def test_inspect_tells_what_is_wrong(tmp_path, monkeypatch) -> None:
    """No TF, stamps of a camera with a clock of its own; the pictures still show the cloud."""
    tiny = TinyBag("mcap")
    messages = [m for m in frame_messages("mcap", 6) if m[1] in ("/lidar/points", "/front/camera_info")]
    for i in range(6):
        log_time = START_NS + i * PERIOD_NS + 7_000_000
        messages.append((log_time, "/front/image_raw", tiny.image(i, log_time - 40 * 10**9)))
    bag = write_bag(tmp_path / "bag", "mcap", sorted(messages, key=lambda m: m[0]))
    monkeypatch.chdir(tmp_path)
    output = run(str(bag))
    assert "'front' is not used" in output
    assert "no image can be paired" in output
    assert "recorder's clock" in output
    assert [path.name for path in Path("inspect_bag").iterdir()] == ["birds_eye.png"]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (["--camera", "front", "SRC"], ConfigError, "NAME=VALUE"),
        (["--camera", "a=/b", "--no-cameras", "SRC"], ConfigError, "contradict"),
        (["--stamp-offset", "front=soon", "SRC"], ConfigError, "expected seconds"),
        (["nowhere.mcap"], DataError, "no such file"),
    ],
)
def test_inspect_refuses_bad_options(arguments, error, told) -> None:
    with pytest.raises(error, match=told):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.real_data
def test_inspect_real_recordings(real_data, tmp_path) -> None:
    output = run(str(real_data / "kitti_raw_2011_09_26_drive_0001"), "--out", str(tmp_path), "--max-frames", "4")
    for expected in (
        "1242x375",
        "about 64 scan lines",
        "LiDAR: 64 beams",
        "above the ground",
        "clock of front: stamps +16.6 ms",
        "calibration of front: plausible",
    ):
        assert expected in output, output
    assert "warning" not in output
    assert (tmp_path / "edges_front.png").is_file()
    output = run(str(real_data / "semantickitti_00"), "--out", str(tmp_path), "--labels", "street8")
    assert "nominal" in output
    assert (tmp_path / "labels_front.png").is_file()


@pytest.mark.real_data
def test_inspect_tells_a_wrong_calibration(real_data, tmp_path) -> None:
    """KITTI's calibration, in a file, with the camera turned by 4 degrees to the side."""
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    bag = tmp_path / "kitti.mcap"
    with BagWriter(bag, images="jpeg") as writer:
        for index, frame in enumerate(open_source(drive)):
            if index % 6 == 0:
                writer.write_frame(frame)
    view = frame.views[0]
    turned = SE3.from_rotation_translation(cv2.Rodrigues(np.radians([0, 4.0, 0]))[0], np.zeros(3), "turned", "front")
    pose = SE3(view.camera_SE3_lidar.matrix, "front", view.camera_SE3_lidar.source)
    rig = Calibration(cameras={"front": describe_calibration(view.camera, turned @ pose)})
    save_calibration(rig, tmp_path / "rig.yaml")
    output = run(str(bag), "--calibration", str(tmp_path / "rig.yaml"), "--out", str(tmp_path))
    assert "warning: camera front: its calibration is wrong" in output
    assert "4.0° to the right" in output or "4.2° to the right" in output, output


@pytest.mark.real_data
def test_real_calibration_is_that_of_the_paper(real_data) -> None:
    """Geiger 2013, figure 3: camera 2 sits 0.27 m before, 0.06 m left of and 0.08 m below the Velodyne, which is 1.73 m
    above the ground."""
    drive = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions(max_frames=1))
    frame = next(iter(drive))
    place_m, angles_deg = camera_pose(frame.views[0])
    np.testing.assert_allclose(place_m, (0.27, 0.06, -0.08), atol=0.02)
    assert np.abs(angles_deg).max() < 1
    assert measure_cloud(frame.cloud).height_m == pytest.approx(1.73, abs=0.15)
