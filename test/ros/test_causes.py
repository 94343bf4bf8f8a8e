"""Each cause of silence or of poor labels, brought about over DDS: /diagnostics names it, and no cloud is unaccounted.

One node in simulated time, which the tests move on a second at a time. They build on each other in their order.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from peer import Inbox, Peer, wait_until
from processes import process
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from services import assert_everything_is_accounted_for, pairs, transition
from std_srvs.srv import SetBool
from world import MILLISECOND_NS, RELIABLE, camera_info_message, cloud_message, image_message, scattered_points

from clip2uda_core.data.messages import stamp_ns
from clip2uda_ros.conversions import time_message

pytestmark = pytest.mark.ros

NODE = "/segmenter"
POINTS, IMAGE, INFO = (f"{NODE}/input/{name}" for name in ("points", "front/image", "front/camera_info"))
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
S = 10**9
START_NS = 1000 * S
TICK_S = 0.05


class Robot:
    """The sensors, and the time that they live in."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.diagnostics: Inbox[DiagnosticArray] = peer.subscribe(DiagnosticArray, "/diagnostics", 50)
        self.outputs: Inbox[PointCloud2] = peer.subscribe(PointCloud2, f"{NODE}/output/points", RELIABLE)
        self.now_ns = START_NS
        self.publishers: dict[str, Publisher] = {}

    def publish(self, topic: str, message: Clock | Image | CameraInfo | PointCloud2) -> None:
        if topic not in self.publishers:
            self.publishers[topic] = self.peer.node.create_publisher(type(message), topic, RELIABLE)
        self.publishers[topic].publish(message)

    def second(self) -> int:
        """Lets a second of simulated time pass; returns the new time."""
        self.now_ns += S
        self.publish("/clock", Clock(clock=time_message(self.now_ns)))
        return self.now_ns

    def cloud(self, when_ns: int, points: int = 50) -> None:
        self.publish(POINTS, cloud_message(scattered_points(points), when_ns))

    def image(self, when_ns: int) -> None:
        self.publish(IMAGE, image_message(when_ns))

    def info(self, when_ns: int) -> None:
        self.publish(INFO, camera_info_message(when_ns))

    def told(self, *words: str, while_doing: Callable[[], object] = lambda: None) -> None:
        """Repeats what is wrong until a diagnostic message that came since holds all the words."""
        start = len(self.diagnostics.messages)

        def found() -> bool:
            while_doing()
            texts = [message.status[0].message for message in self.diagnostics.messages[start:]]
            return any(all(word in text for word in words) for text in texts)

        try:
            wait_until(found, f"diagnostics with {words}", deadline_s=60, pause_s=TICK_S)
        except AssertionError as error:
            last = self.diagnostics.messages[-1].status[0].message
            raise AssertionError(f"{error}; the last one: {last}") from None


