"""The test's own side of DDS: a node that spins in the background, and inboxes that can be waited on."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import rclpy
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.task import Future

M = TypeVar("M")
R = TypeVar("R")

DEADLINE_S = 120.0
"""Longer than anything takes on a loaded machine. Waits end as soon as what they wait for is there."""

POLL_S = 0.02


def wait_until(condition: Callable[[], R], what: str, deadline_s: float = DEADLINE_S, pause_s: float = POLL_S) -> R:
    """The first true value of `condition`; for what gives no event to wait on, such as discovery."""
    pause, end_s = threading.Event(), time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"waited {deadline_s:.0f} s for {what}"
        pause.wait(pause_s)
    return value


class Inbox(Generic[M]):
    """Every message of one topic, in order."""

    def __init__(self) -> None:
        self.messages: list[M] = []
        self._arrived = threading.Condition()

    def put(self, message: M) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait_for(self, accept: Callable[[M], Any], what: str, deadline_s: float = DEADLINE_S) -> M:
        """The first message, of those that came and those to come, that `accept` likes."""
        end_s = time.monotonic() + deadline_s
        checked = 0
        with self._arrived:
            while True:
                for message in self.messages[checked:]:
                    if accept(message):
                        return message
                checked = len(self.messages)
                self._arrived.wait(max(0.0, end_s - time.monotonic()))
                if len(self.messages) == checked and time.monotonic() >= end_s:
                    raise AssertionError(f"waited {deadline_s:.0f} s for {what}; {checked} other messages came")

    def wait_for_count(self, count: int) -> list[M]:
        """The messages, once there are `count` of them."""
        self.wait_for(lambda _: len(self.messages) >= count, f"{count} messages")
        return list(self.messages)


class Peer:
    """A node in a context and domain of its own, spinning in a thread until `close`."""

    def __init__(self, domain: int, name: str = "peer", **parameters: Any) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        overrides = [Parameter(key, value=value) for key, value in parameters.items()]
        self.node = Node(name, context=self._context, parameter_overrides=overrides)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=self._executor.spin, daemon=True)
        self._spinner.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._spinner.join(DEADLINE_S)
        self.node.destroy_node()
        self._context.try_shutdown()

    def subscribe(self, kind: type[M], topic: str, qos: QoSProfile | int = 10) -> Inbox[M]:
        inbox: Inbox[M] = Inbox()
        self.node.create_subscription(kind, topic, inbox.put, qos)
        return inbox

    def advertise(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> Publisher:
        """A publisher that already has its subscriber."""
        publisher: Publisher = self.node.create_publisher(kind, topic, qos)
        wait_until(publisher.get_subscription_count, f"a subscriber of {topic}")
        return publisher

    def call(self, kind: type, service: str, request: Any) -> Any:
        """The response of a service."""
        answered = threading.Event()
        future = self.request(kind, service, request)
        future.add_done_callback(lambda _: answered.set())
        assert answered.wait(DEADLINE_S), f"{service} did not answer"
        return future.result()

    def request(self, kind: type, service: str, request: Any) -> Future[Any]:
        """A request that is on its way."""
        client: Client = self.node.create_client(kind, service)
        assert client.wait_for_service(DEADLINE_S), f"no service {service}"
        future = client.call_async(request)
        future.add_done_callback(lambda _: self.node.destroy_client(client))
        return future
