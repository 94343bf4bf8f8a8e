"""`clip2uda adapt --source none`: what has to be there in place of a labelled source."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip2uda_core.config import save_config
from clip2uda_core.errors import ConfigError
from clip2uda_core.files import writing
from clip2uda_core.labels import LabelSpace

if TYPE_CHECKING:
    from clip2uda_core.adaptation.config import AdaptConfig

METHOD = "source_free"


def asks_for_none(source: list[str] | None) -> bool:
    """Whether `--source none` was given. Raises ConfigError where it was given beside another source."""
    if source is None or "none" not in source:
        return False
    if len(source) > 1:
        raise ConfigError(f"--source none contradicts the other --source ({', '.join(source)}); give one or the other")
    return True


def model_to_begin_with(method: str, teacher: Path | None, in_use: Path | None) -> Path:
    """The checkpoint that a method without a source begins with: the teacher or, by default, the model in use. Raises
    ConfigError where there is neither."""
    model = teacher or in_use
    if model is None:
        raise ConfigError(
            f"method '{method}' has no source to learn from and begins with a model, but --checkpoint is none; give a "
            f"trained one with --checkpoint FILE, or leave --checkpoint out for the one that ships"
        )
    return model / "model.safetensors" if model.is_dir() else model


def settings_to_begin_with(method: str, teacher: Path | None, in_use: Path | None, out: Path) -> dict[str, Any] | None:
    """What the model that a method without a source begins with brings along: its settings, and its classes, which are
    written into the run's folder unless they ship. None for a method with a source, which has settings of its own."""
    from clip2uda_core.adaptation.methods import is_source_free, settings_of_model
    from clip2uda_core.models.checkpoint import load_checkpoint

    if not is_source_free(method):
        return None
    checkpoint = load_checkpoint(model_to_begin_with(method, teacher, in_use))
    return settings_of_model(checkpoint) | {"labels": _named(checkpoint.labels, out / "labels.yaml")}


def _named(labels: LabelSpace, path: Path) -> str:
    """The name under which a label space can be loaded: its own where it ships, else that of a file."""
    try:
        if LabelSpace.load(labels.name).config == labels.config:
            return labels.name
    except ConfigError:
        pass
    with writing(str(path), ConfigError, "give another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
    save_config(labels.config, path)
    return str(path)


def check_needs_no_source(config: "AdaptConfig") -> None:
    """Raises ConfigError for a method that --source none leaves without what it learns from."""
    if config.losses.use_source:
        raise ConfigError(
            f"--source none: method '{config.method}' learns from labels of a source; leave --method out "
            f"({METHOD} adapts without), or leave --source out, and streets are simulated with the target's sensors"
        )
