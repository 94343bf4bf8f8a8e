"""Whether sim-clip knows the classes by their names: on crops, and patch by patch, of streets that it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.simulation.stand_in_clip.captions import class_prompts
from clip2uda_core.simulation.stand_in_clip.crops import CropSampler, patch_shares
from clip2uda_core.simulation.stand_in_clip.worlds import StreetImage


@dataclass(frozen=True)
class ZeroShotResult:
    """looks: L of them. crops, patches: (L, K, 2) numbers of right answers and of questions, by look and class."""

    looks: tuple[str, ...]
    names: tuple[str, ...]
    crops: NDArray[np.int64]
    patches: NDArray[np.int64]

    def accuracy(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """(L,) mean over the classes of each class's accuracy; chance is 1 / K."""
        return np.asarray(np.nanmean(_share(counts), axis=1))

    def table(self) -> str:
        """Percentages, as Markdown."""
        chance = f"{100 / len(self.names):.1f}"
        rows = [["", *self.names, "mean", "chance"]]
        for kind, counts in (("crops", self.crops), ("patches", self.patches)):
            for look, shares, mean in zip(self.looks, _share(counts), self.accuracy(counts), strict=True):
                cells = ["-" if np.isnan(share) else f"{100 * share:.1f}" for share in shares]
                rows.append([f"{kind}, {look}", *cells, f"{100 * mean:.1f}", chance])
        rows.insert(1, ["---"] + ["---:"] * (len(rows[0]) - 1))
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)


@torch.no_grad()
def zero_shot(
    clip: FrozenClip, images: Sequence[StreetImage], labels: LabelSpace, crops_per_class: int, seed: int
) -> ZeroShotResult:
    """Compares crops and patches with "a photo of a CLASS." for each class, the nearest text being the answer.

    Crops: as many of each class and look. Patches: those of whole images, as FrozenClip gives them to a network, where
    one class covers more than half of the patch. The truth comes from the pixel labels. `clip` needs its text tower.
    """
    assert clip.text is not None
    looks = tuple(dict.fromkeys(image.look for image in images))
    texts = F.normalize(clip.text.encode(class_prompts(labels)), dim=-1)
    crops = np.zeros((len(looks), len(labels), 2), np.int64)
    patches = np.zeros_like(crops)
    for row, look in enumerate(looks):
        of_look = [image for image in images if image.look == look]
        _count_crops(clip, of_look, texts, crops_per_class, np.random.default_rng([seed, row]), crops[row])
        for image in of_look:
            _count_patches(clip, image, texts, patches[row])
    return ZeroShotResult(looks, labels.names, crops, patches)


def _count_crops(
    clip: FrozenClip,
    images: Sequence[StreetImage],
    texts: Tensor,
    crops_per_class: int,
    rng: np.random.Generator,
    counts: NDArray[np.int64],
) -> None:
    sampler = CropSampler(images)
    for index in range(len(texts)):
        drawn = [sampler.crop(index, rng) for _ in range(crops_per_class)]
        crops = [crop.pixels for crop in drawn if crop is not None]
        if crops:
            pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
            answers = (F.normalize(clip.encode_images(pixels).pooled, dim=-1) @ texts.T).argmax(-1)
            counts[index] += (int((answers == index).sum()), len(crops))


def _count_patches(clip: FrozenClip, image: StreetImage, texts: Tensor, counts: NDArray[np.int64]) -> None:
    patch = clip.dimensions.patch_px
    height, width = (side // patch * patch for side in image.labels.shape)
    pixels = torch.from_numpy(image.image[:height, :width].copy()).permute(2, 0, 1)[None]
    dense = clip.encode_images(pixels).dense[0].flatten(1).T
    answers = (F.normalize(dense, dim=-1) @ texts.T).argmax(-1).numpy()
    concepts = np.where(image.labels == IGNORE, len(texts), image.labels)[:height, :width]
    most, concept = patch_shares([concepts], patch)[0].max(-1)
    for index in range(len(texts)):
        asked = ((concept == index) & (most > 0.5)).numpy()
        counts[index] += (int((answers[asked] == index).sum()), int(asked.sum()))


def _share(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Right answers over questions; NaN where nothing was asked."""
    right, asked = counts[..., 0], counts[..., 1]
    return np.asarray(np.where(asked > 0, right / np.maximum(asked, 1), np.nan))
