"""What is written to a rosbag2, read back with rosbags' own reader, and what happens when writing fails."""

import resource
from contextlib import contextmanager

import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.messages import (
    RosbagsFactory,
    decode_camera_info,
    decode_compressed_image,
    decode_image,
    decode_point_cloud,
    decode_transforms,
    encode_image,
    stamp_ns,
)
from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3, FisheyeCamera, PinholeCamera
from clip2uda_core.types import CameraView, Frame, PointCloud

STORE = RosbagsFactory().typestore
START_NS = 1_700_000_000_000_000_000
FRONT = PinholeCamera(32, 24, 30, 31, 15.5, 11.5, (-0.2, 0.05, 0.001, 0.002, 0.0))
REAR = FisheyeCamera(40, 30, 12, 12, 19.5, 14.5, (0.01, 0, 0, 0))
FORWARD = SE3.from_quaternion_xyzw((0.5, -0.5, 0.5, 0.5), (0.1, -0.2, 0.3), "front_optical", "lidar")
BACKWARD = SE3.from_quaternion_xyzw((0.5, 0.5, -0.5, 0.5), (-0.1, -0.2, 0.3), "rear_optical", "lidar")


def view(name, stamp, camera, pose):
    rng = np.random.default_rng(stamp % 2**32)
    image = rng.integers(0, 256, (camera.height_px, camera.width_px, 3), dtype=np.uint8)
    return CameraView(name, image, stamp, camera, pose)


def front(stamp):
    return view("front", stamp, FRONT, FORWARD)


def rear(stamp):
    return view("rear", stamp, REAR, BACKWARD)


def cloud(stamp, points=500):
    xyz_m = np.random.default_rng(stamp % 2**32).normal(0, 20, (points, 3)).astype(np.float32)
    xyz_m[::7] = np.nan
    return PointCloud(xyz_m, stamp, "velodyne", intensity=xyz_m[:, 0].copy())


def frames():
    """Three frames at 10 Hz; the front image comes 20 ms after its cloud, the rear one 10 ms before it."""
    for i in range(3):
        stamp = START_NS + i * 100_000_000
        yield Frame(cloud(stamp), (front(stamp + 20_000_000), rear(stamp - 10_000_000)), f"made[{i}]")


def write(path, frames, **options):
    with BagWriter(path, **options) as bag:
        for frame in frames:
            bag.write_frame(frame)


def read(path):
    """(topic, log time, message) in the order of the bag, and the connections by topic."""
    with Reader(path) as reader:
        messages = [(c.topic, t, STORE.deserialize_cdr(data, c.msgtype)) for c, t, data in reader.messages()]
        return messages, {c.topic: c for c in reader.connections}


def of_topic(messages, topic):
    return [msg for name, _, msg in messages if name == topic]


@pytest.mark.parametrize("name", ["k.mcap", "folder/of/k.mcap", "k", "k.bag2"])
def test_file_or_folder(tmp_path, name):
    write(tmp_path / name, frames())
    assert (tmp_path / name).is_file() == name.endswith(".mcap")
    messages, _ = read(tmp_path / name)
    assert len(of_topic(messages, "/lidar/points")) == 3
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [(tmp_path / name).name]


def test_topics_times_and_frames(tmp_path):
    write(tmp_path / "k.mcap", frames())
    messages, connections = read(tmp_path / "k.mcap")
    assert {topic: connection.msgtype for topic, connection in connections.items()} == {
        "/tf_static": "tf2_msgs/msg/TFMessage",
        "/lidar/points": "sensor_msgs/msg/PointCloud2",
        "/front/image_raw": "sensor_msgs/msg/Image",
        "/front/camera_info": "sensor_msgs/msg/CameraInfo",
        "/rear/image_raw": "sensor_msgs/msg/Image",
        "/rear/camera_info": "sensor_msgs/msg/CameraInfo",
    }
    assert [topic for topic, _, _ in messages[:6]] == [
        "/tf_static",
        "/rear/image_raw",
        "/rear/camera_info",
        "/lidar/points",
        "/front/image_raw",
        "/front/camera_info",
    ]
    times = [time for _, time, _ in messages]
    assert times == sorted(times)
    assert len(messages) == 1 + 3 * 5
    for topic, time, msg in messages[1:]:
        assert stamp_ns(msg) == time
        expected = "velodyne" if topic == "/lidar/points" else f"{topic.split('/')[1]}_optical_frame"
        assert msg.header.frame_id == expected


