"""The node under test: its process, its services, and what it publishes."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from clip2uda_core.data.messages import stamp_ns
from clip2uda_core.errors import DataError
from clip2uda_ros import transport
from clip2uda_ros.children import Child, child
from clip2uda_ros.soak.record import Record, resident_mb
from clip2uda_ros.soak.robot import NODE

R = TypeVar("R")

ANSWER_TIMEOUT_S = 120.0
"""A service that takes longer is broken: loading a model takes seconds."""
MEMORY_PERIOD_S = 1.0
ACTIVATE = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
CLEAN_UP = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)


def use_own_domain() -> None:
    """Gives this process and its children a ROS domain that others are unlikely to use, unless the user set one."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    transport.use_profile()


@contextmanager
def spinning_node(name: str) -> Iterator[Node]:
    """A node in a context, and so a DDS participant, of its own, which spins in a thread."""
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node(name, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin, name=name)
    spinner.start()
    try:
        yield node
    finally:
        executor.shutdown()
        spinner.join()
        node.destroy_node()
        context.try_shutdown()


class NodeUnderTest:
    """The running node seen from `peer`; what it says goes to `record`."""

    def __init__(self, process: Child, peer: Node, record: Record) -> None:
        self.process = process
        self.record = record
        self._peer = peer
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        peer.create_subscription(PointCloud2, f"{NODE}/output/points", self._on_answer, reliable)
        peer.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, reliable)
        peer.create_timer(MEMORY_PERIOD_S, self._measure_memory)

    def wait_for(self, condition: Callable[[], R | None], what: str, timeout_s: float = ANSWER_TIMEOUT_S) -> R:
        """The first true value of `condition`, which is asked as answers and reports come.

        Raises DataError after the time, or when the node's process has ended.
        """
        end_s = time.monotonic() + timeout_s
        while not (value := condition()):
            self.process.check()
            if time.monotonic() > end_s:
                raise DataError(f"waited {timeout_s:.0f} s for {what}; the node's log is {self.process.log}")
            with self.record.changed:
                self.record.changed.wait(0.2)
        return value

    def transit(self, *transitions: int) -> None:
        """Lifecycle transitions one after the other; DataError when one is refused."""
        for number in transitions:
            request = ChangeState.Request(transition=Transition(id=number))
            if not self.call(ChangeState, "change_state", request).success:
                raise DataError(f"the node refused lifecycle transition {number}; its log is {self.process.log}")

    def set_checkpoint(self, path: Path) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(path))
        request = SetParameters.Request(parameters=[Parameter(name="checkpoint", value=value)])
        result = self.call(SetParameters, "set_parameters", request).results[0]
        if not result.successful:
            raise DataError(f"checkpoint was not set: {result.reason}")

    def reload_model(self) -> bool:
        return bool(self.call(Trigger, "reload_model", Trigger.Request()).success)

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """The response of one of the node's services."""
        client: Client = self._peer.create_client(kind, f"{NODE}/{service}")
        self.wait_for(client.service_is_ready, f"the service {service}")
        future = client.call_async(request)
        self.wait_for(future.done, f"an answer of {service}")
        self._peer.destroy_client(client)
        return future.result()

    def _on_answer(self, message: PointCloud2) -> None:
        self.record.add_answer(stamp_ns(message), message.width * message.height, time.monotonic())

    def _on_report(self, message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in message.status[0].values}
        self.record.add_report(values, time.monotonic())

    def _measure_memory(self) -> None:
        held_mb = resident_mb(self.process.pid)
        if held_mb is not None:
            self.record.add_memory(time.monotonic(), held_mb)


@contextmanager
def node_under_test(parameters: dict[str, str], log: Path, record: Record) -> Iterator[tuple[NodeUnderTest, Node]]:
    """Starts the node with `parameters`, and yields it with the peer's node. It is killed at the end, if it has not
    ended before."""
    arguments: Sequence[str] = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    with (
        spinning_node("soak") as peer,
        child("segment_node", ["--ros-args", *arguments], log) as process,
    ):
        yield NodeUnderTest(process, peer, record), peer
