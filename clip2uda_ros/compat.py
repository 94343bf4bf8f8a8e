"""The one place that knows which ROS packages may be missing, and what stands in for them.

PyPI's ROS 2 has no message_filters, vision_msgs or tf2_msgs, and names moved between distributions. Where the ROS
package is installed, it is what is used; `test/ros/test_compat.py` holds whichever is there to the same contract.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header, String

from clip2uda_core.data.messages import stamp_ns
from clip2uda_core.labels import LabelSpace

__all__ = [
    "ApproximateTimeSynchronizer",
    "InvalidHandle",
    "LabelInfo",
    "SimpleFilter",
    "Subscriber",
    "SubscriptionEventCallbacks",
    "TFMessage",
    "TimeSynchronizer",
    "make_label_info",
]

InvalidHandle: type[Exception] = rclpy_implementation.InvalidHandle
"""What rclpy raises for an entity that was destroyed; the name that rclpy exports it by differs."""

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # before ROS 2 Iron
    from rclpy.qos_event import SubscriptionEventCallbacks

try:
    from message_filters import ApproximateTimeSynchronizer, SimpleFilter, Subscriber, TimeSynchronizer
except ImportError:

    class SimpleFilter:  # type: ignore[no-redef]
        """message_filters.SimpleFilter: hands messages to all registered callbacks."""

        def __init__(self) -> None:
            self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

        def registerCallback(self, callback: Callable[..., None], *arguments: Any) -> None:
            """`callback(*messages, *arguments)` is called for each output of the filter."""
            self._callbacks.append((callback, arguments))

        def signalMessage(self, *messages: Any) -> None:
            for callback, arguments in self._callbacks:
                callback(*messages, *arguments)

    class Subscriber(SimpleFilter):  # type: ignore[no-redef]
        """message_filters.Subscriber: a subscription, as `.sub`, whose messages go to all registered callbacks."""

        def __init__(self, node: Node, kind: type, topic: str, *, qos_profile: QoSProfile, **options: Any) -> None:
            super().__init__()
            self.sub = node.create_subscription(kind, topic, self.signalMessage, qos_profile=qos_profile, **options)

    class TimeSynchronizer(SimpleFilter):  # type: ignore[no-redef]
        """message_filters.TimeSynchronizer: sets of one message of each filter with the same stamp.

        queues: per filter, the messages that wait, by stamp in nanoseconds; of more than `queue_size` the oldest goes.
        """

        def __init__(self, filters: Sequence[SimpleFilter], queue_size: int) -> None:
            super().__init__()
            self.queue_size = queue_size
            self.queues: list[dict[int, Any]] = [{} for _ in filters]
            for index, source in enumerate(filters):
                source.registerCallback(self._add, index)

        def _add(self, message: Any, index: int) -> None:
            queue, stamp = self.queues[index], stamp_ns(message)
            queue[stamp] = message
            while len(queue) > self.queue_size:
                del queue[min(queue)]
            if stamp not in queue:
                return
            found = next(self._matches(stamp, index), None)
            if found is not None:
                self.signalMessage(*(queue.pop(match) for queue, match in zip(self.queues, found, strict=True)))

        def _matches(self, stamp: int, index: int) -> Iterator[Sequence[int]]:
            """The sets of stamps, one of each queue, that a new message completes; the best first."""
            if all(stamp in queue for queue in self.queues):
                yield [stamp] * len(self.queues)

    class ApproximateTimeSynchronizer(TimeSynchronizer):  # type: ignore[no-redef]
        """message_filters.ApproximateTimeSynchronizer: sets whose stamps are less than `slop` seconds apart.

        The message that completes a set takes those nearest to it. All filters must have one.
        """

        def __init__(self, filters: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
            super().__init__(filters, queue_size)
            self._slop_ns = round(slop * 1e9)

        def _matches(self, stamp: int, index: int) -> Iterator[Sequence[int]]:
            choices = [
                [stamp] if at == index else sorted(self._near(queue, stamp), key=lambda other: abs(other - stamp))
                for at, queue in enumerate(self.queues)
            ]
            return (stamps for stamps in itertools.product(*choices) if max(stamps) - min(stamps) < self._slop_ns)

        def _near(self, queue: dict[int, Any], stamp: int) -> list[int]:
            return [other for other in queue if abs(other - stamp) <= self._slop_ns]


try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

try:
    from vision_msgs.msg import LabelInfo, VisionClass

    def make_label_info(labels: LabelSpace, header: Header) -> LabelInfo:
        """vision_msgs/LabelInfo: id and name. It has no place for colours, which the cloud's `rgb` shows."""
        classes = [VisionClass(class_id=index, class_name=name) for index, name in enumerate(labels.names)]
        return LabelInfo(header=header, class_map=classes)

except ImportError:
    LabelInfo = String

    def make_label_info(labels: LabelSpace, header: Header) -> String:
        """std_msgs/String with JSON: `{"label_space": name, "classes": [{"id", "name", "color": [r, g, b]}, …]}`."""
        classes = [
            {"id": index, "name": name, "color": color.tolist()}
            for index, (name, color) in enumerate(zip(labels.names, labels.colors, strict=False))
        ]
        return String(data=json.dumps({"label_space": labels.name, "classes": classes}))
