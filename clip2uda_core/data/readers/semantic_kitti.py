"""SemanticKITTI sequences: Velodyne scans, point labels where there are any, and the images of KITTI odometry.

Behley et al.: SemanticKITTI: A Dataset for Semantic Scene Understanding of LiDAR Sequences, ICCV 2019. A point x falls
on pixel P_i · Tr · x. A label's low 16 bits are its class, the high ones its instance.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.readers.base import ReaderOptions, SourceDescription, Stream
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
from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3

LABEL_DATASET = "semantic_kitti"
PREFERRED_CAMERAS = ("image_2", "image_0", "image_3", "image_1")


class SemanticKittiReader(PairedFilesReader):
    """Frames of one sequence, `dataset/sequences/08`.

    Scans without a label file are unlabelled, as in the test sequences. Stamps come from times.txt, one for scan and
    image, else they are nominal, 10 Hz, with a warning. Raises DataError and CalibrationError for missing files.
    """

    kind = "SemanticKITTI sequence"
    label_dataset = LABEL_DATASET

    def __init__(self, path: Path, options: ReaderOptions) -> None:
        warnings: list[str] = []
        files = numbered_files(path / "velodyne", ".bin")
        if not files:
            raise DataError(f"{path / 'velodyne'}: expected scans like 000000.bin, got none")
        folders = choose_camera_folders(path, PREFERRED_CAMERAS, options)
        numbers = set(files).union(*(numbered_files(folder, ".png") for folder in folders.values()))
        stamps_ns = _stamps(path, numbers, warnings)
        images = {}
        for name, folder in folders.items():
            projection, camera_SE3_lidar = _calibration(path / "calib.txt", folder.name, f"{name}_optical")
            images[name] = ImageFolder(folder, numbered_files(folder, ".png"), stamps_ns, projection, camera_SE3_lidar)
        self._label_files = numbered_files(path / "labels", ".label")
        self._label_space = options.label_space
        name = path.resolve().name
        name = f"sequence_{name}" if name.isdecimal() else name
        super().__init__(path, name, ScanFolder(path / "velodyne", files, stamps_ns), images, options, warnings)

    def describe(self) -> SourceDescription:
        description = super().describe()
        labels = Stream("labels", "point labels", len(self._label_files), "labels")
        return replace(description, streams=(*description.streams, labels))

    def _labels(self, number: int, points: int) -> NDArray[np.uint8] | None:
        if self._label_space is None or number not in self._label_files:
            return None
        path = self._label_files[number]
        data = path.read_bytes()
        if len(data) != 4 * points:
            raise DataError(
                f"{path}: expected {4 * points} bytes, one uint32 label for each of the {points} points of its scan, "
                f"got {len(data)}; scan and labels are not of one release, or a file is cut off"
            )
        raw_ids = (np.frombuffer(data, "<u4") & 0xFFFF).astype(np.int64)
        return self._label_space.from_raw(LABEL_DATASET, raw_ids)


def _calibration(path: Path, folder: str, camera_frame: str) -> tuple[NDArray[np.float64], SE3]:
    """P of a camera folder, and the LiDAR's place before camera 0, which is where P starts from."""
    values = read_calibration(path)
    projection = calibration_matrix(values, f"P{folder.removeprefix('image_')}", (3, 4), path)
    transform = calibration_matrix(values, "Tr", (3, 4), path)
    return projection, SE3.from_rotation_translation(
        transform[:, :3], transform[:, 3], target=camera_frame, source=LIDAR_FRAME
    )


def _stamps(sequence: Path, numbers: set[int], warnings: list[str]) -> dict[int, int]:
    """Stamp of each frame; times.txt holds seconds since the sequence's start, line n for frame n."""
    path = sequence / "times.txt"
    if not path.is_file():
        warnings.append("there is no times.txt: stamps are nominal, 10 Hz by frame number")
        return {number: START_NS + number * NOMINAL_PERIOD_NS for number in numbers}
    try:
        seconds = [float(line) for line in path.read_text(encoding="utf-8").split()]
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected one time in seconds a line, got: {error}") from None
    if len(seconds) <= max(numbers):
        raise DataError(
            f"{path}: expected a time for each frame up to {max(numbers)}, got {len(seconds)} lines; "
            f"restore the file, or remove it to read with nominal stamps"
        )
    return {number: START_NS + round(seconds[number] * 1e9) for number in numbers}