@pytest.fixture(scope="module")
def robot(
    module_peer: Peer, module_domain: int, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    robot = Robot(module_peer)
    parameters = {
        "autostart": False,
        "checkpoint": checkpoint,
        "use_sim_time": True,
        "sync.timeout_s": 0.0,
        "sync.max_age_s": 3.0,
        f"qos_overrides.{IMAGE}.subscription.reliability": "reliable",
    }
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    log = tmp_path_factory.mktemp("causes") / "log"
    with process("clip2uda_ros.segment_node", ["--ros-args", *arguments], module_domain, log) as running:
        yield robot
        assert running.running()


def test_a_model_that_loads(robot: Robot, checkpoint: Path) -> None:
    robot.told("unconfigured")
    assert transition(robot.peer, NODE, Transition.TRANSITION_CONFIGURE)
    robot.diagnostics.wait_for(
        lambda message: message.status[0].message == f"configuring: loading the model {checkpoint}", "the reason"
    )
    assert transition(robot.peer, NODE, Transition.TRANSITION_ACTIVATE)


def test_no_clock_and_no_publishers(robot: Robot) -> None:
    robot.told(
        "use_sim_time is set, but nobody publishes /clock",
        f"points: nobody publishes {POINTS}; remap it",
        f"front: nobody publishes {IMAGE}; remap it",
    )


def test_an_incompatible_qos_names_the_publisher(robot: Robot, module_domain: int) -> None:
    """An override asks for reliable; the driver is best effort."""
    driver = Peer(module_domain, "camera_driver")
    driver.node.create_publisher(Image, IMAGE, BEST_EFFORT)
    robot.told(
        f"front: /camera_driver publishes {IMAGE} with an incompatible QoS; set qos_overrides.{IMAGE}.",
        while_doing=robot.second,
    )
    driver.close()


def test_a_publisher_from_which_nothing_arrives(robot: Robot) -> None:
    robot.publishers[POINTS] = robot.peer.advertise(PointCloud2, POINTS, RELIABLE)
    robot.told(
        f"points: {POINTS} has a publisher, but nothing arrives; see docs/transport.md", while_doing=robot.second
    )


def test_no_camera_info(robot: Robot) -> None:
    def sensors() -> None:
        now_ns = robot.second()
        robot.image(now_ns)
        robot.cloud(now_ns)

    robot.told(f"front camera_info: nobody publishes {INFO}", "its labels are those of 3D alone", while_doing=sensors)


def test_a_camera_that_is_not_calibrated(robot: Robot) -> None:
    def sensors() -> None:
        now_ns = robot.second()
        info = camera_info_message(now_ns)
        info.k = [0.0] * 9
        robot.publish(INFO, info)
        robot.image(now_ns)
        robot.cloud(now_ns)

    robot.told(f"front: {INFO}: expected positive focal lengths in K, got fx=0.0", while_doing=sensors)


def test_no_transforms(robot: Robot) -> None:
    """Where tf2_msgs is missing, that is the reason; where it is there, nobody publishes it."""
    all_well_but_tf(robot)
    robot.told("front: no transform names frame", "lidar", "tf", while_doing=lambda: all_well_but_tf(robot))


def all_well_but_tf(robot: Robot) -> None:
    now_ns = robot.second()
    robot.info(now_ns)
    robot.image(now_ns)
    robot.cloud(now_ns)


def test_images_outside_of_the_tolerance(robot: Robot) -> None:
    def sensors() -> None:
        now_ns = robot.second()
        robot.image(now_ns - 112 * MILLISECOND_NS)
        robot.cloud(now_ns)

    robot.told("front: ", "nearest stamp 112 ms away, tolerance 50 ms", while_doing=sensors)


def test_images_without_a_stamp(robot: Robot) -> None:
    def sensors() -> None:
        robot.image(0)
        robot.cloud(robot.second())

    robot.told(f"front: header.stamp of {IMAGE} is not set", while_doing=sensors)


def test_clouds_without_a_stamp(robot: Robot) -> None:
    def sensors() -> None:
        robot.second()
        robot.cloud(0)

    robot.told("clouds dropped: header.stamp is not set", while_doing=sensors)


def test_clouds_of_another_clock(robot: Robot) -> None:
    robot.told(
        "clouds dropped: older than max_age_s on arrival (5.0 s; a recording needs use_sim_time and --clock)",
        while_doing=lambda: robot.cloud(robot.second() - 5 * S),
    )
    robot.told(
        "points: stamped 20.0 s ahead of the node's clock", while_doing=lambda: robot.cloud(robot.second() + 20 * S)
    )


def test_a_worker_that_fails(robot: Robot) -> None:
    def sensors() -> None:
        message = cloud_message(scattered_points(10), robot.second())
        message.fields = message.fields[1:]
        robot.publish(POINTS, message)

    robot.now_ns += 30 * S  # past what came from ahead
    robot.told("clouds failed, the latest: ", "expected a cloud with fields x, y, z", while_doing=sensors)


def test_input_that_is_faster_than_the_model(robot: Robot) -> None:
    robot.told("the model is slower than its input", while_doing=lambda: robot.cloud(robot.second(), points=40_000))


def test_time_that_jumps_back_again_and_again(robot: Robot) -> None:
    """Two clocks on one topic."""

    def sensors() -> None:
        now_ns = robot.second()
        robot.cloud(now_ns)
        robot.cloud(now_ns - 2 * S)

    robot.told("time jumped back", "times within seconds", while_doing=sensors)


def test_disabled(robot: Robot) -> None:
    assert robot.peer.call(SetBool, f"{NODE}/enable", SetBool.Request(data=False)).success
    robot.told("disabled through ~/enable", while_doing=lambda: robot.cloud(robot.second()))
    robot.diagnostics.wait_for(lambda message: int(pairs(message)["sets.dropped.disabled"]) > 0, "ignored clouds")
    assert robot.peer.call(SetBool, f"{NODE}/enable", SetBool.Request(data=True)).success


def test_a_bag_that_starts_again(robot: Robot) -> None:
    """/clock and stamps jump back by minutes; the next cloud is answered."""
    robot.now_ns = START_NS - 100 * S
    answered = len(robot.outputs.messages)

    def seen() -> bool:
        robot.cloud(robot.second())
        return any(stamp_ns(m) < START_NS for m in robot.outputs.messages[answered:])

    wait_until(seen, "labels of the second round", pause_s=TICK_S)


def test_after_all_that_every_cloud_is_accounted_for(robot: Robot) -> None:
    robot.diagnostics.wait_for_count(len(robot.diagnostics.messages) + 2)
    assert_everything_is_accounted_for(robot.diagnostics)
    values = pairs(robot.diagnostics.messages[-1])
    dropped = ("too_old", "no_stamp", "failed", "replaced", "disabled")
    assert [reason for reason in dropped if values[f"sets.dropped.{reason}"] == "0"] == []
    assert int(values["sets.in"]) == int(values["input.points.count"])
    assert int(values["failures.calibration"]) > 0
    assert int(values["failures.transform"]) > 0
    assert int(values["time.jumps"]) > 1
