"""Who moves in a scene: vehicles in the lanes, people and cyclists, each along a road at its own speed."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation import people, vehicles
from clip2uda_core.simulation.ground import Ground, ground_poses
from clip2uda_core.simulation.layout import Layout
from clip2uda_core.simulation.mesh import Mesh
from clip2uda_core.simulation.roads import Road
from clip2uda_core.simulation.site import REACH_M
from clip2uda_core.simulation.streets import SIDES
from clip2uda_core.simulation.town import TownConfig, draw


@dataclass(frozen=True)
class Actor:
    """A shape that moves along a road: at time t it is at start_m + speed_mps · t, `across_m` to the left of the road's
    middle, turned by `turn_rad` against its direction."""

    mesh: Mesh
    road: Road
    start_m: float
    across_m: float
    speed_mps: float
    turn_rad: float
    half_length_m: float

    def places(self, times_s: NDArray[np.floating]) -> NDArray[np.floating]:
        """(T, 2) where it is at T times."""
        return self.road.point(self.start_m + self.speed_mps * times_s, self.across_m)[0]


def shapes(
    actors: list[Actor], time_s: float, ground: Ground, around_m: NDArray[np.floating], reach_m: float
) -> list[Mesh]:
    """All actors within `reach_m` of a place (2,) at one time, on the slopes that they stand on."""
    near: list[Actor] = []
    places, yaws = [], []
    for road in ground.roads:
        mine = [actor for actor in actors if actor.road is road]
        s = np.array([actor.start_m + actor.speed_mps * time_s for actor in mine])
        xy, heading = road.point(s, np.array([actor.across_m for actor in mine]))
        kept = np.flatnonzero(np.linalg.norm(xy - around_m, axis=1) < reach_m)
        near += [mine[i] for i in kept]
        places.append(xy[kept])
        yaws.append(heading[kept] + np.array([mine[i].turn_rad for i in kept]))
    half_lengths = np.array([actor.half_length_m for actor in near])
    poses = ground_poses(ground, np.concatenate(places), np.concatenate(yaws), half_lengths)
    return [actor.mesh.moved(pose) for actor, pose in zip(near, poses, strict=True)]


def populate(
    town: TownConfig, layout: Layout, ego_speed_mps: float, travel_m: float, rng: np.random.Generator
) -> list[Actor]:
    """Everything that moves, with object numbers after those of the layout."""
    actors = [*_vehicles(town, layout, ego_speed_mps, travel_m, rng), *_people(town, layout, travel_m, rng)]
    return [replace(actor, mesh=actor.mesh.as_instance(layout.objects + i)) for i, actor in enumerate(actors)]


def _vehicles(
    town: TownConfig, layout: Layout, ego_speed_mps: float, travel_m: float, rng: np.random.Generator
) -> list[Actor]:
    """Traffic ahead of and behind the ego vehicle at its speed, oncoming traffic, and cars waiting in side roads."""
    actors = []
    main, *others = layout.ground.roads
    for side in SIDES:
        taken: list[float] = [0.0] if side < 0 else []
        count = rng.poisson(draw(town.life.moving, rng) * (travel_m + 2 * REACH_M) / 100)
        for s in rng.uniform(-REACH_M, travel_m + REACH_M, count):
            if any(abs(s - other) < 14.0 for other in taken):
                continue
            taken.append(float(s))
            mesh = vehicles.random_vehicle(rng, town.life.heavy)
            length, _ = vehicles.footprint(mesh)
            if side < 0 and abs(s) < 8 + length / 2:
                continue
            speed = ego_speed_mps if side < 0 else -ego_speed_mps * rng.uniform(0.8, 1.2)
            turn = 0.0 if side < 0 else np.pi
            actors.append(Actor(mesh, main, float(s), side * main.lane_m / 2, float(speed), turn, length / 2))
    for road in others:
        for side in SIDES:
            if rng.random() < 0.5:
                mesh = vehicles.random_vehicle(rng, town.life.heavy)
                length, _ = vehicles.footprint(mesh)
                s = road.length_m / 2 + side * (main.half_width_m + length / 2 + rng.uniform(4.5, 9))
                turn = 0.0 if side < 0 else np.pi
                actors.append(Actor(mesh, road, float(s), side * road.lane_m / 2, 0.0, turn, length / 2))
    return actors


def _people(town: TownConfig, layout: Layout, travel_m: float, rng: np.random.Generator) -> list[Actor]:
    """Walkers on the sidewalks and zebra crossings, cyclists at the edge of the lanes."""
    main = layout.road
    actors = []
    for side in SIDES:
        strip = main.left if side > 0 else main.right
        span = (-20.0, travel_m + 60.0)
        for s in rng.uniform(*span, rng.poisson(draw(town.life.walkers, rng) * (span[1] - span[0]) / 100)):
            group = 1 + int(rng.random() < 0.3) + int(rng.random() < 0.1)
            direction = float(rng.choice([-1.0, 1.0]))
            speed = direction * rng.uniform(0.7, 1.7) * (rng.random() < 0.8)
            for member in range(group):
                across = (
                    main.half_width_m + strip.verge_m + min(strip.sidewalk_m * rng.uniform(0.25, 0.8), strip.width_m)
                )
                mesh = people.walker(rng, rng.random())
                turn = (0.0 if direction > 0 else np.pi) + rng.normal(0, 0.25)
                actors.append(Actor(mesh, main, s + 0.7 * member, side * across, float(speed), float(turn), 0.3))
        for s in rng.uniform(*span, rng.poisson(draw(town.life.cyclists, rng) * (span[1] - span[0]) / 100)):
            mesh = people.cyclist(rng, rng.random())
            turn = 0.0 if side < 0 else np.pi
            across = side * (main.lane_m - 0.6)
            actors.append(Actor(mesh, main, float(s), across, float(-side * rng.uniform(3.0, 6.0)), turn, 0.8))
    for crossing in main.crossings_m:
        if rng.random() < 0.4 and -5 < crossing < travel_m + 50:
            across = float(rng.uniform(0.3, 1.0) * main.half_width_m * rng.choice([-1, 1]))
            turn = float(np.pi / 2 * rng.choice([-1, 1]))
            actors.append(Actor(people.walker(rng, rng.random()), main, crossing, across, 0.0, turn, 0.3))
    return actors
