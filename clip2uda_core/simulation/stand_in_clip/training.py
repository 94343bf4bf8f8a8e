"""Trains sim-clip: image and text towers together, from random weights, on simulated crops and true captions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from clip2uda_core.config import Config
from clip2uda_core.models.clip_weights import ClipConfig, load_model_config
from clip2uda_core.simulation.stand_in_clip.captions import CONCEPTS, name_concepts, truth, write_caption
from clip2uda_core.simulation.stand_in_clip.crops import Crop, CropSampler, patch_shares, recolour, to_tensor
from clip2uda_core.simulation.stand_in_clip.worlds import StreetImage

MOST_LOGIT_SCALE = math.log(100)
"""As CLIP clips it (Radford et al. 2021, section 2.5)."""


class StandInTrainingConfig(Config):
    """text_steps: for the text tower alone, before the `steps` for both. crops: square crops with captions a step;
    strips: large crops a step, for the patches alone."""

    seed: int = 0
    text_steps: int = Field(default=80, ge=0)
    steps: int = Field(default=2000, ge=1)
    crops: int = Field(default=32, ge=2)
    strips: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_steps: int = Field(default=30, ge=1)


@dataclass(frozen=True)
class TrainingBatch:
    """crops (B, 3, S, S) and strips (T, 3, H, W), normalised; captions and, per image and caption, whether it holds;
    names: a text for each concept; *_shares: concepts by patch."""

    crops: Tensor
    strips: Tensor
    captions: list[str]
    holds: Tensor
    names: list[str]
    crop_shares: Tensor
    strip_shares: Tensor


def train_stand_in(
    images: Sequence[StreetImage], config: StandInTrainingConfig, on_step: Callable[[int, dict[str, float]], None]
) -> open_clip.CLIP:
    """Trains a new sim-clip and tells `on_step` the losses of every step. The same seed, images, thread count and
    machine give the same weights."""
    torch.manual_seed(config.seed)
    model = open_clip.CLIP(**load_model_config("sim-clip"))
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    batches = BatchMaker(CropSampler(images), config, model.visual.patch_size[0])
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config.weight_decay), config.learning_rate, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    model.train()
    _tell_texts_apart(model, tokenizer, batches, config)
    for step in range(config.steps):
        losses = _losses(model, tokenizer, batches.next(), batches.concept_weights)
        optimizer.zero_grad(set_to_none=True)
        (losses["contrastive"] + losses["patches"]).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MOST_LOGIT_SCALE)
        on_step(step, {name: value.item() for name, value in losses.items()})
    return model.eval()


def _tell_texts_apart(model: Any, tokenizer: Any, batches: "BatchMaker", config: StandInTrainingConfig) -> None:
    """Trains the text tower alone: two captions of a crop are to be near each other, and far from those of others.

    At first all texts are nearly the same vector (cosine above 0.99), and an image tower that has no differing texts
    to learn from waits for hundreds of steps.
    """
    parameters = [p for name, p in model.named_parameters() if not name.startswith(("visual.", "logit_scale"))]
    optimizer = torch.optim.AdamW(parameters, 2 * config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    for _ in range(config.text_steps):
        first, second, holds = batches.next_captions()
        texts = model.encode_text(tokenizer(first + second))
        loss = contrastive_loss(texts[: len(first)], texts[len(first) :], holds, model.logit_scale.detach())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


class BatchMaker:
    """Batches of crops, with every concept the subject of as many."""

    def __init__(self, sampler: CropSampler, config: StandInTrainingConfig, patch_px: int) -> None:
        self._sampler, self._config, self._patch_px = sampler, config, patch_px
        self._rng = np.random.default_rng(config.seed)
        self._generator = torch.Generator().manual_seed(config.seed)
        clip = ClipConfig()
        self._mean, self._std = (torch.tensor(v).view(3, 1, 1) for v in (clip.image_mean, clip.image_std))
        weights = torch.from_numpy(np.maximum(sampler.shares, 1e-3) ** -0.5).float()
        self.concept_weights = weights / weights.mean()
        """(9,) of the patch loss: rare concepts count for more, by the root of their frequency."""

    def next(self) -> TrainingBatch:
        rng = self._rng
        crops = self._crops()
        captions = [write_caption(crop.content, rng) for crop in crops]
        strips = [self._sampler.strip(rng) for _ in range(self._config.strips)]
        return TrainingBatch(
            crops=self._normalised([crop.pixels for crop in crops]),
            strips=self._normalised([pixels for pixels, _ in strips]),
            captions=[caption.text for caption in captions],
            holds=torch.from_numpy(truth(captions, [crop.content for crop in crops])).float(),
            names=name_concepts(rng),
            crop_shares=patch_shares([crop.concepts for crop in crops], self._patch_px),
            strip_shares=patch_shares([concepts for _, concepts in strips], self._patch_px),
        )

    def next_captions(self) -> tuple[list[str], list[str], Tensor]:
        """Two captions for each of a batch of crops, and (B, B) whether the second ones are true of the crops."""
        contents = [crop.content for crop in self._crops()]
        first, second = ([write_caption(content, self._rng) for content in contents] for _ in range(2))
        holds = torch.from_numpy(truth(second, contents)).float()
        return [caption.text for caption in first], [caption.text for caption in second], holds

    def _crops(self) -> list[Crop]:
        crops: list[Crop] = []
        while len(crops) < self._config.crops:
            crop = self._sampler.crop(int(self._rng.integers(len(CONCEPTS))), self._rng)
            if crop is not None:
                crops.append(crop)
        return crops

    def _normalised(self, pixels: list[Any]) -> Tensor:
        return (recolour(to_tensor(pixels), self._generator) - self._mean) / self._std


def image_tokens(visual: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) normalised pixels to the image embedding (B, E) and the patches' (B, h·w, E), with gradients.

    The same sum as `FrozenClip.encode_images`, whose positions are frozen and kept.
    """
    tokens = visual.conv1(pixels)
    grid = tokens.shape[-2:]
    positions = visual.positional_embedding
    patch_positions = positions[1:].T.unflatten(1, visual.grid_size)[None]
    if tuple(grid) != tuple(visual.grid_size):
        patch_positions = F.interpolate(patch_positions, grid, mode="bicubic", antialias=True, align_corners=False)
    tokens = (tokens + patch_positions).flatten(2).transpose(1, 2)
    class_token = (visual.class_embedding + positions[0]).expand(len(tokens), 1, -1)
    tokens = visual.transformer(visual.ln_pre(torch.cat([class_token, tokens], 1)))
    embedded = visual.ln_post(tokens) @ visual.proj
    return embedded[:, 0], embedded[:, 1:]


