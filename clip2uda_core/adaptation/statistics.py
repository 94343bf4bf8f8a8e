"""Batch-norm statistics of the target domain, for a network that was trained on two (AdaBN, Li et al. 2018)."""

from collections.abc import Iterator

import torch

from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.data.sample import Batch, collate
from clip2uda_core.models.batch_norm import BatchNorm1d, BatchNorm2d
from clip2uda_core.models.network import Clip2udaNetwork
from clip2uda_core.processes import process_count, process_rank

FRAMES = 48
"""Frames that the statistics are taken over, spread over all: each has tens of thousands of voxels."""


@torch.no_grad()
def estimate_statistics(
    network: Clip2udaNetwork, frames: FrameStore, prepare: PrepareConfig, batch_size: int, device: torch.device
) -> None:
    """Replaces the running statistics of all batch norms by their mean over batches of frames, not augmented. No weight
    changes; dropout is off. The network is in eval mode afterwards."""
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, BatchNorm1d | BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all, not the moving one
        norm.train()
    for batch in _batches(frames, prepare, batch_size):
        on_device = batch.to(device)
        network.classify_voxels(on_device.voxels, on_device.voxel_features, len(on_device.point_counts))
        if network.unet2d is not None:
            for group in on_device.groups:
                network.unet2d(group.images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _batches(frames: FrameStore, prepare: PrepareConfig, batch_size: int) -> Iterator[Batch]:
    """Whole batches only, unless there is just a part of one; of each, this process's part."""
    part = batch_size // process_count()
    chosen = frames.spread(FRAMES)
    if len(chosen) < batch_size:
        chosen = [chosen[index % len(chosen)] for index in range(batch_size)]
    for start in range(0, len(chosen) - batch_size + 1, batch_size):
        first = start + process_rank() * part
        yield collate([frames[index].sample(prepare) for index in chosen[first : first + part]])
