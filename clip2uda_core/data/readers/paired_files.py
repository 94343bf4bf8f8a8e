"""Recordings that are folders of numbered files: scans and images of one number belong together."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.readers.base import Pairing, Reader, ReaderOptions, SourceDescription, Stamps, Stream
from clip2uda_core.data.readers.kitti_files import LIDAR_FRAME, read_image, read_scan, rectified_camera
from clip2uda_core.data.readers.thinning import Thinner
from clip2uda_core.geometry import SE3
from clip2uda_core.types import CameraView, Frame, PointCloud


@dataclass(frozen=True)
class ScanFolder:
    """The scans of a recording and their stamps, by frame number."""

    folder: Path
    files: dict[int, Path]
    stamps_ns: dict[int, int]


@dataclass(frozen=True)
class ImageFolder:
    """The rectified images of one camera and their stamps, by frame number; `projection` is KITTI's 3x4 P."""

    folder: Path
    files: dict[int, Path]
    stamps_ns: dict[int, int]
    projection: NDArray[np.float64]
    camera_SE3_lidar: SE3


class PairedFilesReader(Reader):
    """Reads scan and images of one number as one frame. Its children know where the files and the calibration are."""

    kind = "numbered files"

    def __init__(
        self,
        path: Path,
        name: str,
        scans: ScanFolder,
        images: dict[str, ImageFolder],
        options: ReaderOptions,
        warnings: list[str],
    ) -> None:
        self.path = path
        self.name = name
        self.cameras = tuple(images)
        self.warnings = warnings
        self.pairing = Pairing()
        self._scans = scans
        self._images = images
        self._thinning = options.thinning
        self._max_frames = options.max_frames
        self._numbers = self._pair(options)

    def __len__(self) -> int:
        return min(len(self._numbers), self._max_frames or len(self._numbers))

    def __iter__(self) -> Iterator[Frame]:
        thinner = Thinner(self._thinning)
        self.pairing = Pairing(dropped=self._unpaired + thinner.dropped, images_unused=self.pairing.images_unused)
        read = 0
        for number in self._numbers:
            if read == self._max_frames:
                break
            cloud = self._cloud(number)
            if _takes(thinner, cloud):
                frame = self._frame(number, cloud)
                self._count(frame)
                read += 1
                yield frame
            self.pairing.dropped = self._unpaired + thinner.dropped

    def describe(self) -> SourceDescription:
        streams = [Stream(self._scans.folder.name, "Velodyne scans", len(self._scans.files), "points")]
        for name, images in self._images.items():
            streams.append(Stream(images.folder.name, "PNG images", len(images.files), f"camera {name}"))
        return SourceDescription(self.name, self.kind, self.path, tuple(streams), tuple(self.warnings))

    def stamps(self) -> dict[str, Stamps]:
        folders: list[ScanFolder | ImageFolder] = [self._scans, *self._images.values()]
        return {f.folder.name: Stamps(np.array([f.stamps_ns[n] for n in f.files], np.int64)) for f in folders}

    def _labels(self, number: int, points: int) -> NDArray[np.uint8] | None:
        """Class indices of a scan's points, None where the recording has no labels."""
        return None

    def _cloud(self, number: int) -> PointCloud:
        xyz_m, reflectance = read_scan(self._scans.files[number])
        labels = self._labels(number, len(xyz_m))
        return PointCloud(xyz_m, self._scans.stamps_ns[number], LIDAR_FRAME, intensity=reflectance, labels=labels)

    def _frame(self, number: int, cloud: PointCloud) -> Frame:
        views = [self._view(name, number) for name, images in self._images.items() if number in images.files]
        return Frame(cloud, tuple(views), f"{self.name}[{number}]")

    def _view(self, name: str, number: int) -> CameraView:
        images = self._images[name]
        image = read_image(images.files[number])
        camera = rectified_camera(images.projection, image.shape[1], image.shape[0])
        return CameraView(name, image, images.stamps_ns[number], camera, images.camera_SE3_lidar)

    def _pair(self, options: ReaderOptions) -> list[int]:
        """Numbers of the frames to read; what has no partner is counted and warned of."""
        numbers = []
        self._unpaired: Counter[str] = Counter()
        for number in self._scans.files:
            views = sum(number in images.files for images in self._images.values())
            if views < options.sync.min_cameras:
                self._unpaired["too few images"] += 1
            else:
                numbers.append(number)
        scans = self._scans.files.keys()
        for name, images in self._images.items():
            alone, unused = len(scans - images.files.keys()), len(images.files.keys() - scans)
            self.pairing.images_unused[name] = unused
            if alone:
                self.warnings.append(f"{alone} of {len(scans)} scans have no image of camera '{name}'")
            if unused:
                self.warnings.append(
                    f"{unused} of {len(images.files)} images of camera '{name}' have no scan: not used"
                )
        self.pairing.dropped = Counter(self._unpaired)
        return numbers

    def _count(self, frame: Frame) -> None:
        if len(frame.views) == len(self.cameras):
            self.pairing.complete += 1
        else:
            self.pairing.partial += 1
        for view in frame.views:
            distance_s = abs(view.stamp_ns - frame.cloud.stamp_ns) / 1e9
            self.pairing.nearest_s.setdefault(view.name, []).append(distance_s)


def _takes(thinner: Thinner, cloud: PointCloud) -> bool:
    return thinner.takes(cloud.stamp_ns, lambda: cloud, lambda: None)
