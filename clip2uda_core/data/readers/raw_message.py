"""A message of a bag as recorded, and its way to CDR and to a message object.

The sensor and transform messages that we read have had one layout since ROS 1, so one typestore serves the bags of
every distribution, also those that carry no message definitions.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from clip2uda_core.errors import DataError

_MALFORMED = (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError, OverflowError, MemoryError)
"""What rosbags raises on bytes that are not the message that they should be."""


@lru_cache(maxsize=1)
def ros_types() -> Typestore:
    """The message definitions of ROS 2."""
    return get_typestore(Stores.ROS2_KILTED)


@dataclass(frozen=True)
class RawMessage:
    """One recorded message. log_time_ns: when the recorder got it. encoding: `cdr` (ROS 2) or `ros1`."""

    topic: str
    msgtype: str
    log_time_ns: int
    data: bytes | memoryview
    encoding: str = "cdr"

    def cdr(self) -> bytes | memoryview:
        """The message as ROS 2 serialises it; DataError when the bytes are no such message."""
        if self.encoding == "cdr":
            return self.data
        if self.encoding != "ros1":
            raise DataError(f"{self.topic}: messages encoded as '{self.encoding}' cannot be read; expected cdr or ros1")
        try:
            return ros_types().ros1_to_cdr(self.data, self.msgtype)
        except _MALFORMED as error:
            raise self._malformed(error) from None

    def message(self) -> Any:
        """The message object; DataError when the bytes are no such message."""
        try:
            return ros_types().deserialize_cdr(self.cdr(), self.msgtype)
        except DataError:
            raise
        except _MALFORMED as error:
            raise self._malformed(error) from None

    def header_stamp_ns(self) -> int:
        """The stamp of a message that starts with a header, without decoding the rest; DataError as above."""
        # CDR: 4 bytes of encapsulation (the second tells the byte order), seconds, nanoseconds. ROS 1: sequence number,
        # seconds, nanoseconds.
        big_endian = self.encoding == "cdr" and len(self.data) > 1 and self.data[1] % 2 == 0
        try:
            seconds, nanoseconds = struct.unpack_from(">iI" if big_endian else "<iI", self.data, 4)
        except struct.error as error:
            raise self._malformed(error) from None
        return seconds * 1_000_000_000 + nanoseconds

    def _malformed(self, error: Exception) -> DataError:
        return DataError(
            f"{self.topic}: a message of {len(self.data)} bytes is no {self.msgtype}: {error or type(error).__name__}"
        )
