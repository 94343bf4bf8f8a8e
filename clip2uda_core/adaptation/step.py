"""One iteration of CLIP2UDA: step (a) learns the prompt of each domain, step (b) the representations of both
modalities. Each domain has its own forward passes, so that batch norm sees one domain at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clip2uda_core import losses
from clip2uda_core.adaptation.config import LossConfig
from clip2uda_core.adaptation.feature_cache import FeatureCache
from clip2uda_core.data.frame_store import Domain
from clip2uda_core.data.loader import TrainingBatch
from clip2uda_core.models.clip import TextTower, VisualFeatures
from clip2uda_core.models.lifting import lift
from clip2uda_core.models.network import Clip2udaNetwork, Logits

Losses = dict[str, Tensor]
"""Weighted losses by name; their sum is what is minimised."""


@dataclass(frozen=True)
class ClipBranch:
    """What the 2D branch on CLIP needs beside its weights: CLIP's text tower, what its image tower says, and the words
    of the classes."""

    text: TextTower
    cache: FeatureCache
    class_prompts: tuple[str, ...]


@dataclass(frozen=True)
class DomainPass:
    """A batch of one domain, seen by what does not depend on the text: the frozen CLIP and the 3D network.

    visuals: CLIP's features of each group of images, constants; none without CLIP. seen: (P,) indices of points, in the
    order of the pixels of all groups. logits_3d: of all M points, (M, K).
    """

    domain: Domain
    batch: TrainingBatch
    visuals: tuple[VisualFeatures, ...]
    seen: Tensor
    logits_3d: Logits

    @property
    def labels(self) -> Tensor:
        """(M,) labels of a source batch."""
        labels = self.batch.batch.labels
        assert labels is not None, "only the source has labels"
        return labels

    @property
    def pseudo_labels(self) -> tuple[Tensor, Tensor]:
        """(M,) of 2D and (M,) of 3D, of a target batch."""
        pseudo_labels = self.batch.batch.pseudo_labels
        assert pseudo_labels is not None, "only the target of a run with a teacher has pseudo-labels"
        return pseudo_labels[:, 0], pseudo_labels[:, 1]


class Iteration:
    """The losses of one iteration, in the method's order: `look`, then (a) `learn_prompts`, then (b)
    `learn_representations`. Without `clip`, images go through the network's U-Net, and there is no step (a); a network
    without that either is the 3D network alone."""

    def __init__(
        self, network: Clip2udaNetwork, clip: ClipBranch | None, class_weights: Tensor, config: LossConfig
    ) -> None:
        self._network = network
        self._clip = clip
        self._class_weights = class_weights
        self._config = config

    def look(self, batch: TrainingBatch, domain: Domain) -> DomainPass:
        """Runs the frozen CLIP (without gradient) and the 3D network (with it) on a batch."""
        tensors = batch.batch
        of_voxels = self._network.classify_voxels(tensors.voxels, tensors.voxel_features, len(tensors.point_counts))
        of_point = tensors.voxel_of_point
        logits_3d = Logits(of_voxels.main[of_point], of_voxels.mimic[of_point])
        visuals: tuple[VisualFeatures, ...] = ()
        if self._clip is not None:
            visuals = tuple(self._clip.cache.encode_images(group.images) for group in tensors.groups)
        return DomainPass(domain, batch, visuals, batch.seen_points(), logits_3d)

    def learn_prompts(self, passes: Sequence[DomainPass]) -> Losses:
        """Step (a): the score maps learn labels on the source, and on the target what 2D and 3D are sure of together.
        Only context tokens and adapter get gradients."""
        return self.prompt_losses(passes, [self.score_maps(p) for p in passes])

    def learn_representations(self, passes: Sequence[DomainPass]) -> Losses:
        """Step (b): with the text held still, decoder (or U-Net), heads and 3D network learn labels and each other."""
        if self._clip is not None:
            with torch.no_grad():
                score_maps = [self.score_maps(p) for p in passes]
            logits_2d = [self.classify_pixels(p, maps) for p, maps in zip(passes, score_maps, strict=True)]
        elif self._network.unet2d is not None:
            logits_2d = [self.classify_images(p) for p in passes]
        else:
            return self.points_losses(passes)
        return self.points_losses(passes) | self.pixels_losses(passes, logits_2d)

    def learn_jointly(self, passes: Sequence[DomainPass]) -> Losses:
        """Both steps at once, the ablation: gradients of step (b) reach the prompts too."""
        score_maps = [self.score_maps(p) for p in passes]
        logits_2d = [self.classify_pixels(p, maps) for p, maps in zip(passes, score_maps, strict=True)]
        return (
            self.prompt_losses(passes, score_maps) | self.points_losses(passes) | self.pixels_losses(passes, logits_2d)
        )

    def score_maps(self, p: DomainPass) -> list[Tensor]:
        """M of each group of images, by the prompt of their domain; gradients reach context tokens and adapter."""
        assert self._clip is not None
        text = self._network.prompts(self._clip.text, self._clip.class_prompts, p.domain)
        return [self._network.score_map(visual, text) for visual in p.visuals]

    def classify_pixels(self, p: DomainPass, maps: list[Tensor]) -> Logits:
        """The 2D branch on CLIP at the P pixels where points are seen."""
        groups = p.batch.batch.groups
        return _join(
            self._network.classify_pixels(visual, scores, group.images, group.uv_px)
            for visual, scores, group in zip(p.visuals, maps, groups, strict=True)
        )

    def classify_images(self, p: DomainPass) -> Logits:
        """The same by the U-Net."""
        return _join(self._network.classify_images(group.images, group.uv_px) for group in p.batch.batch.groups)

    def prompt_losses(self, passes: Sequence[DomainPass], score_maps: Sequence[list[Tensor]]) -> Losses:
        result = {}
        for p, maps in zip(passes, score_maps, strict=True):
            weight = self._config.prompt_source if p.domain == "source" else self._config.prompt_target
            if weight == 0:
                continue
            scores = _at_points(p, maps)
            if p.domain == "source":
                loss = losses.prompt_loss_on_source(scores, p.labels[p.seen], self._config.temperature)
            else:
                with torch.no_grad():
                    logits_2d = self.classify_pixels(p, maps)
                loss = losses.prompt_loss_on_target(
                    scores,
                    logits_2d.main,
                    p.logits_3d.main[p.seen],
                    self._config.temperature,
                    self._config.min_confidence,
                )
            result[f"prompt_{p.domain}"] = weight * loss
        return result

    def points_losses(self, passes: Sequence[DomainPass]) -> Losses:
        """What the 3D network learns without an image: labels on the source, pseudo-labels on the target."""
        config, result = self._config, {}
        for p in passes:
            points = p.seen if config.supervise == "seen" else torch.arange(len(p.logits_3d.main), device=p.seen.device)
            logits = p.logits_3d.main[points]
            if p.domain == "source" and config.segmentation > 0:
                loss = losses.segmentation_loss(logits, p.labels[points], self._class_weights)
                result["segmentation_3d"] = config.segmentation * loss
            if p.domain == "target" and config.pseudo_label > 0:
                loss = losses.segmentation_loss(logits, p.pseudo_labels[1][points], self._class_weights)
                result["pseudo_label_3d"] = config.pseudo_label * loss
        return result

    def pixels_losses(self, passes: Sequence[DomainPass], logits_2d: Sequence[Logits]) -> Losses:
        """What the 2D branch learns of labels and pseudo-labels, and both modalities of each other."""
        config, result = self._config, {}
        for p, of_pixels in zip(passes, logits_2d, strict=True):
            if p.domain == "source" and config.segmentation > 0:
                loss = losses.segmentation_loss(of_pixels.main, p.labels[p.seen], self._class_weights)
                result["segmentation_2d"] = config.segmentation * loss
            if p.domain == "target" and config.pseudo_label > 0:
                loss = losses.segmentation_loss(of_pixels.main, p.pseudo_labels[0][p.seen], self._class_weights)
                result["pseudo_label_2d"] = config.pseudo_label * loss
            weight = config.cross_modal_source if p.domain == "source" else config.cross_modal_target
            if weight > 0:
                main_3d, mimic_3d = p.logits_3d.main[p.seen], p.logits_3d.mimic[p.seen]
                result[f"cross_modal_2d_{p.domain}"] = weight * losses.cross_modal_loss(main_3d, of_pixels.mimic)
                result[f"cross_modal_3d_{p.domain}"] = weight * losses.cross_modal_loss(of_pixels.main, mimic_3d)
        return result


def _join(parts: Iterable[Logits]) -> Logits:
    """Logits of several groups of images, one after the other."""
    joined = list(parts)
    return Logits(torch.cat([part.main for part in joined]), torch.cat([part.mimic for part in joined]))


def _at_points(p: DomainPass, maps: list[Tensor]) -> Tensor:
    """(P, K) scores where points are seen."""
    groups = p.batch.batch.groups
    lifted = [lift(m, g.uv_px, v.extent_px) for m, g, v in zip(maps, groups, p.visuals, strict=True)]
    return torch.cat(lifted)
