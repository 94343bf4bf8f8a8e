"""The ground: roads, kerbs, sidewalks, verges and yards over gentle hills.

The roads' outline is a signed distance field: ribbons joined with rounded corners, minus traffic islands. What a place
is made of is decided per hit, from exact road coordinates, so markings are crisp. `sheet.py` makes triangles of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Color
from clip2uda_core.simulation.roads import Road
from clip2uda_core.simulation.textures import value_noise


@dataclass(frozen=True)
class Relief:
    """Hills: a plane plus waves. slope (2,). waves (W, 4): amplitude m, wave vector 1/m x and y, phase."""

    slope: NDArray[np.float64]
    waves: NDArray[np.float64]

    def height(self, xy_m: NDArray[np.floating]) -> NDArray[np.floating]:
        z = xy_m @ self.slope
        for amplitude, kx, ky, phase in self.waves:
            z = z + amplitude * np.sin(kx * xy_m[:, 0] + ky * xy_m[:, 1] + phase)
        return z


@dataclass(frozen=True)
class Patch:
    """A rectangle on the ground: a traffic island in the road."""

    center_m: tuple[float, float]
    heading_rad: float
    half_length_m: float
    half_width_m: float

    def distance(self, xy_m: NDArray[np.floating]) -> NDArray[np.floating]:
        """Signed distance to its outline, negative inside."""
        c, s = np.cos(self.heading_rad), np.sin(self.heading_rad)
        x, y = xy_m[:, 0] - self.center_m[0], xy_m[:, 1] - self.center_m[1]
        dx = np.abs(c * x + s * y) - self.half_length_m
        dy = np.abs(-s * x + c * y) - self.half_width_m
        return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)


@dataclass(frozen=True)
class GroundColors:
    asphalt: Color
    paving: Color
    kerb: Color
    grass: Color
    dry_grass: Color
    gravel: Color
    marking: Color = (0.86, 0.86, 0.83)


@dataclass(frozen=True)
class Driveways:
    """Places beside one side of the main road where the kerb is low: distances along it, and their half width."""

    places_m: NDArray[np.float64]
    half_width_m: float = 1.5
    depth_m: float = 6.0

    def distance(self, s_m: NDArray[np.floating]) -> NDArray[np.floating]:
        """Signed distance along the road to the edge of the nearest one, negative inside."""
        if not len(self.places_m):
            return np.full_like(s_m, 1e3)
        middles = (self.places_m[1:] + self.places_m[:-1]) / 2
        nearest = self.places_m.astype(s_m.dtype)[np.searchsorted(middles, s_m)]
        return np.abs(s_m - nearest) - self.half_width_m


@dataclass(frozen=True)
class Place:
    """Road coordinates of N points: along and across (R, N) by road, edge (R, N) outside of each road's kerb, nearest
    (N,) road, and kerb (N,): the signed distance to the outline of all roads, negative on the road."""

    xy_m: NDArray[np.floating]
    along: NDArray[np.floating]
    across: NDArray[np.floating]
    edge: NDArray[np.floating]
    nearest: NDArray[np.integer]
    kerb: NDArray[np.floating]


@dataclass(frozen=True)
class Ground:
    """corner_m: radius of the kerb at corners. yard: material between the sidewalk and the buildings. bank_m: how much
    the land rises away from the roads. driveways: of the main road's (right, left) side.
    """

    roads: tuple[Road, ...]
    relief: Relief
    colors: GroundColors
    kerb_m: float = 0.12
    corner_m: float = 5.0
    bank_m: float = 0.0
    yard: Material = Material.GRASS
    islands: tuple[Patch, ...] = ()
    driveways: tuple[Driveways, Driveways] = (Driveways(np.zeros(0)), Driveways(np.zeros(0)))
    seed: int = 0

    def locate(self, xy_m: NDArray[np.floating]) -> Place:
        """Where points (N, 2) are with respect to the roads."""
        along, across = (np.stack(values) for values in zip(*(r.coordinates(xy_m) for r in self.roads), strict=True))
        half_widths = np.array([road.half_width_m for road in self.roads], xy_m.dtype)
        edge = np.abs(across) - half_widths[:, None]
        nearest = edge.argmin(0) if len(edge) > 1 else np.zeros(len(xy_m), np.int64)
        return Place(xy_m, along, across, edge, nearest, self._outline(edge, xy_m))

    def kerb_distance(self, xy_m: NDArray[np.floating]) -> NDArray[np.floating]:
        """(N,) distance to the roads' outline, m: negative on the road, positive on the raised side."""
        return self.locate(xy_m).kerb

    def _outline(self, edge: NDArray[np.floating], xy_m: NDArray[np.floating]) -> NDArray[np.floating]:
        distance = edge[0]
        r = self.corner_m
        for other in edge[1:]:
            rounding = np.hypot(np.maximum(r - distance, 0), np.maximum(r - other, 0))
            distance = np.maximum(r, np.minimum(distance, other)) - rounding
        for island in self.islands:
            distance = np.maximum(distance, -island.distance(xy_m))
        return distance

    def base_height(self, place: Place) -> NDArray[np.floating]:
        """(N,) height without the kerb's step."""
        rise = np.clip((place.kerb - 7.0) / 30.0, 0.0, 1.0)
        return self.relief.height(place.xy_m) + self.bank_m * rise * rise * (3 - 2 * rise)

    def kerb_height(self, place: Place) -> NDArray[np.floating]:
        """(N,) height of the raised side above the road: lowered at driveways."""
        low = np.clip(self._driveway_distance(place) / 0.8, 0.15, 1.0)
        ramp = np.clip(place.kerb / 1.2, 0.0, 1.0)
        return self.kerb_m * (low + (1 - low) * ramp)

    def _driveway_distance(self, place: Place) -> NDArray[np.floating]:
        """(N,) distance to the nearest driveway of the main road, negative on it."""
        right, left = (side.distance(place.along[0]) for side in self.driveways)
        beside = np.where(place.across[0] > 0, left, right)
        return np.maximum(beside, place.edge[0] - self.driveways[0].depth_m)

    def height(self, xy_m: NDArray[np.floating]) -> NDArray[np.floating]:
        """(N,) height of the ground at points (N, 2)."""
        return self.surface_height(self.locate(xy_m))

    def surface_height(self, place: Place) -> NDArray[np.floating]:
        """(N,) height of the ground at places that were located."""
        return self.base_height(place) + np.where(place.kerb > 0, self.kerb_height(place), 0.0)

    def surface(self, xy_m: NDArray[np.floating]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Materials (N,) and sRGB colours (N, 3) of the ground at points (N, 2)."""
        place = self.locate(xy_m)
        on_road = place.kerb < 0
        material = np.empty(len(xy_m), np.uint8)
        crossing = (place.edge < 1.0).sum(0) > 1
        for i, road in enumerate(self.roads):
            mine = on_road & (place.nearest == i)
            material[mine] = Material.COBBLES if road.cobbled else Material.ASPHALT
            if not road.cobbled:
                at = np.flatnonzero(mine & ~crossing)
                at = at[road_marking(road, place.along[i][at], place.across[i][at])]
                worn = value_noise(xy_m[at] * 2.5, self.seed) > 0.1
                material[at[worn]] = Material.MARKING
        raised = np.flatnonzero(~on_road)
        material[raised] = self._raised_material(place, raised)
        return material, self._colors(xy_m, material)

    def _raised_material(self, place: Place, at: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Materials of the points `at` beside the roads."""
        kerb, nearest = place.kerb[at], place.nearest[at]
        left = (place.across[nearest, at] > 0).astype(int)
        verge = np.array([[road.right.verge_m, road.left.verge_m] for road in self.roads])[nearest, left]
        width = np.array([[road.right.width_m, road.left.width_m] for road in self.roads])[nearest, left]
        material = np.where(kerb < verge, Material.GRASS, Material.PAVING).astype(np.uint8)
        material[kerb > width] = self.yard
        material[self._driveway_distance(place)[at] < 0] = Material.PAVING
        material[kerb < 0.16] = Material.KERB
        for island in self.islands:
            material[island.distance(place.xy_m[at]) < -0.16] = Material.PAVING
        return material

    def _colors(self, xy_m: NDArray[np.floating], material: NDArray[np.uint8]) -> NDArray[np.float32]:
        c = self.colors
        table = np.zeros((len(Material), 3), np.float32)
        table[Material.ASPHALT] = table[Material.COBBLES] = c.asphalt
        table[Material.PAVING], table[Material.KERB] = c.paving, c.kerb
        table[Material.MARKING], table[Material.GRAVEL] = c.marking, c.gravel
        color = table[material]
        grass = material == Material.GRASS
        dry = value_noise(xy_m[grass] * 0.35, self.seed + 1)[:, None]
        color[grass] = np.asarray(c.grass, np.float32) * (1 - dry) + np.asarray(c.dry_grass, np.float32) * dry
        return color


def road_marking(road: Road, s_m: NDArray[np.floating], d_m: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where a road is painted: centre line, edge lines, zebra crossings with their stop lines."""
    painted = np.zeros(len(s_m), bool)
    if road.center_line:
        dash = np.mod(s_m, 9.0) < 4.0 if road.center_line == 1 else np.ones(len(s_m), bool)
        painted |= (np.abs(d_m) < 0.07) & dash
    if road.edge_line:
        painted |= np.abs(np.abs(d_m) - road.lane_m) < 0.06
    for crossing in road.crossings_m:
        offset = np.abs(s_m - crossing)
        painted &= ~(offset < 3.5)
        painted |= (offset < 1.8) & (np.mod(d_m, 1.0) < 0.5) & (np.abs(d_m) < road.lane_m - 0.2)
        painted |= (np.abs(offset - 3.2) < 0.2) & (np.abs(d_m) < road.lane_m)
    return painted


def ground_poses(
    ground: Ground, xy_m: NDArray[np.floating], yaw_rad: NDArray[np.floating], half_length_m: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(N, 4, 4) poses at places (N, 2), z up and x along the yaws (N,), pitched and rolled as the ground is.

    half_length_m: (N,) how far before and behind the middle an object stands on the ground.
    """
    count = len(xy_m)
    forward = np.stack([np.cos(yaw_rad), np.sin(yaw_rad)], 1)
    left = np.stack([-forward[:, 1], forward[:, 0]], 1)
    reach = np.maximum(half_length_m, 0.3)[:, None]
    side = np.where(reach > 1, 0.7, 0.05)  # people and bicycles do not lean sideways
    feet = np.stack([xy_m, xy_m + reach * forward, xy_m - reach * forward, xy_m + side * left, xy_m - side * left])
    z = ground.height(feet.reshape(-1, 2)).reshape(5, count, 1)
    x_axis = np.concatenate([forward, (z[1] - z[2]) / (2 * reach)], 1)
    y_axis = np.concatenate([left, np.where(reach > 1, (z[3] - z[4]) / (2 * side), 0.0)], 1)
    x_axis /= np.linalg.norm(x_axis, axis=1, keepdims=True)
    z_axis = np.cross(x_axis, y_axis)
    z_axis /= np.linalg.norm(z_axis, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = np.stack([x_axis, np.cross(z_axis, x_axis), z_axis], 2)
    poses[:, :3, 3] = np.concatenate([xy_m, z[0]], 1)
    return poses
