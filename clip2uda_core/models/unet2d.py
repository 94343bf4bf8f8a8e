"""xMUDA's 2D network: a U-Net on a ResNet encoder, all of it trained (section 4.1), in place of CLIP and decoder."""

import logging
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import torchvision
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from clip2uda_core.config import Config
from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.models.batch_norm import BatchNorm2d
from clip2uda_core.models.tensor_file import is_pickle, open_tensors

logger = logging.getLogger(__name__)

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
STRIDE_PX = 32
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights want them


class UNet2dConfig(Config):
    """encoder: xMUDA has resnet34; resnet18 has half of its blocks. width: channels of the first stage; torchvision's
    weights need 64. channels: of the features that come out. dropout: after the two coarsest stages of the encoder.
    norm: xMUDA has batch norm, for batches of eight. `instance` is over each image by itself: what batch norm trains
        with in batches of one image and then, unlike batch norm, has at inference too.
    weights: of the encoder, before training: a .pth or .safetensors file with torchvision's names, or torchvision's own
        name for them, such as IMAGENET1K_V1, which it downloads; None starts at random.
    """

    encoder: Literal["resnet18", "resnet34"] = "resnet18"
    weights: str | None = None
    width: PositiveInt = Field(default=64, multiple_of=8)
    channels: PositiveInt = Field(default=64, multiple_of=8)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    norm: Literal["batch", "instance"] = "batch"


Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels."""

NORMS: dict[str, Norm] = {"batch": BatchNorm2d, "instance": partial(nn.InstanceNorm2d, affine=True)}


class UNet2d(nn.Module):
    """Images to features at stride 2.

    xMUDA takes the stride out of the first convolution and works at full resolution. That is four times the arithmetic,
    and features are only read where points are, so the stride stays in.
    """

    def __init__(self, config: UNet2dConfig) -> None:
        super().__init__()
        width, norm = config.width, NORMS[config.norm]
        self.encoder = _Encoder(BLOCKS[config.encoder], width, config.dropout, norm)
        self.decoder = nn.ModuleList(
            _Stage(8 * width // 2**level, max(width, 4 * width // 2**level), norm) for level in range(4)
        )
        self.narrow = nn.Conv2d(width, config.channels, 1)
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", 255 * torch.tensor(IMAGE_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", 255 * torch.tensor(IMAGE_STD).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB, of any size, to (B, channels, h, w).

        Images are padded at the right and bottom, by repeating the edge, to a multiple of 32; the features cover the
        padding too, 2h x 2w pixels in all. Feature (i, j) is centred on pixel (2i, 2j): the first convolution is.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ConfigError(f"images: expected (B, 3, H, W) uint8 RGB, got {tuple(images.shape)} {images.dtype}")
        height, width = images.shape[-2:]
        # Images come pixel by pixel (channels last); on a CPU, convolutions plane by plane are faster.
        pixels = (images.contiguous() - self._mean) / self._std
        pixels = F.pad(pixels, (0, -width % STRIDE_PX, 0, -height % STRIDE_PX), mode="replicate")
        *finer, features = self.encoder(pixels)
        for stage, skipped in zip(self.decoder, reversed(finer), strict=True):
            features = stage(features, skipped)
        return self.narrow(features)

    def load_encoder(self, config: UNet2dConfig) -> None:
        """Takes over the encoder's weights that the config names; raises CheckpointError when they cannot be had or do
        not fit."""
        if config.weights is None:
            return
        weights = _read_weights(config.encoder, config.weights)
        wanted = self.encoder.state_dict()
        wrong = [name for name, value in wanted.items() if name not in weights or weights[name].shape != value.shape]
        if wrong:
            got = tuple(weights[wrong[0]].shape) if wrong[0] in weights else "nothing"
            raise CheckpointError(
                f"weights '{config.weights}' are not those of a {config.encoder}: {len(wrong)} of {len(wanted)} "
                f"tensors do not fit, such as {wrong[0]}: expected {tuple(wanted[wrong[0]].shape)}, got {got}"
            )
        self.encoder.load_state_dict({name: weights[name] for name in wanted})


class _Encoder(nn.Module):
    """A ResNet without its classifier. Parts have torchvision's names, so that its weights fit."""

    def __init__(self, blocks: tuple[int, ...], width: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(width)
        self.layer1 = _stage_of_blocks(width, width, blocks[0], 1, norm)
        self.layer2 = _stage_of_blocks(width, 2 * width, blocks[1], 2, norm)
        self.layer3 = _stage_of_blocks(2 * width, 4 * width, blocks[2], 2, norm)
        self.layer4 = _stage_of_blocks(4 * width, 8 * width, blocks[3], 2, norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Features at strides 2, 4, 8, 16 and 32."""
        at_2 = F.relu(self.bn1(self.conv1(pixels)))
        at_4 = self.layer1(F.max_pool2d(at_2, 3, stride=2, padding=1))
        at_8 = self.layer2(at_4)
        at_16 = self.dropout(self.layer3(at_8))
        return at_2, at_4, at_8, at_16, self.dropout(self.layer4(at_16))


class _Stage(nn.Module):
    """Doubles the resolution and joins what the encoder had there."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )
        self.join = nn.Sequential(
            nn.Conv2d(2 * out_channels, out_channels, 3, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, coarse: Tensor, skipped: Tensor) -> Tensor:
        return self.join(torch.cat([skipped, self.up(coarse)], 1))


def _stage_of_blocks(in_channels: int, out_channels: int, count: int, stride: int, norm: Norm) -> nn.Sequential:
    downsample = None
    if stride > 1:
        downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels))
    first = BasicBlock(in_channels, out_channels, stride, downsample, norm_layer=norm)
    others = [BasicBlock(out_channels, out_channels, norm_layer=norm) for _ in range(count - 1)]
    return nn.Sequential(first, *others)


def _read_weights(encoder: str, weights: str) -> Mapping[str, Tensor]:
    path = Path(weights).expanduser()
    if path.is_file():
        return _read_file(path)
    names = torchvision.models.get_model_weights(encoder)
    if weights not in names.__members__:
        raise CheckpointError(
            f"weights '{weights}' of {encoder} are neither a file nor a name of torchvision's "
            f"({', '.join(names.__members__)}); give one in network.unet2d.weights"
        )
    try:
        return names[weights].get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # whatever the download, the network or the disk raise
        raise CheckpointError(
            f"weights '{weights}' of {encoder} could not be downloaded ({error}); "
            f"without a network, give a local .pth or .safetensors file in network.unet2d.weights"
        ) from None


def _read_file(path: Path) -> Mapping[str, Tensor]:
    if not is_pickle(path):
        with open_tensors(path, "ResNet weights") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(f"ResNet weights '{path}': expected a file of tensors ({reason})") from None
