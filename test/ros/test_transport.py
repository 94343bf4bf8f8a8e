"""The profile is chosen unless the user chose, Fast DDS accepts it, and large best-effort messages arrive with it."""

import os
import subprocess
import sys
import textwrap
from array import array

import pytest
from peer import Peer, wait_until
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from clip2uda_core.paths import share_dir
from clip2uda_ros.transport import profile_variables


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("", "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_shipped_profile_is_the_default(distribution: str, variable: str) -> None:
    profile = str(share_dir() / "config" / "fastdds.xml")
    assert profile_variables({"ROS_DISTRO": distribution}) == {variable: profile}


@pytest.mark.parametrize(
    "chosen",
    [
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"},
        {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
    ],
)
def test_the_users_choice_stands(chosen: dict[str, str]) -> None:
    assert profile_variables(chosen) == {}


RECEIVER = """
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("receiver")
    echo = node.create_publisher(PointCloud2, "/echo", 100)
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(
        PointCloud2, "/cloud", lambda m: echo.publish(PointCloud2(width=m.width, height=len(m.data))), qos
    )
    rclpy.spin(node)
"""


def test_messages_of_two_megabytes_arrive_without_loss(domain: int, peer: Peer) -> None:
    """Best effort, each sent when the one before it has been seen, so that only the transport can lose one."""
    receiver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECEIVER)], env={**os.environ, "ROS_DOMAIN_ID": str(domain)}
    )
    try:
        echo = peer.subscribe(PointCloud2, "/echo", 100)
        publisher = peer.advertise(
            PointCloud2, "/cloud", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        data = array("B", bytes(2_000_000))

        def connected() -> bool:
            """Both sides have found each other; one of them knows it before the other."""
            publisher.publish(PointCloud2(width=0))
            return bool(echo.messages)

        wait_until(connected, "a connection")
        for index in range(1, 11):
            publisher.publish(PointCloud2(width=index, data=data))
            seen = echo.wait_for(lambda message: message.height == len(data), f"message {index} of 10", 10)
            assert seen.width == index
            echo.messages.clear()
    finally:
        receiver.kill()
        receiver.wait()