@pytest.mark.parametrize("images", ["raw", "png", "jpeg"])
def test_everything_comes_back(tmp_path, images):
    write(tmp_path / "k.mcap", frames(), images=images)
    messages, _ = read(tmp_path / "k.mcap")
    clouds = [decode_point_cloud(msg, "/lidar/points") for msg in of_topic(messages, "/lidar/points")]
    for read_cloud, frame in zip(clouds, frames(), strict=True):
        assert read_cloud.xyz_m.tobytes() == frame.cloud.xyz_m.tobytes()
        assert read_cloud.intensity.tobytes() == frame.cloud.intensity.tobytes()
        assert (read_cloud.stamp_ns, read_cloud.frame_id) == (frame.cloud.stamp_ns, "velodyne")
    suffix, decode = ("", decode_image) if images == "raw" else ("/compressed", decode_compressed_image)
    for i, (name, camera) in enumerate([("front", FRONT), ("rear", REAR)]):
        infos = of_topic(messages, f"/{name}/camera_info")
        pictures = of_topic(messages, f"/{name}/image_raw{suffix}")
        for info, picture, frame in zip(infos, pictures, frames(), strict=True):
            expected = frame.views[i]
            assert stamp_ns(picture) == stamp_ns(info) == expected.stamp_ns
            assert decode_camera_info(info, name, False, (camera.width_px, camera.height_px)) == camera
            decoded = decode(picture, name)
            if images == "jpeg":  # the images are noise, which JPEG blurs
                assert decoded.shape == expected.image.shape
            else:
                np.testing.assert_array_equal(decoded, expected.image)


def test_poses_lead_from_the_lidar_to_the_cameras(tmp_path):
    write(tmp_path / "k.mcap", frames())
    messages, connections = read(tmp_path / "k.mcap")
    (msg,) = of_topic(messages, "/tf_static")
    poses = {pose.source: pose for pose, _ in decode_transforms(msg)}
    assert set(poses) == {"front_optical_frame", "rear_optical_frame"}
    for name, expected in (("front", FORWARD), ("rear", BACKWARD)):
        pose = poses[f"{name}_optical_frame"]
        assert pose.target == "velodyne"
        np.testing.assert_allclose(pose.inverse().matrix, expected.matrix, atol=1e-14)
    (qos,) = connections["/tf_static"].ext.offered_qos_profiles
    assert qos.durability == QosDurability.TRANSIENT_LOCAL
    assert connections["/lidar/points"].ext.offered_qos_profiles == []


def test_a_camera_that_comes_later(tmp_path):
    stamp = START_NS + 100_000_000
    write(tmp_path / "k.mcap", [Frame(cloud(START_NS), (front(START_NS),)), Frame(cloud(stamp), (rear(stamp),))])
    messages, _ = read(tmp_path / "k.mcap")
    sources = [[pose.source for pose, _ in decode_transforms(msg)] for msg in of_topic(messages, "/tf_static")]
    assert sources == [["front_optical_frame"], ["rear_optical_frame"]]


def test_an_image_of_two_clouds_is_written_once(tmp_path):
    image = front(START_NS)
    clouds = [cloud(START_NS), cloud(START_NS + 50_000_000)]
    write(tmp_path / "k.mcap", [Frame(c, (image,)) for c in clouds])
    messages, _ = read(tmp_path / "k.mcap")
    assert len(of_topic(messages, "/lidar/points")) == 2
    assert len(of_topic(messages, "/front/image_raw")) == 1


def test_a_pose_that_moves_is_refused(tmp_path):
    moved = SE3.from_rotation_translation(FORWARD.rotation, FORWARD.translation + 0.01, FORWARD.target, FORWARD.source)
    later = START_NS + 100_000_000
    made = [Frame(cloud(START_NS), (front(START_NS),)), Frame(cloud(later), (view("front", later, FRONT, moved),))]
    with pytest.raises(DataError, match=r"camera 'front' to stay where it was .* without a fixed frame"):
        write(tmp_path / "k.mcap", made)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["front camera", "0", "a__b", "", "front/", "vörn"])
