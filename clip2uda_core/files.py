"""Files that are written at once or not at all, and whose damage shows: a run may be killed at any moment, and a disk
may fill."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clip2uda_core.errors import Clip2udaError

_CHECKSUM_BYTES = 4


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the content beside `path`, then takes its place: whoever reads finds the old file or the new one. Raises
    OSError, and leaves nothing behind then."""
    unfinished = path.with_name(f"{_unfinished(path.name)}{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """The same, for text."""
    write_bytes(path, text.encode())


def write_checked(path: Path, content: bytes) -> int:
    """The same, with the CRC-32 of the content behind it. Returns the bytes written."""
    write_bytes(path, content + _checksum(content))
    return len(content) + _CHECKSUM_BYTES


def read_checked(path: Path) -> bytes | None:
    """The content that `write_checked` wrote; None when the file is damaged. Raises OSError."""
    stored = path.read_bytes()
    content, checksum = stored[:-_CHECKSUM_BYTES], stored[-_CHECKSUM_BYTES:]
    return content if _checksum(content) == checksum else None


def remove_unfinished(folder: Path, pattern: str) -> None:
    """Removes what a killed process had begun to write to files of this pattern, in a folder that nobody writes to."""
    for left_over in folder.glob(f"{_unfinished(pattern)}*"):
        left_over.unlink(missing_ok=True)


@contextmanager
def writing(what: str, kind: type[Clip2udaError], remedy: str) -> Iterator[None]:
    """Turns an OSError into a `kind` that says what could not be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what} cannot be written: {error.strerror or error}; {remedy}") from None


def _unfinished(name: str) -> str:
    return f".{name}.unfinished-"


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")
