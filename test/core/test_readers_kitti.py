"""KITTI raw drives and SemanticKITTI sequences: tiny copies of their layouts, and the real ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from clip2uda_core.data.collector import CollectorConfig
from clip2uda_core.data.readers import KittiRawReader, ReaderOptions, SemanticKittiReader, open_source
from clip2uda_core.errors import CalibrationError, DataError
from clip2uda_core.geometry import project
from clip2uda_core.labels import IGNORE, LabelSpace

# The LiDAR's x forward, y left, z up to a camera's z forward, x right, y down, with the camera 0.3 m behind the LiDAR.
VELO_TO_CAM = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0.3\n"
CAM_TO_CAM = (
    "calib_time: 09-Jan-2012 13:57:47\nR_rect_00: 1 0 0 0 1 0 0 0 1\n"
    "P_rect_00: 50 0 31.5 0 0 50 23.5 0 0 0 1 0\n"
    "P_rect_02: 50 0 31.5 25 0 50 23.5 0 0 0 1 0\n"
)
POINT = np.array([[9.7, 0.0, 0.0, 0.25], [-5, 1, 0, 0.5]], np.float32)


def write_scan(path: Path, points: np.ndarray = POINT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(path)


def write_image(path: Path, red: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = np.full((48, 64, 3), (10, 20, red), np.uint8)
    assert cv2.imwrite(str(path), bgr)


def write_drive(path: Path, scans=range(3), images=range(3), cameras=("image_02",)) -> Path:
    for number in scans:
        write_scan(path / "velodyne_points" / "data" / f"{number:010}.bin")
    for camera in cameras:
        for number in images:
            write_image(path / camera / "data" / f"{number:010}.png", red=number)
    (path / "calib_cam_to_cam.txt").write_text(CAM_TO_CAM)
    (path / "calib_velo_to_cam.txt").write_text(VELO_TO_CAM)
    return path


def write_timestamps(folder: Path, milliseconds: list[int]) -> None:
    lines = [f"2011-09-26 13:02:25.{ms:03}000001" for ms in milliseconds]
    (folder / "timestamps.txt").write_text("\n".join(lines) + "\n")


def write_sequence(path: Path, scans=range(3), image_folder="image_2") -> Path:
    for number in scans:
        write_scan(path / "velodyne" / f"{number:06}.bin")
        write_image(path / image_folder / f"{number:06}.png")
    p2, p0 = CAM_TO_CAM.splitlines()[3].split(":")[1], CAM_TO_CAM.splitlines()[2].split(":")[1]
    (path / "calib.txt").write_text(f"P0:{p0}\nP2:{p2}\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0.3\n")
    return path


def test_frame_of_a_drive(tmp_path) -> None:
    """9.7 m before the LiDAR is 10 m before the camera; P's fourth column is 25 / 50 = 0.5 m: 2.5 pixels."""
    drive = write_drive(tmp_path / "drive")
    write_timestamps(drive / "velodyne_points", [100, 200, 300])
    write_timestamps(drive / "image_02", [110, 210, 310])
    reader = open_source(drive)
    assert isinstance(reader, KittiRawReader)
    assert reader.cameras == ("front",)
    assert not reader.warnings
    frames = list(reader)
    assert len(frames) == len(reader) == 3
    assert frames[1].source == "drive[1]"
    cloud, view = frames[1].cloud, frames[1].views[0]
    np.testing.assert_array_equal(cloud.xyz_m, POINT[:, :3])
    np.testing.assert_array_equal(cloud.intensity, POINT[:, 3])
    assert cloud.stamp_ns == 1317042145_200_000_001  # 2011-09-26 13:02:25.2 UTC
    assert view.stamp_ns == 1317042145_210_000_001
    assert tuple(view.image[0, 0]) == (1, 20, 10)
    projection = project(cloud.xyz_m, view.camera_SE3_lidar, view.camera)
    np.testing.assert_allclose(projection.uv_px[0], (31.5 + 2.5, 23.5), atol=1e-4)
    assert projection.visible.tolist() == [True, False]
    assert reader.pairing.complete == 3
    np.testing.assert_allclose(reader.pairing.nearest_s["front"], 0.01)


