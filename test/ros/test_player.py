"""The player and the recorder: what a bag holds goes out over DDS unchanged, and comes back into a bag."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from peer import DEADLINE_S, Peer
from processes import Process, process
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from clip2uda_core.data.readers.bag import Bag

ROOT = Path(__file__).resolve().parents[2]
START_NS = 1_700_000_000_000_000_000
STEP_NS = 50_000_000
KINDS = {"/points": PointCloud2, "/notes": String}
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Ten clouds, of which each carries its number, ten notes, and a topic of a package that is not installed."""
    store = get_typestore(Stores.ROS2_KILTED)
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        clouds = writer.add_connection("/points", "sensor_msgs/msg/PointCloud2", typestore=store)
        notes = writer.add_connection("/notes", "std_msgs/msg/String", typestore=store)
        for index in range(10):
            when_ns = START_NS + index * STEP_NS
            writer.write(clouds, when_ns, serialize_message(cloud(index)))
            writer.write(notes, when_ns, serialize_message(String(data=f"note {index}")))
    return path


def cloud(index: int) -> PointCloud2:
    message = PointCloud2(width=index, height=1, point_step=1, row_step=index, data=bytes(range(index)))
    message.header.stamp.sec = index
    message.header.frame_id = "lidar"
    return message


def test_messages_arrive_unchanged_and_in_order(bag: Path, peer: Peer, domain: int, tmp_path: Path) -> None:
    clouds = peer.subscribe(PointCloud2, "/renamed", RELIABLE)
    notes = peer.subscribe(String, "/notes", RELIABLE)
    clock = peer.subscribe(Clock, "/clock", RELIABLE)
    arguments = [str(bag), "--clock", "--loop", "--wait-for", "/points", "/notes"]
    with process(
        "clip2uda_ros.player", [*arguments, "--ros-args", "-r", "/points:=/renamed"], domain, tmp_path / "log"
    ):
        assert clouds.wait_for_count(12)[:12] == [cloud(index % 10) for index in range(12)]
        assert [note.data for note in notes.wait_for_count(10)[:10]] == [f"note {index}" for index in range(10)]
        times_ns = [tick.clock.sec * 10**9 + tick.clock.nanosec for tick in clock.wait_for_count(50)]
    assert times_ns[0] == START_NS
    assert max(times_ns) <= START_NS + 9 * STEP_NS
    first_loop = times_ns[: times_ns.index(max(times_ns)) + 1]
    assert first_loop == sorted(first_loop)


def test_a_recording_of_what_is_played_is_the_same_again(bag: Path, domain: int, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mcap"
    recorder = Process("clip2uda_ros.recorder", [str(copy), "/points", "/notes"], domain, tmp_path / "recorder.log")
    player = Process(
        "clip2uda_ros.player", [str(bag), "--wait-for", "/points", "/notes"], domain, tmp_path / "player.log"
    )
    try:
        assert player.end() == 0
        assert recorder.interrupt() == 0
    finally:
        player.kill()
        recorder.kill()
    messages = [(m.topic, deserialize_message(bytes(m.data), KINDS[m.topic])) for m in Bag(copy).messages(KINDS)]
    assert [message for topic, message in messages if topic == "/points"] == [cloud(index) for index in range(10)]
    assert [message.data for topic, message in messages if topic == "/notes"] == [f"note {i}" for i in range(10)]


def test_a_topic_whose_type_is_not_installed_is_named_and_left_out(peer: Peer, domain: int, tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_KILTED)
    store.register(get_types_from_msg("uint8 value", "robot_msgs/msg/Mood"))
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        moods = writer.add_connection("/mood", "robot_msgs/msg/Mood", typestore=store)
        notes = writer.add_connection("/notes", "std_msgs/msg/String", typestore=store)
        writer.write(moods, START_NS, bytes([0, 1, 0, 0, 7]))
        writer.write(notes, START_NS, serialize_message(String(data="hello")))
    inbox = peer.subscribe(String, "/notes", RELIABLE)
    log = tmp_path / "log"
    with process("clip2uda_ros.player", [str(path), "--loop", "--wait-for", "/notes"], domain, log):
        assert inbox.wait_for_count(1)[0] == String(data="hello")
    assert "/mood is left out: robot_msgs/msg/Mood is not installed" in log.read_text()


@pytest.mark.parametrize("name", ["play", "record"])
def test_interrupted_before_ros_is_imported_it_ends_without_a_traceback(name: str, tmp_path: Path) -> None:
    """The import of this rclpy never ends."""
    (tmp_path / "rclpy.py").write_text("import threading\nprint('importing', flush=True)\nthreading.Event().wait()\n")
    starting = subprocess.Popen(
        [sys.executable, "-c", f"from clip2uda_ros.executables import {name}; {name}()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert starting.stdout is not None
        assert starting.stdout.readline() == "importing\n"
        starting.send_signal(signal.SIGINT)
        _, said = starting.communicate(timeout=DEADLINE_S)
    finally:
        starting.kill()
    assert starting.returncode == 0
    assert "Traceback" not in said
