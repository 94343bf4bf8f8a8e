"""The two makers of ROS messages that one code reads and writes, for tests to run over both."""

from types import SimpleNamespace
from typing import Any

import pytest

from clip2uda_core.data.messages import MessageFactory, RosbagsFactory
from clip2uda_core.data.messages.stamps import make_header

STAMP_NS = 1_317_042_272_345_678_901

try:
    from clip2uda_ros.conversions import RclpyFactory
except ModuleNotFoundError:
    _RCLPY = pytest.param(None, id="rclpy", marks=pytest.mark.skip("rclpy's messages are not installed"))
else:
    _RCLPY = pytest.param(RclpyFactory(), id="rclpy")

each_runtime = pytest.mark.parametrize("factory", [pytest.param(RosbagsFactory(), id="rosbags"), _RCLPY])


def header(factory: MessageFactory, frame_id: str = "velodyne") -> Any:
    return make_header(STAMP_NS, frame_id, factory)


def changed(msg: Any, **fields: Any) -> Any:
    """The message with other values, in no runtime's type: decoders must not care."""
    names = [name.lstrip("_") for name in getattr(msg, "__slots__", None) or vars(msg)]
    values = {name: getattr(msg, name) for name in names if hasattr(msg, name)}
    return SimpleNamespace(**{**values, **fields})