def test_camera_names_that_no_topic_can_have(tmp_path, name):
    with pytest.raises(DataError, match=f"camera '{name}': expected a name that can be in a topic"):
        write(tmp_path / "k.mcap", [Frame(cloud(START_NS), (view(name, START_NS, FRONT, FORWARD),))])


def test_messages_beside_the_frames(tmp_path):
    with BagWriter(tmp_path / "k.mcap") as bag:
        image = front(START_NS).image
        msg = encode_image(image, START_NS, "front", bag.factory)
        bag.write_message("/overlay", msg, START_NS)
        bag.write_message("/latched", msg, START_NS, latched=True)
        bag.write_raw("/copied", "sensor_msgs/msg/Image", STORE.serialize_cdr(msg, msg.__msgtype__), START_NS + 5)
    messages, connections = read(tmp_path / "k.mcap")
    assert [(topic, time) for topic, time, _ in messages] == [
        ("/overlay", START_NS),
        ("/latched", START_NS),
        ("/copied", START_NS + 5),
    ]
    for _, _, read_msg in messages:
        np.testing.assert_array_equal(decode_image(read_msg, "image"), image)
    assert [len(connections[topic].ext.offered_qos_profiles) for topic in ("/overlay", "/latched")] == [0, 1]


def test_a_type_that_nobody_ships(tmp_path):
    unknown = pytest.raises(DataError, match="/radar is of type our_msgs/msg/Radar, whose definition is not known")
    with unknown, BagWriter(tmp_path / "k.mcap") as bag:
        bag.write_raw("/radar", "our_msgs/msg/Radar", b"", START_NS)


def test_two_types_on_one_topic(tmp_path):
    refused = pytest.raises(DataError, match="expected std_msgs/msg/String on /chat, as before, got std_msgs/msg/Empty")
    with refused, BagWriter(tmp_path / "k.mcap") as bag:
        bag.write_message("/chat", bag.factory.make("std_msgs/msg/String", data="hello"), START_NS)
        bag.write_raw("/chat", "std_msgs/msg/Empty", b"", START_NS)


@pytest.mark.parametrize("name", ["k.mcap", "k"])
def test_what_is_there_is_replaced_only_when_asked(tmp_path, name):
    path = tmp_path / name
    write(path, frames())
    with pytest.raises(DataError, match="exists already; choose another name or allow to overwrite it"):
        write(path, frames())
    write(path, [Frame(cloud(START_NS))], overwrite=True)
    messages, _ = read(path)
    assert [topic for topic, _, _ in messages] == ["/lidar/points"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_no_bag_is_never_replaced(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="no rosbag2"):
        write(path, frames(), overwrite=True)
    assert (path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", ["k.mcap", "k"])
def test_a_failure_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    write(path, [Frame(cloud(START_NS))])

    def failing():
        yield from frames()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, failing(), overwrite=True)
    messages, _ = read(path)
    assert len(messages) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_write(tmp_path):
    with pytest.raises(DataError, match=r"k\.mcap: not written, as there was nothing to write"):
        write(tmp_path / "k.mcap", [])
    assert list(tmp_path.iterdir()) == []


def test_stamps_before_1970(tmp_path):
    with pytest.raises(DataError, match="expected stamps since 1970, got -5 ns on /lidar/points"):
        write(tmp_path / "k.mcap", [Frame(cloud(-5))])


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/k\.mcap cannot be written"):
        write(tmp_path / "file" / "k.mcap", frames())


@contextmanager
def largest_file(size):
    """Writing more to one file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_disk_that_is_full(tmp_path, size):
    many = (Frame(cloud(START_NS + i * 100_000_000, 100_000)) for i in range(5))
    with largest_file(size), pytest.raises(DataError, match=r"k\.mcap cannot be written: File too large; free space"):
        write(tmp_path / "k.mcap", many)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_end(tmp_path):
    """A recording that fits the buffers is written when it is closed."""
    with largest_file(100), pytest.raises(DataError, match="cannot be written: File too large; free space"):
        write(tmp_path / "k.mcap", frames())
    assert list(tmp_path.iterdir()) == []
