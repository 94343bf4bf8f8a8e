"""mcap storage, intact or damaged (https://mcap.dev/spec).

Reading starts from an index of blocks, each a chunk or a run of unchunked messages. An intact file brings that index in
its summary. Where the end of the file is missing it is rebuilt by walking the records, so a recording whose robot lost
power gives every message that reached the disk.
"""

import heapq
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Schema
from mcap.summary import Summary

from clip2uda_core.data.readers.bag_file import BagFile, Topic
from clip2uda_core.data.readers.mcap_records import (
    CHUNK_HEAD_BYTES,
    DAMAGED,
    MAGIC,
    MESSAGE,
    RECORD,
    decompressed,
    parse_chunk,
    parse_message_index,
    read_summary,
    split_messages,
    split_records,
)
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.errors import DataError

RUN_BYTES = 4_000_000


@dataclass(frozen=True)
class _Block:
    """A stretch of the file that is decoded at once.

    channels: ids that occur in it, None where that is not known. is_cut: a chunk that the file's end goes through, of
    which the file's own warning tells.
    """

    offset: int
    length: int
    is_chunk: bool
    start_ns: int
    channels: frozenset[int] | None
    is_cut: bool = False


class McapFile(BagFile):
    """One .mcap file. Raises DataError when it is no mcap at all or holds no message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._blocks: list[_Block] = []
        self._counts: Counter[int] = Counter()
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise DataError(f"{path}: expected an mcap file, but it does not start like one; was it copied whole?")
            summary = read_summary(file)
            if summary is not None:
                self._use(summary)
            else:
                self._scan(file, path.stat().st_size)
        self.start_ns = min((block.start_ns for block in self._blocks), default=0)
        self.topics = tuple(
            Topic(channel.topic, self._msgtype(channel), self._counts[channel.id])
            for channel in self._channels.values()
        )

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        wanted = {id_ for id_, channel in self._channels.items() if channel.topic in topics}
        blocks = [b for b in self._blocks if b.channels is None or not wanted.isdisjoint(b.channels)]
        with self.path.open("rb") as file:
            # A block is decoded when its first message is due: blocks of one recorder hardly overlap in time.
            for _, _, _, message in heapq.merge(*(self._in_order(file, block, wanted) for block in blocks)):
                if message is not None:
                    yield message

    def close(self) -> None:
        """Nothing is held open between two readings."""

    def _msgtype(self, channel: Channel) -> str:
        schema = self._schemas.get(channel.schema_id)
        package, _, name = ("" if schema is None else schema.name).rpartition("/")
        return f"{package.removesuffix('/msg')}/msg/{name}" if package else name

    def _in_order(
        self, file: BinaryIO, block: _Block, wanted: set[int]
    ) -> Iterator[tuple[int, int, int, RawMessage | None]]:
        yield block.start_ns, block.offset, -1, None
        found: list[tuple[int, int, int, memoryview]] = []
        for channel_id, log_time_ns, data in split_messages(self._records(file, block)):
            if channel_id in wanted:
                found.append((log_time_ns, len(found), channel_id, data))
        for log_time_ns, index, channel_id, data in sorted(found, key=lambda entry: entry[:2]):
            channel = self._channels[channel_id]
            message = RawMessage(channel.topic, self._msgtype(channel), log_time_ns, data, channel.message_encoding)
            yield log_time_ns, block.offset, index, message

    def _use(self, summary: Summary) -> None:
        assert summary.statistics is not None
        self._schemas, self._channels = dict(summary.schemas), dict(summary.channels)
        self._counts = Counter(summary.statistics.channel_message_counts)
        for chunk in summary.chunk_indexes:
            channels = frozenset(chunk.message_index_offsets) or None
            block = _Block(
                chunk.chunk_start_offset + RECORD.size,
                chunk.chunk_length - RECORD.size,
                True,
                chunk.message_start_time,
                channels,
            )
            self._blocks.append(block)

    def _scan(self, file: BinaryIO, size: int) -> None:
        """Rebuilds the index from the records themselves, up to the first that is not whole."""
        position = len(MAGIC)
        complete = False
        while not complete:
            file.seek(position)
            head = file.read(RECORD.size)
            opcode, length = RECORD.unpack(head) if len(head) == RECORD.size else (0, 0)
            start, end = position + RECORD.size, position + RECORD.size + length
            if opcode == Opcode.CHUNK and start < size and not self._add_indexed_chunk(file, start, length):
                self._add_chunk(file, start, min(length, size - start), is_cut=end > size)
            if opcode == 0 or end > size:
                break
            if opcode == Opcode.MESSAGE:
                self._add_message(file, start, length)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._define(opcode, file.read(length))
            complete = opcode in (Opcode.DATA_END, Opcode.FOOTER)
            position = end
        if not complete:
            self._warn(
                f"{self.path.name} was not closed by its recorder: {size - position} bytes at its end are no whole "
                f"record; {self._counts.total()} messages are intact and used"
            )
        homeless = sum(count for id_, count in self._counts.items() if id_ not in self._channels)
        if homeless:
            self._warn(f"{self.path.name}: {homeless} messages are lost: the record that names their topic is damaged")

    def _add_indexed_chunk(self, file: BinaryIO, offset: int, length: int) -> bool:
        """Adds a whole chunk by the message indexes that follow it, which spares reading it; False where there are none
        or not all of them, or where they name a channel that is not known yet, whose record may lie in the chunk."""
        counts: Counter[int] = Counter()
        position = offset + length
        while True:
            file.seek(position)
            head = file.read(RECORD.size)
            opcode, index_bytes = RECORD.unpack(head) if len(head) == RECORD.size else (0, 0)
            position += RECORD.size + index_bytes
            if opcode != Opcode.MESSAGE_INDEX:
                break
            try:
                channel_id, count = parse_message_index(file.read(index_bytes))
            except DAMAGED:
                return False
            counts[channel_id] += count
        if opcode == 0:  # the file ends, so more indexes may be missing
            return False
        if not counts or not counts.keys() <= self._channels.keys():
            return False
        file.seek(offset)
        try:
            start_ns = parse_chunk(file.read(min(length, CHUNK_HEAD_BYTES))).start_ns
        except DAMAGED:
            return False
        self._counts += counts
        self._blocks.append(_Block(offset, length, True, start_ns, frozenset(counts)))
        return True

    def _add_chunk(self, file: BinaryIO, offset: int, length: int, is_cut: bool) -> None:
        block = _Block(offset, length, True, 0, None, is_cut)
        seen, start_ns = set(), None
        records = self._records(file, block)
        for opcode, content in split_records(records):
            if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._define(opcode, bytes(content))
        for channel_id, log_time_ns, _ in split_messages(records):
            seen.add(channel_id)
            self._counts[channel_id] += 1
            start_ns = log_time_ns if start_ns is None else min(start_ns, log_time_ns)
        if start_ns is not None:
            self._blocks.append(_Block(offset, length, True, start_ns, frozenset(seen), is_cut))

    def _add_message(self, file: BinaryIO, offset: int, length: int) -> None:
        """Adds an unchunked message to the run of those before it, up to a size that memory does not feel."""
        channel_id, _, log_time_ns, _ = MESSAGE.unpack(file.read(MESSAGE.size))
        self._counts[channel_id] += 1
        first = offset - RECORD.size
        last = self._blocks[-1] if self._blocks else None
        if last is not None and not last.is_chunk and last.offset + last.length == first and last.length < RUN_BYTES:
            assert last.channels is not None
            start_ns, channels, first = min(last.start_ns, log_time_ns), last.channels | {channel_id}, last.offset
            self._blocks.pop()
        else:
            start_ns, channels = log_time_ns, frozenset((channel_id,))
        self._blocks.append(_Block(first, offset + length - first, False, start_ns, channels))

    def _define(self, opcode: int, content: bytes) -> None:
        """Takes a schema or channel; of a damaged one the homeless messages tell."""
        stream = ReadDataStream(BytesIO(content))
        with suppress(*DAMAGED):
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(stream)
                self._schemas[schema.id] = schema
            else:
                channel = Channel.read(stream)
                self._channels[channel.id] = channel

    def _records(self, file: BinaryIO, block: _Block) -> memoryview:
        """The records of a block; of a damaged chunk those before the damage, with a warning."""
        try:
            file.seek(block.offset)
            content = file.read(block.length)
        except OSError as error:
            self._warn(
                f"{self.path.name}: {block.length} bytes at byte {block.offset} cannot be read: {error.strerror}"
            )
            return memoryview(b"")
        if not block.is_chunk:
            return memoryview(content)
        try:
            chunk = parse_chunk(content)
        except DAMAGED:
            if not block.is_cut:
                self._warn(f"{self.path.name}: the chunk at byte {block.offset} is unreadable")
            return memoryview(b"")
        records = decompressed(chunk)
        if block.is_cut:
            return records
        if len(records) != chunk.size:
            kept = sum(1 for _ in split_messages(records))
            self._warn(
                f"{self.path.name}: the chunk at byte {block.offset} is damaged: {len(records)} of "
                f"{chunk.size} bytes readable, {kept} messages kept"
            )
        elif chunk.checksum and zlib.crc32(records) != chunk.checksum:
            self._warn(
                f"{self.path.name}: the chunk at byte {block.offset} has a wrong checksum; messages may be damaged"
            )
        return records

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
