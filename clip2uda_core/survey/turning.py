"""How far the vehicle turned about the vertical between two images (quick and coarse) and between two scans."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import CameraModel
from clip2uda_core.survey.motion import MotionEstimator
from clip2uda_core.types import PointCloud

STRIP_WIDTH_PX = 256
TOP, BOTTOM = 0.15, 0.65
"""Part of the image that is compared: what is far. The road below it moves with the vehicle's speed."""

LEAST_RESPONSE = 0.05
SCAN_POINTS = 40_000
"""As many points of a scan are registered at least, where there are so many."""


def image_strip(image: NDArray[np.uint8], camera: CameraModel) -> tuple[NDArray[np.float32], float]:
    """The far part of an RGB image (H, W, 3), small, gray and evened out, and its focal length in its pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, STRIP_WIDTH_PX / width)
    band = image[int(TOP * height) : max(int(BOTTOM * height), int(TOP * height) + 8)]
    size = (max(8, round(scale * width)), max(8, round(scale * band.shape[0])))
    gray = cv2.cvtColor(cv2.resize(band, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    even = np.log(gray.astype(np.float32) + 10)
    flat = np.asarray(even - cv2.GaussianBlur(even, (0, 0), size[0] / 16), np.float32)
    return flat, scale * camera.fx


def image_turn_rad(before: NDArray[np.float32], after: NDArray[np.float32], focal_px: float) -> float | None:
    """Turn to the left between two strips of one size, by phase correlation; None where they have little in common."""
    window = cv2.createHanningWindow((before.shape[1], before.shape[0]), cv2.CV_32F)
    (shift_px, _), response = cv2.phaseCorrelate(before, after, window)
    if response < LEAST_RESPONSE or abs(shift_px) > before.shape[1] / 3:
        return None
    return float(np.arctan(shift_px / focal_px))


class ScanTurns:
    """The turn to the left from scan to scan, of runs of scans that follow each other."""

    def __init__(self) -> None:
        self._motion: MotionEstimator | None = None
        self._before: PointCloud | None = None
        self.count = 0

    def skip(self, cloud: PointCloud) -> None:
        """A scan whose turn is not asked for."""
        self._motion, self._before = None, cloud

    def add(self, cloud: PointCloud) -> float | None:
        """Radians since the scan before, None where the two cannot be registered."""
        if self._motion is None:
            self._motion = MotionEstimator()
            if self._before is not None:
                self._motion.add(_thinned(self._before))
        self._before = cloud
        self.count += 1
        motion = self._motion.add(_thinned(cloud))
        if motion is None:
            return None
        rotation = motion.earlier_SE3_later.rotation
        return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _thinned(cloud: PointCloud) -> PointCloud:
    step = max(1, len(cloud) // SCAN_POINTS)
    return PointCloud(np.ascontiguousarray(cloud.xyz_m[::step]), cloud.stamp_ns, cloud.frame_id)
