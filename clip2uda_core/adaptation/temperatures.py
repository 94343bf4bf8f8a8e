"""How sure each branch may be of itself, found without labels.

A branch that is surer than it is right overrules the other one in the fused label. With labels, one divides its logits
by the temperature that makes them the most likely (Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017).
Here the other branch stands in for labels. Two observers of one point whose mistakes are independent given its class
say together

    r(p, q) = sum_c p_c q_c / pi_c

times as often as two that look at two points do. If both are calibrated, r is the true ratio, and of all estimates of
it this one has the largest

    E[log r], over the pairs of one point  -  E[r], over the pairs of two points  +  1

which is then the mutual information of the two (Kong and Schoenebeck, *Water from Two Rocks: Maximizing the Mutual
Information*, EC 2018). So the two temperatures with the largest value are taken.
"""

import itertools
import logging

import numpy as np
import torch
from torch import Tensor

from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.models.clip import EncodeImages
from clip2uda_core.processes import own_share, sum_over_processes

logger = logging.getLogger(__name__)

FRAMES, POINTS = 24, 1000
"""Frames that are looked at, spread over all, and points of each that both branches see, drawn at random."""

CANDIDATES = tuple(2 ** (eighth / 8) for eighth in range(-8, 17))
"""1/2 to 4."""

FLOOR = 1e-6
"""Of a probability, so that it has a logarithm."""


def calibrate(segmenter: Segmenter, frames: FrameStore, encode_images: EncodeImages | None) -> None:
    """Gives a model the temperatures of its two branches on frames of the domain that it is meant for; their labels, if
    there are any, are not looked at. A model of one branch, or that saw no point with both, keeps temperatures of 1.
    encode_images: in place of its CLIP's, see `Segmenter.segment_sample`.

    Several processes share the frames and find the same."""
    temperatures = segmenter.network.temperatures
    temperatures.fill_(1)
    if not segmenter.config.uses_images:
        return
    found = find_temperatures(*_look(segmenter, frames, encode_images))
    temperatures.copy_(torch.tensor(found))
    logger.info("temperatures: 2D %.2f, 3D %.2f", *found)


def find_temperatures(probabilities_2d: Tensor, probabilities_3d: Tensor) -> tuple[float, float]:
    """From (P, K) softmaxes at a temperature of 1, of the same points, those of all processes together."""
    points = sum_over_processes(probabilities_2d.new_tensor(len(probabilities_2d)))
    if points == 0:
        return 1.0, 1.0
    of_2d, of_3d = ([_tempered(branch, t) for t in CANDIDATES] for branch in (probabilities_2d, probabilities_3d))
    means_2d, means_3d = (sum_over_processes(torch.stack([p.sum(0) for p in o])) / points for o in (of_2d, of_3d))
    pairs = list(itertools.product(range(len(CANDIDATES)), repeat=2))
    on_one_point, on_two_points = [], []
    for a, b in pairs:
        shares = (means_2d[a] + means_3d[b]) / 2
        on_one_point.append((of_2d[a] * of_3d[b] / shares).sum(1).log().sum())
        on_two_points.append((means_2d[a] * means_3d[b] / shares).sum())
    gain = sum_over_processes(torch.stack(on_one_point)) / points - torch.stack(on_two_points)
    a, b = pairs[int(gain.argmax())]
    return CANDIDATES[a], CANDIDATES[b]


def _look(segmenter: Segmenter, frames: FrameStore, encode_images: EncodeImages | None) -> tuple[Tensor, Tensor]:
    """What both branches say of some points, (P, K) each; this process's share of them."""
    classes = len(segmenter.labels)
    said_2d, said_3d = [np.empty((0, classes), np.float32)], [np.empty((0, classes), np.float32)]
    for index in own_share(frames.spread(FRAMES)):
        prediction = segmenter.segment_sample(frames[index].sample(segmenter.config.prepare), encode_images)
        seen = np.flatnonzero(prediction.seen)
        drawn = np.random.default_rng(index).permutation(seen)[:POINTS]
        said_2d.append(prediction.probabilities_2d[drawn])
        said_3d.append(prediction.probabilities_3d[drawn])
    of_2d, of_3d = (torch.from_numpy(np.concatenate(said)) for said in (said_2d, said_3d))
    return of_2d.to(segmenter.device).double(), of_3d.to(segmenter.device).double()


def _tempered(probabilities: Tensor, temperature: float) -> Tensor:
    return torch.softmax(probabilities.clamp(min=FLOOR).log() / temperature, 1)
