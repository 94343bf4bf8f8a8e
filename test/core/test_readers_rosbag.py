"""Bags as frames: pairing, calibration from CameraInfo, TF or a file, damage, labels, and memory."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_recordings import (
    CAMERA_FROM_LIDAR,
    CX,
    CY,
    FX,
    HEIGHT,
    IMAGE_DELAY_NS,
    PERIOD_NS,
    POINTS,
    START_NS,
    STORES,
    WIDTH,
    TinyBag,
    cloud_xyz,
    frame_messages,
    image_rgb,
    storage_file,
    write_bag,
)

from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.collector import CollectorConfig
from clip2uda_core.data.readers import RawMessage, ReaderOptions, RosbagReader, open_source
from clip2uda_core.errors import CalibrationError, Clip2udaError, DataError
from clip2uda_core.geometry import project
from clip2uda_core.labels import IGNORE, LabelSpace


def bag_path(folder: Path, kind: str) -> Path:
    return folder / ("bag.bag" if kind == "rosbag1" else f"bag_{kind}")


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bags")
    return {kind: write_bag(bag_path(folder, kind), kind, frame_messages(kind, 5)) for kind in STORES}


@pytest.mark.parametrize("kind", STORES)
def test_frames_of_every_storage(bags, kind) -> None:
    reader = open_source(bags[kind])
    assert isinstance(reader, RosbagReader)
    assert (len(reader), reader.cameras, reader.warnings) == (5, ("front",), [])
    frames = list(reader)
    assert len(frames) == 5
    for i, frame in enumerate(frames):
        (view,) = frame.views
        assert frame.cloud.stamp_ns == START_NS + i * PERIOD_NS
        assert view.stamp_ns == frame.cloud.stamp_ns + IMAGE_DELAY_NS
        np.testing.assert_array_equal(frame.cloud.xyz_m, cloud_xyz(i))
        np.testing.assert_array_equal(frame.cloud.intensity, np.full(POINTS, i, np.float32))
        np.testing.assert_array_equal(view.image, image_rgb(i))
        assert frame.cloud.labels is None
        np.testing.assert_allclose(view.camera_SE3_lidar.matrix, CAMERA_FROM_LIDAR, atol=1e-12)
        uv = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera).uv_px
        np.testing.assert_allclose(uv[0], (CX, CY - FX * 0.2 / 10), atol=1e-4)
    assert (reader.pairing.complete, reader.pairing.partial, reader.warnings) == (5, 0, [])
    np.testing.assert_allclose(reader.pairing.nearest_s["front"], 0.01)
    assert [f.cloud.stamp_ns for f in reader] == [f.cloud.stamp_ns for f in frames]


def test_description_and_stamps(bags) -> None:
    reader = open_source(bags["mcap"])
    roles = {stream.name: (stream.role, stream.count) for stream in reader.describe().streams}
    assert roles == {
        "/lidar/points": ("points", 5),
        "/front/image_raw": ("camera front", 5),
        "/front/camera_info": ("calibration front", 5),
        "/tf_static": ("transforms", 1),
    }
    stamps = reader.stamps()
    assert set(stamps) == {"/lidar/points", "/front/image_raw", "/front/camera_info"}
    assert stamps["/lidar/points"].acquired_ns.tolist() == [START_NS + i * PERIOD_NS for i in range(5)]
    assert set(stamps["/lidar/points"].logged_ns - stamps["/lidar/points"].acquired_ns) == {5_000_000}


def test_max_frames_and_the_cloud_alone(bags) -> None:
    reader = open_source(bags["mcap"], ReaderOptions(max_frames=2))
    assert len(reader) == len(list(reader)) == 2
    alone = open_source(bags["mcap"], ReaderOptions(cameras={}))
    assert [frame.views for frame in alone] == [()] * 5
    assert alone.pairing.complete == 5


def test_static_transforms_and_camera_info_may_come_last(tmp_path) -> None:
    messages = frame_messages("mcap", 3)
    infos = [m for m in messages if m[1] == "/front/camera_info"]
    late = [(START_NS + 10**9, topic, message) for _, topic, message in (messages[0], infos[0])]
    others = [m for m in messages[1:] if m not in infos]
    reader = open_source(write_bag(tmp_path / "bag", "mcap", others + late))
    assert [len(frame.views) for frame in reader] == [1, 1, 1]
    assert not reader.warnings


def test_missing_transform_is_told_before_and_costs_the_camera(tmp_path) -> None:
    messages = frame_messages("mcap", 3)[1:]
    reader = open_source(write_bag(tmp_path / "bag", "mcap", messages))
    assert any("'front' is not used" in warning and "--calibration" in warning for warning in reader.warnings)
    assert [len(frame.views) for frame in reader] == [0, 0, 0]
    assert any("'front' was skipped in 3 frames" in warning for warning in reader.warnings)
    assert (reader.pairing.complete, reader.pairing.partial) == (0, 3)


CALIBRATION = f"""
cameras:
  front:
    width: {WIDTH}
    height: {HEIGHT}
    K: [{FX}, 0, {CX}, 0, {FX}, {CY}, 0, 0, 1]
    camera_SE3_lidar:
      matrix: {CAMERA_FROM_LIDAR.tolist()}
