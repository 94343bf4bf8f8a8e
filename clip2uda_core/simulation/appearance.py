"""Light, weather and the camera's way of seeing them: ranges for a domain, and one draw of them for a frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.config import Config
from clip2uda_core.simulation.town import Range, Share, draw


class AppearanceConfig(Config):
    """What the images of a domain look like; every frame draws from the ranges.

    night: share of frames at night, with headlights, street lamps and lit windows. rain: share of frames on wet
    streets under a dark sky. gray: share of frames in gray. clouds: 0 a clear sky with hard shadows, 1 overcast.
    exposure_ev: around the automatic exposure. noise: standard deviation of the sensor's noise in a mid tone, 0..1.
    blur_px: of the lens. vignette: darkening of the corners. saturation: of colours. tint: unevenness of the white
    balance. contrast: of the tone curve.
    """

    night: Share = 0.0
    rain: Share = 0.0
    gray: Share = 0.0
    sun_elevation_deg: Range = (15.0, 65.0)
    clouds: Range = (0.0, 0.8)
    haze_m: Range = (500.0, 4000.0)
    exposure_ev: Range = (-0.4, 0.4)
    noise: Range = (0.005, 0.02)
    blur_px: Range = (0.3, 0.6)
    vignette: Range = (0.0, 0.3)
    saturation: Range = (0.85, 1.15)
    tint: Range = (0.0, 0.04)
    contrast: Range = (0.9, 1.2)
    lit_windows: Share = 0.35


@dataclass(frozen=True)
class Appearance:
    """One draw. sun: unit vector to the sun, in the world. seed: for what is drawn per surface, as lit windows."""

    night: bool
    wet: bool
    gray: bool
    sun: NDArray[np.float32]
    clouds: float
    haze_m: float
    exposure_ev: float
    noise: float
    blur_px: float
    vignette: float
    saturation: float
    tint: NDArray[np.float32]
    contrast: float
    lit_windows: float
    seed: int


def draw_appearance(config: AppearanceConfig, rng: np.random.Generator) -> Appearance:
    wet = bool(rng.random() < config.rain)
    elevation = np.radians(draw(config.sun_elevation_deg, rng))
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    return Appearance(
        night=bool(rng.random() < config.night),
        wet=wet,
        gray=bool(rng.random() < config.gray),
        sun=np.array(sun, np.float32),
        clouds=1.0 if wet else draw(config.clouds, rng),
        haze_m=draw(config.haze_m, rng) * (0.4 if wet else 1.0),
        exposure_ev=draw(config.exposure_ev, rng),
        noise=draw(config.noise, rng),
        blur_px=draw(config.blur_px, rng),
        vignette=draw(config.vignette, rng),
        saturation=draw(config.saturation, rng),
        tint=np.exp(rng.normal(0, draw(config.tint, rng), 3)).astype(np.float32),
        contrast=draw(config.contrast, rng),
        lit_windows=config.lit_windows,
        seed=int(rng.integers(1 << 30)),
    )
