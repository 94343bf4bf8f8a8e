"""The shared decoder: what reaches its output, and that nothing moves on grids of any size."""

import pytest
import torch

from clip2uda_core.config import parse_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.models.clip import VisualFeatures
from clip2uda_core.models.decoder import DecoderConfig, SharedDecoder, _double, _resize_scores
from clip2uda_core.models.spatial_prior import SpatialPriorConfig

WIDTH, CLASSES = 32, 4


def inputs(rows: int, columns: int, count: int = 1) -> tuple[VisualFeatures, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    taps = tuple(torch.randn(count, WIDTH, rows, columns, generator=random) for _ in range(4))
    dense = torch.zeros(count, 8, rows, columns)
    visual = VisualFeatures(taps, dense, torch.zeros(count, 8), (16 * rows, 16 * columns), 16)
    images = torch.randint(0, 256, (count, 3, 16 * rows, 16 * columns), dtype=torch.uint8, generator=random)
    return visual, torch.rand(count, CLASSES, rows, columns, generator=random), images


def decoder(config: DecoderConfig | None = None) -> SharedDecoder:
    torch.manual_seed(0)
    return SharedDecoder(config or DecoderConfig(), WIDTH, CLASSES)


@pytest.mark.parametrize("grid", [(6, 8), (5, 7), (1, 1), (24, 3)])
def test_output_covers_the_image_at_four_times_the_grid(grid: tuple[int, int]) -> None:
    features = decoder()(*inputs(*grid, count=2))
    assert features.shape == (2, 64, 4 * grid[0], 4 * grid[1])
    assert features.isfinite().all()


def centres(rows: int, columns: int, stride: float) -> torch.Tensor:
    v = (torch.arange(rows) + 0.5) * stride
    u = (torch.arange(columns) + 0.5) * stride
    return torch.stack(torch.meshgrid(u, v, indexing="xy"))[None]


@pytest.mark.parametrize("grid", [(8, 10), (7, 11)])
def test_cells_of_every_level_stay_where_they_are(grid: tuple[int, int]) -> None:
    """Maps that hold their own coordinates keep them through every change of resolution, away from the edge."""
    tokens = centres(*grid, stride=16)
    inner = (..., slice(2, -2), slice(2, -2))
    for level, stride in [(1, 4), (2, 8), (3, 16), (4, 32)]:
        resized = _resize_scores(tokens, level)
        expected = centres(*resized.shape[-2:], stride=stride)
        edge = 1 if level == 4 else 2
        inside = (..., slice(edge, -edge), slice(edge, -edge))
        torch.testing.assert_close(resized[inside], expected[inside])
        if level > 1:
            finer = (grid[0] * 32 // stride, grid[1] * 32 // stride) if level < 4 else grid
            torch.testing.assert_close(_double(expected, *finer)[inner], centres(*finer, stride=stride / 2)[inner])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_every_tap_reaches_the_output_around_its_token(level: int) -> None:
    visual, scores, images = inputs(17, 21)
    tap = visual.taps[level - 1].requires_grad_()
    decoder()(visual, scores, images)[0, :, 32:36, 48:52].square().sum().backward()  # the output cells of token (8, 12)
    assert tap.grad is not None
    weight = tap.grad[0].square().sum(0)
    rows, columns = torch.arange(17.0), torch.arange(21.0)
    assert (weight.sum(1) @ rows / weight.sum()).item() == pytest.approx(8, abs=1.5)
    assert (weight.sum(0) @ columns / weight.sum()).item() == pytest.approx(12, abs=1.5)


@pytest.mark.parametrize("levels", [(1, 2, 3, 4), (1,), (4,), ()])
def test_the_score_map_enters_where_it_is_injected(levels: tuple[int, ...]) -> None:
    visual, scores, images = inputs(5, 6)
    network = decoder(DecoderConfig(inject_levels=levels))
    assert sorted(network.inject) == [str(level) for level in levels]
    changed = network(visual, scores + torch.rand_like(scores), images) - network(visual, scores, images)
    assert (changed.abs().max() > 1e-4) == bool(levels)
    if levels:
        network(visual, scores, images).square().sum().backward()
        for level in levels:
            assert network.inject[str(level)].weight.grad.abs().sum() > 0


def test_images_of_a_batch_do_not_see_each_other_even_in_training() -> None:
    visual, scores, images = inputs(5, 6, count=2)
    network = decoder().train()
    first = VisualFeatures(tuple(t[:1] for t in visual.taps), visual.dense[:1], visual.pooled[:1], (80, 96), 16)
    together, alone = network(visual, scores, images), network(first, scores[:1], images[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("spatial_prior", [SpatialPriorConfig(), None])
def test_the_image_itself_enters_by_the_spatial_prior_alone(spatial_prior: SpatialPriorConfig | None) -> None:
    visual, scores, images = inputs(5, 6)
    network = decoder(DecoderConfig(spatial_prior=spatial_prior))
    changed = network(visual, scores, images.flip(-1)) - network(visual, scores, images)
    assert (changed.abs().max() > 1e-3) == (spatial_prior is not None)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="channels"):
        parse_config(DecoderConfig, {"channels": 12}, "test")
    with pytest.raises(ConfigError, match="inject_levels"):
        parse_config(DecoderConfig, {"inject_levels": [0]}, "test")
