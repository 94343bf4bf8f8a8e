"""The place where a scene is laid out: the ground, what is taken, and what was put there so far."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.ground import Ground
from clip2uda_core.simulation.mesh import Mesh, pose_at
from clip2uda_core.simulation.roads import Road
from clip2uda_core.simulation.streets import SIDES, make_ground
from clip2uda_core.simulation.town import Range, TownConfig, draw

REACH_M = 95.0
"""How far the scene goes on beyond the first and the last place of the ego vehicle."""

Rectangle = tuple[float, float, float, float, float]
"""x, y, heading, half length, half width."""


@dataclass(frozen=True)
class Lamp:
    """A street lamp's light: place (3,) m, sRGB colour."""

    place_m: NDArray[np.float64]
    color: tuple[float, float, float]


class Site:
    """row: whether houses stand in closed rows. gardens: whether there are front gardens. setback_m: of the houses
    from the sidewalk. parts, lamps: what was put so far. objects: the next object's number.
    """

    def __init__(self, town: TownConfig, travel_m: float, rng: np.random.Generator) -> None:
        self.town, self.rng = town, rng
        self.start_m, self.end_m = -REACH_M, travel_m + REACH_M
        self.row = bool(rng.random() < town.buildings.row)
        self.gardens = bool(rng.random() < town.buildings.gardens)
        self.setback_m = draw(town.buildings.setback_m, rng) * (0.35 if self.row else 1.0)
        self.ground: Ground = make_ground(town, self.start_m, self.end_m, self.setback_m, rng)
        self.parts: list[Mesh] = []
        self.lamps: list[Lamp] = []
        self.objects = 1
        self._path, _ = self.ground.roads[0].point(np.linspace(0, travel_m, 12))
        self._taken: list[Rectangle] = []
        self._last_spot = ((np.inf, np.inf), (0.0, 0.0))

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Distance to the kerb and height of the ground, of a place that is asked for several times in a row."""
        if self._last_spot[0] != (x, y):
            place = self.ground.locate(np.array([[x, y]]))
            self._last_spot = ((x, y), (float(place.kerb[0]), float(self.ground.surface_height(place)[0])))
        return self._last_spot[1]

    def clear_of_roads(self, x: float, y: float, margin_m: float) -> bool:
        return self.spot(x, y)[0] > margin_m

    def claim(self, x: float, y: float, heading: float, half_length: float, half_width: float) -> bool:
        """Takes a rectangle if nothing overlaps it; says whether it did."""
        mine = (x, y, heading, half_length, half_width)
        if self._taken:
            others = np.array(self._taken)
            reach = np.hypot(half_length, half_width) + np.hypot(others[:, 3], others[:, 4])
            near = np.flatnonzero(np.hypot(others[:, 0] - x, others[:, 1] - y) < reach)
            if any(overlap(mine, self._taken[i]) for i in near):
                return False
        self._taken.append(mine)
        return True

    def put(self, mesh: Mesh, x: float, y: float, heading: float, sink_m: float = 0.02) -> None:
        """Puts an upright object on the ground, a little sunk in."""
        self.put_at(mesh, pose_at(x, y, self.spot(x, y)[1] - sink_m, heading))

    def put_at(self, mesh: Mesh, pose: NDArray[np.float64]) -> None:
        """Puts an object at a pose, world_SE3_object."""
        self.parts.append(mesh.moved(pose).as_instance(self.objects))
        self.objects += 1

    def number(self, per_100m: Range, length_m: float) -> int:
        """How many of a thing there are along a stretch."""
        return int(self.rng.poisson(draw(per_100m, self.rng) * length_m / 100))

    def detail(self, x: float, y: float) -> float:
        """Share of leaf cards to spend on a plant: fewer far from the ego vehicle's path."""
        gap = float(np.min(np.hypot(self._path[:, 0] - x, self._path[:, 1] - y)))
        return float(np.clip(11.0 / max(gap, 1.0), 0.06, 1.0))

    def sides(self) -> list[tuple[Road, int, float, float]]:
        """Every side of every road with the stretch (first, last) that the scene shows of it."""
        main, *others = self.ground.roads
        stretches = [(main, side, self.start_m, self.end_m) for side in SIDES]
        return stretches + [(road, side, 0.0, road.length_m) for road in others for side in SIDES]

    def beside(self, road: Road, side: int, s: float, beyond_kerb_m: float) -> tuple[float, float, float]:
        """A place beside the road and the heading that faces away from it."""
        xy, heading = road.point(s, side * (road.half_width_m + beyond_kerb_m))
        return float(xy[0, 0]), float(xy[0, 1]), float(heading[0]) + side * np.pi / 2


def overlap(a: Rectangle, b: Rectangle) -> bool:
    """Whether two rectangles overlap: no axis of either separates them."""
    corners = []
    for x, y, heading, half_length, half_width in (a, b):
        ends = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (half_length, half_width)
        c, s = np.cos(heading), np.sin(heading)
        corners.append(ends @ np.array([[c, s], [-s, c]]) + (x, y))
    for heading in (a[2], a[2] + np.pi / 2, b[2], b[2] + np.pi / 2):
        axis = np.array([np.cos(heading), np.sin(heading)])
        p, q = corners[0] @ axis, corners[1] @ axis
        if p.max() < q.min() or q.max() < p.min():
            return False
    return True
