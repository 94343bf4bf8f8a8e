"""Headers: acquisition stamps in integer nanoseconds, and frame names."""

from typing import Any

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.errors import DataError

NS_PER_S = 1_000_000_000


def stamp_ns(header_or_msg: Any) -> int:
    """Stamp of a header, or of a message that has one, in nanoseconds."""
    stamp = getattr(header_or_msg, "header", header_or_msg).stamp
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def frame_id(header_or_msg: Any) -> str:
    """Frame of a header, or of a message that has one. ROS 1's leading slash is not part of the name, as in tf2."""
    return str(getattr(header_or_msg, "header", header_or_msg).frame_id).lstrip("/")


def make_header(stamp_ns: int, frame_id: str, factory: MessageFactory) -> Any:
    """A std_msgs/Header. Raises DataError for a stamp that ROS' signed 32 bits of seconds cannot hold."""
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    if not -(2**31) <= sec < 2**31:
        raise DataError(
            f"stamp of '{frame_id}': expected nanoseconds within 32 bits of seconds, got {stamp_ns}; check the unit of "
            f"the recording's stamps"
        )
    stamp = factory.make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return factory.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)
