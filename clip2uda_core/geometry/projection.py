"""Points of a LiDAR in an image: pixel, depth and visibility of every one, in the cloud's order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry.camera import CameraModel
from clip2uda_core.geometry.se3 import SE3


@dataclass(frozen=True)
class Projection:
    """Where each of N points falls in an image.

    uv_px: (N, 2) float32; OpenCV's convention, integer coordinates are pixel centres: the pixel is floor(uv + 0.5).
      NaN where the camera cannot project the point (behind it, outside the lens model, NaN).
    depth_m: (N,) float32, z in the camera frame; negative for what a fisheye camera sees beyond 90 degrees.
    visible: (N,) bool, in front and inside the image.
    """

    uv_px: NDArray[np.float32]
    depth_m: NDArray[np.float32]
    visible: NDArray[np.bool_]


def project(xyz_m: NDArray[np.floating], camera_SE3_lidar: SE3, camera: CameraModel) -> Projection:
    """Projects (N, 3) points of the LiDAR frame into an image. NaN points are not visible.

    float32 clouds are projected in float32, which keeps pixels within 0.01.
    """
    points = camera_SE3_lidar.transform(xyz_m).astype(np.float32, copy=False)
    uv_px, visible = camera.project(points)
    return Projection(uv_px, np.ascontiguousarray(points[:, 2]), visible)
