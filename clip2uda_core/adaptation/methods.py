"""Methods by name: the YAML files of config/adapt, with what a run asks for in place of their values."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.config import merged, parse_config, read_yaml
from clip2uda_core.errors import ConfigError
from clip2uda_core.inference.segmenter import ModelConfig
from clip2uda_core.models.checkpoint import Checkpoint
from clip2uda_core.paths import config_file

STAND_IN = {"model": "sim-clip", "weights": "sim-clip"}
"""The CLIP of a run that names none: it ships, so no download is needed."""


def is_source_free(method: str) -> bool:
    """Whether a method learns from the model that is given, in place of a source. Raises ConfigError for an unknown
    one."""
    values = read_yaml(config_file(method, "adapt"))
    return isinstance(values, dict) and values.get("teacher") == "given"


def settings_of_model(model: Checkpoint) -> dict[str, Any]:
    """What a method without a source takes from the model that is given: its own settings and, where it looks at no
    image, no losses between 2D and 3D."""
    # With the defaults of settings that are younger than the model: a budget's are not the model's.
    config = parse_config(ModelConfig, model.header.config, "the model to begin with")
    no_image = {} if config.uses_images else {"losses": {"cross_modal_target": 0.0}}
    return {"model": config.model_dump(mode="json")} | no_image


def load_method(
    method: str,
    asked: Mapping[str, Any],
    clip: str | None,
    settings: Sequence[str],
    budget: str | None = None,
    of_model: Mapping[str, Any] | None = None,
) -> AdaptConfig:
    """The settings of a method that ships, or of a YAML file.

    budget: a file of config/budgets, or any other: settings that hold where the method has none of its own.
    of_model: settings of the model that it begins with, which hold whatever the method says.
    asked: top-level settings, None for the method's own. clip: MODEL:WEIGHTS, None for the method's own or else the
    stand-in. settings: KEY=VALUE, as in
    `loader.batch_size=4`. Raises ConfigError for an unknown method or setting.
    """
    path = config_file(method, "adapt")
    values = read_yaml(path) or {}
    if budget is not None:
        values = merged(read_yaml(config_file(budget, "budgets")) or {}, values)
    if of_model is not None:
        values = merged(values, of_model)
    if clip is not None:
        model, separator, weights = clip.partition(":")
        if not (model and separator and weights):
            raise ConfigError(f"--clip {clip}: expected MODEL:WEIGHTS, as in --clip ViT-B-16:laion2b_s34b_b88k")
        put(values, "model.clip.model", model)
        put(values, "model.clip.weights", weights)
    for key, value in asked.items():
        if value is not None:
            values[key] = value
    for text in settings:
        key, separator, value = text.partition("=")
        if not (key and separator):
            raise ConfigError(f"--set {text}: expected KEY=VALUE, as in --set loader.batch_size=4")
        put(values, key, yaml.safe_load(value))
    model_settings = values.setdefault("model", {})
    if isinstance(model_settings, dict):
        model_settings.setdefault("clip", STAND_IN)
    return parse_config(AdaptConfig, values, str(path))


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets `a.b.c` in nested mappings. Raises ConfigError where `a` or `a.b` is no mapping."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: '{parent}' is a value, it holds no settings")
    values[last] = value
