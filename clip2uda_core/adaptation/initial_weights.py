"""Beginning where another model ended: adaptation without a source has nobody to learn the classes from anew."""

from typing import Any

import torch

from clip2uda_core.errors import ConfigError
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.models.network import Clip2udaNetwork


def check_same_model(teacher: Segmenter, model: ModelConfig) -> None:
    """Raises ConfigError when weights of the teacher would mean something else in a run's model. The name of CLIP's
    weights may differ: that they are the same is checked where the teacher is loaded."""
    before, now = _without_weights(teacher.config), _without_weights(model)
    different = [name for name in before if before[name] != now[name]]
    if different:
        listed = "; ".join(f"model.{name}: {before[name]}, not {now[name]}" for name in different)
        raise ConfigError(
            f"a run that begins with a model's weights has this model's settings: {listed}; leave --set model.*, and "
            f"--clip with another model, out"
        )


def start_from(
    teacher: Segmenter, network: Clip2udaNetwork, clip: FrozenClip | None, class_prompts: tuple[str, ...]
) -> None:
    """Gives a network, which is of the same settings, the teacher's weights and running statistics.

    A model that saw the source alone labels with the source's prompt, and its target's prompt is still as random as it
    began. The network's target then gets the source's, so that it labels as the teacher does.
    """
    network.load_state_dict(teacher.network.state_dict())
    if clip is None or network.prompts.target is None:
        return
    assert clip.text is not None
    with torch.no_grad():
        of_source, of_target = (network.prompts(clip.text, class_prompts, d) for d in ("source", "target"))
        if (of_source - network.text_target).norm() < (of_target - network.text_target).norm():
            network.prompts.target.copy_(network.prompts.source)


def _without_weights(model: ModelConfig) -> dict[str, Any]:
    settings = model.model_dump(mode="json")
    del settings["clip"]["weights"]
    return settings
