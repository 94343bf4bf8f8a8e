"""Triangle meshes with a material, a colour and an object number per face, and the shapes the world is made of.

Shapes are made in the object's own frame (x forward, y left, z up, metres) and then moved to their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import hypot

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip2uda_core.simulation.materials import Material

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Mesh:
    """vertices (V, 3) float32, m. uv (V, 2) float32: surface coordinates, 0..1 over a window pane, elsewhere unused.
    faces (F, 3) int32. material (F,) uint8. color (F, 3) float32: sRGB, 0..1. instance (F,) int32: object number.
    """

    vertices: NDArray[np.float32]
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    material: NDArray[np.uint8]
    color: NDArray[np.float32]
    instance: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.faces)

    def moved(self, pose: NDArray[np.float64]) -> "Mesh":
        """The mesh taken by a (4, 4) pose."""
        vertices = self.vertices @ pose[:3, :3].T.astype(np.float32) + pose[:3, 3].astype(np.float32)
        return Mesh(vertices, self.uv, self.faces, self.material, self.color, self.instance)

    def as_instance(self, number: int) -> "Mesh":
        instance = np.full(len(self), number, np.int32)
        return Mesh(self.vertices, self.uv, self.faces, self.material, self.color, instance)


def make_mesh(
    vertices: ArrayLike,
    faces: ArrayLike,
    material: Material | NDArray[np.integer],
    color: ArrayLike,
    uv: NDArray[np.float32] | None = None,
) -> Mesh:
    """A mesh from arrays; `material` and `color` for all faces or one row a face."""
    xyz = np.asarray(vertices, np.float32).reshape(-1, 3)
    index = np.asarray(faces, np.int32).reshape(-1, 3)
    count = len(index)
    materials = np.empty(count, np.uint8)
    materials[:] = material
    colors = np.empty((count, 3), np.float32)
    colors[:] = color
    places = np.zeros((len(xyz), 2), np.float32) if uv is None else uv
    return Mesh(xyz, places, index, materials, colors, np.zeros(count, np.int32))


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many; faces keep their object numbers."""
    if not meshes:
        return make_mesh(np.zeros((0, 3)), np.zeros((0, 3)), Material.GROUND, (0.0, 0.0, 0.0))
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        vertices=np.concatenate([m.vertices for m in meshes]),
        uv=np.concatenate([m.uv for m in meshes]),
        faces=np.concatenate([m.faces + np.int32(start) for m, start in zip(meshes, starts, strict=True)]),
        material=np.concatenate([m.material for m in meshes]),
        color=np.concatenate([m.color for m in meshes]),
        instance=np.concatenate([m.instance for m in meshes]),
    )


def pose_at(x_m: float, y_m: float, z_m: float, yaw_rad: float = 0.0) -> NDArray[np.float64]:
    """The (4, 4) pose of an upright object."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[c, -s, 0.0, x_m], [s, c, 0.0, y_m], [0.0, 0.0, 1.0, z_m], [0.0, 0.0, 0.0, 1.0]])


BOX_CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]],
    np.int32,
)  # fmt: skip


def box(center_m: ArrayLike, size_m: ArrayLike, material: Material, color: Color) -> Mesh:
    """An axis-aligned box."""
    corners = BOX_CORNERS * np.asarray(size_m, np.float32) + np.asarray(center_m, np.float32)
    return make_mesh(corners, BOX_FACES, material, color)


@cache
def _tube_parts(sides: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Cosines and sines (sides, 2) around a tube, and its faces: walls and two caps."""
    angles = np.arange(sides) * (2 * np.pi / sides)
    i = np.arange(sides)
    j = (i + 1) % sides
    walls = [np.stack([i, j, j + sides], 1), np.stack([i, j + sides, i + sides], 1)]
    caps = [np.stack([i, j, 0 * i + 2 * sides], 1), np.stack([i + sides, j + sides, 0 * i + 2 * sides + 1], 1)]
    around = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    return around, np.concatenate(walls + caps).astype(np.int32)


