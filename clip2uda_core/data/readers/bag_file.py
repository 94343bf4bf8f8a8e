"""What each storage format of ROS recordings offers to the reader of a bag."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from clip2uda_core.data.readers.raw_message import RawMessage


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name, its type as ROS 2 writes it (`sensor_msgs/msg/Image`), and its messages."""

    name: str
    msgtype: str
    count: int


class BagFile(ABC):
    """One storage file.

    start_ns: log time of its first message. warnings: what damage took away; it may grow while messages are read.
    """

    topics: tuple[Topic, ...]
    start_ns: int
    warnings: list[str]

    @abstractmethod
    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The messages of some topics, in order of log time."""

    @abstractmethod
    def close(self) -> None:
        """Releases the file."""
