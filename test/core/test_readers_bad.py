"""Recordings as they should not be: each gives one clear error that names what helps, or a warning of what was used."""

import errno
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg
from tiny_recordings import (
    IMAGE_DELAY_NS,
    PERIOD_NS,
    START_NS,
    STORES,
    TinyBag,
    frame_messages,
    storage_file,
    write_bag,
)

from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.messages import encode_labelled_cloud
from clip2uda_core.data.readers import ReaderOptions, RosbagReader, open_source
from clip2uda_core.data.readers.bag import Bag
from clip2uda_core.errors import DataError
from clip2uda_core.inference.recording import LABELLED_TOPIC
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import Frame, Prediction

TINY = TinyBag("mcap")
FRAMES = 6


def bag_of(path: Path, messages: list) -> Path:
    return write_bag(path, "mcap", sorted(messages, key=lambda message: message[0]))


def without(*topics: str, frames: int = FRAMES) -> list:
    return [message for message in frame_messages("mcap", frames) if message[1] not in topics]


def cloud_numbers(frames: list[Frame]) -> list[int]:
    return [int(frame.cloud.intensity[0]) for frame in frames if frame.cloud.intensity is not None]


def test_clouds_recorded_twice_are_one_frame(tmp_path) -> None:
    """As two recorders that wrote into one bag leave them."""
    messages = frame_messages("mcap", FRAMES)
    again = [(log_ns + 1_000_000, topic, message) for log_ns, topic, message in messages]
    reader = open_source(bag_of(tmp_path / "bag", messages + again))
    assert cloud_numbers(list(reader)) == list(range(FRAMES))
    assert reader.warnings == [
        f"{FRAMES} of {2 * FRAMES} clouds gave no frame: {reader.pairing.dropped.most_common()[0][0]}"
    ]
    assert "recorded twice" in reader.warnings[0]


def test_stamps_that_go_backwards_are_sorted_or_counted(tmp_path) -> None:
    """A cloud that is logged just after the next one comes in its place; one that is 0.3 s late is left out."""
    messages = without("/lidar/points")
    for index in range(FRAMES):
        late_ns = 101_000_000 if index == 2 else 0
        stamp = START_NS + index * PERIOD_NS
        messages.append((stamp + late_ns, "/lidar/points", TINY.cloud(index, stamp)))
    very_late = START_NS + 2 * PERIOD_NS + 1
    messages.append((very_late + 3 * PERIOD_NS, "/lidar/points", TINY.cloud(9, very_late)))
    reader = open_source(bag_of(tmp_path / "bag", messages))
    assert cloud_numbers(list(reader)) == list(range(FRAMES))
    (warning,) = reader.warnings
    assert "1 of 7 clouds gave no frame: stamped before" in warning


def test_missing_frames_are_not_missed(tmp_path) -> None:
    """Clouds without images and images without clouds; the rest pairs as it should."""
    messages = frame_messages("mcap", FRAMES)
    gone = {("/lidar/points", 1), ("/front/image_raw", 3), ("/front/image_raw", 4)}

    def number(message: tuple) -> int:
        return (message[0] - START_NS) // PERIOD_NS

    kept = [message for message in messages if (message[1], number(message)) not in gone]
    reader = open_source(bag_of(tmp_path / "bag", kept))
    assert [(cloud_numbers([f])[0], len(f.views)) for f in reader] == [(0, 1), (2, 1), (3, 0), (4, 0), (5, 1)]
    assert reader.pairing.images_unused == {"front": 1}


def test_three_usable_pairs_are_used_and_told_of(tmp_path) -> None:
    messages = without("/front/image_raw", frames=20)
    images = [m for m in frame_messages("mcap", 3) if m[1] == "/front/image_raw"]
    reader = open_source(bag_of(tmp_path / "bag", messages + images))
    assert sum(len(frame.views) for frame in reader) == 3
    assert any("'front' has an image for only 3 of 20 clouds" in warning for warning in reader.warnings)


def test_clocks_that_disagree_are_told_of_with_the_flag(tmp_path) -> None:
    messages = without("/front/image_raw")
    for i in range(FRAMES):
        stamp = START_NS + i * PERIOD_NS
        messages.append((stamp + 20_000_000, "/front/image_raw", TINY.image(i, stamp + 7_000_000_000)))
    reader = open_source(bag_of(tmp_path / "bag", messages))
    assert not any(frame.views for frame in reader)
    (warning,) = reader.warnings
    assert "--stamp-offset front=S" in warning
    assert "ms away" in warning


def test_stamps_that_nobody_set(tmp_path) -> None:
    messages = [(m[0], m[1], TINY.cloud(0, 0) if m[1] == "/lidar/points" else m[2]) for m in frame_messages("mcap", 3)]
    reader = open_source(bag_of(tmp_path / "bag", messages))
    assert list(reader) == []
    assert any("3 of 3 clouds gave no frame: header.stamp is not set" in warning for warning in reader.warnings)


