"""The node's executor while callbacks of other threads destroy what it waits for."""

import threading
from collections.abc import Iterator

import pytest
import rclpy
from peer import DEADLINE_S
from rclpy.context import Context
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import Empty

from clip2uda_ros.executor import NodeExecutor

pytestmark = pytest.mark.ros


@pytest.fixture
def node(domain: int) -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("spun", context=context)
    yield node
    node.destroy_node()
    context.shutdown()


@pytest.fixture
def executor(node: Node) -> Iterator[NodeExecutor]:
    executor = NodeExecutor(num_threads=2, context=node.context)
    executor.add_node(node)
    yield executor
    executor.shutdown()


def test_entities_may_go_while_they_are_waited_for(node: Node, executor: NodeExecutor) -> None:
    subscription = node.create_subscription(
        Empty, "topic", print, 1, event_callbacks=SubscriptionEventCallbacks(incompatible_qos=print)
    )
    ticked, failed = threading.Event(), list[Exception]()
    node.create_timer(0.01, ticked.set)
    # What the executor meets when a subscription is destroyed after it was listed for the wait: an event handler that
    # is listed, and gone.
    (handler,) = (each for each in subscription.event_handlers if each.callback is print)
    met, add_to_wait_set = threading.Event(), handler.add_to_wait_set

    def add_what_is_gone(wait_set: object) -> None:
        met.set()
        add_to_wait_set(wait_set)

    handler.add_to_wait_set = add_what_is_gone
    handler.destroy()

    def spin() -> None:
        try:
            executor.spin()
        except Exception as error:
            failed.append(error)

    spinner = threading.Thread(target=spin)
    spinner.start()
    assert met.wait(DEADLINE_S)
    node.destroy_subscription(subscription)
    ticked.clear()
    assert failed or ticked.wait(DEADLINE_S)
    executor.shutdown()
    spinner.join()
    assert not failed


def test_what_a_callback_raises_still_ends_the_spin(node: Node, executor: NodeExecutor) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    node.create_timer(0.01, fail)
    with pytest.raises(ValueError, match="on purpose"):
        executor.spin()
