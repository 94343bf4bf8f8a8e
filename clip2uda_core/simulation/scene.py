"""A scene as rays see it: the standing mesh, the movers of one moment, and what a ray hits."""

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from clip2uda_core.simulation.ground import Ground, ground_poses
from clip2uda_core.simulation.layout import Layout, lay_out
from clip2uda_core.simulation.materials import LABELS, Material
from clip2uda_core.simulation.mesh import Mesh, merge
from clip2uda_core.simulation.site import Lamp
from clip2uda_core.simulation.town import TownConfig
from clip2uda_core.simulation.traffic import Actor, populate, shapes

NOTHING = -1
"""Face of a ray that hits nothing."""

MOVERS_REACH_M = 75.0
"""Movers farther from the ego vehicle are left out."""


class Caster:
    """First hits of rays with one mesh, by Embree."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._scene = EmbreeScene()
        self._geometry = TriangleMesh(self._scene, mesh.vertices, mesh.faces)

    def first(
        self, origins_m: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Distance (N,) m (inf: none), face (N,) (NOTHING: none), barycentric (N, 2), normal (N, 3) of any length."""
        hits = self._scene.run(origins_m, directions, query="INTERSECT", output=True)
        face = hits["primID"]
        distance = np.where(face >= 0, hits["tfar"], np.float32(np.inf))
        return distance, face, np.stack([hits["u"], hits["v"]], 1), hits["Ng"]

    def blocked(self, origins_m: NDArray[np.float32], directions: NDArray[np.float32], reach_m: NDArray[np.float32]):
        """(N,) bool: whether anything is hit within `reach_m` (N,)."""
        return self._scene.run(origins_m, directions, reach_m, query="OCCLUDED") != -1


@dataclass(frozen=True)
class Hits:
    """What N rays hit. distance_m (N,), inf for nothing; the rest is meaningful where `hit`.

    normal (N, 3): unit, on the side that the ray comes from. material, label (N,) uint8. color (N, 3): sRGB 0..1.
    instance, face (N,) int32. place_m (N, 3) in the world. pane_uv (N, 2): on window panes, 0..1 from their lower left.
    """

    hit: NDArray[np.bool_]
    distance_m: NDArray[np.float32]
    place_m: NDArray[np.float32]
    normal: NDArray[np.float32]
    pane_uv: NDArray[np.float32]
    material: NDArray[np.uint8]
    label: NDArray[np.uint8]
    color: NDArray[np.float32]
    instance: NDArray[np.int32]
    face: NDArray[np.int32]


