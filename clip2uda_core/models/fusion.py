"""One prediction out of two."""

import torch
from torch import Tensor

DOUBT = 0.2
"""How far a branch may be wrong by rule and not by chance, as a share of its probability that is spread evenly over the
classes before two branches are multiplied: no branch can rule a class out by itself, however sure it is."""


def fuse(probabilities_2d: Tensor, probabilities_3d: Tensor) -> Tensor:
    """(P, K) softmaxes of both branches to (P, K): their product, each with some doubt, normalised. Without doubt that
    is what two observers know together whose mistakes are independent given the class, up to the classes' shares (the
    logarithmic opinion pool, Genest and Zidek, *Combining Probability Distributions*, Statistical Science 1986). A row
    of NaN on either side stays NaN.

    xMUDA takes the mean of the two in its place.
    """
    return torch.softmax(_doubted(probabilities_2d).log() + _doubted(probabilities_3d).log(), 1)


def _doubted(probabilities: Tensor) -> Tensor:
    return (1 - DOUBT) * probabilities + DOUBT / probabilities.shape[1]
