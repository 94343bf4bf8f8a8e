"""Draws the streets of one scene: the roads and where they cross, the land that they lie in, and their colours."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.ground import Driveways, Ground, GroundColors, Patch, Relief
from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.roads import Road, Segment, Strip, chain
from clip2uda_core.simulation.town import TownConfig, draw

SIDES = (-1, 1)
"""Right and left of the road, as the sign of the distance across it."""

SIDE_M = 66.0
"""How far a scene goes to either side of the main road."""

CROSSING_GAP_M = 45.0
"""Least distance between two side roads."""


def make_ground(town: TownConfig, start_m: float, end_m: float, setback_m: float, rng: np.random.Generator) -> Ground:
    """The ground of a scene whose main road shows from `start_m` to `end_m`, with houses `setback_m` behind the
    sidewalks."""
    config = town.road
    main = _road(town, _main_chain(town, start_m, rng), rng)
    crossings = _crossings(town, end_m, rng)
    others = [_side_road(town, main, s, rng) for s in crossings]
    zebras = tuple(
        s + shift
        for s, road in zip(crossings, others, strict=True)
        for shift in (-road.half_width_m - 5.5, road.half_width_m + 5.5)
        if rng.random() < 0.5
    )
    main = replace(main, crossings_m=zebras)
    relief = _relief(town, rng)
    colors = _colors(town, rng)
    return Ground(
        roads=(main, *others),
        relief=relief,
        colors=colors,
        kerb_m=draw(config.kerb_m, rng),
        corner_m=draw(config.corner_m, rng),
        bank_m=draw(config.bank_m, rng),
        yard=Material.PAVING if setback_m < 1.2 else Material.GRASS if rng.random() < 0.85 else Material.GRAVEL,
        islands=_islands(town, main, crossings, end_m, rng),
        driveways=(_driveways(start_m, end_m, rng), _driveways(start_m, end_m, rng)),
        seed=int(rng.integers(1 << 20)),
    )


def _main_chain(town: TownConfig, start_m: float, rng: np.random.Generator) -> tuple[Segment, ...]:
    """A straight, in some scenes followed by a bend."""
    pieces = [(draw((25.0, 80.0), rng) - start_m * 0.3, 0.0)]
    if rng.random() < town.road.bend:
        radius = draw(town.road.radius_m, rng) * float(rng.choice([-1, 1]))
        turn = float(rng.uniform(0.2, 0.9))
        pieces += [(min(abs(radius) * turn, 90.0), 1.0 / radius), (40.0, 0.0)]
    return chain((0.0, 0.0), 0.0, pieces)


def _crossings(town: TownConfig, end_m: float, rng: np.random.Generator) -> list[float]:
    """Where side roads cross, in distances along the main road."""
    crossings: list[float] = []
    for s in rng.uniform(-30.0, end_m - 35.0, rng.poisson(draw(town.road.crossings, rng))):
        if all(abs(s - other) >= CROSSING_GAP_M for other in crossings):
            crossings.append(float(s))
    return crossings


def _relief(town: TownConfig, rng: np.random.Generator) -> Relief:
    hills = draw(town.road.hills_m, rng)
    waves = [
        (hills / (i + 1), *(2 * np.pi / rng.uniform(60, 140) * _unit(rng.uniform(0, 2 * np.pi))), rng.uniform(0, 6))
        for i in range(3)
    ]
    return Relief(np.array([draw(town.road.grade, rng), 0.5 * draw(town.road.grade, rng)]), np.array(waves))


def _colors(town: TownConfig, rng: np.random.Generator) -> GroundColors:
    gray = draw(town.asphalt, rng)
    red, green, blue = (gray * (1 + rng.normal(0, 0.02, 3))).tolist()
    grass = town.grass[int(rng.integers(len(town.grass)))]
    return GroundColors(
        asphalt=(red, green, blue),
        paving=town.paving[int(rng.integers(len(town.paving)))],
        kerb=(0.62, 0.61, 0.58),
        grass=grass,
        dry_grass=(grass[0] * 1.25, grass[1] * 1.1, grass[2] * 1.35),
        gravel=(0.5, 0.46, 0.4),
    )


def _islands(
    town: TownConfig, main: Road, crossings: list[float], end_m: float, rng: np.random.Generator
) -> tuple[Patch, ...]:
    """In some scenes a traffic island in the middle of the main road, away from the crossings."""
    s = float(rng.uniform(15.0, max(end_m - 60.0, 20.0)))
    if rng.random() > town.road.island or not main.center_line or any(abs(s - other) < 14 for other in crossings):
        return ()
    xy, heading = main.point(s)
    return (Patch((float(xy[0, 0]), float(xy[0, 1])), float(heading[0]), 2.5, 0.55),)


def _unit(angle: float) -> NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])


def _road(town: TownConfig, segments: tuple[Segment, ...], rng: np.random.Generator) -> Road:
    config = town.road
    lane = draw(config.lane_m, rng)
    parking = 2.2 if rng.random() < config.parking else 0.3
    cobbled = bool(rng.random() < config.cobbled)
    marked = rng.random() > config.unmarked
    strips = [
        Strip(draw((0.8, 2.2), rng) if rng.random() < config.verge else 0.0, draw(config.sidewalk_m, rng))
        for _ in SIDES
    ]
    center = 0 if cobbled or not marked else int(rng.choice([1, 1, 2]))
    return Road(segments, lane + parking, lane, strips[0], strips[1], center, marked and parking > 1, cobbled)


def _side_road(town: TownConfig, main: Road, s: float, rng: np.random.Generator) -> Road:
    """A road across the main one, oblique."""
    xy, heading = main.point(s)
    angle = float(heading[0]) + np.radians(rng.uniform(58, 122))
    length = 2 * SIDE_M
    start = xy[0] - _unit(angle) * length / 2
    return _road(town, chain((float(start[0]), float(start[1])), angle, [(length, 0.0)]), rng)


def _driveways(start_m: float, end_m: float, rng: np.random.Generator) -> Driveways:
    places = np.arange(start_m, end_m, 18.0) + rng.uniform(0, 12)
    return Driveways(places[rng.random(len(places)) < 0.5], depth_m=float(rng.uniform(4.0, 9.0)))
