"""The records of an mcap file (https://mcap.dev/spec), read without a copy, whole or damaged."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import lz4.frame
import zstandard
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.summary import Summary

from clip2uda_core.errors import DataError

MAGIC = b"\x89MCAP0\r\n"
SLICE_BYTES = 65_536
DAMAGED = (McapError, struct.error, zstandard.ZstdError, ValueError, KeyError, OSError, RuntimeError)
"""What the parsers and decompressors raise on bytes that are not what they should be (lz4: RuntimeError)."""

RECORD = struct.Struct("<BQ")
"""Opcode and length before each record's content."""

MESSAGE = struct.Struct("<HIQQ")
"""Channel, sequence number, log time and publish time before each message's data."""

CHUNK = struct.Struct("<QQQII")
"""First and last log time, size and checksum of the records in plain, and the length of the compression's name."""

CHUNK_HEAD_BYTES = CHUNK.size + 32
"""Enough of a chunk's start for the name of its compression too."""

_INDEX = struct.Struct("<HI")
_INDEX_ENTRY_BYTES = 16


@dataclass(frozen=True)
class ChunkRecord:
    """A chunk as it lies in the file. size, checksum: of its records in plain, where a checksum of 0 is none. data: as
    far as it is there."""

    start_ns: int
    size: int
    checksum: int
    compression: str
    data: memoryview


def parse_chunk(content: bytes) -> ChunkRecord:
    """A chunk from its record's content, which may be cut off in the data. Raises struct.error or ValueError when what
    comes before the data is not whole."""
    start_ns, _, size, checksum, name_bytes = CHUNK.unpack_from(content)
    end_of_name = CHUNK.size + name_bytes
    compression = content[CHUNK.size : end_of_name].decode()
    (length,) = struct.unpack_from("<Q", content, end_of_name)
    return ChunkRecord(start_ns, size, checksum, compression, memoryview(content)[end_of_name + 8 :][:length])


def parse_message_index(content: bytes) -> tuple[int, int]:
    """(channel id, number of messages) of a message index record."""
    channel_id, entries_bytes = _INDEX.unpack_from(content)
    return channel_id, entries_bytes // _INDEX_ENTRY_BYTES


def split_records(records: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(opcode, content) of the whole records in a buffer, up to the first that is not whole."""
    position = 0
    while position + RECORD.size <= len(records):
        opcode, length = RECORD.unpack_from(records, position)
        start = position + RECORD.size
        if opcode == 0 or start + length > len(records):
            return
        yield opcode, records[start : start + length]
        position = start + length


def split_messages(records: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(channel id, log time, data) of the messages in a buffer of records."""
    for opcode, content in split_records(records):
        if opcode == Opcode.MESSAGE and len(content) >= MESSAGE.size:
            channel_id, _, log_time_ns, _ = MESSAGE.unpack_from(content)
            yield channel_id, log_time_ns, content[MESSAGE.size :]


def decompressed(chunk: ChunkRecord) -> memoryview:
    """A chunk's records, as far as they can be decompressed: fed in slices, what came before the damage is kept."""
    if not chunk.compression:
        return chunk.data
    if chunk.compression == "zstd":
        decompressor = zstandard.ZstdDecompressor().decompressobj()
    elif chunk.compression == "lz4":
        decompressor = lz4.frame.LZ4FrameDecompressor()
    else:
        raise DataError(f"chunks compressed with '{chunk.compression}' cannot be read; expected zstd, lz4 or none")
    parts = []
    for start in range(0, len(chunk.data), SLICE_BYTES):
        try:
            parts.append(decompressor.decompress(bytes(chunk.data[start : start + SLICE_BYTES])))
        except DAMAGED:
            break
    return memoryview(b"".join(parts))


def read_summary(file: BinaryIO) -> Summary | None:
    """The file's own index, None where it is missing, damaged, or has no place for the messages (unchunked files)."""
    try:
        file.seek(0)
        summary = make_reader(file).get_summary()
    except DAMAGED:
        return None
    if summary is None or summary.statistics is None or not summary.channels:
        return None
    return summary if len(summary.chunk_indexes) == summary.statistics.chunk_count > 0 else None
