"""What a patch of 16 pixels blurs: edges and thin things, read from the image itself beside the frozen CLIP."""

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from clip2uda_core.config import Config
from clip2uda_core.models.clip import VisualFeatures


class SpatialPriorConfig(Config):
    """width: channels at stride 2; twice as many at strides 4 and 8."""

    width: PositiveInt = Field(default=32, multiple_of=8)


class SpatialPrior(nn.Module):
    """A few convolutions on the image, for the two finest levels of the decoder (the spatial prior module of
    ViT-Adapter, Chen et al., ICLR 2023, section 3.3, without its stem's pooling).

    Everything is normalised over each image by itself, which takes the brightness and contrast of a scene out (IBN-Net,
    Pan et al., ECCV 2018): a night is not seen by the statistics of days, nor an image by those of its batch.
    """

    def __init__(self, config: SpatialPriorConfig, channels: int) -> None:
        super().__init__()
        width = config.width
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_halve(3, width), _halve(width, 2 * width), _block(2 * width), _block(2 * width)),
                nn.Sequential(_halve(2 * width, 2 * width), _block(2 * width)),
            ]
        )
        self.narrow = nn.ModuleList(nn.Conv2d(2 * width, channels, 1) for _ in self.stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, visual: VisualFeatures) -> list[Tensor]:
        """B images (B, 3, H, W) uint8 RGB and what CLIP says about them, (h, w) tokens each, to what is added to levels
        1 and 2 of the decoder: (B, channels, 4h, 4w) and (B, channels, 2h, 2w), which cover the same `extent_px`."""
        rows, columns = visual.dense.shape[-2:]
        height, width = visual.extent_px
        # Images come pixel by pixel (channels last); on a CPU, convolutions plane by plane are faster.
        pixels = F.instance_norm(images.float().contiguous())
        features = F.pad(pixels, (0, width - images.shape[-1], 0, height - images.shape[-2]), mode="replicate")
        levels = []
        for stage, narrow, cells in zip(self.stages, self.narrow, (4, 2), strict=True):
            features = stage(features)
            level = narrow(features)
            if level.shape[-2:] != (cells * rows, cells * columns):  # patches of other than 16 pixels
                level = F.interpolate(level, (cells * rows, cells * columns), mode="bilinear", align_corners=False)
            levels.append(level)
        return levels


def _halve(in_channels: int, out_channels: int) -> nn.Sequential:
    """Half the resolution: a cell is centred on the corner that the four below it share, so nothing moves."""
    convolution = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, _norm(out_channels), nn.ReLU(inplace=True))


def _block(channels: int) -> BasicBlock:
    return BasicBlock(channels, channels, norm_layer=_norm)


def _norm(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)
