"""The frozen CLIP: image features at four depths, dense and global embeddings, and a text tower that gradients pass.

No weight in here ever takes a gradient step, and none is part of a network's state: the modules that train live beside
a `FrozenClip`, not around it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.models.checkpoint import hash_state
from clip2uda_core.models.clip_weights import (
    ClipConfig,
    ClipDimensions,
    dimensions,
    find_weights,
    load_model_config,
    read_weights,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VisualFeatures:
    """What the frozen image tower says about B images of one size: a constant of the image, so it can be cached.

    taps: F1..F4, each (B, C, h, w): tokens after four evenly spread blocks.
    dense: V, (B, E, h, w): the last tokens in the space that CLIP shares with text.
    pooled: g, (B, E): CLIP's own embedding of the whole image.
    image_px: (H, W) of the images. patch_px: pixels of a token's side.

    The maps cover the image and the padding at its right and bottom, `extent_px` in all: cell (i, j) of a map of
    h x w cells is centred on pixel ((j + 0.5) * extent_w / w - 0.5, (i + 0.5) * extent_h / h - 0.5).
    """

    taps: tuple[Tensor, ...]
    dense: Tensor
    pooled: Tensor
    image_px: tuple[int, int]
    patch_px: int

    @property
    def extent_px(self) -> tuple[int, int]:
        """(H, W) in pixels that the maps cover, padding included."""
        rows, columns = self.dense.shape[-2:]
        return rows * self.patch_px, columns * self.patch_px


EncodeImages = Callable[[Tensor], VisualFeatures]
"""(B, 3, H, W) uint8 RGB images to features: `FrozenClip.encode_images`, or a cache that remembers what it said."""


class FrozenClip(nn.Module):
    """The image tower of a CLIP, and its text tower where it was asked for; always in eval mode, never trained."""

    def __init__(
        self, visual: VisionTransformer, text: "TextTower | None", sizes: ClipDimensions, config: ClipConfig
    ) -> None:
        super().__init__()
        self.visual: Any = visual  # to type checkers, parts of torch modules are modules or tensors
        self.text = text
        self.dimensions = sizes
        self.config = config
        self.weight_hash = hash_state(visual.state_dict())
        """sha256 of the image tower's weights; what a checkpoint or a feature cache was made with."""
        self._positions: dict[tuple[int, int, torch.device], Tensor] = {}
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", 255 * torch.tensor(config.image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", 255 * torch.tensor(config.image_std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @staticmethod
    def load(config: ClipConfig, text: bool = False) -> "FrozenClip":
        """Builds the CLIP on the CPU; without `text`, the text tower is neither built nor read.

        Raises ConfigError for an unknown model, CheckpointError for weights that are missing, damaged or of another
        model, and for a CLIP whose towers are not the plain ones.
        """
        model_config = load_model_config(config.model)
        if text:
            _check_text_tower(config.model, model_config["text_cfg"])
        if config.weights is None:
            model = _random_model(model_config, config)
        else:
            model = _read_model(model_config, config, text)
        return FrozenClip(model.visual, TextTower(model) if text else None, dimensions(model_config), config)

    def train(self, mode: bool = True) -> "FrozenClip":
        """Stays in eval mode, whatever the network around it is set to: no dropout is ever active in here."""
        return super().train(False)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> VisualFeatures:
        """(B, 3, H, W) uint8 RGB images, of any size, to what the frozen tower says about them.

        Pixels are normalised with CLIP's statistics and padded at the right and bottom, by repeating the edge, to a
        multiple of the patch. The dense tokens are the last block's, through ln_post and the projection that CLIP
        applies to its class token (DenseCLIP, section 3.2).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ConfigError(f"images: expected (B, 3, H, W) uint8 RGB, got {tuple(images.shape)} {images.dtype}")
        height, width = images.shape[-2:]
        patch = self.dimensions.patch_px
        pixels = (images - self._mean) / self._std
        pixels = F.pad(pixels, (0, -width % patch, 0, -height % patch), mode="replicate")
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._use_bfloat16(images.device)):
            return self._run_tower(pixels, (height, width))

    def _run_tower(self, pixels: Tensor, image_px: tuple[int, int]) -> VisualFeatures:
        visual = self.visual
        tokens = visual.conv1(pixels)
        grid = tuple(tokens.shape[-2:])
        tokens = tokens.flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = torch.cat([class_token, tokens], 1) + self._position_embedding(*grid).to(tokens.dtype)
        tokens = visual.ln_pre(tokens)

        blocks = visual.transformer.resblocks
        tapped = tap_blocks(len(blocks))
        after_block = {}
        for index, block in enumerate(blocks):
            tokens = block(tokens)
            if index in tapped:
                after_block[index] = tokens
        taps = tuple(_to_map(after_block[index][:, 1:], grid) for index in tapped)
        dense = _to_map(visual.ln_post(tokens[:, 1:]) @ visual.proj, grid)
        return VisualFeatures(taps, dense, _pool(visual, tokens), image_px, self.dimensions.patch_px)

    def _position_embedding(self, rows: int, columns: int) -> Tensor:
        """(1 + rows * columns, C): the class token's and the patches' embeddings, resized to the grid.

        Bicubic with antialiasing, as open_clip resizes them when it loads weights for another image size.
        """
        stored = self.visual.positional_embedding
        key = (rows, columns, stored.device)
        if key not in self._positions:
            grid = _to_map(stored[None, 1:], self.visual.grid_size)
            if self.visual.grid_size != (rows, columns):
                grid = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=True, align_corners=False)
            self._positions[key] = torch.cat([stored[:1], grid[0].flatten(1).T])
        return self._positions[key]

    def _use_bfloat16(self, device: torch.device) -> bool:
        if self.config.precision != "auto":
            return self.config.precision == "bf16"
        if device.type == "cuda":
            return torch.cuda.get_device_capability(device) >= (8, 0)
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class TextTower(nn.Module):
    """CLIP's text tower, open to learned context tokens: its weights are frozen, gradients flow through it."""

    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.token_embedding = model.token_embedding
        self.positional_embedding = model.positional_embedding
        self.transformer = model.transformer
        self.ln_final = model.ln_final
        self.text_projection = model.text_projection
        self.context_length: int = model.context_length
        self._tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)

    def encode(self, texts: tuple[str, ...]) -> Tensor:
        """K texts to (K, E) embeddings, not normalised; equals open_clip's `encode_text`."""
        no_context = self.positional_embedding.new_empty(0, self.positional_embedding.shape[1])
        return self.encode_with_context(no_context, texts)

    def encode_with_context(self, context: Tensor, names: tuple[str, ...]) -> Tensor:
        """(n_ctx, width) context tokens and K class names to (K, E): [SOT, context, name, EOT] per name.

        Only the tokens up to the last EOT are run: attention is causal, so what follows an EOT cannot change it.
        Raises ConfigError when the context and the longest name do not fit the tower.
        """
        tokens = self._tokenizer(list(names)).to(self.positional_embedding.device)
        end = tokens.argmax(-1)  # EOT has the highest id
        name_length = int(end.max()) + 1
        length = name_length + len(context)
        if length > self.context_length:
            longest = names[int(end.argmax())]
            raise ConfigError(
                f"{len(context)} context tokens and the class name '{longest}' make {length} tokens, but the text "
                f"tower takes {self.context_length}; use fewer context tokens (prompts.n_ctx) or a shorter prompt"
            )
        words = self.token_embedding(tokens[:, :name_length])
        sequence = torch.cat([words[:, :1], context.expand(len(names), -1, -1), words[:, 1:]], 1)
        sequence = sequence + self.positional_embedding[:length]
        causal = torch.full((length, length), -torch.inf, device=sequence.device).triu(1)
        sequence = self.ln_final(self.transformer(sequence, attn_mask=causal))
        rows = torch.arange(len(names), device=sequence.device)
        return sequence[rows, end + len(context)] @ self.text_projection


