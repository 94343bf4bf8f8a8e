"""Real /tf and /tf_static: rigid and moving robots, transforms that come late, stop, or jump back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from peer import Inbox, Peer, wait_until
from processes import process
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from services import assert_everything_is_accounted_for, pairs
from world import (
    CAMERA_SE3_LIDAR,
    FACTORY,
    MILLISECOND_NS,
    RELIABLE,
    camera_info_message,
    cloud_message,
    image_message,
)

from clip2uda_core.data.messages import encode_transforms, stamp_ns
from clip2uda_core.geometry import SE3

pytestmark = pytest.mark.ros

NODE = "/segmenter"
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
S = 10**9
IN_FRONT = np.random.default_rng(0).uniform((5, -2, -1), (10, 2, 1), (200, 3)).astype(np.float32)
"""All of these are in the image of a camera that looks ahead."""


def odometry(yaw: float) -> SE3:
    turn = [[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]
    return SE3.from_rotation_translation(turn, [3.0, 1.0, 0.0], "odom", "base")


class Robot:
    """LiDAR, camera and TF. Stamps start now and go on by a second a set, the camera 40 ms after the LiDAR."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.diagnostics: Inbox[DiagnosticArray] = peer.subscribe(DiagnosticArray, "/diagnostics", 50)
        self.outputs: Inbox[PointCloud2] = peer.subscribe(PointCloud2, f"{NODE}/output/points", RELIABLE)
        from tf2_msgs.msg import TFMessage

        node = peer.node
        self.static = node.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.static.publish(encode_transforms([(mount(), 0), (camera(), 0)], FACTORY))
        self.moving = node.create_publisher(TFMessage, "/tf", RELIABLE)
        self.clouds = node.create_publisher(PointCloud2, f"{NODE}/input/points", RELIABLE)
        self.images = node.create_publisher(Image, f"{NODE}/input/front/image", RELIABLE)
        self.infos = node.create_publisher(CameraInfo, f"{NODE}/input/front/camera_info", RELIABLE)
        self.now_ns = node.get_clock().now().nanoseconds

    def sense(self) -> int:
        """Sends CameraInfo, cloud and image of the next second; returns the cloud's stamp."""
        self.now_ns += S
        self.infos.publish(camera_info_message(self.now_ns))
        self.clouds.publish(cloud_message(IN_FRONT, self.now_ns))
        self.images.publish(image_message(self.now_ns + 40 * MILLISECOND_NS))
        return self.now_ns

    def move(self, *samples: tuple[int, float]) -> None:
        """Odometry of (stamp, yaw)."""
        self.moving.publish(encode_transforms([(odometry(yaw), when_ns) for when_ns, yaw in samples], FACTORY))

    def values(self, condition: Callable[[dict[str, str]], Any], what: str, start: int) -> dict[str, str]:
        """Of the diagnostics from `start` on the first that fulfils the condition."""
        messages = self.diagnostics.messages
        return wait_until(
            lambda: next((v for v in map(pairs, messages[start:]) if condition(v)), None), what, pause_s=0.05
        )

    def seen_of(self, when_ns: int) -> float:
        """Percent of the points of the cloud of this stamp that were seen by the camera, once it is labelled."""
        self.outputs.wait_for(lambda message: stamp_ns(message) == when_ns, f"the answer to {when_ns}")
        count = len(self.diagnostics.messages)
        values = pairs(self.diagnostics.wait_for_count(count + 2)[-1])
        return float(values["output.seen_percent"])


def mount() -> SE3:
    return SE3.from_rotation_translation(np.eye(3), [0.0, 0.0, 1.5], "base", "lidar")


def camera() -> SE3:
    """The LiDAR's frame is the parent of the camera's."""
    return CAMERA_SE3_LIDAR.inverse()


@pytest.fixture(scope="module")
def robot(
    tf2_msgs: str,
    module_peer: Peer,
    module_domain: int,
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Robot]:
    robot = Robot(module_peer)
    parameters = {
        "checkpoint": checkpoint,
        "tf.fixed_frame": "odom",
        "sync.timeout_s": 2.0,
        "sync.max_age_s": 0.0,
    }
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    log = tmp_path_factory.mktemp("tf") / "log"
    with process("clip2uda_ros.segment_node", ["--ros-args", *arguments], module_domain, log, tf2_msgs) as running:

        def answered() -> bool:
            when_ns = robot.sense()
            robot.move((when_ns, 0.0), (when_ns + 100 * MILLISECOND_NS, 0.0))
            return bool(robot.outputs.messages)

        wait_until(answered, "the first labels", pause_s=0.5)
        yield robot
        assert running.running()


def test_transforms_that_come_after_the_image_are_waited_for(robot: Robot) -> None:
    start = len(robot.diagnostics.messages)
    when_ns = robot.sense()
    robot.values(lambda values: values["sets.pending"] != "0", "a set that waits for odometry", start)
    robot.move((when_ns, 0.0), (when_ns + 100 * MILLISECOND_NS, 0.0))
    assert robot.seen_of(when_ns) == 100


def test_the_motion_between_cloud_and_image_is_compensated(robot: Robot) -> None:
    """Within the 40 ms the robot turns its back: what was ahead of the LiDAR is behind the camera."""
    when_ns = robot.sense()
    robot.move((when_ns, 0.3), (when_ns + 20 * MILLISECOND_NS, 1.8), (when_ns + 40 * MILLISECOND_NS, 0.3 + np.pi))
    assert robot.seen_of(when_ns) == 0
    standing_ns = robot.sense()
    robot.move((standing_ns, 2.0), (standing_ns + 100 * MILLISECOND_NS, 2.0))
    assert robot.seen_of(standing_ns) == 100


def test_without_odometry_3d_goes_on_alone_and_says_why(robot: Robot) -> None:
    before = pairs(robot.diagnostics.messages[-1])
    start = len(robot.diagnostics.messages)
    robot.sense()
    changed = robot.values(lambda v: v["sets.partial"] != before["sets.partial"], "a partial set", start)
    assert int(changed["failures.transform"]) == int(before["failures.transform"]) + 1
    text = robot.diagnostics.wait_for(
        lambda message: "extrapolation" in message.status[0].message, "the reason", 30
    ).status[0]
    assert "front: transform odom <- base" in text.message
    when_ns = robot.sense()
    robot.move((when_ns, 0.0), (when_ns + 100 * MILLISECOND_NS, 0.0))
    assert robot.seen_of(when_ns) == 100


def test_a_recording_that_starts_again_has_its_transforms_again(robot: Robot) -> None:
    """The static ones are not published a second time."""
    robot.now_ns -= 3600 * S
    answered = len(robot.outputs.messages)

    def labelled() -> bool:
        when_ns = robot.sense()
        robot.move((when_ns, 0.0), (when_ns + 100 * MILLISECOND_NS, 0.0))
        return any(stamp_ns(message) <= robot.now_ns for message in robot.outputs.messages[answered:])

    wait_until(labelled, "labels of the second round", pause_s=0.5)
    when_ns = robot.sense()
    robot.move((when_ns, 0.0), (when_ns + 100 * MILLISECOND_NS, 0.0))
    assert robot.seen_of(when_ns) == 100
    assert_everything_is_accounted_for(robot.diagnostics)
    assert int(pairs(robot.diagnostics.messages[-1])["input.tf.count"]) > 0