def tube(
    start_m: Sequence[float],
    end_m: Sequence[float],
    radii_m: tuple[float, float],
    sides: int,
    material: Material,
    color: Color,
) -> Mesh:
    """A closed round bar from `start_m` to `end_m`, with a radius at each end."""
    around, faces = _tube_parts(sides)
    dx, dy, dz = (float(e) - float(s) for s, e in zip(start_m, end_m, strict=True))
    length = max(hypot(dx, dy, dz), 1e-9)
    dx, dy, dz = dx / length, dy / length, dz / length
    if abs(dz) < 0.9:  # two unit vectors across the axis
        flat = hypot(dx, dy)
        side, other = (dy / flat, -dx / flat, 0.0), (-dx * dz / flat, -dy * dz / flat, flat)
    else:
        flat = hypot(dy, dz)
        side, other = (0.0, dz / flat, -dy / flat), (flat, -dx * dy / flat, -dx * dz / flat)
    vertices = np.empty((2 * sides + 2, 3), np.float32)
    ring = around @ np.array([side, other], np.float32)
    vertices[:sides] = ring * np.float32(radii_m[0]) + np.array(start_m, np.float32)
    vertices[sides:-2] = ring * np.float32(radii_m[1]) + np.array(end_m, np.float32)
    vertices[-2], vertices[-1] = start_m, end_m
    return make_mesh(vertices, faces, material, color)


def ellipsoid(center_m: ArrayLike, radii_m: ArrayLike, material: Material, color: Color, sides: int = 8) -> Mesh:
    """A closed ellipsoid of `sides` meridians."""
    rings = max(sides // 2, 3)
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(sides) * (2 * np.pi / sides)
    unit = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(around),
            np.sin(polar)[:, None] * np.sin(around),
            np.repeat(np.cos(polar)[:, None], sides, 1),
        ],
        axis=-1,
    ).reshape(-1, 3)
    unit = np.concatenate([unit, [[0, 0, 1], [0, 0, -1]]])
    top, bottom = len(unit) - 2, len(unit) - 1
    i = np.arange(sides)
    j = (i + 1) % sides
    last = sides * (rings - 2)
    faces = [np.stack([i, j, 0 * i + top], 1), np.stack([i + last, j + last, 0 * i + bottom], 1)]
    for a in range(0, last, sides):
        b = a + sides
        faces += [np.stack([i + a, j + a, j + b], 1), np.stack([i + a, j + b, i + b], 1)]
    vertices = unit * np.asarray(radii_m) + np.asarray(center_m)
    return make_mesh(vertices, np.concatenate(faces), material, color)


def loft(rings_m: NDArray[np.floating], material: NDArray[np.integer], color: NDArray[np.floating]) -> Mesh:
    """A closed skin over R rings of P points: (R, P, 3); `material` and `color` per ring gap and side, (R-1, P, ...).

    The first and the last ring are closed by a fan of the material and colour of their neighbours.
    """
    rows, points, _ = rings_m.shape
    i = np.arange(points)
    j = (i + 1) % points
    faces, materials, colors = [], [], []
    for r in range(rows - 1):
        a, b = r * points, (r + 1) * points
        faces += [np.stack([i + a, j + a, j + b], 1), np.stack([i + a, j + b, i + b], 1)]
        materials += [material[r], material[r]]
        colors += [color[r], color[r]]
    centers = np.stack([rings_m[0].mean(0), rings_m[-1].mean(0)])
    for end, (start, row) in enumerate(((0, 0), ((rows - 1) * points, rows - 2))):
        faces.append(np.stack([i + start, j + start, np.full(points, rows * points + end)], 1))
        materials.append(np.full(points, material[row, 0]))
        colors.append(np.broadcast_to(color[row, 0], (points, 3)))
    vertices = np.concatenate([rings_m.reshape(-1, 3), centers])
    return make_mesh(vertices, np.concatenate(faces), np.concatenate(materials), np.concatenate(colors))


def quads(corners_m: NDArray[np.floating], material: Material | NDArray[np.integer], color: ArrayLike) -> Mesh:
    """Q separate quadrilaterals, (Q, 4, 3) in order around each; `material` and `color` for all or one row a quad.

    uv is (0, 0), (1, 0), (1, 1), (0, 1) at the corners.
    """
    count = len(corners_m)
    faces = (4 * np.arange(count)[:, None] + np.array([0, 1, 2, 0, 2, 3])).reshape(-1, 3)
    materials = np.repeat(np.broadcast_to(np.asarray(material, np.uint8), (count,)), 2)
    colors = np.repeat(np.broadcast_to(np.asarray(color, np.float32), (count, 3)), 2, axis=0)
    uv = np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), (count, 1))
    return make_mesh(corners_m.reshape(-1, 3), faces, materials, colors, uv)
