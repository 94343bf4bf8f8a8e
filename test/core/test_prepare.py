"""Frame to sample and batch: points that stay, cells, pixels in the shrunk image, and the bookkeeping of a batch."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_model import camera_view, frame, scattered_points

from clip2uda_core.config import parse_config
from clip2uda_core.data.prepare import PrepareConfig, prepare, prepare_view, select_points, voxel_features, voxelize
from clip2uda_core.data.sample import Voxels, collate
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.types import Frame, PointCloud

CONFIG = PrepareConfig(voxel_size_m=0.5, image_max_width_px=None)


def cells_by_brute_force(xyz_m: NDArray[np.float32], voxel_size_m: float) -> tuple[NDArray, NDArray]:
    cells = np.floor(xyz_m * np.float32(1 / voxel_size_m)).astype(np.int64)
    unique, inverse = np.unique(cells - cells.min(0), axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)


def test_voxels_by_hand() -> None:
    xyz_m = np.array([[0.1, 0, 0], [0.9, 0, 0], [-0.1, 0, 0], [0.2, 0.3, 0.4], [0.1, 0, 2.5]], np.float32)
    voxels = voxelize(xyz_m, 1.0)
    assert voxels.coordinates.tolist() == [[0, 0, 0], [1, 0, 0], [1, 0, 2]]
    assert voxels.of_point.tolist() == [1, 1, 0, 1, 2]
    assert voxels.coordinates.dtype == np.int32


@pytest.mark.parametrize(
    ("points", "spread_m", "voxel_size_m"),
    [(1, 1.0, 0.05), (5000, 1.0, 0.05), (5000, 80.0, 0.05), (5000, 900.0, 0.01)],  # the last overflows packed keys
)
def test_voxels_equal_brute_force(points: int, spread_m: float, voxel_size_m: float) -> None:
    xyz_m = np.random.default_rng(0).uniform(-spread_m, spread_m, (points, 3)).astype(np.float32)
    xyz_m = np.concatenate([xyz_m, xyz_m[::2]])
    voxels = voxelize(xyz_m, voxel_size_m)
    unique, inverse = cells_by_brute_force(xyz_m, voxel_size_m)
    assert np.array_equal(voxels.coordinates, unique)
    assert np.array_equal(voxels.of_point, inverse)


def test_intensity_is_averaged_and_scaled_per_voxel() -> None:
    voxels = Voxels(np.zeros((2, 3), np.int32), np.array([0, 1, 0, 0]))
    config = PrepareConfig(point_features=("constant", "intensity"), intensity_full_scale=100)
    features = voxel_features(voxels, np.array([10, 80, 20, np.nan], np.float32), config)
    assert features == pytest.approx(np.array([[1, 0.1], [1, 0.8]]))
    assert features.dtype == np.float32


def test_a_model_with_intensity_refuses_a_cloud_without() -> None:
    config = PrepareConfig(point_features=("intensity",))
    with pytest.raises(DataError, match="this cloud has none"):
        prepare(frame(scattered_points(5)), config)


def test_points_that_cannot_be_segmented_are_left_out() -> None:
    xyz_m = np.array(
        [[1, 1, 1], [np.nan, 0, 0], [0, np.inf, 0], [99, 0, 0], [0, -101, 0], [3e38, 3e38, 0], [0, 0, 0]], np.float32
    )
    assert select_points(xyz_m, 100.0).tolist() == [0, 3, 6]
    sample = prepare(frame(xyz_m, camera_view()), PrepareConfig(max_range_m=50))
    assert sample.kept.tolist() == [0, 6]
    assert len(sample.voxels.of_point) == 2


@pytest.mark.parametrize("xyz_m", [np.empty((0, 3), np.float32), np.full((4, 3), np.nan, np.float32)])
def test_a_cloud_without_a_point_is_a_sample_without_a_voxel(xyz_m: NDArray[np.float32]) -> None:
    sample = prepare(frame(xyz_m, camera_view()), CONFIG)
    assert len(sample.kept) == 0
    assert sample.voxels.coordinates.shape == (0, 3)
    assert sample.voxel_features.shape == (0, 1)
    assert sample.views[0].uv_px.shape == (0, 2)


def test_labels_follow_the_kept_points() -> None:
    xyz_m = np.array([[1, 0, 0], [np.nan, 0, 0], [2, 0, 0]], np.float32)
    sample = prepare(Frame(PointCloud(xyz_m, 0, labels=np.array([4, 5, 6], np.uint8))), CONFIG)
    assert sample.labels is not None
    assert sample.labels.tolist() == [4, 6]


def test_pixels_of_points_by_hand() -> None:
    view = camera_view(width_px=160, height_px=96)  # f = 80, centre (79.5, 47.5)
    xyz_m = np.array(
        [[10, 0, 0], [-10, 0, 0], [10, -5, 2.5], [10, 20, 0]], np.float32
    )  # ahead, behind, right + up, out
    seen = prepare_view(view, xyz_m, None)
    assert seen.points.tolist() == [0, 2]
    assert seen.uv_px == pytest.approx(np.array([[79.5, 47.5], [79.5 + 40, 47.5 - 20]]), abs=1e-3)
    assert seen.image is view.image


@pytest.mark.parametrize("max_width_px", [100, 60])
def test_a_shrunk_image_keeps_points_on_what_they_hit(max_width_px: int) -> None:
    view = camera_view(width_px=160, height_px=96)
    view.image[:] = 0
    view.image[20:32, 100:112] = 255  # seen at pixel (105.5, 25.5), its middle
    target = np.array([[80.0, -(105.5 - 79.5), -(25.5 - 47.5)]], np.float32)
    seen = prepare_view(view, target, max_width_px)
    height_px = round(96 * max_width_px / 160)
    assert seen.image.shape == (height_px, max_width_px, 3)
    rows, columns = np.nonzero(seen.image[..., 0] > 127)
    assert seen.uv_px[0] == pytest.approx([columns.mean(), rows.mean()], abs=0.5)


def test_images_that_are_narrow_enough_are_not_touched() -> None:
    view = camera_view(width_px=160)
    assert prepare_view(view, scattered_points(), 160).image is view.image


def test_collate_keeps_samples_apart() -> None:
    first = prepare(frame(scattered_points(50, seed=1), camera_view("a"), camera_view("b", 64, 64)), CONFIG)
    second = prepare(frame(scattered_points(70, seed=2), camera_view("c", yaw_rad=1.0)), CONFIG)
    batch = collate([first, second])
    assert batch.point_counts == (50, 70)
    assert batch.labels is None
    cells = len(first.voxels.coordinates)
    assert batch.voxels.dtype == torch.int32
    assert (batch.voxels[:cells, 0] == 0).all()
    assert (batch.voxels[cells:, 0] == 1).all()
    assert np.array_equal(
        batch.voxels[batch.voxel_of_point[50:], 1:], second.voxels.coordinates[second.voxels.of_point]
    )

    small, large = batch.groups  # in the order of their sizes, whatever the order of the samples
    assert large.images.shape == (2, 3, 96, 160)
    assert small.images.shape == (1, 3, 64, 64)
    assert np.array_equal(large.images[1].permute(1, 2, 0), second.views[0].image)
    assert large.points.tolist() == [*first.views[0].points, *(50 + second.views[0].points)]
    assert [len(uv) for uv in large.uv_px] == [len(first.views[0].points), len(second.views[0].points)]


def test_collate_of_labelled_samples_has_all_labels() -> None:
    labelled = [
        prepare(Frame(PointCloud(scattered_points(3), 0, labels=np.array(labels, np.uint8))), CONFIG)
        for labels in ([0, 1, 255], [2, 2, 2])
    ]
    labels = collate(labelled).labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 255, 2, 2, 2]


def test_a_batch_without_points_or_images() -> None:
    batch = collate([prepare(frame(np.empty((0, 3), np.float32)), CONFIG)])
    assert batch.voxels.shape == (0, 4)
    assert batch.groups == ()


@pytest.mark.parametrize(
    "values", [{"voxel_size_m": 0}, {"max_range_m": -1}, {"point_features": []}, {"point_features": ["colour"]}]
)
def test_bad_settings_are_refused_by_name(values: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        parse_config(PrepareConfig, values, "test")
