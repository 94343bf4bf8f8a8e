"""Readers: recordings as streams of frames. `open_source` finds the one that fits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clip2uda_core.data.readers.bag import is_bag, unreadable
from clip2uda_core.data.readers.base import Pairing, Reader, ReaderOptions, SourceDescription, Stamps, Stream
from clip2uda_core.data.readers.kitti_raw import KittiRawReader
from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.data.readers.rosbag import RosbagReader
from clip2uda_core.data.readers.semantic_kitti import SemanticKittiReader
from clip2uda_core.data.readers.several import SeveralReader, check_distinct
from clip2uda_core.data.readers.thinning import FOR_TRAINING, Thinning
from clip2uda_core.errors import DataError

__all__ = [
    "FOR_TRAINING",
    "KittiRawReader",
    "Pairing",
    "RawMessage",
    "Reader",
    "ReaderOptions",
    "RosbagReader",
    "SemanticKittiReader",
    "SeveralReader",
    "SourceDescription",
    "Stamps",
    "Stream",
    "Thinning",
    "open_source",
    "open_sources",
]

SYNTHETIC = "synthetic:"


def open_source(source: str | Path, options: ReaderOptions | None = None) -> Reader:
    """The reader for a rosbag, a KITTI raw drive, a SemanticKITTI sequence, or `synthetic:SCENARIO[:DOMAIN[:SPLIT]]`.

    Raises DataError that lists what was looked for when nothing fits.
    """
    options = options or ReaderOptions()
    if str(source).startswith(SYNTHETIC):
        # Imported here because the simulation brings a ray caster that no recording needs.
        from clip2uda_core.data.readers.synthetic import SyntheticReader

        return SyntheticReader(str(source).removeprefix(SYNTHETIC), options)
    path = Path(source).expanduser()
    try:
        return _open_path(path, options)
    except OSError as error:
        raise DataError(f"{path}: {unreadable(error)}") from None


def open_sources(sources: Sequence[str | Path], options: ReaderOptions | None = None) -> SeveralReader:
    """Recordings of one robot as one source, in the order given; also a single one.

    Beside what `open_source` does, its reader raises DataError, with the reasons, when no cloud becomes a frame. Raises
    DataError that tells of every recording that cannot be opened, when one is given twice, and when their cameras
    differ.
    """
    if not sources:
        raise DataError("no recording given: expected at least one")
    check_distinct(sources)
    options = options or ReaderOptions()
    readers, failures = [], []
    for source in sources:
        try:
            readers.append(open_source(source, replace(options, max_frames=None)))
        except DataError as error:
            failures.append(str(error))
    if failures:
        others = f"\nThe other {len(readers)} of {len(sources)} recordings can be read without it." if readers else ""
        raise DataError("\n".join(failures) + others)
    return SeveralReader(readers, options.max_frames)


def _open_path(path: Path, options: ReaderOptions) -> Reader:
    if (path / "velodyne_points").is_dir():
        return KittiRawReader(path, options)
    if (path / "velodyne").is_dir() and (path / "calib.txt").is_file():
        return SemanticKittiReader(path, options)
    if path.exists() and is_bag(path):
        return RosbagReader(path, options)
    raise DataError(_not_recognised(path))


def _not_recognised(path: Path) -> str:
    if not path.exists():
        return f"{path}: no such file or folder"
    lines = [
        f"{path}: no recording that can be read. Looked for:",
        "  a rosbag: a file .mcap, .db3 or .bag, or a folder that holds such files",
        "  a KITTI raw drive: a folder with velodyne_points/data and image_02/data (2011_09_26_drive_0001_sync)",
        "  a SemanticKITTI sequence: a folder with velodyne, calib.txt and image_2 (dataset/sequences/08)",
    ]
    inside = _recordings_below(path)
    if inside:
        lines += ["Recordings inside:", *(f"  {folder}" for folder in inside)]
    return "\n".join(lines)


def _recordings_below(path: Path) -> list[Path]:
    """Drives of a KITTI day, or sequences of a SemanticKITTI copy, where their parent was given."""
    if not path.is_dir():
        return []
    patterns = ("*/velodyne_points", "*/velodyne", "sequences/*/velodyne", "dataset/sequences/*/velodyne")
    found = [match.parent for pattern in patterns for match in path.glob(pattern) if match.is_dir()]
    found += [folder for folder in path.glob("*") if folder.is_dir() and is_bag(folder)]
    return sorted(set(found))
