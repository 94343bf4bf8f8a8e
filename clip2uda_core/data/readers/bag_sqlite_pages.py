"""The messages of a damaged SQLite bag, found page by page (https://www.sqlite.org/fileformat2.html).

SQLite refuses a file whose tree is broken, as it is when the end of the file is missing. But the tree only points the
way: the rows lie in leaf pages, and leaf pages show what they are. So each page is looked at, each row of the tables
`topics` and `messages` is recognised by its columns, and each message whose pages are all there is kept.
"""

import mmap
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from clip2uda_core.data.readers.bag_file import BagFile, Topic
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.errors import DataError

MAGIC = b"SQLite format 3\0"
TABLE_LEAF = 0x0D
INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
"""Size of an integer column by its serial type; 8 and 9 are the constants 0 and 1."""

_TOPIC_NAME = re.compile(rb"/[\w/~{}]+")
_TOPIC_TYPE = re.compile(rb"\w+/(msg/)?\w+")


@dataclass(frozen=True, order=True)
class _Row:
    """A row of `messages`: where its payload starts in the file, and which part of it is the message."""

    log_time_ns: int
    rowid: int
    topic_id: int
    payload_at: int
    payload_bytes: int
    data_from: int


class SqlitePagesFile(BagFile):
    """One damaged .db3 file. `reason` is why SQLite gave it up. Raises DataError when no topic or message is found."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        with path.open("rb") as file:
            head = file.read(100)
            if len(head) < 100 or not head.startswith(MAGIC):
                raise DataError(f"{path}: expected a SQLite database, but it does not start like one: {reason}")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        page_bytes = int.from_bytes(head[16:18], "big")
        self._page_bytes = 65536 if page_bytes == 1 else max(page_bytes, 512)
        self._usable = self._page_bytes - head[20]
        self._pages = len(self._bytes) // self._page_bytes
        names, rows, incomplete = self._find()
        if not names or not rows:
            raise DataError(f"{path}: the database is damaged and no whole message is left in it: {reason}")
        self._rows = sorted(row for row in rows.values() if row.topic_id in names)
        self._names = names
        self.start_ns = self._rows[0].log_time_ns if self._rows else 0
        counts = Counter(row.topic_id for row in self._rows)
        self.topics = tuple(Topic(name, msgtype, counts[id_]) for id_, (name, msgtype) in names.items())
        missing = int.from_bytes(head[28:32], "big") * self._page_bytes - len(self._bytes)
        self.warnings = [
            f"{path.name} is damaged ({reason}){f', {missing} bytes are missing' if missing > 0 else ''}: "
            f"{len(self._rows)} whole messages found and used, {incomplete} incomplete ones lost"
        ]

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        for row in self._rows:
            name, msgtype = self._names[row.topic_id]
            if name in topics:
                pieces = self._pieces(row.payload_at, row.payload_bytes)
                assert pieces is not None
                payload = b"".join(self._bytes[at : at + size] for at, size in pieces)
                yield RawMessage(name, msgtype, row.log_time_ns, memoryview(payload)[row.data_from :])

    def close(self) -> None:
        self._bytes.close()

    def _find(self) -> tuple[dict[int, tuple[str, str]], dict[int, _Row], int]:
        """Topics by id, messages by row id, and how many messages have lost a part."""
        names: dict[int, tuple[str, str]] = {}
        rows: dict[int, _Row] = {}
        incomplete = 0
        for rowid, payload_at, payload_bytes in self._cells():
            types, values_at = self._columns(payload_at)
            if _is_message(types):
                if self._pieces(payload_at, payload_bytes) is None:
                    incomplete += 1
                else:
                    rows.setdefault(rowid, self._row(rowid, payload_at, payload_bytes, types, values_at))
            elif _is_topic(types):
                name_to = values_at + (types[1] - 13) // 2
                name, msgtype = self._bytes[values_at:name_to], self._bytes[name_to : name_to + (types[2] - 13) // 2]
                if _TOPIC_NAME.fullmatch(name) and _TOPIC_TYPE.fullmatch(msgtype):
                    names[rowid] = (name.decode(), msgtype.decode())
        return names, rows, incomplete

    def _cells(self) -> Iterator[tuple[int, int, int]]:
        """(row id, where its payload starts, size of the payload) of each row in each leaf page of a table."""
        for page in range(self._pages):
            page_at = page * self._page_bytes
            head_at = page_at + (100 if page == 0 else 0)
            if self._bytes[head_at] != TABLE_LEAF:
                continue
            count = self._integer(head_at + 3, 2)
            for pointer_at in range(head_at + 8, min(head_at + 8 + 2 * count, page_at + self._usable), 2):
                cell_at = page_at + self._integer(pointer_at, 2)
                if cell_at + 20 < page_at + self._page_bytes:
                    payload_bytes, at = self._varint(cell_at)
                    rowid, at = self._varint(at)
                    yield rowid, at, payload_bytes

    def _columns(self, payload_at: int) -> tuple[list[int], int]:
        """Serial types of a row's columns, and where its values start."""
        header_bytes, at = self._varint(payload_at)
        values_at = min(payload_at + header_bytes, len(self._bytes) - 9)
        types: list[int] = []
        while at < values_at and len(types) < 8:
            type_, at = self._varint(at)
            types.append(type_)
        return types, values_at

    def _row(self, rowid: int, payload_at: int, payload_bytes: int, types: list[int], values_at: int) -> _Row:
        topic_to = values_at + INTEGER_BYTES[types[1]]
        time_to = topic_to + INTEGER_BYTES[types[2]]
        topic_id, log_time_ns = self._column(types[1], values_at), self._column(types[2], topic_to)
        return _Row(log_time_ns, rowid, topic_id, payload_at, payload_bytes, time_to - payload_at)

    def _pieces(self, payload_at: int, payload_bytes: int) -> list[tuple[int, int]] | None:
        """(offset, size) of the parts of a payload, in its leaf and in overflow pages; None when one is missing."""
        if payload_bytes > len(self._bytes):
            return None
        most = self._usable - 35
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (payload_bytes - least) % (self._usable - 4)
        local = payload_bytes if payload_bytes <= most else local if local <= most else least
        pieces, rest = [(payload_at, local)], payload_bytes - local
        next_at = payload_at + local
        while rest > 0:
            page_at = (self._integer(next_at, 4) - 1) * self._page_bytes
            if page_at <= 0 or page_at + self._page_bytes > len(self._bytes):
                return None
            pieces.append((page_at + 4, min(rest, self._usable - 4)))
            rest -= self._usable - 4
            next_at = page_at
        return pieces

    def _column(self, type_: int, at: int) -> int:
        return type_ - 8 if type_ in (8, 9) else self._integer(at, INTEGER_BYTES[type_], signed=True)

    def _integer(self, at: int, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._bytes[at : at + size], "big", signed=signed)

    def _varint(self, at: int) -> tuple[int, int]:
        """SQLite's variable-length integer, and where it ends."""
        value = 0
        for index in range(8):
            byte = self._bytes[at + index]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value, at + index + 1
        return value << 8 | self._bytes[at + 8], at + 9


def _is_message(types: list[int]) -> bool:
    """id (NULL, it is the row id), topic_id, timestamp, data."""
    return (
        len(types) == 4
        and types[0] == 0
        and types[1] in INTEGER_BYTES
        and types[2] in INTEGER_BYTES
        and types[3] >= 12
        and types[3] % 2 == 0
    )


def _is_topic(types: list[int]) -> bool:
    """id, name, type, serialization_format, and more in later versions."""
    return len(types) >= 4 and types[0] == 0 and all(type_ >= 13 and type_ % 2 == 1 for type_ in types[1:4])
