"""A ROS recording as one stream of messages: rosbag1, rosbag2 in SQLite or mcap, split, compressed, damaged."""

import heapq
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import yaml
import zstandard

from clip2uda_core.data.readers.bag_file import BagFile, Topic
from clip2uda_core.data.readers.bag_mcap import McapFile
from clip2uda_core.data.readers.bag_rosbags import Rosbag1File, open_sqlite
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.errors import DataError

STORAGE: dict[str, Callable[[Path], BagFile]] = {".mcap": McapFile, ".db3": open_sqlite, ".bag": Rosbag1File}
COMPRESSED = (".zstd", ".zst")


class Bag:
    """All storage files of a recording, read as one.

    Raises DataError when no file can be read. What damage took away is in `warnings`; everything else is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own_warnings: list[str] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        files, self._message_compression = _storage_files(path, self._own_warnings)
        if not files:
            raise DataError(f"{path}: expected a rosbag (.mcap, .db3 or .bag, or a folder of them), got none")
        self._files = self._open_all(files)
        counts: dict[tuple[str, str], int] = {}
        for file in self._files:
            for topic in file.topics:
                key = (topic.name, topic.msgtype)
                counts[key] = counts.get(key, 0) + topic.count
        self.topics = tuple(Topic(name, msgtype, count) for (name, msgtype), count in sorted(counts.items()))

    @property
    def warnings(self) -> list[str]:
        return self._own_warnings + [warning for file in self._files for warning in file.warnings]

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """The messages of some topics, in order of log time over all files."""
        # The leading None opens a file only when its time has come: a long recording has hundreds of them.
        streams = [self._from(file, order, topics) for order, file in enumerate(self._files)]
        for _, _, _, message in heapq.merge(*streams):
            if message is not None:
                yield message

    def close(self) -> None:
        for file in self._files:
            file.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _from(
        self, file: BagFile, order: int, topics: Collection[str]
    ) -> Iterator[tuple[int, int, int, RawMessage | None]]:
        yield file.start_ns, order, -1, None
        for index, message in enumerate(file.messages(topics)):
            if self._message_compression:
                # A message that does not decompress stays as it is, to be counted as damaged where it is decoded.
                with suppress(zstandard.ZstdError):
                    data = zstandard.ZstdDecompressor().decompressobj().decompress(bytes(message.data))
                    message = replace(message, data=data)
            yield message.log_time_ns, order, index, message

    def _open_all(self, files: list[Path]) -> list[BagFile]:
        """Opens each file; one of many that cannot be read at all is left out with a warning."""
        opened: list[BagFile] = []
        for file in files:
            try:
                plain = self._decompressed(file) if file.suffix in COMPRESSED else file
                opened.append(STORAGE[plain.suffix](plain))
            except (DataError, OSError) as error:
                told = error if isinstance(error, DataError) else DataError(f"{file}: {unreadable(error)}")
                if len(files) == 1:
                    raise told from None
                self._own_warnings.append(f"{file.name} is left out: {told}")
        if not opened:
            raise DataError(f"{self.path}: none of its {len(files)} files can be read: {'; '.join(self._own_warnings)}")
        return opened

    def _decompressed(self, file: Path) -> Path:
        """A temporary copy of a file that was compressed as a whole."""
        self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="clip2uda_bag_")
        plain = Path(self._scratch.name) / file.stem
        try:
            with file.open("rb") as source, plain.open("wb") as target:
                zstandard.ZstdDecompressor().copy_stream(source, target)
        except OSError as error:
            # Names the temporary folder too, which is where the place or the right is missing mostly.
            raise DataError(
                f"{file}: cannot be unpacked into {self._scratch.name}: {error.strerror}; unpack it with "
                f"`unzstd {file.name}`, or set TMPDIR to a folder with more space"
            ) from None
        except zstandard.ZstdError as error:
            self._own_warnings.append(
                f"{file.name}: the compressed file is damaged ({error}); its readable start is used"
            )
        return plain


def unreadable(error: OSError) -> str:
    """Why a file or folder cannot be read, and what to do about it."""
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied; `chmod +r`, or run as the user who owns it"
    return f"cannot be read: {error.strerror or error}; is the disk it lies on still there and sound?"


def is_bag(path: Path) -> bool:
    """Whether a path looks like a rosbag, by its name or what is in the folder."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(_files_in(path))
    return _is_storage(path)


def _is_storage(path: Path) -> bool:
    plain = path.with_suffix("") if path.suffix in COMPRESSED else path
    return path.is_file() and plain.suffix in STORAGE


def _files_in(folder: Path) -> list[Path]:
    """Storage files in the order of their numbers: bag_2 before bag_10."""
    files = [path for path in folder.iterdir() if _is_storage(path)]
    return sorted(files, key=lambda path: [int(s) if s.isdecimal() else s for s in re.split(r"(\d+)", path.name)])


def _storage_files(path: Path, warnings: list[str]) -> tuple[list[Path], bool]:
    """The files of a recording, and whether its messages are compressed one by one."""
    if not path.is_dir():
        return [path], False
    files = _files_in(path)
    try:
        text = (path / "metadata.yaml").read_text(encoding="utf-8")
        metadata = yaml.safe_load(text)["rosbag2_bagfile_information"]
        listed = [PurePosixPath(name).name for name in metadata["relative_file_paths"]]
        compressed = str(metadata.get("compression_mode", "")).lower() == "message"
    except FileNotFoundError:
        if any(file.suffix != ".bag" for file in files):
            warnings.append(
                f"{path.name} has no metadata.yaml (the recorder did not end well?): its files are read alone"
            )
        return files, False
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        warnings.append(f"{path.name}/metadata.yaml cannot be used ({type(error).__name__}): its files are read alone")
        return files, False
    there = {file.name: file for file in files}
    missing = [name for name in listed if name not in there]
    if missing:
        warnings.append(f"{len(missing)} of {len(listed)} files of {path.name} are missing: {', '.join(missing)}")
    return [there[name] for name in listed if name in there] or files, compressed
