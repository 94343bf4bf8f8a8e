"""Lays out the standing things of one scene."""

from dataclasses import dataclass

import numpy as np

from clip2uda_core.simulation import lots, roadside
from clip2uda_core.simulation.ground import Ground
from clip2uda_core.simulation.mesh import Mesh, merge
from clip2uda_core.simulation.roads import Road
from clip2uda_core.simulation.sheet import ground_mesh
from clip2uda_core.simulation.site import Lamp, Site
from clip2uda_core.simulation.streets import SIDE_M
from clip2uda_core.simulation.town import TownConfig


@dataclass(frozen=True)
class Layout:
    """The standing part of a scene. objects: numbers below it are taken by its objects."""

    ground: Ground
    mesh: Mesh
    lamps: tuple[Lamp, ...]
    objects: int

    @property
    def road(self) -> Road:
        """The main road, on which the ego vehicle drives."""
        return self.ground.roads[0]


def lay_out(town: TownConfig, travel_m: float, rng: np.random.Generator) -> Layout:
    """A scene in which the ego vehicle drives `travel_m` along the main road from s = 0.

    What comes first takes the place: houses, then gardens, lamps, signs, vehicles, trees.
    """
    site = Site(town, travel_m, rng)
    houses, trees = lots.far_houses(site), roadside.far_trees(site)
    lots.place_buildings(site, houses)
    lots.place_gardens(site)
    roadside.place_lamps(site)
    roadside.place_furniture(site)
    roadside.place_parked(site)
    roadside.place_trees(site, trees)
    middle_line, _ = site.ground.roads[0].point(np.linspace(site.start_m, site.end_m, 30))
    low_m, high_m = middle_line.min(0) - 0.8 * SIDE_M, middle_line.max(0) + 0.8 * SIDE_M
    roadside.place_backdrop(site, low_m, high_m, trees, houses)
    mesh = merge([ground_mesh(site.ground, low_m, high_m), *site.parts])
    return Layout(site.ground, mesh, tuple(site.lamps), site.objects)
