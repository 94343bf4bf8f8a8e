"""All that is trained, put together: the 2D branch (on top of a frozen CLIP, or a U-Net), the 3D branch, two heads on
each."""

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
from clip2uda_core.models.unet2d import UNet2d, UNet2dConfig


class NetworkConfig(Config):
    """Sizes of the trained modules. adapter None: the text is not adapted to the image, an ablation. unet2d: of a 2D
    branch without CLIP."""

    prompts: PromptConfig = PromptConfig()
    adapter: AdapterConfig | None = AdapterConfig()
    decoder: DecoderConfig = DecoderConfig()
    unet2d: UNet2dConfig = UNet2dConfig()
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

    A network with a U-Net for images has none of the first two and `classify_images` in place of `classify_pixels`.

    text_target: (K, E), the text embeddings of the target domain once training is over. With them inference needs no
    text tower.
    temperatures: (2,), what the main heads' logits of 2D and of 3D are divided by at inference; 1 in training.
    """

    text_target: Tensor
    temperatures: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        classes: int,
        image_network: ClipDimensions | UNet2dConfig | None,
        voxel_channels: int,
    ) -> None:
        """image_network: the sizes of the CLIP whose features come in, or the U-Net that takes images; None is a
        network of the 3D branch alone."""
        super().__init__()
        # First, so that a seed gives the same 3D branch beside any 2D branch: methods that are compared begin equal.
        self.sparse_unet = SparseUNet(config.sparse_unet, voxel_channels)
        self.heads_3d = Heads(self.sparse_unet.out_channels, classes)
        embed_dim = 0
        if isinstance(image_network, ClipDimensions):
            embed_dim = image_network.embed_dim
            self.prompts = PromptLearner(config.prompts, image_network.text_width)
            self.adapter = None if config.adapter is None else VisualPromptAdapter(config.adapter, embed_dim)
            self.decoder = SharedDecoder(config.decoder, image_network.width, classes)
            self.heads_2d = Heads(config.decoder.channels, classes)
        self.unet2d = None
        if isinstance(image_network, UNet2dConfig):
            self.unet2d = UNet2d(image_network)
            self.heads_2d = Heads(image_network.channels, classes)
        self.register_buffer("text_target", torch.zeros(classes, embed_dim))
        self.register_buffer("temperatures", torch.ones(2))

    def score_map(self, visual: VisualFeatures, text: Tensor) -> Tensor:
        """M, (B, K, h, w) in -1..1: how much each place of B images looks like each class, by the text embeddings T_d
        (K, E) of the images' domain, adapted to each image."""
        if self.adapter is None:
            return score_map(visual, text.expand(len(visual.dense), -1, -1))
        return score_map(visual, self.adapter(text, visual))

    def classify_pixels(
        self, visual: VisualFeatures, scores: Tensor, images: Tensor, uv_px: Sequence[Tensor]
    ) -> Logits:
        """The 2D branch at the P pixels where points are seen.

        scores: M of the same B images. images: (B, 3, H, W) uint8 RGB. uv_px: per image (P_b, 2). The logits are in the
        order of the images.
        """
        features = self.decoder(visual, scores, images)
        return self.heads_2d(lift(features, uv_px, visual.extent_px))

    def classify_images(self, images: Tensor, uv_px: Sequence[Tensor]) -> Logits:
        """The same, by the U-Net, from B images (B, 3, H, W) uint8 RGB."""
        assert self.unet2d is not None
        features = self.unet2d(images)
        height, width = features.shape[-2:]
        # Its features are centred on even pixels; lifting takes them to lie half a pixel further, in between two.
        return self.heads_2d(lift(features, [uv + 0.5 for uv in uv_px], (2 * height, 2 * width)))

    def classify_voxels(self, voxels: Tensor, voxel_features: Tensor, batch_size: int) -> Logits:
        """The 3D branch at V voxels (V, 4) int32 [sample, x, y, z] with features (V, F); a point has the logits of the
        voxel that it is in."""
        return self.heads_3d(self.sparse_unet(voxels, voxel_features, batch_size))
