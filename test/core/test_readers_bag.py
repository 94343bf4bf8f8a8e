"""Bags as message streams: each storage, splits, compression, and recordings that were cut off or damaged."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode
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

from clip2uda_core.data.readers.bag import Bag, is_bag
from clip2uda_core.errors import DataError

TOPICS = {"/front/camera_info", "/front/image_raw", "/lidar/points", "/tf_static"}


def read_all(path: Path) -> tuple[list, list[str]]:
    """Every message of a bag, each decoded, and the warnings afterwards."""
    bag = Bag(path)
    messages = list(bag.messages(TOPICS))
    for message in messages:
        message.message()
    warnings = bag.warnings
    assert sum(topic.count for topic in bag.topics) >= len(messages)
    bag.close()
    return messages, warnings


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 10 frames in each storage."""
    folder = tmp_path_factory.mktemp("bags")
    names = {"rosbag1": "tiny.bag", "sqlite3": "tiny_sqlite3", "mcap": "tiny_mcap"}
    return {kind: write_bag(folder / name, kind, frame_messages(kind, 10)) for kind, name in names.items()}


@pytest.mark.parametrize("kind", STORES)
def test_every_storage_gives_the_same_messages(bags, kind) -> None:
    messages, warnings = read_all(bags[kind])
    assert not warnings
    assert len(messages) == 31
    assert [m.log_time_ns for m in messages] == sorted(m.log_time_ns for m in messages)
    clouds = [m for m in messages if m.topic == "/lidar/points"]
    assert [m.header_stamp_ns() for m in clouds] == [START_NS + i * PERIOD_NS for i in range(10)]
    infos = [m.message() for m in messages if m.topic == "/front/camera_info"]
    assert [info.header.stamp.nanosec for info in infos][:2] == [IMAGE_DELAY_NS, PERIOD_NS + IMAGE_DELAY_NS]
    assert infos[0].k[0] == 40.0
    assert messages[0].message().transforms[0].child_frame_id == "front_optical"
    reference, _ = read_all(bags["mcap"])
    assert [(m.topic, m.msgtype, m.log_time_ns) for m in messages] == [
        (m.topic, m.msgtype, m.log_time_ns) for m in reference
    ]
    assert [bytes(m.cdr()) for m in clouds] == [bytes(m.cdr()) for m in reference if m.topic == "/lidar/points"]


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_bare_file_and_folder_without_metadata(bags, kind, tmp_path) -> None:
    bare = Path(shutil.copy(storage_file(bags[kind]), tmp_path))
    assert is_bag(bare)
    assert is_bag(tmp_path)
    assert read_all(bare) == (read_all(bags[kind])[0], [])
    messages, warnings = read_all(tmp_path)
    assert len(messages) == 31
    assert len(warnings) == 1
    assert "metadata.yaml" in warnings[0]


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_damaged_metadata_is_a_warning(bags, kind, tmp_path) -> None:
    bag = shutil.copytree(bags[kind], tmp_path / "bag")
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    messages, warnings = read_all(bag)
    assert len(messages) == 31
    assert "metadata.yaml" in warnings[0]


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_split_files_are_one_stream(kind, tmp_path) -> None:
    """Ten splits, which sort by number, and two recorders whose files overlap in time."""
    messages = frame_messages(kind, 10)
    parts = [messages[:4], *([m] for m in messages[4:14]), messages[14::2], messages[15::2]]
    folder = tmp_path / "bag"
    folder.mkdir()
    for number, part in enumerate(parts):
        file = storage_file(write_bag(tmp_path / f"part_{number}", kind, part))
        file.rename(folder / f"bag_{number}{file.suffix}")
    read, _ = read_all(folder)
    assert [(m.log_time_ns, m.topic) for m in read] == [(time, topic) for time, topic, _ in messages]


def test_missing_and_unreadable_splits_are_left_out(bags, tmp_path) -> None:
    bag = shutil.copytree(bags["mcap"], tmp_path / "bag")
    metadata = (bag / "metadata.yaml").read_text()
    listed = f"- {storage_file(bag).name}\n"
    assert listed in metadata
    (bag / "metadata.yaml").write_text(metadata.replace(listed, f"{listed}  - empty.mcap\n  - gone.mcap\n"))
    (bag / "empty.mcap").write_bytes(b"")
    messages, warnings = read_all(bag)
    assert len(messages) == 31
    assert any("gone.mcap" in warning for warning in warnings)
    assert any("empty.mcap" in warning for warning in warnings)


