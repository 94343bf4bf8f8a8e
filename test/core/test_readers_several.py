"""Several recordings as one source, and transforms from another bag."""

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from test_readers_rosbag import bag_path, moving_messages
from tiny_recordings import CAMERA_FROM_LIDAR, START_NS, STORES, TinyBag, frame_messages, storage_file, write_bag
from typer.testing import CliRunner

from clip2uda_core.cli import app
from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.collector import CollectorConfig
from clip2uda_core.data.readers import ReaderOptions, RosbagReader, open_source, open_sources
from clip2uda_core.data.readers.bag import Bag
from clip2uda_core.errors import DataError

COMMANDS = ("inspect", "convert", "segment", "adapt")
LATER_NS = 3_600_000_000_000


def later(messages: list, by_ns: int) -> list:
    """The same recording at another log time; stamps stay, as each drive starts a clock of its own."""
    return [(log_time + by_ns, topic, message) for log_time, topic, message in messages]


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Drives of 2, 3 and 4 frames, each in another storage."""
    folder = tmp_path_factory.mktemp("drives")
    return [write_bag(bag_path(folder, kind), kind, frame_messages(kind, n)) for n, kind in enumerate(STORES, 2)]


def intensities(frames) -> list[int]:
    return [int(frame.cloud.intensity[0]) for frame in frames]


def test_drives_are_one_source_in_the_order_given(drives) -> None:
    reader = open_sources(drives)
    assert len(reader) == 9
    assert reader.cameras == ("front",)
    assert reader.name == "bag_and_2_more"
    for _ in range(2):
        frames = list(reader)
        assert intensities(frames) == [0, 1, 0, 1, 2, 0, 1, 2, 3]
        assert all(len(frame.views) == 1 for frame in frames)
        assert (reader.pairing.complete, len(reader.pairing.nearest_s["front"])) == (9, 9)
    assert intensities(open_sources(drives[::-1])) == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert reader.warnings == []


def test_description_sums_up(drives) -> None:
    description = open_sources(drives).describe()
    assert description.kind == "3 recordings (rosbag)"
    assert {stream.name: (stream.role, stream.count) for stream in description.streams} == {
        "/lidar/points": ("points", 9),
        "/front/image_raw": ("camera front", 9),
        "/front/camera_info": ("calibration front", 9),
        "/tf_static": ("transforms", 3),
    }
    stamps = open_sources(drives).stamps()["/lidar/points"]
    assert len(stamps.acquired_ns) == len(stamps.logged_ns) == 9


def test_most_frames_are_of_all_drives_together(drives) -> None:
    reader = open_sources(drives, ReaderOptions(max_frames=4))
    assert len(reader) == 4
    assert intensities(reader) == [0, 1, 0, 1]
    assert reader.pairing.complete == 4


def test_a_single_recording_is_a_source_too(drives) -> None:
    reader = open_sources(drives[:1])
    assert reader.name == "bag"
    assert reader.describe() == open_source(drives[0]).describe()
    assert intensities(reader) == [0, 1]


def test_different_cameras_are_refused(drives, tmp_path) -> None:
    tiny = TinyBag("mcap")
    rear = [(START_NS + 1, "/rear/camera_info", tiny.camera_info(START_NS, "rear_optical"))]
    rear.append((START_NS + 2, "/rear/image_raw", tiny.image(0, START_NS, "rear_optical")))
    other = write_bag(tmp_path / "both", "mcap", rear + frame_messages("mcap", 2))
    with pytest.raises(DataError, match=r"same cameras(.|\n)*bag: front\n  both: front, rear\n.*--camera NAME=TOPIC"):
        open_sources([drives[0], other])
    common = open_sources([drives[0], other], ReaderOptions(cameras={"front": "/front/image_raw"}))
    assert common.cameras == ("front",)


def test_every_recording_that_cannot_be_opened_is_told_of(drives, tmp_path) -> None:
    (tmp_path / "empty.mcap").write_bytes(b"")
    with pytest.raises(DataError) as error:
        open_sources([tmp_path / "gone.mcap", drives[0], tmp_path / "empty.mcap"])
    text = str(error.value)
    assert "gone.mcap: no such file" in text
    assert "empty.mcap: expected an mcap file" in text
    assert "other 1 of 3 recordings" in text
    with pytest.raises(DataError, match="given twice"):
        open_sources([drives[0], drives[1], drives[0]])
    with pytest.raises(DataError, match="no recording given"):
        open_sources([])


def test_warnings_name_their_recording(drives, tmp_path) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(storage_file(drives[2]).read_bytes()[:-8_000])
    reader = open_sources([drives[0], cut])
    assert len(list(reader)) > 3
    assert any(warning.startswith("cut: cut.mcap was not closed") for warning in reader.warnings)


def test_recordings_without_a_frame_say_why(tmp_path) -> None:
    messages = [m for m in frame_messages("mcap", 3) if m[1] != "/front/image_raw"]
    far = [(m[0] + 10**9, "/front/image_raw", m[2]) for m in frame_messages("mcap", 1) if m[1] == "/front/image_raw"]
    bag = write_bag(tmp_path / "bag", "mcap", messages + far)
    must_be_seen = CollectorConfig(min_cameras=1, stamp_offset_s={"front": 50.0})
    with pytest.raises(DataError, match=r"none of 3 clouds became a frame\n  .*fewer images within tolerance_s"):
        list(open_sources([bag], ReaderOptions(sync=must_be_seen)))


@pytest.mark.parametrize("kind", STORES)
def test_static_transforms_of_another_bag(kind, tmp_path) -> None:
    messages = frame_messages(kind, 3)
    calibration = write_bag(bag_path(tmp_path, kind), kind, later(messages[:1], -LATER_NS))
    drive = write_bag(tmp_path / "drive", "mcap", frame_messages("mcap", 3)[1:])
    without = open_source(drive)
    assert any("--tf-bag BAG" in warning for warning in without.warnings)
    assert [len(frame.views) for frame in without] == [0, 0, 0]
    reader = open_source(drive, ReaderOptions(tf_from=(calibration,)))
    frames = list(reader)
    assert [len(frame.views) for frame in frames] == [1, 1, 1]
    np.testing.assert_allclose(frames[0].views[0].camera_SE3_lidar.matrix, CAMERA_FROM_LIDAR, atol=1e-12)
    assert not reader.warnings


def test_moving_transforms_of_another_bag(tmp_path) -> None:
    """The motion between cloud and image, as in the test of the fixed frame, with /tf of a bag that goes on for long
    before and after; what does not belong to the drive is not handed on."""
    messages = moving_messages(4)
    tf = [message for message in messages if message[1] == "/tf"]
    drive = write_bag(tmp_path / "drive", "mcap", [message for message in messages if message[1] != "/tf"])
    other = write_bag(tmp_path / "tf", "mcap", later(tf, -LATER_NS) + tf + later(tf, LATER_NS))
    reader = open_source(drive, ReaderOptions(fixed_frame="odom", tf_from=(other,)))
    assert isinstance(reader, RosbagReader)
    items = list(reader.frames_and_messages())
    frames = [item for item in items if hasattr(item, "views")]
    assert [len(frame.views) for frame in frames] == [1] * 4, reader.warnings
    for frame in frames:
        point = frame.views[0].camera_SE3_lidar.transform(np.array([[10.0, 0, 0]]))[0]
        np.testing.assert_allclose(point, (0, -0.2, 9.9), atol=1e-6)
    assert sum(getattr(item, "topic", "") == "/tf" for item in items) <= len(tf)


def test_a_bag_without_transforms_is_refused_as_their_source(drives, tmp_path) -> None:
    tiny = TinyBag("mcap")
    bag = write_bag(tmp_path / "bag", "mcap", [(START_NS, "/points", tiny.cloud(0, START_NS))])
    with pytest.raises(DataError, match=r"--tf-bag .*tf2_msgs/TFMessage, the bag holds /points"):
        open_source(drives[0], ReaderOptions(tf_from=(bag,)))


KITTI_VARIANTS = {
    "rosbag1": {"kind": "rosbag1"},
    "sqlite3": {"kind": "sqlite3"},
    "sqlite3, each message zstd": {"kind": "sqlite3", "mode": CompressionMode.MESSAGE},
    "sqlite3, file zstd": {"kind": "sqlite3", "mode": CompressionMode.FILE},
    "mcap, chunks zstd": {"kind": "mcap", "mode": CompressionMode.STORAGE},
}


@pytest.mark.real_data
def test_real_drive_in_every_storage_as_one_source(real_data, tmp_path) -> None:
    """Two frames of KITTI, by each storage's own writer; all together they are the drive so many times."""
    drive = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions(max_frames=2))
    with BagWriter(tmp_path / "k.mcap") as writer:
        for frame in drive:
            writer.write_frame(frame)
    messages = list(
        Bag(tmp_path / "k.mcap").messages({"/lidar/points", "/front/image_raw", "/front/camera_info", "/tf_static"})
    )
    bags = [_written(tmp_path / f"variant_{n}", messages, **how) for n, how in enumerate(KITTI_VARIANTS.values())]
    reader = open_sources([tmp_path / "k.mcap", *bags])
    frames = list(reader)
    originals = list(drive)
    assert len(frames) == 2 * (1 + len(bags))
    assert reader.warnings == []
    for number, frame in enumerate(frames):
        original = originals[number % 2]
        assert frame.cloud.stamp_ns == original.cloud.stamp_ns
        np.testing.assert_array_equal(frame.cloud.xyz_m, original.cloud.xyz_m)
        np.testing.assert_array_equal(frame.views[0].image, original.views[0].image)