def test_calibration_in_the_folder_above_and_nominal_stamps(tmp_path) -> None:
    drive = write_drive(tmp_path / "2011_09_26" / "drive")
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        (drive / name).rename(drive.parent / name)
    reader = open_source(drive)
    stamps = [frame.cloud.stamp_ns for frame in reader]
    assert np.diff(stamps).tolist() == [100_000_000] * 2
    assert stamps[0] > 0
    assert sum("nominal" in warning for warning in reader.warnings) == 2


def test_missing_partners_are_counted(tmp_path) -> None:
    drive = write_drive(tmp_path / "drive", scans=[0, 1, 2, 4], images=[1, 2, 3, 4, 5])
    reader = open_source(drive)
    assert [len(frame.views) for frame in reader] == [0, 1, 1, 1]
    assert (reader.pairing.complete, reader.pairing.partial) == (3, 1)
    assert reader.pairing.images_unused["front"] == 2
    assert any("1 of 4 scans have no image" in warning for warning in reader.warnings)
    assert any("2 of 5 images" in warning for warning in reader.warnings)

    strict = open_source(drive, ReaderOptions(sync=CollectorConfig(min_cameras=1)))
    assert [frame.source for frame in strict] == ["drive[1]", "drive[2]", "drive[4]"]
    assert sum(strict.pairing.dropped.values()) == 1
    list(strict)
    assert sum(strict.pairing.dropped.values()) == 1


def test_choice_of_cameras(tmp_path) -> None:
    drive = write_drive(tmp_path / "drive", cameras=("image_00", "image_02"))
    options = ReaderOptions(cameras={"left": "image_02", "gray": "image_00"}, max_frames=2)
    reader = open_source(drive, options)
    frames = list(reader)
    assert len(frames) == 2
    assert [view.name for view in frames[0].views] == ["left", "gray"]
    assert frames[0].views[1].camera.offset_m.tolist() == [0, 0, 0]
    assert [stream.role for stream in reader.describe().streams] == ["points", "camera left", "camera gray"]
    assert set(reader.stamps()) == {"velodyne_points", "image_02", "image_00"}
    with pytest.raises(DataError, match="--camera front=image_00  --camera front=image_02"):
        open_source(drive, ReaderOptions(cameras={"front": "image_07"}))
    assert [len(frame.views) for frame in open_source(drive, ReaderOptions(cameras={}))] == [0, 0, 0]


@pytest.mark.parametrize("size", [0, 15, 33])
def test_truncated_scan_is_named(size, tmp_path) -> None:
    drive = write_drive(tmp_path / "drive")
    scan = drive / "velodyne_points" / "data" / "0000000001.bin"
    scan.write_bytes(bytes(size))
    frames = iter(open_source(drive))
    next(frames)
    with pytest.raises(DataError, match=rf"0000000001\.bin.*{size} bytes"):
        next(frames)


