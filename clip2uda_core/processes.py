"""Several processes that train one model together, as `torchrun` starts them: sums over all of them.

Each process has its part of a batch. What is a mean over a batch is the sum of the parts of all processes over the
count of all; so several processes compute what one would on the whole batch. In a single process, a sum is what went
in.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
Number = TypeVar("Number", bound=np.number)


def process_count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """0 is the process that writes."""
    return dist.get_rank() if process_count() > 1 else 0


def is_first_process() -> bool:
    """Whether this will be the process that writes, as torchrun says it before the processes have joined."""
    return os.environ.get("RANK", "0") == "0"


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, to each of them; no gradient passes."""
    if process_count() == 1:
        return value.detach()
    total = value.detach().clone().contiguous()
    dist.all_reduce(total)
    return total


def sum_with_gradient(value: Tensor) -> Tensor:
    """The same, and gradients pass: what the losses of all processes say of the sum reaches each one's part of it."""
    return value if process_count() == 1 else _Sum.apply(value)


def sum_array_over_processes(array: NDArray[Number]) -> NDArray[Number]:
    """The sum of a numpy array over all processes, to each of them."""
    if process_count() == 1:
        return array
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    return sum_over_processes(torch.from_numpy(array).to(device)).cpu().numpy()


def own_share(items: Iterable[T]) -> Iterator[T]:
    """What this process is to do of work that all processes list in the same order: every n-th of n processes."""
    return islice(items, process_rank(), None, process_count())


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if process_count() > 1:
        dist.barrier()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return sum_over_processes(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return sum_over_processes(gradient)
