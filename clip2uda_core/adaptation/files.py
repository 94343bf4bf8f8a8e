"""Files that are written at once or not at all, and whose damage shows: a run may be killed at any moment."""

import os
import zlib
from pathlib import Path

_CHECKSUM_BYTES = 4


def write_checked(path: Path, content: bytes) -> int:
    """Writes the content and its CRC-32 beside `path`, then takes its place: whoever reads finds the old file or the
    new one. Returns the bytes written. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.write(_checksum(content))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return len(content) + _CHECKSUM_BYTES


def read_checked(path: Path) -> bytes | None:
    """The content that was written; None when the file is damaged. Raises OSError."""
    stored = path.read_bytes()
    content, checksum = stored[:-_CHECKSUM_BYTES], stored[-_CHECKSUM_BYTES:]
    return content if _checksum(content) == checksum else None


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")
