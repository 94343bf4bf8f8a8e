"""The simulated streets that sim-clip is trained and checked on: towns, lights and lenses of no scenario."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clip2uda_core.config import Config
from clip2uda_core.simulation.appearance import AppearanceConfig
from clip2uda_core.simulation.cache import FrameCache
from clip2uda_core.simulation.generate import frames
from clip2uda_core.simulation.scenario import Domain
from clip2uda_core.simulation.sensors import CameraConfig, LidarConfig, MountConfig
from clip2uda_core.simulation.town import BuildingConfig, PlantConfig, RoadConfig, StreetLifeConfig, TownConfig

logger = logging.getLogger(__name__)

LOOKS: dict[str, dict[str, float]] = {
    "day": {},
    "night": {"night": 1.0},
    "rain": {"rain": 1.0},
    "gray": {"gray": 1.0},
    "night_rain": {"night": 1.0, "rain": 1.0},
}
"""What images are made to look like, and which shares of an AppearanceConfig make them so."""

FIRST_SEED = {"train": 710_000, "check": 790_000}
"""Seeds of the towns: training and check share none, and no town in config/towns has one of them."""

FRAMES_PER_SCENE = 6
IMAGES_PER_FRAME = 2
"""One forward, one to the side."""


class WorldsConfig(Config):
    """Which streets and how many: for every look, `towns` towns of their own with `frames` places in each."""

    looks: tuple[str, ...]
    towns: int = Field(ge=1)
    frames: int = Field(ge=1)

    @property
    def images(self) -> int:
        return len(self.looks) * self.towns * self.frames * IMAGES_PER_FRAME


TRAINING = WorldsConfig(looks=tuple(LOOKS), towns=2, frames=24)
CHECK = WorldsConfig(looks=("day", "night", "rain", "gray"), towns=1, frames=12)


@dataclass(frozen=True)
class StreetImage:
    """image (H, W, 3) uint8 RGB; labels (H, W) uint8 classes of street8, IGNORE for the sky; look: a key of LOOKS."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    look: str


def street_images(
    part: Literal["train", "check"], worlds: WorldsConfig, cache: FrameCache, workers: int | None = None
) -> Iterator[StreetImage]:
    """The images of a part, look by look, from the cache or made anew on `workers` processes (None: one a core)."""
    split = "train" if part == "train" else "test"
    for town in range(worlds.towns):
        for number, look in enumerate(worlds.looks):
            domain = _domain(FIRST_SEED[part] + town * len(LOOKS) + number, look)
            logger.info("simulated streets for sim-clip: %s, town %d, %s", part, town, look)
            for frame in frames(domain, split, worlds.frames, cache, workers):
                for view in frame.views:
                    assert view.labels is not None
                    yield StreetImage(view.image, view.labels, look)


def _domain(seed: int, look: str) -> Domain:
    """A town with colours and cameras of its own. The LiDAR is there because a domain has one: 16 rays cost nothing."""
    rng = np.random.default_rng(seed)
    return Domain(
        town=_town(seed, rng),
        lidar=LidarConfig(elevations_deg=(0.0,), azimuth_steps=16, mount=MountConfig(z_m=1.8)),
        cameras=(_front_camera(rng), _side_camera(rng)),
        appearance=_appearance(look),
        frames_per_scene=FRAMES_PER_SCENE,
        spacing_m=9.0,
    )


def _town(seed: int, rng: np.random.Generator) -> TownConfig:
    """Streets of every kind, in random colours."""
    walls = [_color(rng, lightness=(0.35, 0.9), colourfulness=0.18) for _ in range(8)]
    return TownConfig(
        seed=seed,
        road=RoadConfig(
            lane_m=(2.7, 4.0), radius_m=(30, 300), sidewalk_m=(1.4, 4.5), verge=0.5, cobbled=0.15, hills_m=(0.0, 1.0)
        ),
        buildings=BuildingConfig(
            row=rng.uniform(0.1, 0.7),
            gap_m=(3.0, 22.0),
            setback_m=(0.5, 12.0),
            storeys=(1.0, rng.uniform(3.5, 8.0)),
            width_m=(7.0, 24.0),
            empty_lots=0.25,
            flat_roof=rng.uniform(0.1, 0.8),
            brick=rng.uniform(0.1, 0.6),
            colors=tuple(walls),
            bricks=tuple(
                (red, red * rng.uniform(0.45, 0.75), red * rng.uniform(0.35, 0.6)) for red in (0.35, 0.45, 0.6)
            ),
        ),
        plants=PlantConfig(street_trees=(0.0, 12.0), yard_trees=(1.0, 14.0), bushes=(2.0, 20.0), autumn=0.25),
        life=StreetLifeConfig(walkers=(6.0, 16.0), cyclists=(0.5, 2.5), masts=(1.0, 5.0), signs=(2.0, 7.0), heavy=0.15),
        asphalt=(0.2, 0.45),
        paving=tuple(_color(rng, lightness=(0.35, 0.7), colourfulness=0.06) for _ in range(4)),
        grass=tuple((rng.uniform(0.2, 0.38), rng.uniform(0.3, 0.42), rng.uniform(0.1, 0.2)) for _ in range(3)),
    )


def _color(
    rng: np.random.Generator, lightness: tuple[float, float], colourfulness: float
) -> tuple[float, float, float]:
    red, green, blue = np.clip(rng.uniform(*lightness) + rng.uniform(-colourfulness, colourfulness, 3), 0.05, 0.95)
    return float(red), float(green), float(blue)


def _front_camera(rng: np.random.Generator) -> CameraConfig:
    focal = rng.uniform(300, 420)
    return CameraConfig(
        name="front",
        width_px=640,
        height_px=192,
        fx=focal,
        fy=focal,
        cx=319.5 + rng.uniform(-8, 8),
        cy=95.5 + rng.uniform(-12, 12),
        mount=MountConfig(
            x_m=rng.uniform(0.2, 1.4),
            z_m=rng.uniform(1.3, 1.9),
            pitch_deg=rng.uniform(-2, 4),
            yaw_deg=rng.uniform(-8, 8),
        ),
    )


def _side_camera(rng: np.random.Generator) -> CameraConfig:
    """Looks at the road side, where people and poles are near."""
    focal = rng.uniform(240, 380)
    return CameraConfig(
        name="side",
        width_px=384,
        height_px=192,
        fx=focal,
        fy=focal,
        cx=191.5,
        cy=95.5,
        mount=MountConfig(
            x_m=0.5,
            z_m=rng.uniform(1.3, 1.9),
            pitch_deg=rng.uniform(-2, 8),
            yaw_deg=rng.choice([-1, 1]) * rng.uniform(25, 80),
        ),
    )


def _appearance(look: str) -> AppearanceConfig:
    """As wide as images of a robot's camera are: exposure, noise, blur, colours."""
    return AppearanceConfig(
        **LOOKS[look],
        sun_elevation_deg=(10.0, 75.0),
        clouds=(0.0, 1.0),
        haze_m=(250.0, 4000.0),
        exposure_ev=(-1.0, 0.8),
        noise=(0.003, 0.06),
        blur_px=(0.2, 1.0),
        vignette=(0.0, 0.4),
        saturation=(0.5, 1.3),
        tint=(0.0, 0.08),
        contrast=(0.75, 1.4),
    )
