"""Crops of simulated images, of known content, and their random colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clip2uda_core.labels import IGNORE
from clip2uda_core.simulation.stand_in_clip.captions import CONCEPTS, SKY, Content
from clip2uda_core.simulation.stand_in_clip.worlds import StreetImage

CROP_PX = 64
STRIP_PX = (128, 256)
"""(height, width) of the large crops, at about the scale in which images are segmented."""

THIN = (CONCEPTS.index("person"), CONCEPTS.index("pole"))
"""Concepts that are the subject of a picture without filling it."""

THIN_CROP_PX = (20, 96)
WIDE_CROP_PX = (48, 180)
"""Least and most sides of crops of thin and of other subjects. Less is a patch of colour that could be anything."""

TRIES = 40
PIXELS_KEPT = 400
"""Pixels of a concept in an image that crops are placed by."""


@dataclass(frozen=True)
class Crop:
    """pixels (S, S, 3) uint8 RGB; concepts (S, S) uint8, indices of CONCEPTS; content: what it shows."""

    pixels: NDArray[np.uint8]
    concepts: NDArray[np.uint8]
    content: Content


def subject_of(shares: NDArray[np.float64]) -> int | None:
    """The concept that a crop is a picture of, from its shares of the pixels; None where that is open to dispute.

    A person or pole that covers 15 % is the subject; otherwise what covers 60 %, with less than 5 % of those.
    """
    thin = max(THIN, key=lambda concept: shares[concept])
    if shares[thin] >= 0.15:
        return thin
    most = int(shares.argmax())
    return most if shares[most] >= 0.6 and shares[thin] < 0.05 else None


class CropSampler:
    """Draws crops of a wanted subject from the images that show it."""

    def __init__(self, images: Sequence[StreetImage]) -> None:
        self.images = images
        self._concepts = [np.where(image.labels == IGNORE, SKY, image.labels).astype(np.uint8) for image in images]
        counts = np.array([np.bincount(c.ravel(), minlength=len(CONCEPTS)) for c in self._concepts])
        self._places = [self._places_of(concept, counts[:, concept]) for concept in range(len(CONCEPTS))]
        self.shares: NDArray[np.float64] = counts.sum(0) / counts.sum()
        """(9,) shares of all pixels, by concept."""

    def _places_of(self, concept: int, counts: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """Image numbers and (N, 2) rows and columns in them, of the images where enough of the concept is seen."""
        places = []
        for number in np.flatnonzero(counts >= 60).tolist():
            found = np.flatnonzero(self._concepts[number] == concept)
            kept = found[:: max(1, len(found) // PIXELS_KEPT)]
            places.append((number, np.stack(np.unravel_index(kept, self._concepts[number].shape), 1)))
        return places

    def crop(self, subject: int, rng: np.random.Generator) -> Crop | None:
        """A square crop of random scale with this subject; None where none was found."""
        if not self._places[subject]:
            return None
        least_px, most_px = THIN_CROP_PX if subject in THIN else WIDE_CROP_PX
        for _ in range(TRIES):
            number, places = self._places[subject][rng.integers(len(self._places[subject]))]
            concepts = self._concepts[number]
            row, column = places[rng.integers(len(places))].tolist()
            side = round(np.exp(rng.uniform(np.log(least_px), np.log(most_px))))
            window = _window(concepts.shape, (row, column), (side, side), rng)
            shares = np.bincount(concepts[window].ravel(), minlength=len(CONCEPTS)) / side**2
            if subject_of(shares) == subject:
                content = Content(subject, shares, self.images[number].look)
                return Crop(*self._resized(number, window, (CROP_PX, CROP_PX), rng), content)
        return None

    def strip(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A crop of STRIP_PX from any image, at its size or enlarged up to 1.6 times: its pixels and concepts."""
        number = int(rng.integers(len(self.images)))
        shape = self._concepts[number].shape
        enlarged = rng.uniform(1.0, 1.6)
        size = tuple(round(min(full, side / enlarged)) for full, side in zip(shape, STRIP_PX, strict=True))
        anywhere = (int(rng.integers(shape[0])), int(rng.integers(shape[1])))
        return self._resized(number, _window(shape, anywhere, size, rng), STRIP_PX, rng)

    def _resized(
        self, number: int, window: tuple[slice, slice], size_px: tuple[int, int], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pixels and concepts of a window at another size, mirrored half of the time."""
        pixels, concepts = self.images[number].image[window], self._concepts[number][window]
        interpolation = cv2.INTER_AREA if pixels.shape[0] > size_px[0] else cv2.INTER_LINEAR
        resized = cv2.resize(pixels, size_px[::-1], interpolation=interpolation)
        classes = cv2.resize(concepts, size_px[::-1], interpolation=cv2.INTER_NEAREST)
        step = -1 if rng.random() < 0.5 else 1
        return resized[:, ::step].astype(np.uint8), classes[:, ::step].astype(np.uint8)


def _window(
    shape: tuple[int, ...], inside: tuple[int, int], size: tuple[int, ...], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a window of this size, within the shape, whose middle half holds the pixel if it can."""
    slices = []
    for full, at, extent in zip(shape, inside, size, strict=True):
        first = int(np.clip(at - rng.uniform(0.25, 0.75) * extent, 0, full - extent))
        slices.append(slice(first, first + extent))
    return slices[0], slices[1]


def to_tensor(pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(B, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def patch_shares(concepts: Sequence[NDArray[np.uint8]], patch_px: int) -> Tensor:
    """(B, h·w, 9) share of each concept in each patch."""
    one_hot = F.one_hot(torch.from_numpy(np.stack(concepts)).long(), len(CONCEPTS)).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(one_hot, patch_px).flatten(2).transpose(1, 2)


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, H, W) in 0..1: each image with a light, contrast, tint, saturation and noise of its own."""

    def drawn(least: float, most: float, *shape: int) -> Tensor:
        return least + (most - least) * torch.rand(len(images), *(shape or (1, 1, 1)), generator=generator)

    images = images.clamp(1e-3, 1) ** drawn(0.8, 1.25)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (mean + (images - mean) * drawn(0.8, 1.25)) * drawn(0.8, 1.2) * drawn(0.95, 1.05, 3, 1, 1)
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * drawn(0.6, 1.3)
    noise = torch.randn(images.shape, generator=generator) * drawn(0.0, 0.02)
    return (images + noise).clamp(0, 1)
