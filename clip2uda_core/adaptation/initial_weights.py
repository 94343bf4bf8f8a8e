"""Beginning where another model ended: few iterations go further from one that knows the classes already, and without a
source nobody else teaches them."""

import logging
from typing import Any

import torch

from clip2uda_core.config import parse_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.inference.segmenter import ModelConfig
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.checkpoint import Checkpoint
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.models.network import Clip2udaNetwork

logger = logging.getLogger(__name__)

_OF_POINTS = ("sparse_unet", "heads_3d")
_OF_IMAGES = ("prompts", "adapter", "decoder", "unet2d", "heads_2d", "text_target")


def check_same_model(before: ModelConfig, now: ModelConfig) -> None:
    """Raises ConfigError when a model's weights would mean something else in a run's network. The name of CLIP's
    weights may differ: `start_from` compares the weights themselves."""
    old, new = _settings(before), _settings(now)
    different = [name for name in old | new if old.get(name) != new.get(name)]
    if different:
        listed = "; ".join(f"model.{name}: {old.get(name)}, not {new.get(name)}" for name in different)
        raise ConfigError(
            f"the run has the settings of the model that it begins with: {listed}; leave --set model.*, and --clip "
            f"with another model, out"
        )


def start_from(
    given: Checkpoint, network: Clip2udaNetwork, model: ModelConfig, clip: FrozenClip | None, labels: LabelSpace
) -> str:
    """Gives each branch of a network the given model's weights and running statistics, where it is of the same
    settings; the other branch stays as it is. Returns which begin so, in words; empty for none, with a warning.

    Mimic heads begin as the main heads beside them: a model that was trained on a source alone has never trained its
    own, and a 3D label is the best guess at the 2D label of the same point. Such a model labels with the source's
    prompt, and its target's prompt is still as random as it began: the network's target then gets the source's.
    """
    if given.labels.names != labels.names:
        logger.warning(
            "training begins at random: the model that was given labels the classes %s, this run those of '%s', %s",
            list(given.labels.names),
            labels.name,
            list(labels.names),
        )
        return ""
    before = parse_config(ModelConfig, given.header.config, "the model to begin with")
    same_clip = clip is None or clip.weight_hash == given.header.clip_hash
    branches: dict[str, tuple[str, ...]] = {}
    if _settings_of_points(before) == _settings_of_points(model):
        branches["3D"] = _OF_POINTS
    if model.uses_images and same_clip and _settings_of_images(before) == _settings_of_images(model):
        branches["2D"] = _OF_IMAGES
    if not branches:
        logger.warning(
            "training begins at random: neither branch of the model that was given (%s) has the settings of this run's",
            given.header.training,
        )
    parts = tuple(part for of_branch in branches.values() for part in of_branch)
    state = {name: value for name, value in given.state.items() if name.split(".")[0] in parts}
    network.load_state_dict(network.state_dict() | state)
    for heads in (getattr(network, part) for part in parts if part.startswith("heads_")):
        heads.mimic.load_state_dict(heads.main.state_dict())
    if "2D" in branches and clip is not None:
        _begin_target_prompt(network, clip, labels.prompts)
    return " and ".join(branches)


@torch.no_grad()
def _begin_target_prompt(network: Clip2udaNetwork, clip: FrozenClip, class_prompts: tuple[str, ...]) -> None:
    if network.prompts.target is None:
        return
    assert clip.text is not None
    of_source, of_target = (network.prompts(clip.text, class_prompts, d) for d in ("source", "target"))
    if (of_source - network.text_target).norm() < (of_target - network.text_target).norm():
        network.prompts.target.copy_(network.prompts.source)


def _settings(model: ModelConfig) -> dict[str, Any]:
    """All that the tensors of a model depend on; nothing of the 2D network that it does not have."""
    of_both = {"branches": model.branches, "image_network": model.image_network if model.uses_images else None}
    return of_both | _settings_of_points(model) | _settings_of_images(model)


def _settings_of_points(model: ModelConfig) -> dict[str, Any]:
    """Of the 3D branch, by name."""
    prepare = model.prepare.model_dump(mode="json", exclude={"image_max_width_px"})
    return {"prepare": prepare, "network.sparse_unet": model.network.sparse_unet.model_dump(mode="json")}


def _settings_of_images(model: ModelConfig) -> dict[str, Any]:
    """Of the 2D branch, by name; {} where a model has none."""
    if not model.uses_images:
        return {}
    settings: dict[str, Any] = {"prepare.image_max_width_px": model.prepare.image_max_width_px}
    if model.uses_clip:
        settings["clip"] = model.clip.model_dump(mode="json", exclude={"weights"})
    parts = ("prompts", "adapter", "decoder") if model.uses_clip else ("unet2d",)
    of_network = model.network.model_dump(mode="json", include=set(parts))
    return settings | {f"network.{part}": of_network[part] for part in parts}
