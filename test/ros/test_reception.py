"""The thread that receives, on a node that an executor spins at the same time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from peer import DEADLINE_S, Inbox, Peer
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import String

from clip2uda_ros.reception import Reception, ReceptionGroup

pytestmark = pytest.mark.ros

QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


def never() -> bool:
    return False


def subscribe(peer: Peer, topic: str, callback: Callable[[String], None]) -> Subscription:
    return peer.node.create_subscription(
        String,
        topic,
        callback,
        QOS,
        callback_group=ReceptionGroup(),
        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
    )


@contextmanager
def receiving(peer: Peer, *subscriptions: Subscription, poll: Callable[[], bool] = never) -> Iterator[list[Exception]]:
    """Yields what callbacks and `poll` raised."""
    errors: list[Exception] = []
    reception = Reception(peer.node.context, subscriptions, poll, errors.append)
    try:
        yield errors
    finally:
        reception.close()


def test_each_message_comes_once_in_order_and_one_at_a_time(peer: Peer) -> None:
    inbox: Inbox[tuple[str, str, str]] = Inbox()
    at_work = threading.Lock()

    def put(topic: str) -> Callable[[String], None]:
        def callback(message: String) -> None:
            assert at_work.acquire(blocking=False)
            inbox.put((topic, message.data, threading.current_thread().name))
            at_work.release()

        return callback

    topics = ("a", "b")
    with receiving(peer, *(subscribe(peer, topic, put(topic)) for topic in topics)) as errors:
        publishers = {topic: peer.advertise(String, topic, QOS) for topic in topics}
        for number in range(50):
            for publisher in publishers.values():
                publisher.publish(String(data=str(number)))
        inbox.wait_for_count(100)
        publishers["a"].publish(String(data="last"))
        inbox.wait_for(lambda entry: entry[1] == "last", "the last message")
    assert errors == []
    assert {thread for _, _, thread in inbox.messages} == {"reception"}
    numbers = [str(number) for number in range(50)]
    assert [data for topic, data, _ in inbox.messages if topic == "a"] == [*numbers, "last"]
    assert [data for topic, data, _ in inbox.messages if topic == "b"] == numbers


def test_a_callback_that_fails_costs_its_message_alone(peer: Peer) -> None:
    inbox: Inbox[String] = Inbox()

    def callback(message: String) -> None:
        inbox.put(message)
        if message.data == "bad":
            raise ValueError("on purpose")

    with receiving(peer, subscribe(peer, "topic", callback)) as errors:
        publisher = peer.advertise(String, "topic", QOS)
        for data in ("bad", "good"):
            publisher.publish(String(data=data))
        inbox.wait_for_count(2)
    assert [str(error) for error in errors] == ["on purpose"]


def test_poll_is_asked_again_while_it_waits(peer: Peer) -> None:
    """Without any message."""
    calls, done = iter([True, True, True, False]), threading.Event()

    def poll() -> bool:
        waits = next(calls, None)
        assert waits is not None, "polled although nothing waits"
        if not waits:
            done.set()
        return waits

    with receiving(peer, subscribe(peer, "topic", print), poll=poll) as errors:
        assert done.wait(DEADLINE_S)
    assert errors == []


def test_after_close_nothing_is_called_and_the_subscription_may_go(peer: Peer) -> None:
    inbox: Inbox[String] = Inbox()
    subscription = subscribe(peer, "topic", inbox.put)
    with receiving(peer, subscription) as errors:
        publisher = peer.advertise(String, "topic", QOS)
        publisher.publish(String(data="before"))
        inbox.wait_for_count(1)
    publisher.publish(String(data="after"))
    assert publisher.wait_for_all_acked()
    assert [message.data for message in inbox.messages] == ["before"]
    assert peer.node.destroy_subscription(subscription)
    assert errors == []
    assert not any(thread.name == "reception" for thread in threading.enumerate())