def tap_blocks(depth: int) -> tuple[int, int, int, int]:
    """Indices of the four blocks that are tapped: 3, 5, 7, 11 of 12, and the same fractions of any depth."""
    first, second, third, last = (round(depth * twelfths / 12) - 1 for twelfths in (4, 6, 8, 12))
    return first, second, third, last


def _to_map(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(B, h*w, C) tokens to a (B, C, h, w) map."""
    return tokens.transpose(1, 2).unflatten(2, grid).contiguous()


def _pool(visual: Any, tokens: Tensor) -> Tensor:
    """(B, E): the image embedding as the tower's own forward gives it, for class-token and for average pooling."""
    pooled = tokens[:, 0] if visual.pool_type == "tok" else tokens[:, 1:].mean(1)
    if visual.final_ln_after_pool or visual.pool_type == "tok":
        return visual.ln_post(pooled) @ visual.proj
    return visual.ln_post(tokens[:, 1:]).mean(1) @ visual.proj


def _check_text_tower(model: str, text_config: dict[str, Any]) -> None:
    own_tokenizer = text_config.get("hf_model_name") or text_config.get("hf_tokenizer_name")
    if own_tokenizer or text_config.get("no_causal_mask") or text_config.get("pool_type", "argmax") != "argmax":
        raise CheckpointError(
            f"CLIP '{model}': learning prompts needs CLIP's own causal text tower and tokenizer, got "
            f"{own_tokenizer or 'another kind of text tower'}; use one such as ViT-B-32, ViT-B-16, ViT-L-14 or ViT-H-14"
        )


def _random_model(model_config: dict[str, Any], config: ClipConfig) -> open_clip.CLIP:
    logger.warning(
        "CLIP '%s' is initialised at random (clip.weights is not set): its features mean nothing; "
        "use it for tests and to train a stand-in",
        config.model,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return open_clip.CLIP(**model_config)


def _read_model(model_config: dict[str, Any], config: ClipConfig, text: bool) -> open_clip.CLIP:
    """The model with the weights of its image tower, and of its text tower on demand; the rest stays without memory."""
    path = find_weights(config)
    weights = read_weights(path, "" if text else "visual.")
    with torch.device("meta"):
        model = open_clip.CLIP(**model_config)
    wanted = {name: value for name, value in model.state_dict().items() if text or name.startswith("visual.")}
    wrong = [name for name, value in wanted.items() if name not in weights or weights[name].shape != value.shape]
    if wrong:
        got = tuple(weights[wrong[0]].shape) if wrong[0] in weights else "nothing"
        raise CheckpointError(
            f"CLIP weights '{path}' are not those of '{config.model}': {len(wrong)} of {len(wanted)} tensors do not "
            f"fit, such as {wrong[0]}: expected {tuple(wanted[wrong[0]].shape)}, got {got}"
        )
    model.load_state_dict({name: weights[name] for name in wanted}, strict=False, assign=True)
    return model
