"""KITTI raw recordings: one drive folder with rectified ("sync") images and Velodyne scans.

Geiger, Lenz, Stiller, Urtasun: Vision meets Robotics: The KITTI Dataset, IJRR 2013. A point x of the scan falls on
pixel P_rect_0X · R_rect_00 · [R|T]_velo_to_cam · x.
"""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.readers.base import ReaderOptions
from clip2uda_core.data.readers.kitti_files import (
    LIDAR_FRAME,
    NOMINAL_PERIOD_NS,
    START_NS,
    calibration_matrix,
    choose_camera_folders,
    numbered_files,
    read_calibration,
)
from clip2uda_core.data.readers.paired_files import ImageFolder, PairedFilesReader, ScanFolder
from clip2uda_core.errors import CalibrationError, DataError
from clip2uda_core.geometry import SE3

PREFERRED_CAMERAS = ("image_02", "image_03", "image_00", "image_01")
NOMINAL_STAMPS = "timestamps_nominal.csv"


class KittiRawReader(PairedFilesReader):
    """Frames of `2011_09_26_drive_0001_sync` and its like.

    Stamps come from each folder's timestamps.txt, else from a `timestamps_nominal.csv` of the drive (columns frame,
    lidar_stamp_ns, image_stamp_ns), else they are nominal, 10 Hz, with a warning. Raises DataError and CalibrationError
    for missing files.
    """

    kind = "KITTI raw drive"

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        warnings: list[str] = []
        velodyne = path / "velodyne_points"
        files = numbered_files(velodyne / "data", ".bin")
        if not files:
            raise DataError(f"{velodyne / 'data'}: expected scans like 0000000000.bin, got none")
        scans = ScanFolder(velodyne, files, _stamps(velodyne, "lidar_stamp_ns", files, warnings))
        images = {}
        folders = choose_camera_folders(path, PREFERRED_CAMERAS, options)
        for name, folder in folders.items():
            files = numbered_files(folder / "data", ".png")
            stamps_ns = _stamps(folder, "image_stamp_ns", files, warnings)
            projection, camera_SE3_lidar = _calibration(path, folder.name, f"{name}_optical")
            images[name] = ImageFolder(folder, files, stamps_ns, projection, camera_SE3_lidar)
        super().__init__(path, path.resolve().name, scans, images, options, warnings)


def _calibration(drive: Path, folder: str, camera_frame: str) -> tuple[NDArray[np.float64], SE3]:
    """P of a camera folder, and the LiDAR's place before the rectified camera 0, which is where P starts from."""
    cam_path = _calibration_file(drive, "calib_cam_to_cam.txt")
    velo_path = _calibration_file(drive, "calib_velo_to_cam.txt")
    cam, velo = read_calibration(cam_path), read_calibration(velo_path)
    projection = calibration_matrix(cam, f"P_rect_{folder.removeprefix('image_')}", (3, 4), cam_path)
    rectify = calibration_matrix(cam, "R_rect_00", (3, 3), cam_path)
    rotation = calibration_matrix(velo, "R", (3, 3), velo_path)
    translation_m = calibration_matrix(velo, "T", (3, 1), velo_path)[:, 0]
    return projection, SE3.from_rotation_translation(
        rectify @ rotation, rectify @ translation_m, target=camera_frame, source=LIDAR_FRAME
    )


def _calibration_file(drive: Path, name: str) -> Path:
    """KITTI keeps the calibration of a day one level above its drives; copies of one drive often have it inside."""
    for folder in (drive, drive.resolve().parent):
        if (folder / name).is_file():
            return folder / name
    raise CalibrationError(
        f"{drive}: expected {name} in it or in the folder above, got neither; "
        f"download the calibration of the drive's day and put it in one of them"
    )


def _stamps(folder: Path, column: str, files: dict[int, Path], warnings: list[str]) -> dict[int, int]:
    """Stamp of each file by its frame number."""
    source = folder / "timestamps.txt"
    nominal = folder.parent / NOMINAL_STAMPS
    if source.is_file():
        stamps_ns = _read_timestamps(source)
    elif nominal.is_file():
        source = nominal
        stamps_ns = _read_nominal(source, column)
    else:
        warnings.append(f"{folder.name} has no timestamps.txt: its stamps are nominal, 10 Hz by frame number")
        return {number: START_NS + number * NOMINAL_PERIOD_NS for number in files}
    missing = [number for number in files if number not in stamps_ns]
    if missing:
        raise DataError(
            f"{source}: expected a stamp for each of the {len(files)} files of {folder.name}, got none for "
            f"{len(missing)}, first frame {missing[0]}; restore the file, or remove it to read with nominal stamps"
        )
    return {number: stamps_ns[number] for number in files}


def _read_timestamps(path: Path) -> dict[int, int]:
    """Line n is the UTC time of frame n: `2011-09-26 13:02:25.964389445`."""
    stamps_ns = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        if not line.strip():
            continue
        try:
            stamps_ns[number] = int(np.datetime64(line.strip(), "ns").astype(np.int64))
        except ValueError:
            raise DataError(f"{path}: line {number + 1}: expected a date and time, got '{line}'") from None
    return stamps_ns


def _read_nominal(path: Path, column: str) -> dict[int, int]:
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return {int(row["frame"]): int(row[column]) for row in csv.DictReader(file)}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: expected whole numbers in columns frame and {column}, got: {error}") from None
