"""Houses with recessed windows, doors and roofs; sheds, garden walls and fences.

A building's own frame: its front wall lies along x at y = 0 and faces -y (the street); it stands behind, at y > 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Color, Mesh, box, make_mesh, merge, quads

DOORS: tuple[Color, ...] = ((0.3, 0.2, 0.12), (0.15, 0.2, 0.18), (0.4, 0.1, 0.1), (0.7, 0.68, 0.65), (0.15, 0.18, 0.3))
ROOFS: tuple[Color, ...] = ((0.45, 0.22, 0.16), (0.36, 0.2, 0.16), (0.25, 0.24, 0.25), (0.5, 0.32, 0.22))
SHUTTERS: tuple[Color, ...] = ((0.2, 0.32, 0.22), (0.4, 0.2, 0.15), (0.55, 0.55, 0.5), (0.25, 0.3, 0.4))


@dataclass(frozen=True)
class Facade:
    """How the walls of one building look. window_m: width, height; recess_m: how deep panes lie."""

    material: Material
    color: Color
    trim: Color
    bay_m: float
    window_m: tuple[float, float]
    recess_m: float
    storey_m: float


def random_facade(material: Material, color: Color, rng: np.random.Generator) -> Facade:
    bright = tuple(float(min(c * 0.4 + 0.55, 0.95)) for c in color)
    return Facade(
        material,
        color,
        (bright[0], bright[1], bright[2]) if rng.random() < 0.7 else (0.3, 0.27, 0.25),
        float(rng.uniform(2.0, 3.4)),
        (float(rng.uniform(0.85, 1.5)), float(rng.uniform(1.1, 1.7))),
        float(rng.uniform(0.1, 0.22)),
        float(rng.uniform(2.7, 3.2)),
    )


@dataclass(frozen=True)
class Opening:
    """A window or a door in a wall: left, right, bottom, top, m, from the wall's lower left corner."""

    left: float
    right: float
    bottom: float
    top: float
    material: Material
    color: Color


def _wall(start: NDArray, end: NDArray, bottom: float, top: float, facade: Facade, openings: list[Opening]) -> Mesh:
    """A vertical wall from `start` to `end`, (2,) each, that faces to the right of that direction."""
    along = (end - start) / np.linalg.norm(end - start)
    inward = np.array([-along[1], along[0]])
    width = float(np.linalg.norm(end - start))

    def place(u: NDArray, v: NDArray, depth: NDArray) -> NDArray:
        points = np.empty((*u.shape, 3), np.float32)
        points[..., 0] = start[0] + u * along[0] + depth * inward[0]
        points[..., 1] = start[1] + u * along[1] + depth * inward[1]
        points[..., 2] = v
        return points

    cuts_u = [0.0, width, *(o.left for o in openings), *(o.right for o in openings)]
    cuts_v = [bottom, min(bottom + 0.5, top), top, *(o.bottom for o in openings), *(o.top for o in openings)]
    us, vs = np.array(sorted(set(cuts_u))), np.array(sorted(set(cuts_v)))
    hole = np.array([(o.left, o.right, o.bottom, o.top) for o in openings]).reshape(-1, 4)
    lo, hi, bo, to = hole.T
    in_u = ((us[1:] + us[:-1]) / 2 > lo[:, None]) & ((us[1:] + us[:-1]) / 2 < hi[:, None])
    in_v = ((vs[1:] + vs[:-1]) / 2 > bo[:, None]) & ((vs[1:] + vs[:-1]) / 2 < to[:, None])
    i, j = np.nonzero(~np.any(in_u[:, :, None] & in_v[:, None, :], axis=0))
    u0, u1, v0, v1 = us[i], us[i + 1], vs[j], vs[j + 1]
    corners = place(np.stack([u0, u1, u1, u0], 1), np.stack([v0, v0, v1, v1], 1), np.zeros(1))
    wall = np.asarray(facade.color, np.float32)
    color = np.where((v1 < bottom + 0.51)[:, None], 0.72 * wall, wall)  # the plinth is darker
    parts = [quads(corners, facade.material, color)]
    if openings:
        u, v = np.stack([lo, hi, hi, lo], 1), np.stack([bo, bo, to, to], 1)
        deep = np.full(u.shape, facade.recess_m)
        pane = place(u, v, deep)
        parts.append(quads(pane, np.array([o.material for o in openings]), np.array([o.color for o in openings])))
        rim = place(u, v, 0 * deep)
        reveals = [np.stack([rim[:, k], rim[:, k - 1], pane[:, k - 1], pane[:, k]], 1) for k in range(4)]
        parts.append(quads(np.concatenate(reveals), Material.TRIM, facade.trim))
    return merge(parts)


