"""Losses and their gradients against the formulas, written out point by point."""

import math

import pytest
import torch
from torch import Tensor

from clip2uda_core import losses
from clip2uda_core.labels import IGNORE

CLASSES = 4


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def _other_logits(seed: int) -> Tensor:
    return torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_class_weights_by_hand() -> None:
    # 60 points: log(5 * 60 / 30) = log 10, log(5 * 60 / 20) = log 15, log(5 * 60 / 10) = log 30; the smallest is 1.
    weights = losses.class_weights(torch.tensor([30, 20, 10, 0]))
    expected = [1, math.log(15) / math.log(10), math.log(30) / math.log(10), 1]
    assert weights.tolist() == pytest.approx(expected)


def test_class_weights_without_any_point_are_one() -> None:
    assert losses.class_weights(torch.zeros(3)).tolist() == [1, 1, 1]


def test_segmentation_loss_and_its_gradient(logits: Tensor) -> None:
    labels = torch.tensor([0, 3, IGNORE, 1, 1, 3], dtype=torch.uint8)
    weights = torch.tensor([1.0, 2.0, 5.0, 0.5], dtype=torch.float64)
    loss = losses.segmentation_loss(logits, labels, weights)
    loss.backward()

    probabilities = logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True)
    total = 1.0 + 0.5 + 2.0 + 2.0 + 0.5
    expected, gradient = 0.0, torch.zeros_like(probabilities)
    for point, label in enumerate(labels.tolist()):
        if label == IGNORE:
            continue
        expected -= weights[label] * probabilities[point, label].log() / total
        target = torch.zeros(CLASSES, dtype=torch.float64)
        target[label] = 1
        gradient[point] = weights[label] * (probabilities[point] - target) / total
    assert loss.item() == pytest.approx(float(expected))
    assert torch.allclose(logits.grad, gradient)


def test_cross_modal_loss_teaches_the_mimic_and_not_the_teacher(logits: Tensor) -> None:
    teacher = _other_logits(1)
    loss = losses.cross_modal_loss(teacher, logits)
    loss.backward()

    p, q = teacher.detach().softmax(1), logits.detach().softmax(1)
    expected = sum(
        float(p[i, c] * (p[i, c].log() - q[i, c].log())) for i in range(len(p)) for c in range(CLASSES)
    ) / len(p)
    assert loss.item() == pytest.approx(expected)
    assert torch.allclose(logits.grad, (q - p) / len(p))
    assert teacher.grad is None


def test_cross_modal_loss_of_equal_predictions_is_zero(logits: Tensor) -> None:
    assert losses.cross_modal_loss(logits + 3, logits).item() == pytest.approx(0, abs=1e-12)


def test_prompt_loss_on_source_is_cross_entropy_at_the_temperature(logits: Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 3, IGNORE, 0])
    loss = losses.prompt_loss_on_source(logits, labels, temperature=0.07)
    loss.backward()

    probabilities = (logits.detach() / 0.07).softmax(1)
    known = [0, 1, 2, 3, 5]
    expected = -sum(float(probabilities[i, labels[i]].log()) for i in known) / len(known)
    gradient = torch.zeros_like(probabilities)
    for i in known:
        gradient[i] = (probabilities[i] - torch.eye(CLASSES, dtype=torch.float64)[labels[i]]) / len(known) / 0.07
    assert loss.item() == pytest.approx(expected)
    assert torch.allclose(logits.grad, gradient)


def test_prompt_loss_on_target_follows_only_certain_points(logits: Tensor) -> None:
    # Softmax of (ln 97, 0, 0, 0) is (.97, .01, .01, .01): certain where both say so, and not where they disagree.
    # Fused, a fifth of each spread over the classes, 0.826 and 0.058, the odds are squared.
    certain, other = [math.log(97.0), 0, 0, 0], [0, math.log(97.0), 0, 0]
    logits_2d = torch.tensor([certain] * 6, dtype=torch.float64, requires_grad=True)
    logits_3d = torch.tensor([certain, other, certain, other, other, other], dtype=torch.float64, requires_grad=True)
    loss = losses.prompt_loss_on_target(logits, logits_2d, logits_3d, temperature=0.5, min_confidence=0.9)
    loss.backward()

    teacher = torch.tensor([0.826**2, 0.058**2, 0.058**2, 0.058**2], dtype=torch.float64)
    teacher = teacher / teacher.sum()
    q = (logits.detach() / 0.5).softmax(1)
    expected = sum(float((teacher * (teacher.log() - q[i].log())).sum()) for i in (0, 2)) / 2
    gradient = torch.zeros_like(q)
    gradient[[0, 2]] = (q[[0, 2]] - teacher) / 2 / 0.5
    assert loss.item() == pytest.approx(expected)
    assert torch.allclose(logits.grad, gradient)
    assert logits_2d.grad is None
    assert logits_3d.grad is None


@pytest.mark.parametrize("points", [0, 3])
def test_without_a_point_that_counts_losses_are_zero_and_keep_the_graph(points: int) -> None:
    logits = torch.zeros(points, CLASSES, requires_grad=True)  # uniform: 1/K is never above the confidence
    labels = torch.full((points,), IGNORE, dtype=torch.uint8)
    weights = torch.ones(CLASSES)
    loss = (
        losses.segmentation_loss(logits, labels, weights)
        + losses.segmentation_loss(logits, labels)
        + losses.prompt_loss_on_source(logits, labels, 0.07)
        + losses.prompt_loss_on_target(logits, logits, logits, 0.07, 0.9)
        + losses.cross_modal_loss(logits[:0], logits[:0])
    )
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros(points, CLASSES))
