"""The stand-ins keep the contract of the ROS packages that they stand in for. Runs on whichever is installed."""

import json
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from peer import Inbox, Peer
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header, String

from clip2uda_core.labels import LabelSpace
from clip2uda_ros.compat import (
    ApproximateTimeSynchronizer,
    LabelInfo,
    SimpleFilter,
    Subscriber,
    TimeSynchronizer,
    make_label_info,
)


def test_subscriber_hands_each_message_to_all_callbacks_with_their_arguments(peer: Peer) -> None:
    inbox: Inbox[tuple[Any, ...]] = Inbox()
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    subscriber = Subscriber(peer.node, String, "~/chatter", qos_profile=qos)
    subscriber.registerCallback(lambda *arguments: inbox.put(arguments))
    subscriber.registerCallback(lambda *arguments: inbox.put(arguments), "front", 7)
    peer.advertise(String, "/peer/chatter", qos).publish(String(data="hello"))
    assert inbox.wait_for_count(2) == [(String(data="hello"),), (String(data="hello"), "front", 7)]
    assert subscriber.sub.topic_name == "/peer/chatter"
    assert peer.node.destroy_subscription(subscriber.sub)


def test_label_info_names_every_class() -> None:
    labels = LabelSpace.load("street8")
    message = make_label_info(labels, Header())
    if LabelInfo is String:
        content = json.loads(message.data)
        assert content["label_space"] == "street8"
        pairs = [(entry["id"], entry["name"]) for entry in content["classes"]]
        assert content["classes"][0]["color"] == labels.colors[0].tolist()
    else:
        pairs = [(entry.class_id, entry.class_name) for entry in message.class_map]
    assert pairs == list(enumerate(labels.names))


def play(synchronizer: TimeSynchronizer, inputs: list[SimpleFilter], script: str) -> list[list[int]]:
    """Sends the messages of `a10 b12 ...` (filter, milliseconds); returns the stamps of the sets that came out."""
    sets: list[list[int]] = []
    synchronizer.registerCallback(lambda *messages: sets.append([m.header.stamp.nanosec // 10**6 for m in messages]))
    for word in script.split():
        header = Header(stamp=Time(sec=1, nanosec=int(word[1:]) * 10**6))
        inputs["abc".index(word[0])].signalMessage(CameraInfo(header=header))
    return sets


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a10 b10", [[10, 10]]),
        ("b10 a10", [[10, 10]]),
        ("a10 b11", []),
        ("a10 a20 b20 b10", [[20, 20], [10, 10]]),
        ("a10 b10 b10 a10", [[10, 10], [10, 10]]),  # what was handed out is gone
        ("a10 a20 a30 a40 b10 b20", [[20, 20]]),  # the queue of 3 lost its oldest
    ],
)
def test_exact_time_matches_equal_stamps(script: str, expected: list[list[int]]) -> None:
    inputs = [SimpleFilter(), SimpleFilter()]
    assert play(TimeSynchronizer(inputs, 3), inputs, script) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a10 b15 c12", [[10, 15, 12]]),
        ("a10 b35 c12", []),
        ("a10 b30 c12", []),  # the spread must be less than the slop
        ("a10 b29 c12", [[10, 29, 12]]),
        ("b05 b18 c15 c22 a20", [[20, 18, 22]]),  # of each the nearest to the one that completes
        ("a10 b10", []),  # all inputs, or nothing
        ("a10 b10 c10 b11 c11", [[10, 10, 10]]),
        ("a10 a11 a12 a13 b10 c10", [[11, 10, 10]]),  # the queue of 3 lost 10
    ],
)
def test_approximate_time_matches_stamps_less_than_the_slop_apart(script: str, expected: list[list[int]]) -> None:
    inputs = [SimpleFilter(), SimpleFilter(), SimpleFilter()]
    assert play(ApproximateTimeSynchronizer(inputs, 3, 0.02), inputs, script) == expected


def test_a_single_input_is_always_synchronised() -> None:
    for make in (
        lambda inputs: TimeSynchronizer(inputs, 3),
        lambda inputs: ApproximateTimeSynchronizer(inputs, 3, 0.1),
    ):
        inputs = [SimpleFilter()]
        synchronizer = make(inputs)
        assert play(synchronizer, inputs, "a10 a20") == [[10], [20]]
        assert synchronizer.queues == [{}]