def contrastive_loss(image: Tensor, text: Tensor, holds: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss where a caption may be true of several images of the batch (UniCL, Yang et al. 2022).

    image, text (B, E); holds (B, B): 1 where caption j is true of image i. A share of the loss goes to each of them.
    """
    logits = scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    over_texts = F.cross_entropy(logits, holds / holds.sum(1, keepdim=True))
    over_images = F.cross_entropy(logits.T, holds.T / holds.T.sum(1, keepdim=True))
    return (over_texts + over_images) / 2


def patch_loss(patches: Tensor, names: Tensor, shares: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of patches (P, E) against the concepts' texts (9, E), by the shares (P, 9) of each patch."""
    logits = scale.exp() * F.normalize(patches, dim=-1) @ F.normalize(names, dim=-1).T
    weighted = shares * weights
    return -(weighted * logits.log_softmax(-1)).sum() / weighted.sum()


def _losses(model: Any, tokenizer: Any, batch: TrainingBatch, weights: Tensor) -> dict[str, Tensor]:
    texts = model.encode_text(tokenizer(batch.captions + batch.names))
    captions, names = texts.split([len(batch.captions), len(batch.names)])
    image, crop_patches = image_tokens(model.visual, batch.crops)
    _, strip_patches = image_tokens(model.visual, batch.strips)
    of_crops = patch_loss(
        crop_patches.flatten(0, 1), names, batch.crop_shares.flatten(0, 1), weights, model.logit_scale
    )
    of_strips = patch_loss(
        strip_patches.flatten(0, 1), names, batch.strip_shares.flatten(0, 1), weights, model.logit_scale
    )
    contrastive = contrastive_loss(image, captions, batch.holds, model.logit_scale)
    return {"contrastive": contrastive, "patches": (of_crops + of_strips) / 2}


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, but for the token table: most of its rows are words that no caption has."""
    decays = {name: p.ndim > 1 and "embedding" not in name for name, p in module.named_parameters()}
    return [
        {"params": [p for n, p in module.named_parameters() if decays[n]], "weight_decay": weight_decay},
        {"params": [p for n, p in module.named_parameters() if not decays[n]], "weight_decay": 0.0},
    ]


def _rate(step: int, config: StandInTrainingConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    left = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * left))
