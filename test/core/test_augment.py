"""Augmentation against geometry worked out by hand: what must stay the same, and what must move."""

import numpy as np
import pytest

from clip2uda_core.data.augment import (
    ImageAugmentConfig,
    PointAugmentConfig,
    augment_points,
    augment_view,
    flip_view,
    jitter_colors,
    translate_voxels,
)
from clip2uda_core.data.prepare import voxelize
from clip2uda_core.data.sample import SampleView

STILL = PointAugmentConfig(noise=0, flip=0, rotation_deg=0, translation_cells=0)


def _points(count: int = 50) -> np.ndarray:
    return np.random.default_rng(0).uniform(-20, 20, (count, 3)).astype(np.float32)


def _view() -> SampleView:
    """Each point lies on a pixel whose red channel is the point's number."""
    image = np.zeros((6, 11, 3), np.uint8)
    uv_px = np.array([[0, 0], [10, 5], [4, 2]], np.float32)
    for number, (u, v) in enumerate(uv_px.astype(int), start=1):
        image[v, u, 0] = number
    return SampleView("front", image, np.arange(3), uv_px)


def test_without_augmentation_points_stay() -> None:
    xyz_m = _points()
    assert np.array_equal(augment_points(xyz_m, STILL, np.random.default_rng(1)), xyz_m)


def test_flip_mirrors_left_and_right_alone() -> None:
    xyz_m = _points()
    flipped = augment_points(xyz_m, STILL.model_copy(update={"flip": 1.0}), np.random.default_rng(1))
    assert np.array_equal(flipped, xyz_m * np.array([1, -1, 1], np.float32))


def test_rotation_is_about_z_and_keeps_distances() -> None:
    xyz_m = _points()
    config = STILL.model_copy(update={"rotation_deg": 360.0})
    rotated = augment_points(xyz_m, config, np.random.default_rng(1))
    assert np.array_equal(rotated[:, 2], xyz_m[:, 2])
    assert np.allclose(np.hypot(*rotated.T[:2]), np.hypot(*xyz_m.T[:2]), atol=1e-4)
    turned = np.arctan2(rotated[:, 1], rotated[:, 0]) - np.arctan2(xyz_m[:, 1], xyz_m[:, 0])
    assert np.ptp(np.mod(turned - turned[0] + np.pi, 2 * np.pi)) < 1e-4  # all by one angle
    assert abs(turned[0]) > 0.1


def test_noise_has_the_spread_of_the_config() -> None:
    # The rows of the identity show the matrix that was applied.
    rng = np.random.default_rng(0)
    config = STILL.model_copy(update={"noise": 0.1})
    added = np.stack([augment_points(np.eye(3, dtype=np.float32), config, rng) - np.eye(3) for _ in range(2000)])
    assert added.mean() == pytest.approx(0, abs=0.003)
    assert added.std() == pytest.approx(0.1, rel=0.02)


def test_translation_shifts_all_cells_alike() -> None:
    voxels = voxelize(_points(), 0.5)
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(300):
        moved = translate_voxels(voxels, PointAugmentConfig(translation_cells=4), rng)
        shift = moved.coordinates - voxels.coordinates
        assert (shift == shift[0]).all()
        assert moved.coordinates.dtype == np.int32
        shifts.append(shift[0])
    assert set(np.ravel(shifts)) == {0, 1, 2, 3}


def test_points_stay_on_their_pixels_in_the_mirror_image() -> None:
    view = flip_view(_view())
    u, v = view.uv_px.astype(int).T
    assert view.image[v, u, 0].tolist() == [1, 2, 3]
    assert view.uv_px[:, 0].tolist() == [10, 0, 6]


def test_flipping_twice_gives_the_view_back() -> None:
    view = flip_view(flip_view(_view()))
    assert np.array_equal(view.image, _view().image)
    assert np.array_equal(view.uv_px, _view().uv_px)


@pytest.mark.parametrize(("flip", "mirrored"), [(0.0, False), (1.0, True)])
def test_augment_view_flips_with_the_given_probability(flip: float, mirrored: bool) -> None:
    view = augment_view(_view(), ImageAugmentConfig(color_jitter=0, flip=flip), np.random.default_rng(0))
    expected = _view().image[:, ::-1] if mirrored else _view().image
    assert np.array_equal(view.image, expected)


def test_jitter_of_a_gray_image_is_a_change_of_brightness_within_the_factor() -> None:
    # One gray: contrast and saturation have nothing to act on, brightness scales by 0.6 to 1.4.
    gray = np.full((4, 5, 3), 100, np.uint8)
    values = {int(jitter_colors(gray, 0.4, np.random.default_rng(seed))[0, 0, 0]) for seed in range(200)}
    assert min(values) >= 59
    assert max(values) <= 140
    assert max(values) - min(values) > 60


def test_jitter_leaves_its_input_alone_and_follows_the_generator() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    before = image.copy()
    first = jitter_colors(image, 0.4, np.random.default_rng(5))
    assert np.array_equal(image, before)
    assert not np.array_equal(first, image)
    assert np.array_equal(first, jitter_colors(image, 0.4, np.random.default_rng(5)))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
