"""The shared decoder: visual taps and the text's score map meet at every level of a feature pyramid."""

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from clip2uda_core.config import Config
from clip2uda_core.models.clip import VisualFeatures
from clip2uda_core.models.spatial_prior import SpatialPrior, SpatialPriorConfig


class DecoderConfig(Config):
    """channels: of every level and of the unified features. inject_levels: levels 1 (finest) to 4 that get the score
    map; all four is the method's hierarchical interaction, fewer is an ablation. spatial_prior: None, an ablation,
    leaves the two finest levels to CLIP's patches."""

    channels: PositiveInt = Field(default=64, multiple_of=8)
    inject_levels: tuple[Literal[1, 2, 3, 4], ...] = (1, 2, 3, 4)
    spatial_prior: SpatialPriorConfig | None = SpatialPriorConfig()


class SharedDecoder(nn.Module):
    """Taps F1..F4 and score map M to unified 2D features; one set of weights serves both domains.

    A ViT gives all taps at one stride, the patch p. As in DenseCLIP's and ViTDet's pyramids they become strides p/4,
    p/2, p and 2p (4, 8, 16 and 32 pixels for p = 16). M is resized to each level and added through a 1x1 convolution,
    then levels are summed from the coarsest to the finest. The two finest also get what convolutions on the image see.

    The output stays at stride p/4: reading it bilinearly at the points equals bringing it to image resolution first
    (see `lifting.lift`) at a small part of the time and memory. Normalisation is within each image and not over the
    batch, so that no statistics of one domain are used in the other.
    """

    def __init__(self, config: DecoderConfig, clip_width: int, classes: int) -> None:
        super().__init__()
        channels = config.channels
        self.lateral = nn.ModuleList(_Lateral(clip_width, channels) for _ in range(4))
        self.resize = nn.ModuleList(
            [
                nn.Sequential(_Upsample(channels), _Upsample(channels)),
                _Upsample(channels),
                nn.Identity(),
                nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
            ]
        )
        self.inject = nn.ModuleDict({str(level): nn.Conv2d(classes, channels, 1) for level in config.inject_levels})
        self.spatial_prior = None if config.spatial_prior is None else SpatialPrior(config.spatial_prior, channels)
        self.smooth = nn.ModuleList(_Smooth(channels) for _ in range(4))

    def forward(self, visual: VisualFeatures, scores: Tensor, images: Tensor) -> Tensor:
        """Features of B images, their score maps (B, K, h, w) and the images themselves, (B, 3, H, W) uint8 RGB, to
        unified features (B, channels, 4h, 4w), which cover the same `extent_px` as the taps."""
        levels = []
        for level, tap in enumerate(visual.taps, start=1):
            pyramid = self.resize[level - 1](self.lateral[level - 1](tap.to(scores.dtype)))
            if str(level) in self.inject:
                pyramid = pyramid + self.inject[str(level)](_resize_scores(scores, level))
            levels.append(pyramid)

        if self.spatial_prior is not None:
            for level, detail in enumerate(self.spatial_prior(images, visual)):
                levels[level] = levels[level] + detail

        merged = self.smooth[3](levels[3])
        for level in (2, 1, 0):
            merged = self.smooth[level](levels[level] + _double(merged, *levels[level].shape[-2:]))
        return merged


def _resize_scores(scores: Tensor, level: int) -> Tensor:
    """M at the resolution of a level, every cell where it was."""
    if level == 4:
        return F.avg_pool2d(scores, 2, ceil_mode=True, count_include_pad=False)
    if level == 3:
        return scores
    return F.interpolate(scores, scale_factor=4 if level == 1 else 2, mode="bilinear", align_corners=False)


def _double(coarse: Tensor, rows: int, columns: int) -> Tensor:
    """A level at twice the resolution. Where the finer grid is odd, the coarse one reaches past its edge by half a
    cell; doubled and cut, every cell is where it was."""
    doubled = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[..., :rows, :columns]


class _Lateral(nn.Module):
    """Normalises each token of the residual stream, whose channels differ by orders of magnitude, and narrows it."""

    def __init__(self, clip_width: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(clip_width)
        self.narrow = nn.Linear(clip_width, channels)

    def forward(self, tap: Tensor) -> Tensor:
        return self.narrow(self.norm(tap.movedim(1, -1))).movedim(-1, 1)


class _Upsample(nn.Sequential):
    """Doubles the resolution; each cell is split into its four quarters, so nothing moves."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.ConvTranspose2d(channels, channels, 2, stride=2), nn.GroupNorm(8, channels), nn.GELU())


class _Smooth(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU(inplace=True)
        )
