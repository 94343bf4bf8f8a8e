"""Messages as DDS delivers them: bytes, of which only the header is read until somebody needs the rest.

A cloud or an image is a megabyte or two, and at a high rate most of them are replaced before the model is free.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header

from clip2uda_core.errors import DataError

_BYTE_ORDER = {b"\0\0": ">", b"\0\1": "<", b"\0\6": ">", b"\0\7": "<"}
"""By the encapsulation identifier of plain CDR, version 1 or 2; for us they are alike (DDS-XTypes 1.3, 7.6.2)."""
_STAMP_END = 16
"""The encapsulation (identifier, options), then sec, nanosec and the length of frame_id; 4 bytes each."""


@dataclass(frozen=True, eq=False)
class Serialized:
    """A message whose type starts with a std_msgs/Header. `topic` names it in errors."""

    data: bytes
    kind: type
    topic: str

    @cached_property
    def header(self) -> Header:
        """Read from the first bytes alone. Raises DataError when they are no header."""
        byte_order = _BYTE_ORDER.get(self.data[:2])
        if byte_order is None:
            raise self._error(f"starting with one of {', '.join(map(bytes.hex, _BYTE_ORDER))} (plain CDR)")
        if len(self.data) < _STAMP_END:
            raise self._error("with a header")
        sec, nanosec, length = struct.unpack_from(byte_order + "iII", self.data, 4)
        name = self.data[_STAMP_END : _STAMP_END + length]
        if len(name) < length or name[-1:].strip(b"\0"):
            raise self._error(f"with a frame_id of {length} bytes that ends in a zero")
        return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=name[:-1].decode(errors="replace"))

    def message(self) -> Any:
        """The whole message, deserialised anew at each call. Raises DataError when it is cut off or of another type."""
        try:
            return deserialize_message(self.data, self.kind)
        except Exception as error:  # which one is the middleware's choice
            raise self._error(f"that can be deserialised ({error})") from None

    def _error(self, expected: str) -> DataError:
        return DataError(
            f"{self.topic}: expected a {self.kind.__name__} {expected}, got {len(self.data)} bytes, "
            f"{self.data[:_STAMP_END].hex(' ') or 'none'}…; its publisher has another definition of the message"
        )
