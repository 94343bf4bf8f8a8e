"""All that is trained, put together: the 2D branch on top of a frozen CLIP, the 3D branch, two heads on each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clip2uda_core.config import Config
from clip2uda_core.models.clip import ClipDimensions, VisualFeatures
from clip2uda_core.models.decoder import DecoderConfig, SharedDecoder
from clip2uda_core.models.lifting import lift
from clip2uda_core.models.prompts import AdapterConfig, PromptConfig, PromptLearner, VisualPromptAdapter, score_map
from clip2uda_core.models.sparse_unet import SparseUNet, SparseUNetConfig


class NetworkConfig(Config):
    """Sizes of the trained modules."""

    prompts: PromptConfig = PromptConfig()
    adapter: AdapterConfig = AdapterConfig()
    decoder: DecoderConfig = DecoderConfig()
    sparse_unet: SparseUNetConfig = SparseUNetConfig()


@dataclass(frozen=True)
class Logits:
    """What the two heads of a modality say about P points, (P, K) each: `main` predicts the label, `mimic` the main
    head of the other modality."""

    main: Tensor
    mimic: Tensor


class Heads(nn.Module):
    """Main and mimic linear classifier on the features of one modality (xMUDA, section 3.2)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.main = nn.Linear(channels, classes)
        self.mimic = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Logits:
        return Logits(self.main(features), self.mimic(features))


class Clip2udaNetwork(nn.Module):
    """Everything with weights that learn. The frozen CLIP stays outside: it comes in as `VisualFeatures`, computed or
    from a cache, so it can be neither in an optimizer nor in a checkpoint of this module.

    Step (a) of the method trains `prompts` and `adapter` through `score_map`; step (b) trains the rest through
    `classify_pixels`, given score maps that are detached, and `classify_voxels`.

    text_target: (K, E), the text embeddings of the target domain once training is over. With them inference needs no
    text tower.
    """

    text_target: Tensor

    def __init__(self, config: NetworkConfig, classes: int, clip: ClipDimensions | None, voxel_channels: int) -> None:
        """`clip` None is a network of the 3D branch alone: it has nothing that looks at images."""
        super().__init__()
        if clip is not None:
            self.prompts = PromptLearner(config.prompts, clip.text_width)
            self.adapter = VisualPromptAdapter(config.adapter, clip.embed_dim)
            self.decoder = SharedDecoder(config.decoder, clip.width, classes)
            self.heads_2d = Heads(config.decoder.channels, classes)
        self.sparse_unet = SparseUNet(config.sparse_unet, voxel_channels)
        self.heads_3d = Heads(self.sparse_unet.out_channels, classes)
        self.register_buffer("text_target", torch.zeros(classes, 0 if clip is None else clip.embed_dim))

    def score_map(self, visual: VisualFeatures, text: Tensor) -> Tensor:
        """M, (B, K, h, w) in -1..1: how much each place of B images looks like each class, by the text embeddings T_d
        (K, E) of the images' domain, adapted to each image."""
        return score_map(visual, self.adapter(text, visual))

    def classify_pixels(self, visual: VisualFeatures, scores: Tensor, uv_px: Sequence[Tensor]) -> Logits:
        """The 2D branch at the P pixels where points are seen.

        scores: M of the same B images. uv_px: per image (P_b, 2). The logits are in the order of the images.
        """
        features = self.decoder(visual, scores)
        return self.heads_2d(lift(features, uv_px, visual.extent_px))

    def classify_voxels(self, voxels: Tensor, voxel_features: Tensor, batch_size: int) -> Logits:
        """The 3D branch at V voxels (V, 4) int32 [sample, x, y, z] with features (V, F); a point has the logits of the
        voxel that it is in."""
        return self.heads_3d(self.sparse_unet(voxels, voxel_features, batch_size))