def _written(path: Path, messages: list, kind: str, mode: CompressionMode | None = None) -> Path:
    """The same messages by rosbags' writers."""
    if kind == "rosbag1":
        path = path.with_suffix(".bag")
        writer = Rosbag1Writer(path)
    else:
        plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        writer = Rosbag2Writer(path, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for message in messages:
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(
                    message.topic, message.msgtype, typestore=STORES[kind]
                )
            to_ros1 = STORES["mcap"].cdr_to_ros1
            data = to_ros1(bytes(message.cdr()), message.msgtype) if kind == "rosbag1" else message.cdr()
            writer.write(connections[message.topic], message.log_time_ns, data)
    return path


def test_commands_take_the_flags_that_the_messages_name(tmp_path) -> None:
    """convert with /tf_static from another bag and a frame each 0.2 s."""
    tf = write_bag(tmp_path / "tf", "mcap", frame_messages("mcap", 1)[:1])
    drive = write_bag(tmp_path / "drive", "mcap", frame_messages("mcap", 5)[1:])
    out = tmp_path / "out.mcap"
    arguments = ["convert", str(drive), str(out), "--tf-bag", str(tf), "--every", "0.2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert intensities(open_source(out)) == [0, 2, 4]
    help_of = {
        command: CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output for command in COMMANDS
    }
    assert all("--tf-bag" in text and "--calibration" in text for text in help_of.values())