def _openings(
    width: float, storeys: int, facade: Facade, shop: bool, door: bool, rng: np.random.Generator
) -> list[Opening]:
    """A grid of windows, with a door or a shop front on the ground floor."""
    bays = max(int(width / facade.bay_m), 1)
    centers = (np.arange(bays) + 0.5) * width / bays
    door_bay = int(rng.integers(bays)) if door else -1
    pane = (0.1, 0.12, 0.14)
    openings = []
    for storey in range(storeys):
        floor = storey * facade.storey_m
        for bay, center in enumerate(centers):
            half = min(facade.window_m[0], width / bays - 0.5) / 2
            sill, top = floor + 0.9, min(floor + 0.9 + facade.window_m[1], floor + facade.storey_m - 0.2)
            if storey == 0 and bay == door_bay:
                color = DOORS[int(rng.integers(len(DOORS)))]
                openings.append(Opening(center - 0.5, center + 0.5, 0.05, 2.15, Material.DOOR, color))
            elif storey == 0 and shop:
                half = width / bays / 2 - 0.2
                openings.append(Opening(center - half, center + half, 0.35, 2.5, Material.WINDOW, pane))
            elif half > 0.25 and rng.random() < 0.94:
                openings.append(Opening(center - half, center + half, sill, top, Material.WINDOW, pane))
    return openings


def _gable_roof(width: float, depth: float, eaves: float, rise: float, facade: Facade, color: Color) -> Mesh:
    """Two slopes with an overhang, the ridge along the street, and the gable walls below."""
    over, middle = 0.4, depth / 2
    drop = over * rise / middle
    low, ridge = eaves - drop, eaves + rise
    slopes = np.array(
        [
            [(-over, -over, low), (width + over, -over, low), (width + over, middle, ridge), (-over, middle, ridge)],
            [
                (-over, depth + over, low),
                (width + over, depth + over, low),
                (width + over, middle, ridge),
                (-over, middle, ridge),
            ],
        ]
    )
    gables = [
        (0, 0, eaves),
        (0, depth, eaves),
        (0, middle, ridge),
        (width, 0, eaves),
        (width, depth, eaves),
        (width, middle, ridge),
    ]
    return merge(
        [
            quads(slopes, Material.ROOF, color),
            make_mesh(gables, [[0, 1, 2], [3, 4, 5]], facade.material, facade.color),
        ]
    )


def _roof_extras(
    width: float, depth: float, eaves: float, rise: float, color: Color, rng: np.random.Generator
) -> list[Mesh]:
    parts = []
    if rng.random() < 0.7:
        x, y = rng.uniform(1, max(width - 1, 1.1)), depth / 2 + rng.uniform(-1, 1)
        parts.append(box((x, y, eaves + rise), (0.6, 0.8, 1.6), Material.BRICK, (0.4, 0.25, 0.2)))
    if rise > 2.0 and rng.random() < 0.5:
        for x in np.arange(1.8, width - 1.4, 3.2):
            z = eaves + 0.35 * rise + 0.7
            parts.append(box((x, 0.35 * depth / 2 + 0.9, z), (1.5, 1.8, 1.4), Material.ROOF, color))
            parts.append(box((x, 0.35 * depth / 2 - 0.02, z), (1.0, 0.06, 0.9), Material.WINDOW, (0.1, 0.12, 0.14)))
    return parts


def house(
    width: float, depth: float, storeys: int, facade: Facade, rng: np.random.Generator, *, flat_roof: bool, shop: bool
) -> Mesh:
    """A building of `storeys` floors on a rectangle from (0, 0) to (width, depth)."""
    height = storeys * facade.storey_m + 0.3
    corners = [np.array(c, float) for c in ((0, 0), (width, 0), (width, depth), (0, depth))]
    parts = [_wall(corners[0], corners[1], 0.0, height, facade, _openings(width, storeys, facade, shop, True, rng))]
    for a, b in ((1, 2), (3, 0)):
        sparse = _openings(depth, storeys, facade, False, False, rng) if rng.random() < 0.7 else []
        parts.append(_wall(corners[a], corners[b], 0.0, height, facade, [o for o in sparse if rng.random() < 0.5]))
    rear = [(width, depth, 0), (0, depth, 0), (0, depth, height), (width, depth, height)]
    parts.append(quads(np.array([rear]), facade.material, facade.color))
    roof_color = ROOFS[int(rng.integers(len(ROOFS)))]
    if flat_roof:
        slab = box((width / 2, depth / 2, height + 0.1), (width + 0.3, depth + 0.3, 0.35), Material.TRIM, facade.trim)
        parts.append(slab)
    else:
        rise = depth / 2 * float(rng.uniform(0.5, 1.0))
        parts.append(_gable_roof(width, depth, height, rise, facade, roof_color))
        parts += _roof_extras(width, depth, height, rise, roof_color, rng)
    parts += _front_extras(width, storeys, height, facade, shop, rng)
    return merge(parts)


