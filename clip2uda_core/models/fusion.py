"""One prediction out of two."""

import torch
from torch import Tensor

FLOOR = 1e-6
"""Of a branch's probabilities in the pool: no branch can rule a class out by itself."""


def fuse(probabilities_2d: Tensor, probabilities_3d: Tensor) -> Tensor:
    """(P, K) softmaxes of both branches to (P, K): their product, normalised, which is what two observers know together
    whose mistakes are independent given the class, up to the classes' shares (the logarithmic opinion pool, Genest and
    Zidek, *Combining Probability Distributions*, Statistical Science 1986). A row of NaN on either side stays NaN.

    xMUDA takes the mean of the two in its place.
    """
    logits = probabilities_2d.clamp(min=FLOOR).log() + probabilities_3d.clamp(min=FLOOR).log()
    return torch.softmax(logits, 1)