class Snapshot:
    """A scene at one moment.

    ego: world_SE3_base (4, 4) of the ego vehicle: on the ground below its middle, x forward, y left, z up.
    movers_from: object numbers from here on are movers.
    """

    def __init__(self, scene: "Scene", time_s: float, ego: NDArray[np.float64]) -> None:
        self.ground: Ground = scene.layout.ground
        self.time_s, self.ego = time_s, ego
        self.lamps: tuple[Lamp, ...] = scene.layout.lamps
        self.movers_from = scene.layout.objects
        self._casters = [scene.standing]
        movers = shapes(scene.actors, time_s, self.ground, ego[:2, 3], MOVERS_REACH_M)
        self._balls = np.array([_ball(mover) for mover in movers], np.float32).reshape(-1, 4)
        if movers:
            self._casters.append(Caster(merge(movers)))

    def cast(self, origin_m: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        """What rays along unit `directions` (N, 3) hit first; origin_m: (3,) of all rays, or (N, 3) one of each."""
        origins_m = np.ascontiguousarray(np.broadcast_to(origin_m, directions.shape))
        distance, face, bary, normal = self._casters[0].first(origins_m, directions)
        mesh, known = self._casters[0].mesh, np.maximum(face, 0)
        material, color, instance = mesh.material[known], mesh.color[known], mesh.instance[known]
        for caster in self._casters[1:]:
            at = self._toward_movers(origin_m, directions)
            near, mover, _, mover_normal = caster.first(origins_m[at], directions[at])
            closer = near < distance[at]
            at, mover = at[closer], mover[closer]
            distance[at], normal[at], face[at] = near[closer], mover_normal[closer], mover
            material[at], color[at] = caster.mesh.material[mover], caster.mesh.color[mover]
            instance[at] = caster.mesh.instance[mover]
        hit = face >= 0
        place = origins_m + directions * np.where(hit, distance, np.float32(0))[:, None]
        facing = np.einsum("ij,ij->i", normal, directions)
        length = np.sqrt(np.einsum("ij,ij->i", normal, normal))
        normal *= (np.where(facing > 0, np.float32(-1), np.float32(1)) / np.maximum(length, 1e-20))[:, None]
        ground = np.flatnonzero(hit & (material == Material.GROUND))
        material[ground], color[ground] = self.ground.surface(place[ground, :2])
        panes = np.flatnonzero(hit & (material == Material.WINDOW))
        a, b, c = mesh.uv[mesh.faces[face[panes]]].transpose(1, 0, 2)
        pane_uv = np.zeros((len(hit), 2), np.float32)
        pane_uv[panes] = a + bary[panes, :1] * (b - a) + bary[panes, 1:] * (c - a)
        return Hits(hit, distance, place, normal, pane_uv, material, LABELS[material], color, instance, face)

    def _toward_movers(self, origin_m: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.integer]:
        """Rays that may hit a mover: of a common origin, those that pass the ball around one."""
        if origin_m.ndim == 2:
            return np.arange(len(directions))
        toward = self._balls[:, :3] - origin_m
        distance = np.linalg.norm(toward, axis=1)
        cosine = np.sqrt(np.clip(1 - (self._balls[:, 3] / np.maximum(distance, 1e-6)) ** 2, 0, 1))
        cosine[distance <= self._balls[:, 3]] = -1.0
        passing = directions @ (toward / np.maximum(distance, 1e-6)[:, None]).T > cosine - np.float32(1e-5)
        return np.flatnonzero(passing.any(axis=1))

    def blocked(
        self, origins_m: NDArray[np.float32], directions: NDArray[np.float32], reach_m: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """(N,) whether something lies on the rays within `reach_m` (N,)."""
        result = self._casters[0].blocked(origins_m, directions, reach_m)
        for caster in self._casters[1:]:
            result |= caster.blocked(origins_m, directions, reach_m)
        return result


def _ball(mesh: Mesh) -> tuple[float, float, float, float]:
    """Centre and radius of a ball around a mesh."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    x, y, z = ((low + high) / 2).tolist()
    return x, y, z, float(np.linalg.norm(high - low)) / 2


def ego_speed_mps(town: TownConfig, seed: tuple[int, ...]) -> float:
    """The ego vehicle's speed in a scene, known without making the scene."""
    return float(np.random.default_rng([town.seed, *seed, 0]).uniform(5.0, 12.0))


class Scene:
    """One street with its traffic, and the ego vehicle's drive through it.

    The drive starts at s = 0 of the main road, in the right lane, at constant speed. Made from a town and a seed alone.
    """

    def __init__(self, town: TownConfig, seed: tuple[int, ...], travel_m: float) -> None:
        rng = np.random.default_rng([town.seed, *seed])
        self.layout: Layout = lay_out(town, travel_m, rng)
        self.speed_mps = ego_speed_mps(town, seed)
        self._weave = rng.normal(0, (0.12, 0.01), 2)
        moments = np.linspace(0, travel_m / self.speed_mps, 40)
        drive = np.linalg.inv(self.ego_poses(moments))
        everyone = populate(town, self.layout, self.speed_mps, travel_m, rng)
        self.actors: list[Actor] = [actor for actor in everyone if not _meets(actor, moments, drive)]
        self.standing = Caster(self.layout.mesh)

    def at(self, travelled_m: float) -> Snapshot:
        """The moment at which the ego vehicle has driven so far."""
        time_s = travelled_m / self.speed_mps
        return Snapshot(self, time_s, self.ego_pose(time_s))

    def ego_pose(self, time_s: float) -> NDArray[np.float64]:
        """world_SE3_base, (4, 4)."""
        return self.ego_poses(np.array([time_s]))[0]

    def ego_poses(self, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """world_SE3_base (T, 4, 4) at T times."""
        road = self.layout.road
        xy, heading = road.point(self.speed_mps * times_s, -road.lane_m / 2 + self._weave[0])
        return ground_poses(self.layout.ground, xy, heading + self._weave[1], np.full(len(xy), 1.4))


def _meets(actor: Actor, moments_s: NDArray[np.floating], base_from_world: NDArray[np.floating]) -> bool:
    """Whether an actor ever comes into the ego vehicle's way, which is at (M, 4, 4) at (M,) moments."""
    places = np.einsum("mij,mj->mi", base_from_world[:, :2, :2], actor.places(moments_s)) + base_from_world[:, :2, 3]
    return bool(np.any((np.abs(places[:, 1]) < 1.4) & (np.abs(places[:, 0]) < 5.0 + actor.half_length_m)))
