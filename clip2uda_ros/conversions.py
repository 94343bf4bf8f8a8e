"""Between rclpy's messages and the values of the core."""

from array import array
from importlib import import_module
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000


def message_class(name: str) -> type | None:
    """The class of `sensor_msgs/msg/Image`; None when its package is not installed or has no such message."""
    package, _, message = name.replace("/msg/", "/").partition("/")
    try:
        return getattr(import_module(f"{package}.msg"), message, None)
    except ModuleNotFoundError:
        return None


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


class RclpyFactory:
    """Messages of the running ROS: the `MessageFactory` that the core's encoders write to."""

    def make(self, msgtype: str, **fields: Any) -> Any:
        kind = message_class(msgtype)
        assert kind is not None, f"{msgtype} is not installed"
        return kind(**fields)

    def byte_array(self, data: NDArray[np.uint8]) -> array:
        """`array.array`, the one type that rclpy's setters take without looking at every byte."""
        result = array("B")
        result.frombytes(data.data)
        return result
