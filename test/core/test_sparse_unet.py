"""The sparse U-Net against the same network written with dense convolutions, and the inputs at its edges."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clip2uda_core.models.sparse_unet import SparseUNet, SparseUNetConfig

CONFIG = SparseUNetConfig(channels=4, levels=3)
SHAPE = (9, 6, 7)


def network(config: SparseUNetConfig = CONFIG, in_channels: int = 2) -> SparseUNet:
    """With norms whose statistics and weights differ by channel, so that one forgotten would show."""
    torch.manual_seed(0)
    unet = SparseUNet(config, in_channels)
    for module in unet.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for values in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(values, 0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return unet.eval()


def scene(share: float = 0.2, samples: int = 2) -> tuple[Tensor, Tensor]:
    """Occupied cells of a small grid, its last odd cell among them, in no order; and their features."""
    random = torch.Generator().manual_seed(0)
    occupied = torch.rand(samples, *SHAPE, generator=random) < share
    occupied[0, -1, -1, -1] = True
    voxels = occupied.nonzero().int()
    return voxels[torch.randperm(len(voxels), generator=random)], torch.randn(len(voxels), 2, generator=random)


class DenseUNet:
    """The same weights as dense convolutions on masked grids: what a submanifold network computes, by definition."""

    def __init__(self, unet: SparseUNet) -> None:
        self.unet = unet

    def __call__(self, voxels: Tensor, features: Tensor) -> Tensor:
        sample, x, y, z = voxels.long().T
        side = self.unet.stride * 3  # a multiple of the stride that holds SHAPE
        grid = features.new_zeros(int(sample.max()) + 1, side, side, side, features.shape[1])
        grid[sample, x, y, z] = features
        mask = torch.zeros_like(grid[..., :1])
        mask[sample, x, y, z] = 1
        grid, mask = grid.movedim(-1, 1), mask.movedim(-1, 1)
        grid = self.level(self.unet.unet, self.submanifold(self.unet.stem, grid, mask), mask)
        return self.norm(self.unet.norm, grid, mask).movedim(1, -1)[sample, x, y, z]

    def level(self, level, grid: Tensor, mask: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        grid = self.block(level.encode, grid, mask)
        if level.is_last:
            return grid
        coarse_mask = F.max_pool3d(mask, 2)
        weight = level.down.weight.permute(0, 4, 1, 2, 3)
        coarse = F.conv3d(self.norm(level.down_norm, grid, mask), weight, stride=2) * coarse_mask
        coarse = self.norm(level.up_norm, self.level(level.inner, coarse, coarse_mask), coarse_mask)
        back = F.conv_transpose3d(coarse, level.up.weight.permute(4, 0, 1, 2, 3), stride=2) * mask
        return self.block(level.decode, torch.cat([grid, back], 1), mask)

    def block(self, block, grid: Tensor, mask: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return self.submanifold(block.convolution, self.norm(block.norm, grid, mask), mask)

    def submanifold(self, convolution, grid: Tensor, mask: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return F.conv3d(grid, convolution.weight.permute(0, 4, 1, 2, 3), padding=1) * mask

    def norm(self, norm, grid: Tensor, mask: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        normed = F.batch_norm(grid, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return F.relu(normed) * mask


def test_it_computes_what_the_dense_network_computes() -> None:
    unet, (voxels, features) = network(), scene()
    torch.testing.assert_close(unet(voxels, features, 2), DenseUNet(unet)(voxels, features), atol=1e-4, rtol=1e-4)


def test_its_gradients_are_those_of_the_dense_network() -> None:
    unet, (voxels, features) = network(), scene()
    probe = torch.randn(len(voxels), unet.out_channels, generator=torch.Generator().manual_seed(1))

    def gradients(run) -> list[Tensor]:  # type: ignore[no-untyped-def]
        entered = features.clone().requires_grad_()
        wanted = [entered, *unet.parameters()]
        return list(torch.autograd.grad((run(entered) * probe).sum(), wanted))

    dense = DenseUNet(unet)
    for ours, theirs in zip(
        gradients(lambda entered: unet(voxels, entered, 2)),
        gradients(lambda entered: dense(voxels, entered)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_the_order_of_voxels_and_the_company_in_a_batch_do_not_matter() -> None:
    unet, (voxels, features) = network(), scene()
    both = unet(voxels, features, 2)
    order = torch.randperm(len(voxels))
    torch.testing.assert_close(unet(voxels[order], features[order], 2), both[order])
    second = voxels[:, 0] == 1
    alone = voxels[second] - torch.tensor([1, 0, 0, 0], dtype=torch.int32)
    torch.testing.assert_close(unet(alone, features[second], 1), both[second])


def test_a_scan_far_from_the_origin_is_the_same_scan() -> None:
    """Cells whose linear index exceeds 32 bits; moved by multiples of the stride, so they are halved alike."""
    unet, (voxels, features) = network(), scene(samples=1)
    moved = voxels + torch.tensor([0, 40_000, 40_000, 4_000], dtype=torch.int32)
    torch.testing.assert_close(unet(moved, features, 1), unet(voxels, features, 1))


def test_the_default_network_is_xmudas() -> None:
    unet = SparseUNet(SparseUNetConfig(), 1)
    assert unet.out_channels == 16
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_688_656
    widths = {module.num_features for module in unet.modules() if isinstance(module, torch.nn.BatchNorm1d)}
    assert widths == {16 * level for level in range(1, 8)} | {32 * level for level in range(1, 7)}


@pytest.mark.parametrize("training", [False, True])
def test_no_voxel_gives_no_feature(training: bool) -> None:
    unet = network().train(training)
    assert unet(torch.empty(0, 4, dtype=torch.int32), torch.empty(0, 2), 1).shape == (0, 4)


def test_a_single_voxel_trains_on_running_statistics() -> None:
    unet = network()
    voxel, features = torch.zeros(1, 4, dtype=torch.int32), torch.ones(1, 2)
    evaluated = unet(voxel, features, 1)
    before = {name: value.clone() for name, value in unet.named_buffers()}
    trained = unet.train()(voxel, features, 1)
    torch.testing.assert_close(trained, evaluated)
    assert all(torch.equal(value, before[name]) for name, value in unet.named_buffers())
    trained.sum().backward()


def test_training_uses_and_updates_batch_statistics() -> None:
    unet, (voxels, features) = network().train(), scene()
    before = unet.norm.running_mean.clone()
    output = unet(voxels, features, 2)
    assert not torch.equal(unet.norm.running_mean, before)
    assert not torch.allclose(output, unet.eval()(voxels, features, 2))


def test_autocast_around_it_changes_nothing() -> None:
    unet, (voxels, features) = network(), scene()
    with torch.autocast("cpu", torch.bfloat16):
        inside = unet(voxels, features.bfloat16().float(), 2)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, unet(voxels, features.bfloat16().float(), 2), atol=0, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_computes_what_the_cpu_computes() -> None:
    unet, (voxels, features) = network(), scene()
    on_cpu = unet(voxels, features, 2)
    torch.testing.assert_close(unet.cuda()(voxels.cuda(), features.cuda(), 2).cpu(), on_cpu, atol=1e-3, rtol=1e-3)
