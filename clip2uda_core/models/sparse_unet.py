"""The 3D network: a U-Net of submanifold sparse convolutions over voxels (the network of xMUDA, section 4.1)."""

import logging
import warnings

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from clip2uda_core.config import Config
from clip2uda_core.errors import Clip2udaError
from clip2uda_core.models.batch_norm import BatchNorm1d

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # spconv's spelling of torch.amp, eight times
    from spconv.core import ALL_IMPGEMM_PARAMS, ALL_NATIVE_PARAMS, ConvAlgo

    if not torch.cuda.is_available():
        # spconv.pytorch describes its CUDA kernels as it is imported, in seconds of pure Python, for nobody here.
        ALL_IMPGEMM_PARAMS.clear()
        ALL_NATIVE_PARAMS.clear()
    import spconv.pytorch as spconv
    from spconv.cppconstants import CPU_ONLY_BUILD
    from spconv.pytorch import SparseConvTensor
    from spconv.pytorch.conv import SparseConvolution
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # spconv asks whether it is traced; torch warns


class SparseUNetConfig(Config):
    """channels: of the finest level, m; level i has i*m. levels: each halves the resolution."""

    channels: PositiveInt = 16
    levels: PositiveInt = 7


class SparseUNet(nn.Module):
    """Voxels to features: encoder and decoder of `levels` levels with m, 2m, 3m, ... channels, one submanifold 3x3x3
    block a level and side, halved by 2x2x2 convolutions of stride 2, joined by concatenation.

    Runs in float32 whatever the autocast around it. On the CPU it uses spconv's native algorithm, on CUDA implicit
    GEMM.
    """

    def __init__(self, config: SparseUNetConfig, in_channels: int) -> None:
        super().__init__()
        _check_build()
        widths = [config.channels * level for level in range(1, config.levels + 1)]
        self.stride = 2 ** (config.levels - 1)
        self.out_channels = widths[0]
        self.stem = spconv.SubMConv3d(in_channels, widths[0], 3, bias=False, indice_key="subm0", algo=ConvAlgo.Native)
        self.unet = _Level(widths, 0)
        self.norm = _NormRelu(widths[0])

    def forward(self, voxels: Tensor, features: Tensor, batch_size: int) -> Tensor:
        """voxels: (V, 4) int32, sample index and non-negative x, y, z cell, no two rows equal. features: (V, F).

        Returns (V, m) float32. No voxel at all is fine and gives (0, m).
        """
        if len(voxels) == 0:
            return features.new_zeros(0, self.out_channels, dtype=torch.float32)
        _choose_algorithm(self, features.is_cuda)
        cells = (voxels[:, 1:].amax(0) // self.stride + 1) * self.stride  # halved without losing a last odd cell
        with torch.autocast(features.device.type, enabled=False):
            tensor = SparseConvTensor(features.float(), voxels, cells.tolist(), batch_size)
            return self.norm(self.unet(self.stem(tensor))).features


class _Level(nn.Module):
    """One level of the U-Net and, in between its two sides, all coarser ones."""

    def __init__(self, widths: list[int], level: int) -> None:
        super().__init__()
        width = widths[level]
        self.encode = _Block(width, width, level)
        self.is_last = level == len(widths) - 1
        if not self.is_last:
            coarser = widths[level + 1]
            key = f"down{level}"
            self.down_norm = _NormRelu(width)
            self.down = spconv.SparseConv3d(width, coarser, 2, 2, bias=False, indice_key=key, algo=ConvAlgo.Native)
            self.inner = _Level(widths, level + 1)
            self.up_norm = _NormRelu(coarser)
            self.up = spconv.SparseInverseConv3d(coarser, width, 2, bias=False, indice_key=key, algo=ConvAlgo.Native)
            self.decode = _Block(2 * width, width, level)

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        tensor = self.encode(tensor)
        if self.is_last:
            return tensor
        coarse = self.inner(self.down(self.down_norm(tensor)))
        back = self.up(self.up_norm(coarse))
        return self.decode(back.replace_feature(torch.cat([tensor.features, back.features], 1)))


class _Block(nn.Module):
    """Batch norm, ReLU, submanifold convolution; the blocks of a level share their neighbour search."""

    def __init__(self, in_channels: int, out_channels: int, level: int) -> None:
        super().__init__()
        self.norm = _NormRelu(in_channels)
        self.convolution = spconv.SubMConv3d(
            in_channels, out_channels, 3, bias=False, indice_key=f"subm{level}", algo=ConvAlgo.Native
        )

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:
        return self.convolution(self.norm(tensor))


class _NormRelu(BatchNorm1d):
    """Batch norm and ReLU over the features of a sparse tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-4)

    def forward(self, tensor: SparseConvTensor) -> SparseConvTensor:  # type: ignore[override]
        return tensor.replace_feature(F.relu(super().forward(tensor.features)))


def _choose_algorithm(module: nn.Module, on_cuda: bool) -> None:
    """spconv fixes the algorithm when a layer is made; here it follows the device. The weights' layout is the same."""
    for part in module.modules():
        if isinstance(part, SparseConvolution):
            part.algo = ConvAlgo.MaskImplicitGemm if on_cuda else ConvAlgo.Native


def _check_build() -> None:
    """spconv's wheel without CUDA adds up in several threads without a lock, which gives other sums on each run."""
    if CPU_ONLY_BUILD:
        raise Clip2udaError(
            "the installed spconv is the build without CUDA, which computes wrong features on more than one core; "
            "install spconv-cu120 (Python 3.11 and older) or spconv-cu121 in its place: they need no GPU"
        )
