"""What stands along the roads: lamps, signs, signals, parked vehicles, trees, and what closes the view."""

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation import furniture, plants, vehicles
from clip2uda_core.simulation.ground import ground_poses
from clip2uda_core.simulation.mesh import Mesh
from clip2uda_core.simulation.roads import Road
from clip2uda_core.simulation.site import Lamp, Site
from clip2uda_core.simulation.town import draw

FAR_DETAIL = 0.06
"""Share of leaf cards of trees that are only seen from afar."""


def place_lamps(site: Site) -> None:
    """Street lamps along one or both sides, their heads over the road."""
    rng = site.rng
    spacing, height = draw(site.town.life.lamps_m, rng), float(rng.uniform(4.5, 8.0))
    warm = rng.random() < 0.6
    color = (1.0, 0.62, 0.28) if warm else (0.85, 0.92, 1.0)
    both = rng.random() < 0.4
    for road, side, first, last in site.sides():
        if side < 0 and not both:
            continue
        for s in np.arange(first + rng.uniform(0, spacing), last, spacing):
            x, y, outward = site.beside(road, side, s, 0.45)
            if site.clear_of_roads(x, y, 0.3) and site.claim(x, y, outward, 0.2, 0.2):
                z = site.spot(x, y)[1]
                toward = outward + np.pi
                site.put(furniture.street_lamp(height), x, y, toward)
                reach = furniture.LAMP_REACH_M
                place = np.array([x + reach * np.cos(toward), y + reach * np.sin(toward), z + height - 0.1])
                site.lamps.append(Lamp(place, color))


def place_furniture(site: Site) -> None:
    """Signs, traffic lights, masts, and clutter on the sidewalks."""
    rng, life = site.rng, site.town.life
    for road, side, first, last in site.sides():
        length = last - first
        strip = road.left if side > 0 else road.right
        for number, inner, outer, make in (
            (site.number(life.signs, length), 0.35, 0.7, furniture.sign),
            (site.number(life.masts, length), 0.4, max(strip.width_m, 0.6), furniture.mast),
            (site.number(life.clutter, length), strip.width_m * 0.7, strip.width_m + 3.0, furniture.clutter),
        ):
            for _ in range(number):
                x, y, outward = site.beside(road, side, rng.uniform(first, last), rng.uniform(inner, outer))
                half = 0.2 if make is not furniture.clutter else 1.0
                if site.clear_of_roads(x, y, 0.25 + half) and site.claim(x, y, outward, half, half):
                    facing = outward + side * np.pi / 2 if make is not furniture.clutter else outward + np.pi
                    site.put(make(rng), x, y, facing + rng.normal(0, 0.1))
    _place_signals(site)


def _place_signals(site: Site) -> None:
    main = site.ground.roads[0]
    for road in site.ground.roads[1:]:
        if site.rng.random() < 0.5:
            s, _ = main.coordinates(road.point(road.length_m / 2)[0])
            for side, shift in ((-1, -road.half_width_m - 4.0), (1, road.half_width_m + 4.0)):
                x, y, outward = site.beside(main, side, float(s[0]) + shift, 0.6)
                if site.clear_of_roads(x, y, 0.3) and site.claim(x, y, outward, 0.2, 0.2):
                    site.put(furniture.traffic_light(site.rng), x, y, outward + side * np.pi / 2)


def place_parked(site: Site) -> None:
    """Vehicles in the parking lanes, a few on the sidewalk."""
    rng, life = site.rng, site.town.life
    taken = draw(life.parked, rng)
    for road, side, first, last in site.sides():
        room = road.half_width_m - road.lane_m
        if room < 1.5 and rng.random() < 0.6:
            continue
        share = taken * (1.0 if room >= 1.5 else 0.25)
        for s in np.arange(first, last, 6.3):
            if rng.random() > share:
                continue
            mesh = vehicles.random_vehicle(rng, life.heavy * 0.4)
            length, width = vehicles.footprint(mesh)
            across = road.half_width_m - width / 2 - 0.2 if room >= 1.5 else road.half_width_m + width / 2 - 0.5
            _park(site, road, side, s + rng.uniform(-0.4, 0.4), across, mesh, length, width)


