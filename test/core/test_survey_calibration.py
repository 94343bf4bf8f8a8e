"""The calibration check against true calibrations, which it must let pass, and wrong ones, which it must find."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.survey.alignment import Turn
from clip2uda_core.survey.beams import Beams
from clip2uda_core.survey.calibration_check import CalibrationCheck, check_calibration
from clip2uda_core.survey.depth_edges import edge_map, find_depth_edges
from clip2uda_core.survey.edge_picture import draw_edge_overlay
from clip2uda_core.types import CameraView, Frame, PointCloud

OPTICAL = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
AXES = {"pitch": (1, 0, 0), "yaw": (0, 1, 0), "roll": (0, 0, 1)}


def recalibrated(frames: list[Frame], change: np.ndarray) -> list[Frame]:
    """The frames with the cameras' extrinsics changed by a (4, 4) in the camera frame."""

    def changed(view: CameraView) -> CameraView:
        pose = view.camera_SE3_lidar
        return replace(view, camera_SE3_lidar=SE3(change @ pose.matrix, pose.target, pose.source))

    return [replace(frame, views=tuple(changed(view) for view in frame.views)) for frame in frames]


def turn(axis: str, degrees: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.radians(degrees) * np.array(AXES[axis], float))[0]
    return matrix


def check_front(frames: list[Frame]) -> CalibrationCheck:
    return check_calibration(frames)["front"]


def test_turns_are_named_as_people_do() -> None:
    """A camera turned to the right sees what is ahead further left; one turned up sees it further down."""
    ahead = np.array([0.0, 0.0, 10.0])
    assert (Turn(yaw_deg=5).rotation() @ ahead)[0] < 0
    assert (Turn(pitch_deg=5).rotation() @ ahead)[1] > 0
    above = np.array([0.0, -1.0, 10.0])
    assert (Turn(roll_deg=5).rotation() @ above)[0] < 0  # clockwise: the top of the image leans to the left
    assert Turn(3, 4, 0).angle_deg == pytest.approx(5, abs=0.01)


BEAMS = Beams(np.linspace(5, -15, 41), 1.0)


def box_before_wall() -> np.ndarray:
    """(N, 3): a wall 20 m ahead, and before it, 10 m ahead, a box from 1 m right to 1 m left whose top is 0.1 m up."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-30, 30, 0.2)), np.radians(BEAMS.elevations_deg))
    side, height = np.tan(azimuth), np.tan(elevation) / np.cos(azimuth)
    on_box = (np.abs(10 * side) < 1) & (10 * height < 0.1)
    depth = np.where(on_box, 10.0, 20.0)
    return np.stack([depth, depth * side, depth * height], -1).reshape(-1, 3).astype(np.float32)


def test_depth_edges_are_the_near_outlines() -> None:
    edges = find_depth_edges(np.random.default_rng(0).permutation(box_before_wall()), BEAMS)
    assert (edges.xyz_m[:, 0] < 10.5).all(), "the wall behind has no edge there"
    sides = np.abs(edges.xyz_m[edges.upright, 1])
    assert len(sides) > 40
    assert sides.min() > 0.95
    tops = edges.xyz_m[~edges.upright]
    assert len(tops) > 20
    np.testing.assert_allclose(tops[:, 2], 0.0, atol=0.1)  # the highest beam that meets the box is the level one


def test_edges_of_an_image_stand_out_by_day_and_by_night() -> None:
    image = np.full((100, 200, 3), 100, np.uint8)
    image[:, 120:] = 160
    camera = PinholeCamera(200, 100, 200.0, 200.0, 99.5, 49.5)
    for brightness in (1.0, 0.3):
        strength = edge_map((brightness * image).astype(np.uint8), camera, 1.5).strength
        assert strength[1, 50, 118:122].max() > 2
        assert abs(strength[1, 50, 30]) < 0.1
        assert np.abs(strength[0]).max() < 0.1, "nothing changes along the columns"


def test_the_overlay_says_what_is_on_an_edge() -> None:
    """A camera at the LiDAR's place; the image shows the box where the cloud has it, then 3 degrees beside."""
    camera = PinholeCamera(400, 200, 300.0, 300.0, 199.5, 99.5)
    pose = SE3.from_rotation_translation(OPTICAL, np.zeros(3), "front", "lidar")
    edges = find_depth_edges(box_before_wall(), BEAMS)

    def green(shift_px: int) -> int:
        image = np.full((200, 400, 3), 90, np.uint8)
        image[96:, 170 + shift_px : 230 + shift_px] = 200
        picture = draw_edge_overlay(CameraView("front", image, 0, camera, pose), edges)[:200]
        return int((picture == (90, 240, 120)).all(-1).sum())

    assert green(0) > 5 * green(16) > 0


