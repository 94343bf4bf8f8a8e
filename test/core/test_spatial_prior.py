"""The spatial prior: where it sees things, that light does not matter to it, and images of any size."""

import pytest
import torch

from clip2uda_core.models.clip import VisualFeatures
from clip2uda_core.models.spatial_prior import SpatialPrior, SpatialPriorConfig

CHANNELS = 16


def tokens(rows: int, columns: int, patch_px: int = 16, count: int = 1) -> VisualFeatures:
    """What CLIP says about images of this grid; of it, the prior looks at sizes alone."""
    image_px = (patch_px * rows, patch_px * columns)
    return VisualFeatures((), torch.zeros(count, 8, rows, columns), torch.zeros(count, 8), image_px, patch_px)


def prior() -> SpatialPrior:
    torch.manual_seed(0)
    return SpatialPrior(SpatialPriorConfig(width=8), CHANNELS)


def noise(height: int, width: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(60, 120, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("patch_px", [14, 16, 32])
@pytest.mark.parametrize("grid", [(6, 8), (5, 7), (1, 2)])
@pytest.mark.parametrize("padding_px", [0, 5])
def test_two_levels_cover_the_image_and_its_padding(grid: tuple[int, int], patch_px: int, padding_px: int) -> None:
    rows, columns = grid
    images = noise(patch_px * rows - padding_px, patch_px * columns - padding_px, count=2)
    finest, second = prior()(images, tokens(rows, columns, patch_px, count=2))
    assert finest.shape == (2, CHANNELS, 4 * rows, 4 * columns)
    assert second.shape == (2, CHANNELS, 2 * rows, 2 * columns)
    assert finest.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("patch_px", [14, 16, 32])
def test_things_are_seen_where_they_are(patch_px: int) -> None:
    """What a bright dot of 4 pixels changes lies around it."""
    visual, images = tokens(8, 12, patch_px), torch.full((1, 3, 8 * patch_px, 12 * patch_px), 90, dtype=torch.uint8)
    v, u = 4 * patch_px, 9 * patch_px
    dotted = images.clone()
    dotted[..., v - 2 : v + 2, u - 2 : u + 2] = 255  # its centre is the corner of four patches
    for level in prior()(dotted, visual):
        stride_px = 8 * patch_px / level.shape[-2]
        background = level[..., :4, :4].mean((-2, -1), keepdim=True)
        change = (level - background)[0].square().sum(0)
        change[change < 0.05 * change.max()] = 0
        rows, columns = torch.arange(change.shape[0]) + 0.5, torch.arange(change.shape[1]) + 0.5
        assert (change.sum(1) @ rows / change.sum() * stride_px).item() == pytest.approx(v, abs=0.75 * stride_px)
        assert (change.sum(0) @ columns / change.sum() * stride_px).item() == pytest.approx(u, abs=0.75 * stride_px)


def test_a_darker_image_of_less_contrast_looks_the_same() -> None:
    images = noise(64, 96) // 4 * 4
    dark = images // 4 + 3
    for bright_level, dark_level in zip(prior()(images, tokens(4, 6)), prior()(dark, tokens(4, 6)), strict=True):
        torch.testing.assert_close(dark_level, bright_level, atol=2e-3, rtol=1e-3)


def test_an_image_does_not_see_the_others_of_its_batch() -> None:
    images = noise(64, 96, count=2)
    images[1] //= 5
    together, alone = prior().train()(images, tokens(4, 6, count=2)), prior().train()(images[:1], tokens(4, 6))
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[:1], one, atol=1e-5, rtol=1e-4)
