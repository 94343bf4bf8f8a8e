"""Street furniture: lamps, signs, traffic lights, posts, and the bins, boxes and shelters that belong to no class."""

import numpy as np

from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Color, Mesh, box, merge, tube

GRAY = (0.45, 0.46, 0.47)
DARK = (0.16, 0.18, 0.18)
SIGN_COLORS: tuple[Color, ...] = ((0.7, 0.06, 0.08), (0.08, 0.25, 0.62), (0.85, 0.85, 0.82), (0.85, 0.65, 0.1))

LAMP_REACH_M = 1.4
"""How far a street lamp's head hangs over the road."""


def street_lamp(height_m: float) -> Mesh:
    """A lamp at the origin whose arm points to +x; the light comes from (LAMP_REACH_M, 0, height_m)."""
    arm = (LAMP_REACH_M - 0.2, 0, height_m)
    return merge(
        [
            tube((0, 0, 0), (0, 0, height_m - 0.3), (0.09, 0.06), 8, Material.METAL, GRAY),
            tube((0, 0, height_m - 0.3), arm, (0.05, 0.04), 6, Material.METAL, GRAY),
            box((LAMP_REACH_M, 0, height_m + 0.02), (0.7, 0.24, 0.1), Material.METAL, GRAY),
            box((LAMP_REACH_M, 0, height_m - 0.05), (0.5, 0.18, 0.05), Material.LAMP, (0.9, 0.88, 0.8)),
        ]
    )


def sign(rng: np.random.Generator) -> Mesh:
    """A round, square or triangular sign on a thin post, its face towards -x."""
    height = float(rng.uniform(2.0, 2.7))
    color = SIGN_COLORS[int(rng.integers(len(SIGN_COLORS)))]
    parts = [tube((0, 0, 0), (0, 0, height + 0.3), (0.035, 0.035), 6, Material.METAL, GRAY)]
    sides = int(rng.choice([3, 4, 16]))
    rim = tube((-0.06, 0, height), (-0.045, 0, height), (0.36, 0.36), sides, Material.SIGN, color)
    face = tube((-0.07, 0, height), (-0.06, 0, height), (0.26, 0.26), sides, Material.SIGN, (0.88, 0.88, 0.86))
    parts += [rim] if color == SIGN_COLORS[1] else [rim, face]
    if rng.random() < 0.3:
        parts.append(box((-0.05, 0, height - 0.6), (0.02, 0.5, 0.3), Material.SIGN, (0.88, 0.88, 0.86)))
    return merge(parts)


def traffic_light(rng: np.random.Generator) -> Mesh:
    """A signal on a post, its lights towards -x; one of the three is lit."""
    lit = int(rng.integers(3))
    parts = [
        tube((0, 0, 0), (0, 0, 3.3), (0.07, 0.06), 8, Material.METAL, DARK),
        box((-0.12, 0, 2.9), (0.2, 0.3, 0.9), Material.METAL, (0.06, 0.07, 0.07)),
    ]
    for i, color in enumerate(((0.95, 0.1, 0.05), (0.95, 0.6, 0.05), (0.1, 0.9, 0.35))):
        z = 3.2 - 0.3 * i
        shade: Color = color if i == lit else (0.2 * color[0], 0.2 * color[1], 0.2 * color[2])
        material = Material.SIGNAL if i == lit else Material.METAL
        parts.append(tube((-0.25, 0, z), (-0.21, 0, z), (0.1, 0.1), 8, material, shade))
    return merge(parts)


def mast(rng: np.random.Generator) -> Mesh:
    """A wooden or concrete mast for wires, or a bollard-sized post."""
    if rng.random() < 0.4:
        return tube((0, 0, 0), (0, 0, float(rng.uniform(0.8, 1.1))), (0.06, 0.06), 8, Material.METAL, DARK)
    height, radius = float(rng.uniform(6.0, 9.0)), float(rng.uniform(0.1, 0.16))
    color = (0.34, 0.28, 0.22) if rng.random() < 0.5 else (0.55, 0.54, 0.52)
    cross = box((0, 0, height - 0.5), (0.1, 1.6, 0.1), Material.METAL, color)
    return merge([tube((0, 0, 0), (0, 0, height), (radius, 0.75 * radius), 8, Material.METAL, color), cross])


def clutter(rng: np.random.Generator) -> Mesh:
    """Things on sidewalks that have no class: bins, switch boxes, benches, a shelter."""
    kind = rng.choice(["bin", "box", "bench", "skip"], p=[0.5, 0.25, 0.15, 0.1])
    if kind == "bin":
        colors = ((0.1, 0.25, 0.12), (0.1, 0.1, 0.11), (0.15, 0.2, 0.4), (0.5, 0.4, 0.05))
        return merge(
            [
                merge(
                    [
                        box((0, 0.65 * i, 0.55), (0.6, 0.55, 0.95), Material.CLUTTER, color),
                        box((0, 0.65 * i, 1.06), (0.66, 0.6, 0.08), Material.CLUTTER, color),
                    ]
                )
                for i in range(int(rng.integers(1, 4)))
                for color in (colors[int(rng.integers(len(colors)))],)
            ]
        )
    if kind == "box":
        return box((0, 0, 0.6), (0.4, float(rng.uniform(0.6, 1.4)), 1.2), Material.CLUTTER, (0.5, 0.52, 0.48))
    if kind == "bench":
        wood = (0.42, 0.3, 0.18)
        return merge(
            [
                box((0, 0, 0.45), (0.45, 1.6, 0.06), Material.CLUTTER, wood),
                box((-0.2, 0, 0.75), (0.05, 1.6, 0.4), Material.CLUTTER, wood),
                box((0, -0.7, 0.22), (0.4, 0.06, 0.44), Material.CLUTTER, DARK),
                box((0, 0.7, 0.22), (0.4, 0.06, 0.44), Material.CLUTTER, DARK),
            ]
        )
    return box((0, 0, 0.75), (1.7, 3.2, 1.5), Material.CLUTTER, (0.45, 0.3, 0.1))
