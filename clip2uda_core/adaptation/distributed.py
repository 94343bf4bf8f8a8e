"""A run of several processes: `torchrun --nproc-per-node 2 -m clip2uda_core.cli adapt ...`, on CUDA or the CPU.

Each process has the whole network and its part of every batch; losses are means over the points of all processes, batch
norm is over all, and gradients are summed, so that N processes take the very steps that one takes on the whole batch.
Lightning Fabric hides how processes, devices and precision are set up, and nothing else. Process 0 alone writes.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from clip2uda_core.adaptation.config import Precision
from clip2uda_core.data.frame_store import Domain
from clip2uda_core.data.loader import TrainingBatch
from clip2uda_core.errors import Clip2udaError, ConfigError
from clip2uda_core.inference.segmenter import choose_device
from clip2uda_core.processes import process_count, sum_over_processes

PATIENCE = timedelta(hours=12)
"""How long a process waits for another: process 0 reads all frames of a run, which may be many."""


def launch_fabric(device: str, precision: Precision) -> Fabric:
    """Fabric on a device; under torchrun with one process a device, joined (NCCL on CUDA, gloo on the CPU)."""
    chosen = choose_device(device)
    on_cuda = chosen.type == "cuda"
    if precision == "auto":
        precision = "bf16-mixed" if on_cuda else "32-true"
    if not TorchElasticEnvironment.detect():
        return Fabric(accelerator=chosen.type, devices=[chosen.index or 0] if on_cuda else 1, precision=precision)
    everywhere, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if on_cuda and local > torch.cuda.device_count():
        raise ConfigError(
            f"torchrun started {local} processes on {torch.cuda.device_count()} CUDA devices: start one for each"
        )
    fabric = Fabric(
        accelerator=chosen.type,
        devices=local,
        num_nodes=everywhere // local,
        strategy=DDPStrategy(timeout=PATIENCE),
        precision=precision,
    )
    fabric.launch()
    return fabric


def asked_by_any(asked: bool, device: torch.device) -> bool:
    """Whether any process was asked: all of them stop after the same iteration."""
    if process_count() == 1:
        return asked
    return bool(sum_over_processes(torch.tensor(float(asked), device=device)) > 0)


def check_same_images(batches: Mapping[Domain, TrainingBatch]) -> None:
    """Raises Clip2udaError when processes have images of different sizes: a U-Net normalises over those of one size, so
    each process must have some of it."""
    if process_count() == 1:
        return
    sizes: list[Any] = [None] * process_count()
    dist.all_gather_object(sizes, {d: [tuple(g.images.shape[-2:]) for g in b.batch.groups] for d, b in batches.items()})
    if any(each != sizes[0] for each in sizes):
        raise Clip2udaError(
            f"model.image_network: unet with several processes needs images of the same sizes in each of them, got "
            f"{sizes} (rows, columns); train in one process, or choose one camera"
        )


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gives each process the gradients of all processes' losses."""
    if process_count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    summed = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, total in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))
