"""rosbag1 and SQLite storage, read with rosbags. A SQLite file that turns out damaged is read on page by page."""

from collections.abc import Collection, Iterator
from pathlib import Path

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag1 import ReaderError as Rosbag1Error
from rosbags.rosbag2 import Reader as Rosbag2Reader
from rosbags.rosbag2 import ReaderError as Rosbag2Error

from clip2uda_core.data.readers.bag_file import BagFile, Topic
from clip2uda_core.data.readers.bag_sqlite_pages import SqlitePagesFile
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.errors import DataError

_DAMAGED = (
    Rosbag1Error,
    Rosbag2Error,
    apsw.Error,
    AssertionError,
    IndexError,
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
)
"""What rosbags raises on a file that is not what it should be."""


ROS1_NAMES = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}
"""Types that ROS 2 has under another name, in the same layout."""


class Rosbag1File(BagFile):
    """One .bag file. Raises DataError when it cannot be opened; a damaged chunk ends the reading with a warning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._reader = Rosbag1Reader(path)
        try:
            self._reader.open()
        except _DAMAGED as error:
            raise DataError(
                f"{path}: the rosbag1 file cannot be opened: {error} If its recorder did not end well, "
                f"`rosbag reindex {path.name}` repairs it."
            ) from None
        self.start_ns = self._reader.start_time
        self.topics = _topics(self._reader.connections)

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        wanted = [connection for connection in self._reader.connections if connection.topic in topics]
        if not wanted:
            return
        try:
            for connection, log_time_ns, data in self._reader.messages(wanted):
                yield RawMessage(connection.topic, _msgtype(connection), log_time_ns, data, "ros1")
        except _DAMAGED as error:
            self.warnings.append(f"{self.path.name} is damaged, what follows is lost: {error}")

    def close(self) -> None:
        self._reader.close()


def open_sqlite(path: Path) -> BagFile:
    """A .db3 file, read page by page where SQLite cannot open it. Raises DataError when it holds nothing."""
    try:
        file: BagFile = SqliteFile(path)
    except _DAMAGED as error:
        file = SqlitePagesFile(path, str(error))
    file.warnings[:0] = _unwritten_log(path)
    return file


class SqliteFile(BagFile):
    """One .db3 file that SQLite can open; from where it turns out damaged, it is read on page by page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._reader = Rosbag2Reader(path)
        self._reader.open()
        self._pages: SqlitePagesFile | None = None
        self.start_ns, self.topics = self._reader.start_time, _topics(self._reader.connections)

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        wanted = [connection for connection in self._reader.connections if connection.topic in topics]
        if not wanted:
            return
        last_ns, at_last = self.start_ns, 0
        try:
            for connection, log_time_ns, data in self._reader.messages(wanted):
                yield RawMessage(connection.topic, connection.msgtype, log_time_ns, data)
                at_last = at_last + 1 if log_time_ns == last_ns else 1
                last_ns = log_time_ns
            return
        except _DAMAGED as error:
            pages = self._read_pages(error)
        for message in pages.messages(topics):
            if message.log_time_ns == last_ns and at_last > 0:
                at_last -= 1
            elif message.log_time_ns >= last_ns:
                yield message

    def close(self) -> None:
        self._reader.close()
        if self._pages is not None:
            self._pages.close()

    def _read_pages(self, reason: Exception) -> SqlitePagesFile:
        if self._pages is None:
            self._pages = SqlitePagesFile(self.path, str(reason))
            self.warnings += self._pages.warnings
        return self._pages


def _topics(connections: list[Connection]) -> tuple[Topic, ...]:
    return tuple(Topic(connection.topic, _msgtype(connection), connection.msgcount) for connection in connections)


def _msgtype(connection: Connection) -> str:
    return ROS1_NAMES.get(connection.msgtype, connection.msgtype)


def _unwritten_log(path: Path) -> list[str]:
    """A recorder that dies in SQLite's write-ahead mode leaves the latest messages in a file beside the database."""
    log = path.with_name(f"{path.name}-wal")
    if not log.is_file() or log.stat().st_size == 0:
        return []
    return [
        f"{log.name} holds messages that were not yet moved into {path.name} and are not read; "
        f"`sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'` moves them"
    ]
