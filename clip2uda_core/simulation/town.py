"""What streets of a town look like: ranges that every scene of it draws from. One YAML a town, in config/towns/."""

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from clip2uda_core.config import Config, load_config
from clip2uda_core.paths import config_file


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"a range is [least, most], but {span[0]} is more than {span[1]}")
    return span


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""[least, most]; a value is drawn evenly between them."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[float, Field(ge=0, le=200)]
Rgb = Annotated[tuple[float, float, float], Field(description="sRGB, 0..1")]


def draw(span: Range, rng: np.random.Generator) -> float:
    return float(rng.uniform(*span))


class RoadConfig(Config):
    """lane_m: width of one lane. parking: share of sides with a parking lane. bend: share of scenes whose main road
    bends, with `radius_m`. crossings: mean number of side roads a scene. corner_m: radius of kerbs at corners.
    """

    lane_m: Range = (2.9, 3.5)
    parking: Share = 0.6
    bend: Share = 0.5
    radius_m: Range = (45.0, 250.0)
    crossings: Range = (0.6, 2.4)
    kerb_m: Range = (0.04, 0.15)
    corner_m: Range = (3.0, 8.0)
    sidewalk_m: Range = (1.4, 3.2)
    verge: Share = 0.35
    cobbled: Share = 0.1
    island: Share = 0.2
    unmarked: Share = 0.4
    grade: Range = (-0.03, 0.03)
    hills_m: Range = (0.0, 0.6)
    bank_m: Range = (-1.0, 3.0)


class BuildingConfig(Config):
    """row: share of scenes with closed rows of houses; otherwise they stand apart by `gap_m`. setback_m: from the
    sidewalk. gardens: share of scenes with front gardens, walls, fences and hedges."""

    row: Share = 0.45
    gap_m: Range = (3.0, 14.0)
    setback_m: Range = (0.5, 7.0)
    storeys: Range = (2.0, 4.4)
    width_m: Range = (8.0, 17.0)
    empty_lots: Share = 0.15
    flat_roof: Share = 0.25
    brick: Share = 0.3
    shop: Share = 0.15
    gardens: Share = 0.6
    colors: tuple[Rgb, ...] = (
        (0.8, 0.75, 0.62),
        (0.75, 0.6, 0.45),
        (0.85, 0.83, 0.78),
        (0.6, 0.62, 0.66),
        (0.7, 0.45, 0.35),
    )
    bricks: tuple[Rgb, ...] = ((0.5, 0.26, 0.2), (0.58, 0.4, 0.3), (0.42, 0.24, 0.2))


class PlantConfig(Config):
    """Numbers a 100 m of road side: trees along the road, trees in yards, bushes, hedges."""

    street_trees: Range = (0.0, 9.0)
    yard_trees: Range = (1.0, 7.0)
    bushes: Range = (2.0, 12.0)
    hedges: Range = (0.5, 4.0)
    conifers: Share = 0.15
    autumn: Share = 0.1


class StreetLifeConfig(Config):
    """parked: share of the kerb's parking places that are taken. Others are numbers a 100 m of road side."""

    parked: Range = (0.1, 0.75)
    moving: Range = (0.5, 3.0)
    heavy: Share = 0.08
    walkers: Range = (1.5, 8.0)
    cyclists: Range = (0.2, 1.8)
    lamps_m: Range = (22.0, 40.0)
    signs: Range = (1.0, 5.0)
    masts: Range = (0.0, 2.5)
    clutter: Range = (0.5, 4.0)
    sheds: Range = (0.2, 2.0)


class TownConfig(Config):
    """`config/towns/<name>.yaml`. seed: no two towns that are to differ may share it."""

    seed: int = Field(ge=0, lt=2**31)
    road: RoadConfig = RoadConfig()
    buildings: BuildingConfig = BuildingConfig()
    plants: PlantConfig = PlantConfig()
    life: StreetLifeConfig = StreetLifeConfig()
    asphalt: Range = (0.26, 0.42)
    paving: tuple[Rgb, ...] = ((0.55, 0.54, 0.52), (0.6, 0.56, 0.5), (0.5, 0.42, 0.38))
    grass: tuple[Rgb, ...] = ((0.26, 0.34, 0.13), (0.33, 0.37, 0.17))


def load_town(name: str) -> TownConfig:
    """A shipped town by name, or a YAML file by path."""
    return load_config(TownConfig, config_file(name, "towns"))
