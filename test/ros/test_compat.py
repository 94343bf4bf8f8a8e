"""The stand-ins keep the contract of the ROS packages that they stand in for. Runs on whichever is installed."""

import json
from typing import Any

from peer import Inbox, Peer
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header, String

from clip2uda_core.labels import LabelSpace
from clip2uda_ros.compat import LabelInfo, Subscriber, make_label_info


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