def _front_extras(
    width: float, storeys: int, height: float, facade: Facade, shop: bool, rng: np.random.Generator
) -> list[Mesh]:
    """Cornice, gutter pipe, awning, balconies, steps, shutters."""
    parts = [box((width / 2, -0.08, height - 0.1), (width, 0.16, 0.2), Material.TRIM, facade.trim)]
    parts.append(box((width - 0.12, -0.07, height / 2), (0.1, 0.1, height), Material.TRIM, (0.4, 0.4, 0.4)))
    if shop:
        canopy = SHUTTERS[int(rng.integers(len(SHUTTERS)))]
        parts.append(box((width / 2, -0.45, 2.75), (width * 0.9, 0.9, 0.1), Material.TRIM, canopy))
        parts.append(box((width / 2, -0.06, 3.0), (width * 0.8, 0.1, 0.45), Material.TRIM, canopy))
    elif rng.random() < 0.35 and storeys > 1:
        bays = max(int(width / facade.bay_m), 1)
        for storey in range(1, storeys):
            for bay in range(bays):
                if (bay + int(width * 7)) % 3 == 0:
                    x, z = (bay + 0.5) * width / bays, storey * facade.storey_m + 0.12
                    parts.append(box((x, -0.55, z), (facade.bay_m * 0.85, 1.1, 0.15), Material.TRIM, facade.trim))
                    parts.append(
                        box((x, -1.07, z + 0.5), (facade.bay_m * 0.85, 0.05, 0.9), Material.TRIM, (0.35, 0.36, 0.38))
                    )
    if rng.random() < 0.4:
        parts.append(box((width / 2, -0.4, 0.08), (1.6, 0.8, 0.18), Material.TRIM, (0.5, 0.5, 0.48)))
    return parts


def shed(rng: np.random.Generator) -> Mesh:
    """A garage, kiosk or transformer house, the size of a car or a van."""
    width, depth, height = (float(rng.uniform(*span)) for span in ((2.2, 6.0), (2.2, 5.5), (2.0, 2.9)))
    color = tuple(float(c) for c in rng.uniform(0.35, 0.8) * np.array([1.0, 0.97, 0.92]))
    walls = box(
        (width / 2, depth / 2, height / 2), (width, depth, height), Material.PLASTER, (color[0], color[1], color[2])
    )
    roof = box((width / 2, depth / 2, height + 0.07), (width + 0.3, depth + 0.3, 0.14), Material.TRIM, (0.3, 0.3, 0.3))
    gate = box(
        (width / 2, -0.01, 1.0), (min(2.4, width - 0.4), 0.06, 2.0), Material.DOOR, DOORS[int(rng.integers(len(DOORS)))]
    )
    return merge([walls, roof, gate])


def garden_wall(length_m: float, color: Color, rng: np.random.Generator) -> Mesh:
    """A wall along x, centred at the origin."""
    height = float(rng.uniform(0.5, 2.0))
    material = Material.BRICK if rng.random() < 0.5 else Material.PLASTER
    wall = box((0, 0, height / 2), (length_m, 0.25, height), material, color)
    return merge([wall, box((0, 0, height + 0.04), (length_m, 0.34, 0.08), Material.TRIM, (0.55, 0.53, 0.5))])


def fence(length_m: float, rng: np.random.Generator) -> Mesh:
    """A wooden or iron fence along x, centred at the origin: posts, rails and pales with gaps to see through."""
    height, gap = float(rng.uniform(0.8, 1.7)), float(rng.uniform(0.12, 0.18))
    wood = rng.random() < 0.6
    color: Color = (0.45, 0.36, 0.26) if wood else (0.15, 0.16, 0.17)
    pale = gap * (0.65 if wood else 0.2)
    x = np.arange(-length_m / 2 + gap, length_m / 2, gap)
    lo, hi, zero = x - pale / 2, x + pale / 2, np.zeros_like(x)
    corners = np.stack(
        [np.stack([u, zero, zero + z], 1) for u, z in ((lo, 0.05), (hi, 0.05), (hi, height), (lo, height))], 1
    )
    posts = [
        box((px, 0.04, height / 2), (0.1, 0.1, height + 0.1), Material.WOOD_FENCE, color)
        for px in np.arange(-length_m / 2, length_m / 2 + 0.1, 2.5)
    ]
    rails = [
        box((0, 0.03, height * share), (length_m, 0.05, 0.08), Material.WOOD_FENCE, color) for share in (0.2, 0.85)
    ]
    return merge([quads(corners, Material.WOOD_FENCE, color), *posts, *rails])