def test_no_lidar_lists_what_is_there(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no topic of type PointCloud2 with messages; the bag holds:\n.*camera_info"):
        open_source(bag_of(tmp_path / "bag", without("/lidar/points")))


def test_packets_of_a_lidar_driver_are_recognised(tmp_path) -> None:
    store = STORES["mcap"]
    name = "velodyne_msgs/msg/VelodyneScan"
    store.register(get_types_from_msg("std_msgs/Header header\nuint8[] data", name))
    scan = store.types[name](TINY.header(START_NS, "lidar"), np.zeros(8, np.uint8))
    messages = [*without("/lidar/points"), (START_NS + 1, "/velodyne_packets", scan)]
    with pytest.raises(DataError, match=r"/velodyne_packets holds a LiDAR's own packets: play the bag through"):
        open_source(bag_of(tmp_path / "bag", messages))


def test_unknown_message_types_are_no_hindrance(tmp_path) -> None:
    store = STORES["mcap"]
    store.register(get_types_from_msg("float64 volts", "my_robot/msg/Battery"))
    odd = [(START_NS + i, "/battery", store.types["my_robot/msg/Battery"](24.0)) for i in range(5)]
    reader = open_source(bag_of(tmp_path / "bag", frame_messages("mcap", 3) + odd))
    assert [len(frame.views) for frame in reader] == [1, 1, 1]
    assert reader.warnings == []
    assert any(stream.kind == "my_robot/msg/Battery" for stream in reader.describe().streams)


def test_no_camera_is_3d_alone_and_told_of(tmp_path) -> None:
    bag = bag_of(tmp_path / "bag", without("/front/image_raw"))
    reader = open_source(bag)
    assert [frame.views for frame in reader] == [()] * FRAMES
    assert any("no images" in warning for warning in reader.warnings)
    assert open_source(bag, ReaderOptions(cameras={})).warnings == []


def test_no_calibration_names_the_flag(tmp_path) -> None:
    bag = bag_of(tmp_path / "bag", without("/front/camera_info"))
    with pytest.raises(DataError, match=r"no CameraInfo beside them: /front/image_raw; .*--calibration FILE"):
        open_source(bag)


def test_what_a_disk_cannot_read_is_an_error_or_a_warning(tmp_path) -> None:
    """/proc/self/mem gives the error of a broken disk where nothing is mapped."""
    broken = tmp_path / "broken.mcap"
    broken.symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"broken\.mcap.*cannot be read"):
        open_source(broken)
    folder = tmp_path / "bag"
    bag_of(folder, frame_messages("mcap", 2))
    (folder / "metadata.yaml").unlink()
    (folder / "broken.mcap").symlink_to("/proc/self/mem")
    reader = open_source(folder)
    assert len(list(reader)) == 2
    assert any("broken.mcap is left out" in warning for warning in reader.warnings)


def test_a_bag_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, whose parents are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        bag = bag_of(folder / "bag", frame_messages("mcap", 1))
        file = storage_file(bag)
        with _as_nobody():
            assert len(open_source(file)) == 1
        for closed in (file, bag):
            closed.chmod(0)
            with _as_nobody(), pytest.raises(DataError, match=r"permission denied; `chmod \+r`"):
                open_source(closed)
            closed.chmod(0o755)


class _as_nobody:
    """Root may read everything, so for a while the process is not root. Its folders must be open for others then."""

    def __enter__(self) -> None:
        self._was = os.geteuid()
        if self._was == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        os.seteuid(self._was)


def test_no_room_to_unpack_a_compressed_bag(tmp_path, monkeypatch) -> None:
    (tmp_path / "bag.mcap.zstd").write_bytes(b"whatever")
    opened = Path.open

    def full(path: Path, mode: str = "r", *args, **named):
        if "w" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *args, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"bag\.mcap\.zstd: cannot be unpacked into .*No space left.*TMPDIR"):
        Bag(tmp_path / "bag.mcap.zstd")


def test_our_own_output_is_opened_again_by_its_input(tmp_path) -> None:
    """A bag as `clip2uda segment` and a recorded node leave it: the clouds that came in, beside those with labels."""
    labels = LabelSpace.load("street8")
    source = open_source(bag_of(tmp_path / "bag", frame_messages("mcap", 2)))
    assert isinstance(source, RosbagReader)
    with BagWriter(tmp_path / "labelled.mcap") as writer:
        for item in source.frames_and_messages():
            if not isinstance(item, Frame):
                writer.write_raw(item.topic, item.msgtype, item.cdr(), item.log_time_ns)
                if item.topic == source.points_topic:
                    writer.write_message(LABELLED_TOPIC, _labelled(item.message(), labels, writer), item.log_time_ns)
    reader = open_source(tmp_path / "labelled.mcap")
    assert isinstance(reader, RosbagReader)
    assert reader.points_topic == "/lidar/points"
    assert cloud_numbers(list(reader)) == [0, 1]
    chosen = open_source(tmp_path / "labelled.mcap", ReaderOptions(points_topic=LABELLED_TOPIC, label_space=labels))
    assert all(frame.cloud.labels is not None for frame in chosen)


def _labelled(message, labels: LabelSpace, writer: BagWriter):
    points = message.width
    nothing = np.full((points, len(labels)), np.nan, np.float32)
    prediction = Prediction(
        np.zeros(points, np.uint8), np.ones(points, np.float32), np.zeros(points, bool), nothing, nothing
    )
    return encode_labelled_cloud(message, prediction, labels, writer.factory)


def test_two_lidars_still_are_a_question(tmp_path) -> None:
    rear = [(m[0] + 1, "/rear/points", replace(m[2])) for m in frame_messages("mcap", 2) if m[1] == "/lidar/points"]
    with pytest.raises(DataError, match=r"--points-topic /lidar/points(.|\n)*--points-topic /rear/points"):
        open_source(bag_of(tmp_path / "bag", frame_messages("mcap", 2) + rear))


def test_images_are_joined_by_acquisition_and_not_by_arrival(tmp_path) -> None:
    """Images that were logged 100 ms late still belong to their own clouds."""
    late = [(m[0] + 100_000_000 * (m[1] == "/front/image_raw"), *m[1:]) for m in frame_messages("mcap", FRAMES)]
    frames = list(open_source(bag_of(tmp_path / "bag", late)))
    assert [frame.views[0].stamp_ns - frame.cloud.stamp_ns for frame in frames] == [IMAGE_DELAY_NS] * FRAMES
