"""Which CLIP, and where its weights come from: open_clip's names and tags, or local files."""

import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from torch import Tensor

from clip2uda_core.config import Config
from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.models.tensor_file import is_pickle, open_tensors
from clip2uda_core.paths import config_file

logger = logging.getLogger(__name__)

HOW_TO_GIVE_WEIGHTS = "give a local .safetensors or .pt file with --clip-weights (clip.weights in a config)"


class ClipConfig(Config):
    """Which frozen CLIP to use.

    model: an open_clip ViT (`ViT-B-16`), a model that ships in config/clip (`sim-clip`, the stand-in for tests and
        simulation), or the path of a JSON file in open_clip's model-config format.
    weights: a tag of open_clip for that model (`laion2b_s34b_b88k`), the name of weights that ship in config/clip, or
        the path of a .safetensors or .pt file in open_clip's format. None initialises at random from `seed`: that is
        no CLIP, and only tests and the training of a stand-in want it.
    image_mean, image_std: RGB statistics in 0..1 that the weights were trained with.
    precision: of the visual tower. `auto` is bfloat16 under autocast where the hardware computes it, else float32;
        bfloat16 that is emulated is many times slower than float32.
    """

    model: str = "ViT-B-16"
    weights: str | None = "laion2b_s34b_b88k"
    seed: int = 0
    image_mean: tuple[float, float, float] = open_clip.OPENAI_DATASET_MEAN
    image_std: tuple[float, float, float] = open_clip.OPENAI_DATASET_STD
    precision: Literal["auto", "bf16", "fp32"] = "auto"


@dataclass(frozen=True)
class ClipDimensions:
    """Sizes of a CLIP that the trained modules are built to: ViT width C, embedding width E, text width, patch."""

    width: int
    embed_dim: int
    text_width: int
    patch_px: int


def load_model_config(model: str) -> dict[str, Any]:
    """The model config of a CLIP, in open_clip's format (`embed_dim`, `vision_cfg`, `text_cfg`, ...).

    Raises ConfigError when the name is unknown or the file is no such config, CheckpointError when the image tower is
    not a plain ViT: taps, dense tokens and resized positional embeddings need one.
    """
    if model in open_clip.list_models():
        values = open_clip.get_model_config(model)
    else:
        values = _read_model_config(model)
    vision = values["vision_cfg"]
    if "timm_model_name" in vision:
        kind = f"timm's {vision['timm_model_name']}"
    elif isinstance(vision["layers"], list):
        kind = "a ResNet"
    elif vision.get("attentional_pool"):
        kind = "a ViT with attentional pooling"
    elif "multimodal_cfg" in values:
        kind = "CoCa's"
    else:
        return values
    raise CheckpointError(
        f"CLIP '{model}': expected an image tower that is a plain ViT, got {kind}; "
        f"use one such as ViT-B-32, ViT-B-16, ViT-L-14 or ViT-H-14"
    )


def _read_model_config(model: str) -> dict[str, Any]:
    try:
        path = config_file(model, "clip", ".json")
    except ConfigError as error:
        raise ConfigError(f"CLIP model '{model}': {error}; nor is it a model of open_clip, such as ViT-B-16") from None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None
    expected = {"embed_dim", "vision_cfg", "text_cfg"}
    if not isinstance(values, dict) or not expected <= values.keys():
        raise ConfigError(f"{path}: expected open_clip's model config with the keys {sorted(expected)}")
    return values


def dimensions(model_config: Mapping[str, Any]) -> ClipDimensions:
    """The sizes of the CLIP that `model_config` describes."""
    vision = open_clip.CLIPVisionCfg(**model_config["vision_cfg"])
    text = open_clip.CLIPTextCfg(**model_config["text_cfg"])
    return ClipDimensions(vision.width, model_config["embed_dim"], text.width, vision.patch_size)


def find_weights(config: ClipConfig) -> Path:
    """The file that holds the weights; a tag of open_clip is downloaded to its cache once.

    Raises CheckpointError when there is no such file, tag or network, and ConfigError when a tag belongs to another
    activation function or image normalisation than the config's.
    """
    assert config.weights is not None
    path = Path(config.weights).expanduser()
    if path.is_file():
        return path
    try:
        return config_file(config.weights, "clip", ".safetensors")
    except ConfigError:
        pass
    tags = open_clip.list_pretrained_tags_by_model(config.model)
    if config.weights not in tags:
        known = f"open_clip's tags for it are {', '.join(tags)}" if tags else "open_clip has no weights for it"
        raise CheckpointError(
            f"weights '{config.weights}' of CLIP '{config.model}' are neither a file nor a tag ({known}); "
            f"{HOW_TO_GIVE_WEIGHTS}"
        )
    tag = open_clip.get_pretrained_cfg(config.model, config.weights)
    _check_tag(config, tag)
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # whatever the hub's client, the network or the disk raise
        raise CheckpointError(
            f"weights '{config.weights}' of CLIP '{config.model}' could not be downloaded ({error}); "
            f"without a network, {HOW_TO_GIVE_WEIGHTS}"
        ) from None


def _check_tag(config: ClipConfig, tag: Mapping[str, Any]) -> None:
    """A wrong activation or normalisation gives features that look right and are not, so it is refused."""
    quick_gelu = load_model_config(config.model).get("quick_gelu", False)
    if tag.get("quick_gelu", False) != quick_gelu:
        other = config.model.removesuffix("-quickgelu") if quick_gelu else f"{config.model}-quickgelu"
        raise ConfigError(
            f"weights '{config.weights}' were not trained with the activation of CLIP '{config.model}'; "
            f"use clip.model: {other}"
        )
    if tuple(tag["mean"]) != config.image_mean or tuple(tag["std"]) != config.image_std:
        raise ConfigError(
            f"weights '{config.weights}' were trained with other image statistics; "
            f"set clip.image_mean: {list(tag['mean'])} and clip.image_std: {list(tag['std'])}"
        )


def read_weights(path: Path, prefix: str) -> dict[str, Tensor]:
    """The float32 weights in `path` whose open_clip name begins with `prefix`, by that name.

    Only these are read from a safetensors file. A .pt file is read with `weights_only=True`, which runs no code.
    Raises CheckpointError when the file cannot be read that way.
    """
    if is_pickle(path):
        stored = _read_pickle(path)
        return {name: value.float() for name, value in stored.items() if name.startswith(prefix)}
    with open_tensors(path, "CLIP weights") as file:
        return {name: file.get_tensor(name).float() for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(
            f"CLIP weights '{path}': expected tensors only, got a file that is damaged, a TorchScript archive, or a "
            f"pickle that could run code ({reason}); convert it to safetensors where you trust it"
        ) from None
    stored = stored.get("state_dict", stored)
    return {name.removeprefix("module."): value for name, value in stored.items() if isinstance(value, Tensor)}