"""


def test_calibration_file_takes_the_place_of_camera_info_and_tf(tmp_path) -> None:
    messages = [m for m in frame_messages("mcap", 2) if m[1] in ("/lidar/points", "/front/image_raw")]
    bag = write_bag(tmp_path / "bag", "mcap", messages)
    with pytest.raises(DataError, match="--calibration FILE"):
        open_source(bag)
    (tmp_path / "rig.yaml").write_text(CALIBRATION)
    frames = list(open_source(bag, ReaderOptions(calibration=tmp_path / "rig.yaml")))
    assert [len(frame.views) for frame in frames] == [1, 1]
    np.testing.assert_allclose(frames[0].views[0].camera_SE3_lidar.matrix, CAMERA_FROM_LIDAR, atol=1e-12)
    (tmp_path / "rig.yaml").write_text(CALIBRATION.replace("width", "breadth"))
    with pytest.raises(CalibrationError, match="breadth"):
        open_source(bag, ReaderOptions(calibration=tmp_path / "rig.yaml"))


def moving_messages(frames: int) -> list[tuple[int, str, object]]:
    """The standard recording on a robot that drives 10 m/s along x of `odom`; TF comes at 20 Hz, logged 60 ms late."""
    tiny = TinyBag("mcap")
    messages = frame_messages("mcap", frames)
    for i in range(-2, 2 * frames + 4):
        stamp = START_NS + i * PERIOD_NS // 2
        place = (0.5 * i, 0.0, 0.0)
        transform = tiny.transform(stamp, "odom", "lidar", place, (0.0, 0.0, 0.0, 1.0))
        messages.append((stamp + 60_000_000, "/tf", transform))
    return sorted(messages, key=lambda m: m[0])


def test_fixed_frame_compensates_the_drive_between_cloud_and_image(tmp_path) -> None:
    """10 ms at 10 m/s: when the image is taken, a point that was 10 m ahead is 9.9 m ahead."""
    bag = write_bag(tmp_path / "bag", "mcap", moving_messages(4))
    for fixed_frame, ahead_m in ((None, 10.0), ("odom", 9.9)):
        reader = open_source(bag, ReaderOptions(fixed_frame=fixed_frame))
        frames = list(reader)
        assert [len(frame.views) for frame in frames] == [1] * 4, reader.warnings
        for frame in frames:
            point = frame.views[0].camera_SE3_lidar.transform(np.array([[10.0, 0, 0]]))[0]
            np.testing.assert_allclose(point, (0, -0.2, ahead_m), atol=1e-6)


def test_images_out_of_tolerance_and_stamp_offsets(tmp_path) -> None:
    """A camera whose stamps are 80 ms late joins once its offset is known."""
    tiny = TinyBag("mcap")
    messages = [m for m in frame_messages("mcap", 6) if m[1] != "/front/image_raw"]
    for i in range(6):
        stamp = START_NS + i * PERIOD_NS
        messages.append((stamp + 20_000_000, "/front/image_raw", tiny.image(i, stamp + 80_000_000)))
    bag = write_bag(tmp_path / "bag", "mcap", sorted(messages, key=lambda m: m[0]))
    strict = CollectorConfig(tolerance_s=0.01)
    without = open_source(bag, ReaderOptions(sync=strict))
    assert [len(frame.views) for frame in without] == [0] * 6
    assert without.pairing.partial == 6
    corrected = strict.model_copy(update={"stamp_offset_s": {"front": 0.08}})
    frames = list(open_source(bag, ReaderOptions(sync=corrected)))
    assert [frame.views[0].image[0, 0, 0] for frame in frames] == list(range(6))


def test_recording_whose_sensors_have_their_own_clock_is_read(tmp_path) -> None:
    messages = [(log_time + 5 * 10**12, topic, message) for log_time, topic, message in frame_messages("mcap", 3)]
    reader = open_source(write_bag(tmp_path / "bag", "mcap", messages))
    assert [len(frame.views) for frame in reader] == [1, 1, 1]


def test_a_bag_that_was_looped_while_recording(tmp_path) -> None:
    """Log time goes on, stamps start again: both rounds are read, and TF of the first does not serve the second."""
    first = moving_messages(8)
    second = [(log_time + 3 * 10**9, topic, message) for log_time, topic, message in first]
    reader = open_source(write_bag(tmp_path / "bag", "mcap", first + second), ReaderOptions(fixed_frame="odom"))
    frames = list(reader)
    assert [frame.cloud.intensity[0] for frame in frames] == [*range(8), *range(8)]
    assert [len(frame.views) for frame in frames] == [1] * 16, reader.warnings


def test_damaged_messages_are_skipped_and_counted(bags, tmp_path) -> None:
    messages = frame_messages("mcap", 5)
    clouds = [i for i, m in enumerate(messages) if m[1] == "/lidar/points"]
    images = [i for i, m in enumerate(messages) if m[1] == "/front/image_raw"]
    cloud, image = messages[clouds[1]][2], messages[images[3]][2]
    messages[clouds[1]] = (*messages[clouds[1]][:2], replace(cloud, data=cloud.data[:-8]))
    messages[images[3]] = (*messages[images[3]][:2], replace(image, encoding="rgb77"))
    reader = open_source(write_bag(tmp_path / "bag", "mcap", messages))
    frames = list(reader)
    assert [(f.cloud.intensity[0], len(f.views)) for f in frames] == [(0, 1), (2, 1), (3, 0), (4, 1)]
    assert any("1 messages of /lidar/points are damaged" in warning for warning in reader.warnings)
    assert any("'front' was skipped in 1 frames" in w and "rgb77" in w for w in reader.warnings)
    list(reader)
    assert len(reader.warnings) == 2


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_cut_off_bag_gives_its_frames_and_a_warning(bags, kind, tmp_path) -> None:
    file = storage_file(bags[kind])
    data = file.read_bytes()
    cut = tmp_path / f"cut{file.suffix}"
    cut.write_bytes(data[: len(data) * 7 // 10])
    reader = open_source(cut)
    frames = list(reader)
    assert 2 <= len(frames) < 5
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.cloud.xyz_m, cloud_xyz(i))
    assert any("bytes" in warning and "messages" in warning for warning in reader.warnings)


@pytest.mark.parametrize("kind", STORES)
def test_no_damage_gives_other_than_our_errors(bags, kind, tmp_path) -> None:
    """Cuts and random bytes, in the head of the file above all: frames, or one of our errors, and nothing else."""
    file = storage_file(bags[kind])
    whole = file.read_bytes()
    read = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        data = bytearray(whole[: random.integers(1, len(whole))] if seed % 2 else whole)
        for _ in range(random.integers(1, 5)):
            at = int(random.integers(0, min(len(data), len(data) if seed % 3 else 5000)))
            size = min(int(random.integers(1, 200)), len(data) - at)
            data[at : at + size] = random.bytes(size)
        damaged = tmp_path / f"damaged{file.suffix}"
        damaged.write_bytes(data)
        try:
            reader = open_source(damaged)
            read += len(list(reader))
            reader.stamps()
        except Clip2udaError:
            continue
    assert read > 20


@pytest.mark.parametrize("kind", STORES)
def test_messages_come_before_the_frame_made_of_them(bags, kind) -> None:
    seen: list[RawMessage] = []
    frames = 0
    for item in open_source(bags[kind]).frames_and_messages():
        if isinstance(item, RawMessage):
            seen.append(item)
            continue
        stamps = {(m.topic, m.header_stamp_ns()) for m in seen if m.topic != "/tf_static"}
        assert ("/lidar/points", item.cloud.stamp_ns) in stamps
        assert ("/front/image_raw", item.views[0].stamp_ns) in stamps
        frames += 1
    assert frames == 5
    assert len(seen) == 16
    for message in seen:
        again = STORES["mcap"].deserialize_cdr(message.cdr(), message.msgtype)
        assert type(again).__name__ == type(message.message()).__name__


def test_compressed_images_and_a_second_camera(tmp_path) -> None:
    tiny = TinyBag("mcap")
    messages = frame_messages("mcap", 3)
    messages.insert(0, (START_NS, "/tf_static", tiny.transform(START_NS, child="rear_optical")))
    for i in range(3):
        stamp = START_NS + i * PERIOD_NS - 3_000_000
        messages.append((stamp + 9_000_000, "/rear/camera_info", tiny.camera_info(stamp, "rear_optical")))
        image = tiny.compressed_image(100 + i, stamp, "rear_optical")
        messages.append((stamp + 9_000_000, "/rear/image_rect/compressed", image))
    reader = open_source(write_bag(tmp_path / "bag", "mcap", sorted(messages, key=lambda m: m[0])))
    frames = list(reader)
    assert [[view.name for view in frame.views] for frame in frames] == [["front", "rear"]] * 3
    assert [frame.views[1].image[0, 0, 0] for frame in frames] == [100, 101, 102]


def test_labels_of_a_bag_are_classes_of_the_label_space(tmp_path) -> None:
    labels = LabelSpace.load("street8")
    source = next(iter(open_source(write_bag(tmp_path / "plain", "mcap", frame_messages("mcap", 1)))))
    written = np.arange(POINTS, dtype=np.uint8) % 10
    with BagWriter(tmp_path / "labelled.mcap") as writer:
        writer.write_frame(replace(source, cloud=replace(source.cloud, labels=written)))
    (frame,) = open_source(tmp_path / "labelled.mcap", ReaderOptions(label_space=labels))
    np.testing.assert_array_equal(frame.cloud.labels, np.where(written < 8, written, IGNORE))
    (frame,) = open_source(tmp_path / "labelled.mcap")
    assert frame.cloud.labels is None


def test_ambiguous_topics_are_told_with_flags(tmp_path) -> None:
    tiny = TinyBag("mcap")
    messages = [*frame_messages("mcap", 1), (START_NS + 1, "/rear/points", tiny.cloud(0, START_NS))]
    bag = write_bag(tmp_path / "bag", "mcap", messages)
    with pytest.raises(DataError, match="--points-topic /lidar/points"):
        open_source(bag)
    assert len(list(open_source(bag, ReaderOptions(points_topic="/rear/points")))) == 1


READ_ALL = """
import sys
from pathlib import Path
from clip2uda_core.data.readers import open_source
frames = sum(len(frame.views) == 1 for frame in open_source(sys.argv[1]))
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(frames, int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' count of the peak memory")
@pytest.mark.parametrize("kind", STORES)
def test_memory_does_not_grow_with_the_length_of_the_bag(kind, tmp_path) -> None:
    """300 frames of 0.1 MB are 32 MB; read, they must cost no more than 30 do."""
    peaks_mb = []
    for frames in (30, 300):
        bag = write_bag(bag_path(tmp_path, kind), kind, frame_messages(kind, frames, points=6_000))
        command = [sys.executable, "-c", READ_ALL, str(bag)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        read, peak_mb = map(int, done.stdout.split())
        assert read == frames
        peaks_mb.append(peak_mb)
        shutil.rmtree(bag) if bag.is_dir() else bag.unlink()
    assert peaks_mb[1] - peaks_mb[0] < 8, peaks_mb


@pytest.mark.real_data
def test_real_drive_through_a_bag_keeps_every_bit(real_data, tmp_path) -> None:
    drive = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions(max_frames=3))
    with BagWriter(tmp_path / "k.mcap") as writer:
        for frame in drive:
            writer.write_frame(frame)
    bag = open_source(tmp_path / "k.mcap")
    assert not bag.warnings
    for original, read in zip(drive, bag, strict=True):
        assert read.cloud.stamp_ns == original.cloud.stamp_ns
        np.testing.assert_array_equal(read.cloud.xyz_m, original.cloud.xyz_m)
        np.testing.assert_array_equal(read.cloud.intensity, original.cloud.intensity)
        (before,), (after,) = original.views, read.views
        np.testing.assert_array_equal(after.image, before.image)
        assert after.stamp_ns == before.stamp_ns
        pixels = project(original.cloud.xyz_m, before.camera_SE3_lidar, before.camera)
        again = project(read.cloud.xyz_m, after.camera_SE3_lidar, after.camera)
        shown = pixels.visible & again.visible
        assert (pixels.visible != again.visible).sum() <= 2
        np.testing.assert_allclose(again.uv_px[shown], pixels.uv_px[shown], atol=0.01)
