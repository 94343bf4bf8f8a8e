"""Models of the labelled source alone that were trained before the benchmark: what all its runs may begin with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.initial_weights import check_same_model
from clip2uda_core.adaptation.methods import STAND_IN
from clip2uda_core.config import parse_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.inference.segmenter import ModelConfig
from clip2uda_core.models.checkpoint import hash_state, load_checkpoint
from clip2uda_core.models.clip_weights import ClipConfig


@dataclass(frozen=True)
class SourceModel:
    """A checkpoint, with its settings, what it says of its training, and the sha256 of its weights."""

    path: Path
    model: ModelConfig
    training: str
    weights: str


SourceModels = Mapping[str, SourceModel]
"""By their 2D network, `clip` or `unet`."""


def read_source_models(paths: Sequence[Path]) -> SourceModels:
    """Raises CheckpointError for what is no checkpoint, ConfigError for two models with the same 2D network."""
    models: dict[str, SourceModel] = {}
    for path in paths:
        checkpoint = load_checkpoint(path)
        config = parse_config(ModelConfig, checkpoint.header.config, f"config in checkpoint '{path}'")
        network = config.image_network
        if network in models:
            raise ConfigError(
                f"--begin-with: {models[network].path} and {path} both have the 2D network '{network}'; give one of "
                f"them"
            )
        models[network] = SourceModel(path, config, checkpoint.header.training, hash_state(checkpoint.state))
    return models


def source_model_of(config: AdaptConfig, models: SourceModels) -> SourceModel:
    """The one that a method's runs begin with. Raises ConfigError where there is none, or its settings are others. CLIP
    is the stand-in, unless the settings name another (`load_method` with a scenario)."""
    network = config.model.image_network
    if network not in models:
        raise ConfigError(
            f"method '{config.method}' has the 2D network '{network}', and no model of --begin-with has it "
            f"({', '.join(models)}); give one that was trained on the source alone, or leave the method out"
        )
    model = config.model
    if "clip" not in model.model_fields_set:
        model = model.model_copy(update={"clip": parse_config(ClipConfig, STAND_IN, "the stand-in")})
    try:
        check_same_model(models[network].model, model)
    except ConfigError as error:
        raise ConfigError(f"method '{config.method}' and {models[network].path}: {error}") from None
    return models[network]
