"""Label spaces: the classes of a task, their prompts and colours, and how each data set's raw ids map to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from clip2uda_core.config import Config, load_config, parse_config
from clip2uda_core.errors import DataError
from clip2uda_core.paths import config_file

IGNORE = 255
"""Label of points that have no class: unlabelled, void, or outside the label space (xMUDA's ignore index)."""

IGNORE_COLOR = (90, 90, 90)


class LabelClass(Config):
    """One class: its name in reports, its words in the text prompt, its RGB colour."""

    name: str
    prompt: str
    color: tuple[int, int, int]

    @field_validator("color")
    @classmethod
    def _bytes(cls, color: tuple[int, int, int]) -> tuple[int, int, int]:
        if any(not 0 <= channel <= 255 for channel in color):
            raise ValueError("a colour is three values from 0 to 255")
        return color


class LabelSpaceConfig(Config):
    """`config/labels/<name>.yaml`. `raw` maps, per data set, a class name to the data set's raw ids."""

    name: str
    classes: tuple[LabelClass, ...] = Field(min_length=2, max_length=254)
    raw: dict[str, dict[str, tuple[int, ...]]] = Field(default={})

    @model_validator(mode="after")
    def _consistent(self) -> "LabelSpaceConfig":
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names repeat in {names}")
        for dataset, mapping in self.raw.items():
            unknown = sorted(set(mapping) - set(names))
            if unknown:
                raise ValueError(f"raw ids of '{dataset}' name classes that do not exist: {unknown}; classes: {names}")
            ids = [raw for raw_ids in mapping.values() for raw in raw_ids]
            if len(set(ids)) != len(ids):
                raise ValueError(f"raw ids of '{dataset}' map to two classes")
        return self


@dataclass(frozen=True)
class LabelSpace:
    """The K classes of a task. Class indices are their order; everything else is IGNORE."""

    config: LabelSpaceConfig

    @staticmethod
    def load(name: str) -> "LabelSpace":
        """Loads a shipped label space by name (`street8`) or a YAML file by path."""
        return LabelSpace(load_config(LabelSpaceConfig, config_file(name, "labels")))

    @staticmethod
    def from_dict(values: Mapping[str, object], origin: str) -> "LabelSpace":
        """From a checkpoint's header; `origin` names it in errors."""
        return LabelSpace(parse_config(LabelSpaceConfig, dict(values), origin))

    def __len__(self) -> int:
        return len(self.config.classes)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.config.classes)

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(c.prompt for c in self.config.classes)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """(256, 3) RGB by label; labels that are no class have the colour of IGNORE."""
        table = np.full((256, 3), IGNORE_COLOR, np.uint8)
        table[: len(self)] = [c.color for c in self.config.classes]
        return table

    def from_raw(self, dataset: str, raw_ids: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Maps raw ids of a data set, any shape, to class indices; ids without a class become IGNORE.

        Raises DataError when this label space does not know the data set.
        """
        if dataset not in self.config.raw:
            known = ", ".join(sorted(self.config.raw)) or "none"
            raise DataError(
                f"label space '{self.name}' has no raw ids for data set '{dataset}' (it has: {known}); "
                f"add them under raw: in its YAML"
            )
        pairs = [(raw, self.names.index(n)) for n, raws in self.config.raw[dataset].items() for raw in raws]
        raw_ids = np.asarray(raw_ids)
        table = np.full(max(raw for raw, _ in pairs) + 2, IGNORE, np.uint8)
        for raw, index in pairs:
            table[raw] = index
        inside = (raw_ids >= 0) & (raw_ids < len(table))
        return table[np.where(inside, raw_ids, len(table) - 1)]
