"""The one place that knows which ROS packages may be missing, and what stands in for them.

PyPI's ROS 2 has no message_filters, vision_msgs or tf2_msgs, and names moved between distributions. Where the ROS
package is installed, it is what is used; `test/ros/test_compat.py` holds whichever is there to the same contract.
"""

import json
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header, String

from clip2uda_core.labels import LabelSpace

__all__ = ["LabelInfo", "Subscriber", "TFMessage", "make_label_info"]

try:
    from message_filters import Subscriber
except ImportError:

    class Subscriber:  # type: ignore[no-redef]
        """message_filters.Subscriber: a subscription, as `.sub`, whose messages go to all registered callbacks."""

        def __init__(self, node: Node, kind: type, topic: str, *, qos_profile: QoSProfile, **options: Any) -> None:
            self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
            self.sub = node.create_subscription(kind, topic, self.callback, qos_profile=qos_profile, **options)

        def registerCallback(self, callback: Callable[..., None], *arguments: Any) -> None:
            """`callback(message, *arguments)` is called for each message."""
            self._callbacks.append((callback, arguments))

        def callback(self, message: Any) -> None:
            for callback, arguments in self._callbacks:
                callback(message, *arguments)


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
