"""Cars, vans, pickups, trucks and buses: skins lofted over a side profile, with windows, wheels and lights."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Color, Mesh, box, loft, merge, tube

BLACK = (0.05, 0.05, 0.055)
GLASS = (0.06, 0.07, 0.08)
PAINTS: tuple[Color, ...] = (
    (0.08, 0.08, 0.09), (0.2, 0.21, 0.22), (0.45, 0.46, 0.48), (0.68, 0.69, 0.7), (0.88, 0.88, 0.87),
    (0.1, 0.16, 0.36), (0.5, 0.07, 0.07), (0.1, 0.22, 0.16), (0.32, 0.26, 0.2), (0.55, 0.62, 0.7),
    (0.75, 0.55, 0.12), (0.25, 0.4, 0.6),
)  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """A body seen from the side, front to rear: rows of (place along the length 0..1, belt height, top height), the
    heights as shares of `height_m`; the top is the bonnet, the windscreen, the roof, ...

    windows: for each gap between rows whether its upper sides are glass; screens: whether its upper skin is.
    size_m: length, width, height, each (least, most). roof: width of the roof as a share of the width.
    """

    rows: tuple[tuple[float, float, float], ...]
    windows: tuple[bool, ...]
    screens: tuple[bool, ...]
    size_m: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    wheels: tuple[float, ...] = (0.18, 0.80)
    wheel_m: float = 0.32
    roof: float = 0.76


T, F = True, False
PROFILES: dict[str, Profile] = {
    "sedan": Profile(
        ((0, 0.42, 0.44), (0.02, 0.48, 0.50), (0.12, 0.56, 0.58), (0.27, 0.61, 0.64), (0.43, 0.63, 0.95),
         (0.56, 0.63, 1.0), (0.58, 0.63, 1.0), (0.74, 0.64, 0.96), (0.87, 0.65, 0.70), (0.97, 0.64, 0.67),
         (1, 0.5, 0.52)),
        (F, F, F, F, T, F, T, T, F, F), (F, F, F, T, F, F, F, T, F, F),
        ((4.3, 4.9), (1.72, 1.85), (1.40, 1.50)),
    ),
    "hatchback": Profile(
        ((0, 0.40, 0.42), (0.03, 0.47, 0.49), (0.13, 0.56, 0.58), (0.25, 0.60, 0.63), (0.43, 0.62, 0.96),
         (0.60, 0.62, 1.0), (0.63, 0.62, 1.0), (0.84, 0.63, 0.96), (0.97, 0.64, 0.68), (1, 0.48, 0.50)),
        (F, F, F, F, T, F, T, F, F), (F, F, F, T, F, F, F, T, F),
        ((3.6, 4.3), (1.66, 1.8), (1.42, 1.55)),
        (0.19, 0.82),
    ),
    "wagon": Profile(
        ((0, 0.42, 0.44), (0.02, 0.48, 0.50), (0.12, 0.56, 0.58), (0.26, 0.61, 0.64), (0.41, 0.63, 0.95),
         (0.54, 0.63, 1.0), (0.57, 0.63, 1.0), (0.74, 0.63, 0.99), (0.77, 0.63, 0.98), (0.91, 0.64, 0.94),
         (0.98, 0.64, 0.67), (1, 0.5, 0.52)),
        (F, F, F, F, T, F, T, F, T, F, F), (F, F, F, T, F, F, F, F, F, T, F),
        ((4.4, 4.9), (1.75, 1.86), (1.45, 1.56)),
    ),
    "suv": Profile(
        ((0, 0.45, 0.47), (0.02, 0.52, 0.54), (0.10, 0.60, 0.62), (0.25, 0.63, 0.66), (0.37, 0.65, 0.96),
         (0.52, 0.65, 1.0), (0.55, 0.65, 1.0), (0.75, 0.65, 1.0), (0.78, 0.65, 1.0), (0.93, 0.66, 0.95),
         (0.99, 0.66, 0.69), (1, 0.5, 0.52)),
        (F, F, F, F, T, F, T, F, T, F, F), (F, F, F, T, F, F, F, F, F, T, F),
        ((4.3, 4.8), (1.8, 1.95), (1.65, 1.85)), wheel_m=0.37, roof=0.8,
    ),
    "van": Profile(
        ((0, 0.32, 0.34), (0.02, 0.40, 0.42), (0.10, 0.48, 0.51), (0.15, 0.52, 0.55), (0.27, 0.55, 0.96),
         (0.42, 0.56, 1.0), (0.45, 0.56, 1.0), (0.97, 0.56, 1.0), (1, 0.5, 0.97)),
        (F, F, F, F, T, F, F, F), (F, F, F, T, F, F, F, F),
        ((4.8, 5.9), (1.95, 2.05), (1.95, 2.5)), (0.17, 0.78), 0.35, 0.88,
    ),
    "minibus": Profile(
        ((0, 0.36, 0.38), (0.02, 0.44, 0.46), (0.11, 0.52, 0.55), (0.17, 0.55, 0.58), (0.30, 0.57, 0.96),
         (0.44, 0.57, 1.0), (0.47, 0.57, 1.0), (0.68, 0.57, 1.0), (0.71, 0.57, 1.0), (0.94, 0.57, 0.99),
         (0.99, 0.57, 0.66), (1, 0.45, 0.47)),
        (F, F, F, F, T, F, T, F, T, F, F), (F, F, F, T, F, F, F, F, F, T, F),
        ((4.6, 5.2), (1.85, 1.98), (1.85, 2.0)), (0.17, 0.78), 0.34, 0.84,
    ),
    "bus": Profile(
        ((0, 0.30, 0.32), (0.005, 0.33, 0.93), (0.04, 0.36, 1.0), (0.10, 0.36, 1.0), (0.30, 0.36, 1.0),
         (0.31, 0.36, 1.0), (0.52, 0.36, 1.0), (0.53, 0.36, 1.0), (0.74, 0.36, 1.0), (0.75, 0.36, 1.0),
         (0.95, 0.36, 1.0), (1, 0.36, 0.97)),
        (F, T, T, T, F, T, F, T, F, T, F), (T, F, F, F, F, F, F, F, F, F, F),
        ((10.0, 12.2), (2.45, 2.55), (2.95, 3.2)), (0.22, 0.72), 0.48, 0.95,
    ),
}  # fmt: skip


def car(kind: str, rng: np.random.Generator) -> Mesh:
    """A vehicle of a profile, of a random size and paint, at the origin: on the ground, front along +x."""
    profile = PROFILES[kind]
    length, width, height = (float(rng.uniform(*span)) for span in profile.size_m)
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    if kind in ("van", "bus") and rng.random() < 0.6:
        paint = (0.87, 0.87, 0.86)
    body = _body(profile, length, width, height, paint)
    wheels = [
        _wheel(length * (0.5 - place), side * width / 2, profile.wheel_m)
        for place in profile.wheels
        for side in (-1, 1)
    ]
    return merge([body, *wheels, *_lights(length, width, height * profile.rows[1][2]), _underside(length, width)])


def _body(profile: Profile, length: float, width: float, height: float, paint: Color) -> Mesh:
    rows = np.array(profile.rows)
    clearance = 0.5 * profile.wheel_m
    rings = np.zeros((len(rows), 10, 3))
    for i, (place, belt, top) in enumerate(profile.rows):
        half = width / 2 * (0.86 if place in (0.0, 1.0) else 0.96 if place < 0.03 or place > 0.96 else 1.0)
        tall = np.clip((top - belt) / (1.0 - belt), 0.0, 1.0)
        roof = half * (1 - (1 - profile.roof) * tall) - 0.05
        floor = clearance + (0.12 if place in (0.0, 1.0) else 0.0)
        belt_z, top_z = belt * height, top * height
        middle = floor + 0.55 * (belt_z - floor)
        side = [
            (half - 0.08, floor),
            (half, middle),
            (half - 0.03, belt_z),
            (roof, top_z - 0.02),
            (0.45 * roof, top_z + 0.02),
        ]
        outline = np.array(side + [(-y, z) for y, z in reversed(side)])
        rings[i] = np.column_stack([np.full(10, length * (0.5 - place)), outline])
    material = np.full((len(rows) - 1, 10), Material.PAINT, np.uint8)
    for gap, (window, screen) in enumerate(zip(profile.windows, profile.screens, strict=True)):
        if window:
            material[gap, [2, 6]] = Material.CAR_GLASS
        if screen:
            material[gap, 3:6] = Material.CAR_GLASS
        material[gap, 9] = Material.CAR_TRIM
    color = np.broadcast_to(np.asarray(paint, np.float32), (*material.shape, 3)).copy()
    color[material == Material.CAR_GLASS] = GLASS
    color[material == Material.CAR_TRIM] = BLACK
    return loft(rings, material, color)


@cache
def _unit_wheel() -> Mesh:
    """A wheel of radius 1 on the left side, its middle at the origin, flush with the body at y = 0: a tyre with its
    hub, and the dark arch around it."""
    arch = tube((0, -0.6, 0.13), (0, 0.02, 0.13), (1.12, 1.12), 12, Material.CAR_TRIM, BLACK)
    tyre = tube((0, -0.6, 0), (0, 0.06, 0), (1, 1), 12, Material.TYRE, (0.07, 0.07, 0.07))
    hub = tube((0, 0, 0), (0, 0.09, 0), (0.62, 0.62), 8, Material.CAR_TRIM, (0.5, 0.5, 0.52))
    return merge([arch, tyre, hub])


def _wheel(x: float, y: float, radius: float) -> Mesh:
    """A wheel that stands on the ground; y: the side of the body that it is flush with."""
    pose = np.diag([radius, np.copysign(radius, y), radius, 1.0])
    pose[:3, 3] = [x, y, radius]
    return _unit_wheel().moved(pose)


def _lights(length: float, width: float, nose_m: float) -> list[Mesh]:
    front, rear, y = length / 2 - 0.06, -length / 2 + 0.05, width * 0.36
    z = max(nose_m - 0.1, 0.55)
    parts = [
        box((front + 0.03, side * y, z), (0.12, 0.34, 0.14), Material.HEADLIGHT, (0.85, 0.86, 0.84)) for side in (-1, 1)
    ]
    parts += [
        box((rear - 0.03, side * (y + 0.06), z + 0.12), (0.1, 0.2, 0.3), Material.TAILLIGHT, (0.55, 0.05, 0.04))
        for side in (-1, 1)
    ]
    parts.append(box((front + 0.04, 0, z - 0.04), (0.1, width * 0.4, 0.16), Material.CAR_TRIM, BLACK))
    parts += [
        box((x, 0, 0.48), (0.06, 0.52, 0.12), Material.PLATE, (0.85, 0.85, 0.8)) for x in (front + 0.07, rear - 0.07)
    ]
    parts += [
        box((length * 0.12, side * (width / 2 + 0.08), z + 0.22), (0.12, 0.18, 0.12), Material.CAR_TRIM, BLACK)
        for side in (-1, 1)
    ]
    return parts


def _underside(length: float, width: float) -> Mesh:
    return box((0, 0, 0.26), (length * 0.88, width * 0.8, 0.16), Material.CAR_TRIM, BLACK)


def truck(rng: np.random.Generator) -> Mesh:
    """A cab with a box or a flat bed behind it."""
    length, width, height = float(rng.uniform(6.5, 9.5)), 2.45, float(rng.uniform(2.9, 3.6))
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    cab_x, cab_length = length / 2 - 1.0, 2.0
    floor = 0.75
    parts = [
        box((cab_x, 0, 0.5 + 1.0), (cab_length, width - 0.1, 1.9), Material.PAINT, paint),
        box((cab_x + 0.06, 0, 1.95), (cab_length - 0.05, width - 0.3, 0.75), Material.CAR_GLASS, GLASS),
        box((cab_x - 0.75, 0, 1.95), (0.5, width - 0.08, 0.8), Material.PAINT, paint),
        box((0, 0, floor), (length - 0.3, 1.0, 0.25), Material.CAR_TRIM, BLACK),
        box((length / 2 + 0.02, 0, 0.75), (0.06, width * 0.7, 0.3), Material.CAR_TRIM, BLACK),
    ]
    load_x, load_length = -1.15, length - 2.3
    if rng.random() < 0.7:
        cover = (0.85, 0.85, 0.83) if rng.random() < 0.6 else PAINTS[int(rng.integers(len(PAINTS)))]
        parts.append(
            box((load_x, 0, (floor + height) / 2), (load_length, width, height - floor), Material.PAINT, cover)
        )
    else:
        parts.append(box((load_x, 0, floor + 0.35), (load_length, width, 0.55), Material.PAINT, paint))
    for x in (length / 2 - 1.1, -length / 2 + 1.2, -length / 2 + 2.4):
        parts += [_wheel(x, side * (width / 2 - 0.02), 0.48) for side in (-1, 1)]
    return merge([*parts, *_lights(length, width, 0.95)])


def pickup(rng: np.random.Generator) -> Mesh:
    """A crew cab with an open bed."""
    profile = Profile(
        ((0, 0.45, 0.47), (0.02, 0.52, 0.54), (0.10, 0.57, 0.59), (0.24, 0.60, 0.62), (0.35, 0.62, 0.96),
         (0.48, 0.62, 1.0), (0.56, 0.62, 0.98), (0.60, 0.61, 0.63), (0.61, 0.35, 0.37), (0.97, 0.35, 0.37),
         (1, 0.35, 0.37)),
        (F, F, F, F, T, T, F, F, F, F), (F, F, F, T, F, F, T, F, F, F),
        ((5.0, 5.5), (1.85, 1.98), (1.75, 1.9)), wheel_m=0.38,
    )  # fmt: skip
    length, width, height = (float(rng.uniform(*span)) for span in profile.size_m)
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    rear, side_z = -length / 2, 0.5 * height
    sides = [
        box(
            (rear + 0.2 * length, side * (width / 2 - 0.05), side_z),
            (0.4 * length, 0.08, 0.25 * height),
            Material.PAINT,
            paint,
        )
        for side in (-1, 1)
    ]
    gate = box((rear + 0.04, 0, side_z), (0.08, width - 0.1, 0.25 * height), Material.PAINT, paint)
    wheels = [_wheel(length * (0.5 - p), side * width / 2, profile.wheel_m) for p in profile.wheels for side in (-1, 1)]
    return merge(
        [_body(profile, length, width, height, paint), *sides, gate, *wheels, *_lights(length, width, 0.54 * height)]
    )


def random_vehicle(rng: np.random.Generator, heavy: float) -> Mesh:
    """A vehicle of any kind; `heavy` is the share of trucks and buses."""
    if rng.random() < heavy:
        return truck(rng) if rng.random() < 0.65 else car("bus", rng)
    if rng.random() < 0.04:
        return pickup(rng)
    kinds = ("sedan", "hatchback", "wagon", "suv", "van", "minibus")
    return car(str(rng.choice(kinds, p=(0.24, 0.28, 0.2, 0.14, 0.08, 0.06))), rng)


def footprint(mesh: Mesh) -> tuple[float, float]:
    """Length and width, m."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return float(high[0] - low[0]), float(high[1] - low[1])