@pytest.mark.parametrize(("kind", "mode"), [("sqlite3", "FILE"), ("sqlite3", "MESSAGE"), ("mcap", "STORAGE")])
def test_compressed_bags(kind, mode, tmp_path) -> None:
    def compress(writer) -> None:
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)

    bag = write_bag(tmp_path / "bag", kind, frame_messages(kind, 10), compress)
    messages, warnings = read_all(bag)
    assert len(messages) == 31
    assert not warnings


def test_cut_off_compressed_file_gives_its_start(bags, tmp_path) -> None:
    data = storage_file(bags["mcap"]).read_bytes()
    # Frames of 16 kB, as a streaming compressor flushes them.
    packed = b"".join(zstandard.compress(data[i : i + 16_384]) for i in range(0, len(data), 16_384))
    (tmp_path / "cut.mcap.zstd").write_bytes(packed[: len(packed) // 2])
    messages, warnings = read_all(tmp_path / "cut.mcap.zstd")
    assert 1 < len(messages) < 31
    assert any("not closed" in warning for warning in warnings)


def test_damaged_compressed_file_gives_what_comes_before(bags, tmp_path) -> None:
    data = storage_file(bags["mcap"]).read_bytes()
    packed = zstandard.compress(data[: len(data) // 2]) + b"no zstd frame"
    (tmp_path / "bad.mcap.zstd").write_bytes(packed)
    messages, warnings = read_all(tmp_path / "bad.mcap.zstd")
    assert 1 < len(messages) < 31
    assert any("compressed file is damaged" in warning for warning in warnings)


def write_mcap(path: Path, frames: int, **options) -> tuple[list[int], Path]:
    """An mcap by Foxglove's writer, in its own options; also where each message's payload ends up if unchunked."""
    store = STORES["mcap"]
    with path.open("wb") as file:
        writer = McapWriter(file, **options)
        writer.start("ros2")
        channels = {}
        for log_time_ns, topic, message in frame_messages("mcap", frames):
            if topic not in channels:
                schema = writer.register_schema(message.__msgtype__, "ros2msg", b"")
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            data = bytes(store.serialize_cdr(message, message.__msgtype__))
            writer.add_message(channels[topic], log_time_ns, data, log_time_ns)
        writer.finish()
    return [time for time, _, _ in frame_messages("mcap", frames)], path


MCAP_OPTIONS = {
    "none": {"compression": CompressionType.NONE, "chunk_size": 50_000},
    "lz4": {"compression": CompressionType.LZ4, "chunk_size": 50_000},
    "zstd": {"compression": CompressionType.ZSTD, "chunk_size": 50_000},
    "unchunked": {"use_chunking": False},
    "without index": {"use_statistics": False, "use_summary_offsets": False, "chunk_size": 50_000},
}


@pytest.mark.parametrize("options", MCAP_OPTIONS.values(), ids=MCAP_OPTIONS)
def test_mcap_cut_anywhere_gives_what_is_whole(options, tmp_path) -> None:
    times, path = write_mcap(tmp_path / "whole.mcap", 10, **options)
    messages, warnings = read_all(path)
    assert [m.log_time_ns for m in messages] == times
    assert not warnings
    data = path.read_bytes()
    data = data[: data.rindex(b"\x0f" + (4).to_bytes(8, "little"))]  # up to the record that ends the messages
    counts = []
    for percent in (100, 99, 80, 50, 20):
        cut = tmp_path / f"cut_{percent}.mcap"
        cut.write_bytes(data[: len(data) * percent // 100])
        kept, warnings = read_all(cut)
        assert [m.log_time_ns for m in kept] == times[: len(kept)]
        assert any("not closed" in warning and f"{len(kept)} messages" in warning for warning in warnings)
        counts.append(len(kept))
    assert counts[0] == len(times)
    assert counts == sorted(counts, reverse=True)


def test_uncompressed_mcap_loses_only_the_message_that_is_cut(tmp_path) -> None:
    """Also inside a chunk: the payloads up to the cut are there in plain."""
    times, path = write_mcap(tmp_path / "whole.mcap", 4, compression=CompressionType.NONE, chunk_size=10**7)
    data = path.read_bytes()
    last = STORES["mcap"].serialize_cdr(
        TinyBag("mcap").image(3, START_NS + 3 * PERIOD_NS + IMAGE_DELAY_NS), "sensor_msgs/msg/Image"
    )
    end_of_last = data.rindex(bytes(last[-1000:])) + 1000
    for cut, kept in ((end_of_last, len(times)), (end_of_last - 1, len(times) - 1)):
        (tmp_path / "cut.mcap").write_bytes(data[:cut])
        messages, _ = read_all(tmp_path / "cut.mcap")
        assert [m.log_time_ns for m in messages] == times[:kept]


@pytest.mark.parametrize("compression", [CompressionType.LZ4, CompressionType.ZSTD])
def test_mcap_with_a_damaged_chunk_loses_only_from_it(compression, tmp_path) -> None:
    times, path = write_mcap(tmp_path / "whole.mcap", 10, compression=compression, chunk_size=10_000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    messages, warnings = read_all(path)
    assert len(times) - 8 <= len(messages) < len(times)
    assert {m.log_time_ns for m in messages} < set(times)
    assert messages[-1].log_time_ns == times[-1]
    assert any("damaged" in warning for warning in warnings)


def test_mcap_whose_tail_is_zeros(tmp_path) -> None:
    """What a file system leaves where the file grew but its data was not written before power was lost."""
    times, path = write_mcap(tmp_path / "whole.mcap", 10, **MCAP_OPTIONS["zstd"])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(100_000))
    messages, warnings = read_all(path)
    assert 5 < len(messages) < len(times)
    assert [m.log_time_ns for m in messages] == times[: len(messages)]
    assert warnings


@pytest.mark.parametrize("percent", [97, 60, 30])
def test_cut_off_sqlite_gives_every_whole_message(bags, percent, tmp_path) -> None:
    """Nine of ten bytes are payload of messages that lie one after the other, so as many must be found."""
    data = storage_file(bags["sqlite3"]).read_bytes()
    cut = tmp_path / "cut.db3"
    cut.write_bytes(data[: len(data) * percent // 100])
    whole, _ = read_all(bags["sqlite3"])
    messages, warnings = read_all(cut)
    assert messages == whole[: len(messages)]
    assert len(messages) >= 31 * percent // 100 - 3
    assert any("bytes are missing" in warning and f"{len(messages)} whole messages" in warning for warning in warnings)


@pytest.mark.parametrize("percent", [20, 50, 90])
def test_sqlite_with_a_broken_page_loses_only_what_lies_in_it(bags, percent, tmp_path) -> None:
    """The damage shows while SQLite reads: what it gave before is not given twice."""
    data = bytearray(storage_file(bags["sqlite3"]).read_bytes())
    page = len(data) * percent // 100 // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    broken = tmp_path / "broken.db3"
    broken.write_bytes(data)
    whole, _ = read_all(bags["sqlite3"])
    messages, warnings = read_all(broken)
    keys = [(m.log_time_ns, m.topic) for m in messages]
    assert [key for key in ((m.log_time_ns, m.topic) for m in whole) if key in keys] == keys
    assert len(messages) >= len(whole) - 4
    assert bool(warnings) == (len(messages) < len(whole))
    # SQLite has no checksum: a page that only held bytes of one message changes that message.
    assert sum(m not in whole for m in messages) <= 1


def test_sqlite_write_ahead_log_is_told_of(tmp_path) -> None:
    path = tmp_path / "crashed.db3"
    shutil.copy(storage_file(write_bag(tmp_path / "bag", "sqlite3", frame_messages("sqlite3", 2))), path)
    path.with_name("crashed.db3-wal").write_bytes(bytes(32))
    _, warnings = read_all(path)
    assert "wal_checkpoint" in warnings[0]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.mcap", b"", "does not start like one"),
        ("a.mcap", b"hello" * 100, "does not start like one"),
        ("a.db3", b"", "expected a SQLite database"),
        ("a.db3", b"SQLite format 3\0" + bytes(4096), "no whole message"),
        ("a.bag", b"#ROSBAG V2.0\n" + bytes(50), "rosbag reindex"),
    ],
)
def test_files_that_hold_nothing_are_refused(name, data, told, tmp_path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=told):
        Bag(tmp_path / name)


def test_sqlite_that_is_no_bag_is_refused(tmp_path) -> None:
    with sqlite3.connect(tmp_path / "other.db3") as connection:
        connection.execute("CREATE TABLE numbers(n INTEGER)")
    connection.close()
    with pytest.raises(DataError, match=r"other\.db3"):
        Bag(tmp_path / "other.db3")


def test_damaged_message_is_a_data_error(bags) -> None:
    bag = Bag(bags["mcap"])
    message = next(m for m in bag.messages({"/lidar/points"}))
    for cut in (0, 3, 20, len(message.data) - 1):
        with pytest.raises(DataError, match="/lidar/points"):
            replace(message, data=bytes(message.data[:cut])).message()
    bag.close()
