"""One iteration of CLIP2UDA: step (a) learns the prompt of each domain, step (b) the representations of both
modalities. Each domain has its own forward passes, so that batch norm sees one domain at a time."""

from collections.abc import Sequence
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
class ImageBranch:
    """What the 2D branch needs beside its weights: CLIP's text tower, what its image tower says, and the words of
    the classes."""

    text: TextTower
    cache: FeatureCache
    class_prompts: tuple[str, ...]


@dataclass(frozen=True)
class DomainPass:
    """A batch of one domain, seen by what does not depend on the text: the frozen CLIP and the 3D network.

    visuals: CLIP's features of each group of images, constants. seen: (P,) indices of points, in the order of the
    pixels of all groups. logits_3d: of all M points, (M, K).
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


class Iteration:
    """The losses of one iteration, in the method's order: `look`, then (a) `learn_prompts`, then (b)
    `learn_representations`. `image_branch` None is the 3D network alone."""

    def __init__(
        self, network: Clip2udaNetwork, image_branch: ImageBranch | None, class_weights: Tensor, config: LossConfig
    ) -> None:
        self._network = network
        self._image_branch = image_branch
        self._class_weights = class_weights
        self._config = config

    def look(self, batch: TrainingBatch, domain: Domain) -> DomainPass:
        """Runs the frozen CLIP (without gradient) and the 3D network (with it) on a batch."""
        tensors = batch.batch
        of_voxels = self._network.classify_voxels(tensors.voxels, tensors.voxel_features, len(tensors.point_counts))
        of_point = tensors.voxel_of_point
        logits_3d = Logits(of_voxels.main[of_point], of_voxels.mimic[of_point])
        visuals: tuple[VisualFeatures, ...] = ()
        if self._image_branch is not None:
            visuals = tuple(self._image_branch.cache.encode_images(group.images) for group in tensors.groups)
        return DomainPass(domain, batch, visuals, batch.seen_points(), logits_3d)

    def score_maps(self, domain_pass: DomainPass) -> list[Tensor]:
        """M of each group of images, by the prompt of their domain; gradients reach context tokens and adapter."""
        branch = self._image_branch
        assert branch is not None
        text = self._network.prompts(branch.text, branch.class_prompts, domain_pass.domain)
        return [self._network.score_map(visual, text) for visual in domain_pass.visuals]

    def learn_prompts(self, passes: Sequence[DomainPass]) -> Losses:
        """Step (a): the score maps learn labels on the source, and on the target what 2D and 3D are sure of together.
        Only context tokens and adapter get gradients."""
        return self.prompt_losses(passes, [self.score_maps(p) for p in passes])

    def learn_representations(self, passes: Sequence[DomainPass]) -> Losses:
        """Step (b): with the text held still, decoder, heads and 3D network learn labels and each other."""
        if self._image_branch is None:
            return self.points_losses(passes)
        with torch.no_grad():
            score_maps = [self.score_maps(p) for p in passes]
        return self.representation_losses(passes, score_maps)

    def learn_jointly(self, passes: Sequence[DomainPass]) -> Losses:
        """Both steps at once, the ablation: gradients of step (b) reach the prompts too."""
        score_maps = [self.score_maps(p) for p in passes]
        return self.prompt_losses(passes, score_maps) | self.representation_losses(passes, score_maps)

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
                    logits_2d = self._classify_pixels(p, maps)
                loss = losses.prompt_loss_on_target(
                    scores,
                    logits_2d.main,
                    p.logits_3d.main[p.seen],
                    self._config.temperature,
                    self._config.min_confidence,
                )
            result[f"prompt_{p.domain}"] = weight * loss
        return result

    def representation_losses(self, passes: Sequence[DomainPass], score_maps: Sequence[list[Tensor]]) -> Losses:
        result = self.points_losses(passes)
        for p, maps in zip(passes, score_maps, strict=True):
            logits_2d = self._classify_pixels(p, maps)
            if p.domain == "source":
                loss = losses.segmentation_loss(logits_2d.main, p.labels[p.seen], self._class_weights)
                result["segmentation_2d"] = self._config.segmentation * loss
            weight = self._config.cross_modal_source if p.domain == "source" else self._config.cross_modal_target
            if weight > 0:
                main_3d, mimic_3d = p.logits_3d.main[p.seen], p.logits_3d.mimic[p.seen]
                result[f"cross_modal_2d_{p.domain}"] = weight * losses.cross_modal_loss(main_3d, logits_2d.mimic)
                result[f"cross_modal_3d_{p.domain}"] = weight * losses.cross_modal_loss(logits_2d.main, mimic_3d)
        return result

    def points_losses(self, passes: Sequence[DomainPass]) -> Losses:
        """Segmentation by the 3D network on the source."""
        result = {}
        for p in passes:
            if p.domain == "source":
                points = (
                    p.seen if self._config.supervise == "seen" else torch.arange(len(p.labels), device=p.seen.device)
                )
                loss = losses.segmentation_loss(p.logits_3d.main[points], p.labels[points], self._class_weights)
                result["segmentation_3d"] = self._config.segmentation * loss
        return result

    def _classify_pixels(self, p: DomainPass, maps: list[Tensor]) -> Logits:
        logits = [
            self._network.classify_pixels(visual, scores, group.uv_px)
            for visual, scores, group in zip(p.visuals, maps, p.batch.batch.groups, strict=True)
        ]
        return Logits(torch.cat([part.main for part in logits]), torch.cat([part.mimic for part in logits]))


def _at_points(p: DomainPass, maps: list[Tensor]) -> Tensor:
    """(P, K) scores where points are seen."""
    groups = p.batch.batch.groups
    lifted = [lift(m, g.uv_px, v.extent_px) for m, g, v in zip(maps, groups, p.visuals, strict=True)]
    return torch.cat(lifted)
