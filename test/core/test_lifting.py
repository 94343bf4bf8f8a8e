"""Sampling at points: exact where the truth is known by hand, on every stride and at every edge."""

import pytest
import torch
from torch.nn import functional as F

from clip2uda_core.models.lifting import lift


def coordinate_map(rows: int, columns: int, extent_px: tuple[int, int]) -> torch.Tensor:
    """(1, 2, rows, columns): each cell holds the pixel (u, v) of its centre."""
    v = (torch.arange(rows) + 0.5) * extent_px[0] / rows - 0.5
    u = (torch.arange(columns) + 0.5) * extent_px[1] / columns - 0.5
    return torch.stack(torch.meshgrid(u, v, indexing="xy"))[None]


@pytest.mark.parametrize("cells", [(384, 1248), (96, 312), (24, 78), (107, 355)])  # strides 1, 4, 16, about 3.5
def test_a_map_of_coordinates_gives_them_back(cells: tuple[int, int]) -> None:
    extent = (384, 1248)
    stride_v, stride_u = extent[0] / cells[0], extent[1] / cells[1]
    random = torch.Generator().manual_seed(0)
    inside = torch.rand(1000, 2, generator=random) * torch.tensor([1248 - stride_u, 384 - stride_v])
    uv = inside + torch.tensor([stride_u, stride_v]) / 2 - 0.5
    torch.testing.assert_close(lift(coordinate_map(*cells, extent), [uv], extent), uv, atol=2e-3, rtol=0)


def test_integers_are_pixel_centres_and_the_edge_is_repeated() -> None:
    values = torch.tensor([[[[1.0, 2], [3, 4]]]])
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1], [0.5, 0.5], [0.5, 0], [-0.5, 0], [-0.5, -0.5], [1.49, 1.49]])
    assert lift(values, [uv], (2, 2))[:, 0].tolist() == pytest.approx([1, 2, 3, 2.5, 1.5, 1, 1, 4])


def test_equals_bringing_the_map_to_image_resolution_first() -> None:
    features = torch.randn(1, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    image = F.interpolate(features, size=(24, 40), mode="bilinear", align_corners=False)[..., :22, :37]  # padding cut
    u, v = torch.meshgrid(torch.arange(37), torch.arange(22), indexing="xy")
    uv = torch.stack([u.flatten(), v.flatten()], 1).float()
    torch.testing.assert_close(lift(features, [uv], (24, 40)), image[0].flatten(1).T)


def test_points_keep_the_order_of_their_images() -> None:
    maps = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 4, 4)
    uv = [torch.rand(2, 2), torch.empty(0, 2), torch.rand(3, 2)]
    assert lift(maps, uv, (8, 8))[:, 0].tolist() == [0, 0, 2, 2, 2]
    assert lift(maps[:1], [torch.empty(0, 2)], (8, 8)).shape == (0, 2)


def test_halves_are_sampled_in_full_precision() -> None:
    ramp = torch.arange(16, dtype=torch.bfloat16).expand(1, 1, 1, 16)
    uv = torch.tensor([[1003.5, 0.0]])
    with torch.autocast("cpu", torch.bfloat16):
        value = lift(ramp, [uv], (128, 2048))
    assert value.item() == pytest.approx((1003.5 + 0.5) / 128 - 0.5, abs=1e-3)


def test_gradients_reach_the_four_cells_around_a_point() -> None:
    features = torch.zeros(1, 1, 4, 4, requires_grad=True)
    lift(features, [torch.tensor([[1.25, 2.0]])], (4, 4)).sum().backward()
    assert features.grad is not None
    expected = torch.zeros(4, 4)
    expected[2, 1], expected[2, 2] = 0.75, 0.25
    torch.testing.assert_close(features.grad[0, 0], expected)
