"""Simulated frames on disk, in a folder that does not grow beyond a limit: the longest unused go first."""

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import SE3
from clip2uda_core.simulation.scenario import Domain
from clip2uda_core.types import CameraView, Frame, PointCloud

logger = logging.getLogger(__name__)

DEFAULT_LIMIT_GB = 4.0


def default_folder() -> Path:
    """$CLIP2UDA_CACHE, or ~/.cache/clip2uda; frames lie in `frames/` below it."""
    chosen = os.environ.get("CLIP2UDA_CACHE")
    return (Path(chosen).expanduser() if chosen else Path("~/.cache/clip2uda").expanduser()) / "frames"


@dataclass(frozen=True)
class FrameCache:
    """folder: where frames are kept, None for nowhere. limit_bytes: of all files in it together.

    What cannot be read is made anew; what cannot be written is only made. Made by `open_cache`.
    """

    folder: Path | None
    limit_bytes: int = round(DEFAULT_LIMIT_GB * 1e9)

    def has(self, key: str, index: int) -> bool:
        return self.folder is not None and self._path(key, index).is_file()

    def read(self, key: str, index: int, domain: Domain) -> Frame | None:
        """A frame of the domain with this key, None where it is not there or is damaged."""
        if self.folder is None:
            return None
        path = self._path(key, index)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                frame = _unpack(arrays, domain)
            os.utime(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # a file that was cut off or damaged fails in many ways; the frame is made anew
            logger.info("%s: cannot be read (%s); the frame is made anew", path, error)
            return None
        return frame

    def write(self, key: str, index: int, frame: Frame) -> None:
        """Keeps a frame, and drops the longest unused ones where the limit is passed."""
        if self.folder is None:
            return
        path = self._path(key, index)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
                try:
                    np.savez(part, allow_pickle=False, **_pack(frame))
                    part.close()
                    Path(part.name).replace(path)
                except BaseException:
                    Path(part.name).unlink(missing_ok=True)
                    raise
            self._shrink(path)
        except OSError as error:
            logger.warning(
                "%s: a frame could not be kept (%s); it will be made anew next time", path.parent, error.strerror
            )

    def _path(self, key: str, index: int) -> Path:
        assert self.folder is not None
        return self.folder / key / f"{index:06d}.npz"

    def _shrink(self, newest: Path) -> None:
        """Removes files, oldest use first, until nine tenths of the limit are kept."""
        assert self.folder is not None
        entries = []
        for path in self.folder.glob("*/*.npz"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self.limit_bytes:
            return
        for _, size, path in sorted(entries):
            if total <= 0.9 * self.limit_bytes:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


def open_cache(folder: Path | None = None, limit_gb: float = DEFAULT_LIMIT_GB) -> FrameCache:
    """The cache in a folder (None: the default one), made where it is missing.

    A folder that cannot be written to gives one warning and a cache that keeps nothing. A path that is no folder is a
    ConfigError.
    """
    folder = default_folder() if folder is None else folder
    if limit_gb <= 0:
        raise ConfigError(f"cache limit: expected more than 0 GB, got {limit_gb}")
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise ConfigError(f"cache: {parent} is a file; set CLIP2UDA_CACHE to a folder or remove the file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        logger.warning(
            "cache %s cannot be written to (%s): frames are made anew each time; free some space or set CLIP2UDA_CACHE "
            "to another folder",
            folder,
            error.strerror,
        )
        return FrameCache(None)
    return FrameCache(folder, round(limit_gb * 1e9))


def _pack(frame: Frame) -> dict[str, NDArray]:
    cloud = frame.cloud
    assert cloud.intensity is not None
    assert cloud.time_offset_s is not None
    assert cloud.labels is not None
    arrays: dict[str, NDArray] = {
        "xyz_m": cloud.xyz_m,
        "intensity": cloud.intensity,
        "time_offset_s": cloud.time_offset_s,
        "labels": cloud.labels,
        "stamps_ns": np.array([cloud.stamp_ns, *(view.stamp_ns for view in frame.views)], np.int64),
        "source": np.array(frame.source),
    }
    for i, view in enumerate(frame.views):
        assert view.labels is not None
        arrays |= {
            f"image{i}": view.image,
            f"pixels{i}": view.labels,
            f"pose{i}": view.camera_SE3_lidar.matrix,
        }
    return arrays


def _unpack(arrays: Mapping[str, NDArray], domain: Domain) -> Frame:
    stamps = [int(stamp) for stamp in arrays["stamps_ns"]]
    cloud = PointCloud(
        arrays["xyz_m"],
        stamps[0],
        domain.lidar.name,
        arrays["intensity"],
        arrays["time_offset_s"],
        arrays["labels"],
    )
    views = tuple(
        CameraView(
            camera.name,
            arrays[f"image{i}"],
            stamps[1 + i],
            camera.camera(),
            SE3(arrays[f"pose{i}"], camera.name, domain.lidar.name),
            arrays[f"pixels{i}"],
        )
        for i, camera in enumerate(domain.cameras)
    )
    return Frame(cloud, views, str(arrays["source"]))