def test_damaged_files_of_a_drive_are_named(tmp_path) -> None:
    drive = write_drive(tmp_path / "drive")
    (drive / "image_02" / "data" / "0000000000.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"0000000000\.png"):
        next(iter(open_source(drive)))
    write_timestamps(drive / "velodyne_points", [100, 200])
    with pytest.raises(DataError, match=r"timestamps\.txt.*first frame 2"):
        open_source(drive)
    (drive / "velodyne_points" / "timestamps.txt").write_text("yesterday\n")
    with pytest.raises(DataError, match="line 1: expected a date and time, got 'yesterday'"):
        open_source(drive)
    (drive / "velodyne_points" / "timestamps.txt").unlink()
    (drive / "timestamps_nominal.csv").write_text("frame,lidar_stamp_ns\n0,1\n")
    with pytest.raises(DataError, match="timestamps_nominal"):
        open_source(drive)


def test_missing_calibration_is_named(tmp_path) -> None:
    drive = write_drive(tmp_path / "drive")
    (drive / "calib_cam_to_cam.txt").write_text("P_rect_02: 1 2 3\n")
    with pytest.raises(CalibrationError, match=r"P_rect_02.*expected 12 numbers, got 3"):
        open_source(drive)
    (drive / "calib_cam_to_cam.txt").write_text("S_00: 1 2\n")
    with pytest.raises(CalibrationError, match=r"P_rect_02:.*got only S_00"):
        open_source(drive)
    (drive / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(CalibrationError, match=r"calib_cam_to_cam\.txt"):
        open_source(drive)


def test_frame_of_a_sequence_with_labels(tmp_path) -> None:
    sequence = write_sequence(tmp_path / "sequences" / "08")
    (sequence / "labels").mkdir()
    # Class 40 is road; the high bits are an instance; 44 (parking) has no class in street8.
    np.array([40 | 7 << 16, 44], "<u4").tofile(sequence / "labels" / "000001.label")
    (sequence / "times.txt").write_text("0.0\n1.036224e-01\n2.072e-01\n")
    labels = LabelSpace.load("street8")
    reader = open_source(sequence, ReaderOptions(label_space=labels))
    assert isinstance(reader, SemanticKittiReader)
    assert reader.name == "sequence_08"
    assert not reader.warnings
    frames = list(reader)
    assert [frame.cloud.labels is None for frame in frames] == [True, False, True]
    assert frames[1].cloud.labels.tolist() == [labels.names.index("road"), IGNORE]
    assert frames[1].cloud.stamp_ns - frames[0].cloud.stamp_ns == 103_622_400
    projection = project(frames[0].cloud.xyz_m, frames[0].views[0].camera_SE3_lidar, frames[0].views[0].camera)
    np.testing.assert_allclose(projection.uv_px[0], (34.0, 23.5), atol=1e-4)
    assert next(iter(open_source(sequence))).cloud.labels is None


def test_labels_of_another_scan_are_refused(tmp_path) -> None:
    sequence = write_sequence(tmp_path / "08")
    (sequence / "labels").mkdir()
    np.zeros(3, "<u4").tofile(sequence / "labels" / "000000.label")
    with pytest.raises(DataError, match=r"000000\.label.*expected 8 bytes.*got 12"):
        list(open_source(sequence, ReaderOptions(label_space=LabelSpace.load("street8"))))


def test_gray_images_have_three_channels(tmp_path) -> None:
    sequence = write_sequence(tmp_path / "00", image_folder="image_0")
    cv2.imwrite(str(sequence / "image_0" / "000000.png"), np.full((48, 64), 77, np.uint8))
    view = next(iter(open_source(sequence))).views[0]
    assert view.image.shape == (48, 64, 3)
    assert view.image.min() == view.image.max() == 77
    assert view.camera.offset_m.tolist() == [0, 0, 0]


def test_what_is_no_recording_is_told(tmp_path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Looked for:\n  a rosbag"):
        open_source(tmp_path / "empty")
    write_drive(tmp_path / "day" / "drive_0001")
    write_sequence(tmp_path / "day" / "sequences" / "08")
    with pytest.raises(DataError, match=r"Recordings inside:\n  .*drive_0001\n  .*sequences/08"):
        open_source(tmp_path / "day")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt: no recording"):
        open_source(tmp_path / "notes.txt")


@pytest.mark.real_data
def test_real_drive(real_data) -> None:
    """The share of points in the image is published with the data: 15.5 to 16 %."""
    reader = open_source(real_data / "kitti_raw_2011_09_26_drive_0001")
    assert len(reader) == 37
    shares = []
    for frame in list(reader)[::9]:
        view = frame.views[0]
        shares.append(project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera).visible.mean())
        assert 120_000 < len(frame.cloud) < 124_000
        assert view.stamp_ns - frame.cloud.stamp_ns == pytest.approx(16.6e6, abs=0.1e6)
        np.testing.assert_allclose(view.camera.offset_m, (0.0598, -0.0004, 0.0027), atol=2e-4)
    assert all(0.155 < share < 0.16 for share in shares), shares


@pytest.mark.real_data
def test_real_sequence(real_data) -> None:
    """In-image classes of frame 0 as the data's notes list them."""
    labels = LabelSpace.load("street8")
    frames = list(open_source(real_data / "semantickitti_00", ReaderOptions(label_space=labels)))
    assert [frame.cloud.labels is not None for frame in frames] == [True] * 3 + [False] * 3
    view, cloud = frames[0].views[0], frames[0].cloud
    inside = project(cloud.xyz_m, view.camera_SE3_lidar, view.camera).visible
    counts = np.bincount(cloud.labels[inside], minlength=256)
    expected = {"road": 5791, "sidewalk": 1295, "vehicle": 1483, "pole": 220}
    for name, count in expected.items():
        assert abs(counts[labels.names.index(name)] - count) <= 0.04 * count, name
