"""The losses of training and adaptation, as plain functions of tensors.

All take logits (P, K) of P points and K classes and give a scalar, the mean over the points that count. Where none
counts, the loss is 0 and still hangs on the graph, so that a batch without a single useful point costs nothing and
breaks nothing. Where several processes share a batch, each gets its part of that mean, over the points of all: the
parts' sum is the loss.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from clip2uda_core.labels import IGNORE
from clip2uda_core.models.fusion import fuse
from clip2uda_core.processes import sum_over_processes


def class_weights(counts: Tensor) -> Tensor:
    """Log-smoothed weights, log(5 * sum(n) / n_c) over their minimum, from points per class (K,); xMUDA's published
    weights are made this way. A class without any point can have no loss; its weight is 1.
    """
    counts = counts.double()
    present = counts > 0
    weights = torch.ones_like(counts)
    weights[present] = torch.log(5 * counts.sum() / counts[present])
    if present.any():
        weights[present] /= weights[present].min()
    return weights.float()


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Class-weighted cross entropy: sum of w_y * -log p_y over sum of w_y, over the points whose label is a class.

    labels: (P,) integers, IGNORE where there is none. weights: (K,), or None for 1 each.
    """
    labels = labels.long()
    known = labels != IGNORE
    summed = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="sum")
    total = sum_over_processes(known.sum() if weights is None else weights[labels[known]].sum())
    return summed / torch.where(total > 0, total, 1)


def cross_modal_loss(teacher_logits: Tensor, mimic_logits: Tensor) -> Tensor:
    """KL(sg[p_teacher] || p_mimic), summed over classes: one modality's mimic head learns the other's main head, whose
    gradient is stopped (xMUDA, equation 2)."""
    return _mean_divergence(teacher_logits.detach().softmax(1), mimic_logits)


def prompt_loss_on_source(scores: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the score map M / temperature, read at the points, against the labels."""
    return segmentation_loss(scores / temperature, labels)


def prompt_loss_on_target(
    scores: Tensor, logits_2d: Tensor, logits_3d: Tensor, temperature: float, min_confidence: float
) -> Tensor:
    """KL from the stopped 2D and 3D predictions, fused, to the score map M / temperature, read at the points, where the
    fused confidence exceeds `min_confidence`."""
    teacher = fuse(logits_2d.detach().softmax(1), logits_3d.detach().softmax(1))
    certain = teacher.amax(1) > min_confidence
    return _mean_divergence(teacher[certain], scores[certain] / temperature)


def _mean_divergence(teacher: Tensor, logits: Tensor) -> Tensor:
    """KL(teacher || softmax(logits)) summed over classes, mean over points; 0 for none."""
    points = sum_over_processes(logits.new_full((), len(logits)))
    return F.kl_div(logits.log_softmax(1), teacher, reduction="sum") / points.clamp(min=1)
