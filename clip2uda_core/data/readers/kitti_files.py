"""The file formats that KITTI's raw drives and SemanticKITTI share: scans, images, calibration, folders of cameras."""

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.readers.base import ReaderOptions
from clip2uda_core.errors import CalibrationError, DataError
from clip2uda_core.geometry import PinholeCamera

LIDAR_FRAME = "lidar"
NOMINAL_PERIOD_NS = 100_000_000
"""The Velodyne of both data sets turns at 10 Hz."""

START_NS = 1_000_000_000
"""First stamp of recordings whose clock starts at zero: a zero stamp means "not set" in ROS."""


def numbered_files(folder: Path, suffix: str) -> dict[int, Path]:
    """Files named by their frame number (`0000000017.png`), in order of that number; empty where there is no folder."""
    files = [path for path in folder.glob(f"*{suffix}") if path.stem.isdecimal()]
    return {int(path.stem): path for path in sorted(files, key=lambda path: int(path.stem))}


def read_scan(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A Velodyne scan: (N, 3) x, y, z in metres and (N,) reflectance 0..1.

    Raises DataError when the file does not hold whole points (four little-endian float32 each).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the scan cannot be read: {error.strerror}") from None
    if not data or len(data) % 16:
        raise DataError(
            f"{path}: expected a scan of 16 bytes a point (float32 x, y, z, reflectance), got {len(data)} bytes; "
            f"the file is cut off or not a KITTI scan: copy it again or remove it"
        )
    values = np.frombuffer(data, "<f4").reshape(-1, 4).astype(np.float32, copy=False)
    return np.ascontiguousarray(values[:, :3]), np.ascontiguousarray(values[:, 3])


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; a gray image has three equal channels. Raises DataError when it cannot be decoded."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: expected an image that OpenCV can decode, got {path.stat().st_size} bytes it cannot")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_calibration(path: Path) -> dict[str, NDArray[np.float64]]:
    """The `key: numbers` lines of a KITTI calibration file; lines that hold no numbers (dates) are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: the calibration cannot be read: {error}") from None
    values: dict[str, NDArray[np.float64]] = {}
    for line in lines:
        key, _, numbers = line.partition(":")
        try:
            values[key.strip()] = np.array([float(number) for number in numbers.split()])
        except ValueError:
            continue
    return values


def calibration_matrix(
    values: dict[str, NDArray[np.float64]], key: str, shape: tuple[int, int], path: Path
) -> NDArray[np.float64]:
    """The matrix `key` of a calibration file; CalibrationError when it is missing or of another size."""
    if key not in values:
        raise CalibrationError(f"{path}: expected a line '{key}:', got only {', '.join(sorted(values)) or 'no values'}")
    if values[key].size != shape[0] * shape[1]:
        raise CalibrationError(f"{path}: '{key}' expected {shape[0] * shape[1]} numbers, got {values[key].size}")
    return values[key].reshape(shape)


def rectified_camera(projection: NDArray[np.float64], width_px: int, height_px: int) -> PinholeCamera:
    """A camera from KITTI's 3x4 P = K [I | t]: the fourth column is the camera's place beside camera 0."""
    offset_m = np.asarray(np.linalg.solve(projection[:, :3], projection[:, 3]), np.float64)
    return PinholeCamera(
        width_px=width_px,
        height_px=height_px,
        fx=float(projection[0, 0]),
        fy=float(projection[1, 1]),
        cx=float(projection[0, 2]),
        cy=float(projection[1, 2]),
        offset_m=offset_m,
    )


def choose_camera_folders(root: Path, preferred: tuple[str, ...], options: ReaderOptions) -> dict[str, Path]:
    """Camera name -> image folder under `root`: those asked for, else the first of `preferred` that is there.

    Raises DataError that names the folders to choose from.
    """
    there = sorted(path.name for path in root.iterdir() if path.is_dir() and re.fullmatch(r"image_\d+", path.name))
    if options.cameras is None:
        chosen = next((name for name in preferred if name in there), None)
        if chosen is None:
            raise DataError(f"{root}: expected an image folder ({', '.join(preferred)}), got none; check the path")
        return {"front": root / chosen}
    unknown = [folder for folder in options.cameras.values() if folder not in there]
    if unknown:
        choices = "  ".join(f"--camera front={name}" for name in there) or "none"
        raise DataError(f"{root}: no image folder {', '.join(unknown)}; choose from: {choices}")
    return {name: root / folder for name, folder in options.cameras.items()}
