"""The node's executor while callbacks of other threads destroy what it waits for."""

import threading

import pytest
import rclpy
from peer import DEADLINE_S
from rclpy.context import Context
from rclpy.event_handler import SubscriptionEventCallbacks
from std_msgs.msg import Empty

from clip2uda_ros.executor import NodeExecutor

pytestmark = pytest.mark.ros


def test_entities_may_go_while_they_are_waited_for(domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("short_subscriptions", context=context)
    executor = NodeExecutor(num_threads=2, context=context)
    executor.add_node(node)
    failed: list[Exception] = []

    def spin() -> None:
        try:
            executor.spin()
        except Exception as error:
            failed.append(error)

    subscription = node.create_subscription(
        Empty, "topic", print, 1, event_callbacks=SubscriptionEventCallbacks(incompatible_qos=print)
    )
    ticked = threading.Event()
    node.create_timer(0.01, ticked.set)
    # What the executor meets when a subscription is destroyed after it was listed for the wait: an event handler that
    # is listed, and gone.
    for handler in subscription.event_handlers:
        handler.destroy()
    spinner = threading.Thread(target=spin)
    spinner.start()
    spinner.join(0.2)  # long enough for rclpy's own executor to fail
    node.destroy_subscription(subscription)
    ticked.clear()
    assert failed or ticked.wait(DEADLINE_S)
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    context.shutdown()
    assert not failed


def test_what_a_callback_raises_still_ends_the_spin(domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("failing", context=context)
    executor = NodeExecutor(num_threads=2, context=context)
    executor.add_node(node)

    def fail() -> None:
        raise ValueError("on purpose")

    node.create_timer(0.01, fail)
    with pytest.raises(ValueError, match="on purpose"):
        executor.spin()
    executor.shutdown()
    node.destroy_node()
    context.shutdown()
