"""Batch norm over a batch that several processes share, on the CPU too (torch's SyncBatchNorm wants CUDA).

Training passes one domain at a time, so a batch's own statistics are of one domain. The *running* statistics, which a
saved model predicts with, average over passes of both domains where both are trained on: docs/method.md, "Batch norm".
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip2uda_core.processes import process_count, sum_over_processes, sum_with_gradient

Norm = nn.BatchNorm1d | nn.BatchNorm2d


class BatchNorm1d(nn.BatchNorm1d):
    """Over (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        return _normalise(self, features)


class BatchNorm2d(nn.BatchNorm2d):
    """Over (B, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        return _normalise(self, features)


def _normalise(norm: Norm, features: Tensor) -> Tensor:
    """A single value a channel has no variance: there, and there alone, running statistics stand in during training,
    and are not updated."""
    if not norm.training:
        return _by_running_statistics(norm, features)
    count = features.numel() // features.shape[1]
    if process_count() > 1:
        count = int(sum_over_processes(torch.tensor(count, device=features.device)))
    if count <= 1:
        return _by_running_statistics(norm, features)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    if process_count() == 1:
        return F.batch_norm(
            features, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, momentum, norm.eps
        )
    return _by_shared_statistics(norm, features, count, momentum)


def _by_running_statistics(norm: Norm, features: Tensor) -> Tensor:
    return F.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


def _by_shared_statistics(norm: Norm, features: Tensor, count: int, momentum: float) -> Tensor:
    """Mean and variance over all processes; the variance around that mean, which loses no digits as a difference of
    squares would."""
    channels = (1, -1, *[1] * (features.ndim - 2))
    others = [axis for axis in range(features.ndim) if axis != 1]
    values = features.float()
    mean = sum_with_gradient(values.sum(others)) / count
    centred = values - mean.view(channels)
    variance = sum_with_gradient(centred.square().sum(others)) / count
    with torch.no_grad():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return (centred * scale.view(channels) + norm.bias.view(channels)).to(features.dtype)
