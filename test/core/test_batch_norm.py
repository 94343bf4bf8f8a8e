"""Batch norm of ours against torch's, in one process (several: test_adaptation_processes)."""

import pytest
import torch
from torch import nn

from clip2uda_core.models.batch_norm import BatchNorm1d, BatchNorm2d


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [(BatchNorm1d(5), nn.BatchNorm1d(5), (40, 5)), (BatchNorm2d(5), nn.BatchNorm2d(5), (2, 5, 6, 7))],
)
def test_training_and_inference_are_torchs(ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for _ in range(3):
        values = 3 * torch.randn(shape) + 1
        torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    values = torch.randn(shape)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))


def test_a_single_value_takes_running_statistics_and_leaves_them() -> None:
    norm = BatchNorm1d(2)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 9.0])
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    assert norm(torch.tensor([[3.0, 5.0]])).tolist()[0] == pytest.approx([1, 1], rel=1e-4)
    torch.testing.assert_close(norm.state_dict(), before)


def test_without_momentum_statistics_are_the_mean_of_all_batches() -> None:
    norm = BatchNorm1d(2)
    norm.momentum = None
    batches = torch.randn(4, 10, 2)
    for batch in batches:
        norm(batch)
    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, batches.var(1).mean(0))
