"""What stands on the land beside the roads: houses, sheds, hedges, walls, fences and bushes."""

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation import buildings, plants
from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Mesh, pose_at
from clip2uda_core.simulation.roads import Road
from clip2uda_core.simulation.site import Site
from clip2uda_core.simulation.town import draw

FAR_HOUSE_M = (14.0, 10.0)
"""Width and depth of houses that are only seen from afar."""


def far_houses(site: Site) -> list[Mesh]:
    """A few houses that stand for all those that are only seen from afar."""
    return [_random_house(site, *FAR_HOUSE_M) for _ in range(6)]


def place_buildings(site: Site, far: list[Mesh]) -> None:
    """Houses along all roads, in rows or apart, and a second row behind them of what `far_houses` gives."""
    config, rng = site.town.buildings, site.rng
    for road, side, first, last in site.sides():
        strip = road.left if side > 0 else road.right
        s = first
        while s < last:
            width, depth = draw(config.width_m, rng), float(rng.uniform(8.0, 12.0))
            if rng.random() > config.empty_lots:
                setback = site.setback_m + (0.0 if site.row else rng.uniform(0, 2.5))
                pose = _lot(site, road, side, s + width / 2, strip.width_m + setback, (width, depth))
                if pose is not None:
                    site.put_at(_random_house(site, width, depth), pose)
            s += width + (0.02 if site.row and rng.random() < 0.85 else draw(config.gap_m, rng))
        for s in np.arange(first, last, 24.0):
            behind = strip.width_m + rng.uniform(26, 36)
            pose = _lot(site, road, side, s + rng.uniform(-4, 4), behind, FAR_HOUSE_M)
            if pose is not None:
                site.put_at(far[int(rng.integers(len(far)))], pose)


def _lot(
    site: Site, road: Road, side: int, s: float, beyond_kerb_m: float, size_m: tuple[float, float]
) -> NDArray[np.float64] | None:
    """Claims the ground of a house that faces the road; its pose, or None where it does not fit."""
    width, depth = size_m
    x, y, outward = site.beside(road, side, s, beyond_kerb_m)
    heading = outward - np.pi / 2  # the house's y axis points away from the road
    c, sn = np.cos(heading), np.sin(heading)
    corners = np.array([(u, v) for u in (-width / 2, 0, width / 2) for v in (0, depth / 2, depth)])
    places = corners @ np.array([[c, sn], [-sn, c]]) + (x, y)
    ground = site.ground.locate(places)
    if ground.kerb.min() < max(min(road.left.width_m, road.right.width_m) - 0.1, 0.8):
        return None
    middle = places.mean(0)
    if not site.claim(float(middle[0]), float(middle[1]), heading, width / 2 - 0.02, depth / 2 - 0.02):
        return None
    lowest = float(site.ground.surface_height(ground).min())
    return pose_at(x, y, lowest - 0.1, heading) @ pose_at(-width / 2, 0, 0)


def _random_house(site: Site, width: float, depth: float) -> Mesh:
    config, rng = site.town.buildings, site.rng
    brick = rng.random() < config.brick
    palette = config.bricks if brick else config.colors
    tone = np.array(palette[int(rng.integers(len(palette)))]) * rng.normal(1, 0.06, 3)
    red, green, blue = np.clip(tone, 0.05, 0.95).tolist()
    facade = buildings.random_facade(Material.BRICK if brick else Material.PLASTER, (red, green, blue), rng)
    storeys = max(int(draw(config.storeys, rng)), 1)
    shop = bool(site.row and rng.random() < config.shop * 2)
    flat_roof = bool(rng.random() < config.flat_roof)
    return buildings.house(width, depth, storeys, facade, rng, flat_roof=flat_roof, shop=shop)


def place_gardens(site: Site) -> None:
    """Hedges, walls and fences along the sidewalk, sheds and bushes behind it."""
    rng = site.rng
    for road, side, first, last in site.sides():
        strip = road.left if side > 0 else road.right
        length = last - first
        for _ in range(site.number(site.town.life.sheds, length)):
            x, y, outward = site.beside(road, side, rng.uniform(first, last), strip.width_m + rng.uniform(0.5, 12))
            if site.clear_of_roads(x, y, 5.0) and site.claim(x, y, outward, 3.2, 3.2):
                site.put(buildings.shed(rng), x, y, outward - np.pi / 2)
        if site.gardens:
            for _ in range(site.number(site.town.plants.hedges, length) * 2):
                _place_border(site, road, side, rng.uniform(first, last), strip.width_m + rng.uniform(0.4, 0.9))
        for _ in range(site.number(site.town.plants.bushes, length)):
            beyond = strip.width_m + rng.gamma(2.0, 3.0) + 0.8
            x, y, outward = site.beside(road, side, rng.uniform(first, last), beyond)
            if site.clear_of_roads(x, y, strip.width_m + 0.6) and site.claim(x, y, outward, 0.7, 0.7):
                site.put(plants.bush(rng, site.town.plants.autumn, site.detail(x, y)), x, y, outward)


def _place_border(site: Site, road: Road, side: int, s: float, beyond_kerb_m: float) -> None:
    rng = site.rng
    length = float(rng.uniform(2.5, 14.0))
    x, y, outward = site.beside(road, side, s, beyond_kerb_m)
    ends = [site.beside(road, side, s + shift, beyond_kerb_m)[:2] for shift in (-length / 2, length / 2)]
    strip = road.left if side > 0 else road.right
    if not all(site.clear_of_roads(ex, ey, strip.width_m) for ex, ey in ends):
        return
    heading = outward - np.pi / 2
    if not site.claim(x, y, heading, length / 2, 0.35):
        return
    kind = rng.random()
    if kind < 0.5:
        site.put(plants.hedge(length, rng, site.detail(x, y)), x, y, heading, 0.1)
    elif kind < 0.75:
        color = site.town.buildings.colors[int(rng.integers(len(site.town.buildings.colors)))]
        site.put(buildings.garden_wall(length, color, rng), x, y, heading, 0.2)
    else:
        site.put(buildings.fence(length, rng), x, y, heading, 0.05)