def test_few_frames_say_nothing() -> None:
    camera = PinholeCamera(400, 200, 300.0, 300.0, 199.5, 99.5)
    pose = SE3.from_rotation_translation(OPTICAL, np.zeros(3), "front", "lidar")
    noise = np.random.default_rng(0).integers(0, 255, (200, 400, 3), dtype=np.uint8)
    check = check_front([Frame(PointCloud(box_before_wall(), 0), (CameraView("front", noise, 0, camera, pose),))])
    assert check.verdict == "cannot tell"
    assert "in its 1 images" in check.message
    check.raise_if_wrong()


@pytest.fixture(scope="module")
def kitti(real_data: Path) -> list[Frame]:
    drive = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions())
    return [frame for i, frame in enumerate(drive) if i % 7 == 0]


@pytest.mark.real_data
def test_the_calibration_of_kitti_passes(kitti: list[Frame]) -> None:
    check = check_front(kitti)
    assert check.verdict == "plausible"
    assert check.score > 4
    check.raise_if_wrong()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("axis", "degrees", "words"),
    [
        ("pitch", 3, "up"),
        ("pitch", -5, "down"),
        ("yaw", -3, "to the left"),
        ("yaw", 5, "to the right"),
        ("roll", 5, "clockwise"),
        ("roll", -3, "anticlockwise"),
    ],
)
def test_a_turned_camera_is_found_with_the_way_back(kitti: list[Frame], axis: str, degrees: float, words: str) -> None:
    check = check_front(recalibrated(kitti, turn(axis, degrees)))
    assert check.verdict == "wrong"
    assert check.turn is not None
    assert abs(getattr(check.turn, f"{axis}_deg")) == pytest.approx(abs(degrees), abs=1)
    assert f"° {words}" in check.message
    with pytest.raises(CalibrationError, match=r"camera 'front'.*--calibration FILE"):
        check.raise_if_wrong()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("axis", "degrees"), [("yaw", 180), ("yaw", 90), ("roll", 180)], ids=["backwards", "another camera's", "mirrored"]
)
def test_a_camera_that_looks_elsewhere_is_found(kitti: list[Frame], axis: str, degrees: float) -> None:
    check = check_front(recalibrated(kitti, turn(axis, degrees)))
    assert check.verdict == "wrong"
    assert "an upright camera sees towards azimuth +0°" in check.message or "azimuth -0°" in check.message


@pytest.mark.real_data
def test_the_identity_is_found(kitti: list[Frame]) -> None:
    identity = [
        replace(f, views=tuple(replace(v, camera_SE3_lidar=SE3(np.eye(4), "front", "lidar")) for v in f.views))
        for f in kitti[:4]
    ]
    check = check_front(identity)
    assert check.verdict == "wrong"
    assert "no point of the cloud" in check.message


@pytest.mark.real_data
def test_real_labelled_frames_pass(real_data: Path) -> None:
    """Gray images, three frames."""
    frames = open_source(real_data / "semantickitti_00", ReaderOptions(max_frames=3))
    assert check_calibration(frames)["front"].verdict == "plausible"


@pytest.mark.real_data
def test_no_camera_of_nuscenes_is_refused(nuscenes_frame: Frame) -> None:
    """Six true calibrations; of one frame, most of them can be told."""
    checks = check_calibration([nuscenes_frame])
    assert len(checks) == 6
    assert {check.verdict for check in checks.values()} <= {"plausible", "cannot tell"}
    assert sum(check.verdict == "plausible" for check in checks.values()) >= 3
    for check in checks.values():
        check.raise_if_wrong()