def _park(site: Site, road: Road, side: int, s: float, across: float, mesh: Mesh, length: float, width: float) -> None:
    rng = site.rng
    xy, headings = road.point(s, side * (across + rng.normal(0, 0.08)))
    x, y = float(xy[0, 0]), float(xy[0, 1])
    heading = float(headings[0]) + (0.0 if side < 0 or rng.random() < 0.2 else np.pi) + rng.normal(0, 0.02)
    others = [r for r in site.ground.roads if r is not road]
    if any(abs(float(r.coordinates(xy)[1][0])) < r.half_width_m + 8.0 for r in others):
        return
    if any(abs(s - crossing) < 6.0 for crossing in road.crossings_m):
        return
    if site.claim(x, y, heading, length / 2 + 0.2, width / 2 + 0.05):
        pose = ground_poses(site.ground, xy, np.array([heading]), np.array([length / 2]))[0]
        site.put_at(mesh, pose)


def far_trees(site: Site) -> list[Mesh]:
    """A few trees of few cards that stand for all those that are only seen from afar."""
    return [plants.tree(site.rng, site.town.plants.autumn, FAR_DETAIL) for _ in range(6)]


def place_trees(site: Site, far: list[Mesh]) -> None:
    """Street trees near the kerb, yard trees behind; far: what `far_trees` gives."""
    rng, config = site.rng, site.town.plants
    for road, side, first, last in site.sides():
        length = last - first
        strip = road.left if side > 0 else road.right
        spacing = 100 / max(draw(config.street_trees, rng), 1e-3)
        for s in np.arange(first + rng.uniform(0, min(spacing, length)), last, spacing):
            beyond = 0.8 if strip.width_m > 2.2 else strip.width_m + 0.6
            _place_tree(site, road, side, s + rng.normal(0, 0.5), beyond, far)
        for _ in range(site.number(config.yard_trees, length)):
            beyond = strip.width_m + 1.0 + rng.gamma(2.0, 4.0)
            _place_tree(site, road, side, rng.uniform(first, last), beyond, far)


def _place_tree(site: Site, road: Road, side: int, s: float, beyond_kerb_m: float, far: list[Mesh]) -> None:
    rng, config = site.rng, site.town.plants
    x, y, outward = site.beside(road, side, s, beyond_kerb_m)
    if site.clear_of_roads(x, y, 0.6) and site.claim(x, y, outward, 0.6, 0.6):
        detail = site.detail(x, y)
        if detail < 3 * FAR_DETAIL:
            mesh = far[int(rng.integers(len(far)))]
        elif rng.random() < config.conifers and beyond_kerb_m > 3:
            mesh = plants.conifer(rng, detail)
        else:
            mesh = plants.tree(rng, config.autumn, detail)
        site.put(mesh, x, y, rng.uniform(0, 2 * np.pi), 0.05)


def place_backdrop(
    site: Site, low_m: NDArray[np.float64], high_m: NDArray[np.float64], trees: list[Mesh], houses: list[Mesh]
) -> None:
    """Trees and houses at the ends of the roads and far to the sides, which close the view."""
    rng = site.rng
    middle = (low_m + high_m) / 2
    for angle in np.arange(0, 2 * np.pi, 0.09):
        reach = (high_m - low_m) / 2 + rng.uniform(0, 25)
        x, y = middle + reach * np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(1.0, 1.25)
        heading = float(rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.6 and site.clear_of_roads(x, y, 3.0):
            site.put(trees[int(rng.integers(len(trees)))], x, y, heading, 0.5)
        elif site.clear_of_roads(x, y, 14.0):
            site.put(houses[int(rng.integers(len(houses)))], x, y, heading, 1.0)
