"""Typed, frozen, strict configuration: an unknown key is an error that names it.

Each component declares its own settings as a `Config` subclass beside its code; a run's tree is made of these.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from clip2uda_core.errors import ConfigError
from clip2uda_core.files import write_text, writing

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all settings: immutable, no unknown keys, defaults validated too."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def parse_config(kind: type[C], values: Any, origin: str) -> C:
    """Checks `values` (a mapping, from YAML or JSON) against `kind`; `origin` names them in the error."""
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: expected a mapping of settings, got {type(values).__name__}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
            if problem["type"] == "extra_forbidden":
                lines.append(f"{key}: unknown setting")
            else:
                got = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
                lines.append(f"{key}: {problem['msg'].lower()}{got}")
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; ConfigError when it cannot be read or parsed."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None


def load_config(kind: type[C], path: Path) -> C:
    """Reads and checks a YAML file."""
    return parse_config(kind, read_yaml(path) or {}, str(path))


def save_config(config: Config, path: Path) -> None:
    """Writes the settings as YAML, so that a run leaves the config that it used. Raises ConfigError when it cannot."""
    with writing(str(path), ConfigError, "free space, or choose another folder"):
        write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, those of `above` in place of those of `below`."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
