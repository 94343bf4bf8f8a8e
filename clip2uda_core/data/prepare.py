"""Frame to sample: drop what cannot be segmented, make voxels, project into the images. The same code for training
and inference.

`prepare` calls its parts one after the other, so that training can augment between them: the points that `voxelize`
gets (`prepare_view` keeps those where they truly were), and an image with its pixels after `prepare_view`.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from clip2uda_core.config import Config
from clip2uda_core.data.sample import Sample, SampleView, Voxels
from clip2uda_core.errors import DataError
from clip2uda_core.geometry import project
from clip2uda_core.types import CameraView, Frame

PointFeature = Literal["constant", "intensity"]


class PrepareConfig(Config):
    """voxel_size_m: edge of a cell. max_range_m: points further from the LiDAR are not segmented.
    image_max_width_px: wider images are shrunk to this width; None keeps them.
    point_features: what the 3D network is told of a cell beside its place. xMUDA tells it nothing ("constant", 1).
    intensity_full_scale: the sensor's strongest return (KITTI 1, nuScenes and most drivers 255); intensity is divided
        by it.
    """

    voxel_size_m: float = Field(default=0.05, ge=0.01, le=10)
    max_range_m: float = Field(default=100.0, gt=0, le=1000)
    image_max_width_px: PositiveInt | None = 640
    point_features: tuple[PointFeature, ...] = Field(default=("constant",), min_length=1)
    intensity_full_scale: PositiveFloat = 1.0


def prepare(frame: Frame, config: PrepareConfig) -> Sample:
    """Prepares a frame. Every point of the cloud is either in `kept` or cannot be segmented (NaN, out of range).

    Raises DataError when the config wants intensity and the cloud has none.
    """
    kept = select_points(frame.cloud.xyz_m, config.max_range_m)
    xyz_m = np.take(frame.cloud.xyz_m, kept, axis=0)  # several times faster than indexing rows
    voxels = voxelize(xyz_m, config.voxel_size_m)
    intensity = None if frame.cloud.intensity is None else frame.cloud.intensity[kept]
    return Sample(
        kept=kept,
        xyz_m=xyz_m,
        voxels=voxels,
        voxel_features=voxel_features(voxels, intensity, config),
        views=tuple(prepare_view(view, xyz_m, config.image_max_width_px) for view in frame.views),
        labels=None if frame.cloud.labels is None else frame.cloud.labels[kept],
        source=frame.source,
    )


def select_points(xyz_m: NDArray[np.float32], max_range_m: float) -> NDArray[np.int64]:
    """Indices of the (N, 3) points that are finite and within range."""
    x, y, z = xyz_m.T
    with np.errstate(invalid="ignore", over="ignore"):  # NaN compares false, an overflow is far away
        near = x * x + y * y + z * z <= np.float32(max_range_m) ** 2
    return np.flatnonzero(near)


def prepare_view(view: CameraView, xyz_m: NDArray[np.float32], max_width_px: int | None) -> SampleView:
    """Shrinks the image and finds the pixels of the points that its camera sees; xyz_m (M, 3) in the LiDAR frame."""
    image: NDArray = view.image
    camera = view.camera
    if max_width_px is not None and camera.width_px > max_width_px:
        height_px = max(1, round(camera.height_px * max_width_px / camera.width_px))
        # Down to half, bilinear reads every pixel; below, it would skip some and alias.
        interpolation = cv2.INTER_LINEAR if camera.width_px <= 2 * max_width_px else cv2.INTER_AREA
        camera = camera.resized(max_width_px, height_px)
        image = cv2.resize(image, (max_width_px, height_px), interpolation=interpolation)
    projection = project(xyz_m, view.camera_SE3_lidar, camera)
    points = np.flatnonzero(projection.visible)
    return SampleView(view.name, image, points, projection.uv_px[points])


def voxelize(xyz_m: NDArray[np.float32], voxel_size_m: float) -> Voxels:
    """(M, 3) points to occupied cells, each once. A cell is floor(xyz / voxel_size), counted from the smallest along
    each axis."""
    if len(xyz_m) == 0:
        return Voxels(np.empty((0, 3), np.int32), np.empty(0, np.int64))
    cells = np.multiply(xyz_m.T, np.float32(1 / voxel_size_m), order="C")
    np.floor(cells, out=cells)
    cells -= cells.min(1, keepdims=True)
    bits_x, bits_y, bits_z = (int(extent).bit_length() for extent in cells.max(1))
    keys = cells[0].astype(np.int64) << (bits_y + bits_z)
    keys |= cells[1].astype(np.int64) << bits_z
    keys |= cells[2].astype(np.int64)

    keys, order = _sort(keys, bits_x + bits_y + bits_z)
    is_first = np.concatenate([[True], keys[1:] != keys[:-1]])
    of_point = np.empty(len(keys), np.int64)
    of_point[order] = np.cumsum(is_first) - 1

    keys = keys[is_first]
    coordinates = np.empty((len(keys), 3), np.int32)
    coordinates[:, 0] = keys >> (bits_y + bits_z)
    coordinates[:, 1] = (keys >> bits_z) & ((1 << bits_y) - 1)
    coordinates[:, 2] = keys & ((1 << bits_z) - 1)

    return Voxels(coordinates, of_point)


def voxel_features(voxels: Voxels, intensity: NDArray[np.float32] | None, config: PrepareConfig) -> NDArray[np.float32]:
    """(V, F) features of the cells, in the config's order; intensity (M,) is averaged over the points of a cell."""
    cells = len(voxels.coordinates)
    columns: list[NDArray] = []
    for feature in config.point_features:
        if feature == "constant":
            columns.append(np.ones(cells))
        elif intensity is not None:
            total = np.bincount(voxels.of_point, weights=np.nan_to_num(intensity), minlength=cells)
            columns.append(total / np.bincount(voxels.of_point, minlength=cells) / config.intensity_full_scale)
        else:
            raise DataError(
                "the model was made for clouds with intensity (point_features), but this cloud has none; record the "
                "intensity field, or use a model with point_features: [constant]"
            )
    return np.stack(columns, 1).astype(np.float32)


def _sort(keys: NDArray[np.int64], key_bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted keys, and the order that sorts them. Key and index in one number sort several times faster than argsort,
    and they fit for any scan within a kilometre at 5 cm."""
    index_bits = len(keys).bit_length()
    if key_bits + index_bits > 63:
        order = np.argsort(keys)
        return keys[order], order
    packed = keys << index_bits
    packed |= np.arange(len(keys))
    packed.sort()
    return packed >> index_bits, packed & ((1 << index_bits) - 1)
