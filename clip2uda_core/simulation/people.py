"""People on foot and on bicycles, from rounded limbs."""

import numpy as np

from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Color, Mesh, ellipsoid, merge, pose_at, tube

SKINS: tuple[Color, ...] = ((0.85, 0.66, 0.55), (0.72, 0.52, 0.4), (0.5, 0.34, 0.25), (0.32, 0.21, 0.16))
HAIR: tuple[Color, ...] = ((0.1, 0.08, 0.07), (0.3, 0.2, 0.12), (0.6, 0.48, 0.3), (0.55, 0.55, 0.55))
CLOTHES: tuple[Color, ...] = (
    (0.12, 0.13, 0.16), (0.2, 0.25, 0.4), (0.35, 0.35, 0.36), (0.75, 0.74, 0.7), (0.6, 0.12, 0.12), (0.15, 0.35, 0.25),
    (0.7, 0.55, 0.2), (0.3, 0.2, 0.3), (0.25, 0.45, 0.6), (0.45, 0.35, 0.28),
)  # fmt: skip


def _limb(points: list[tuple[float, float, float]], radii: tuple[float, ...], material: Material, color: Color) -> Mesh:
    return merge(
        [
            tube(a, b, (ra, rb), 5, material, color)
            for a, b, ra, rb in zip(points, points[1:], radii, radii[1:], strict=False)
        ]
    )


def _head(x: float, z: float, rng: np.random.Generator) -> list[Mesh]:
    skin, hair = SKINS[int(rng.integers(len(SKINS)))], HAIR[int(rng.integers(len(HAIR)))]
    return [
        ellipsoid((x, 0, z), (0.1, 0.085, 0.125), Material.SKIN, skin),
        ellipsoid((x - 0.015, 0, z + 0.035), (0.105, 0.092, 0.105), Material.SKIN, hair),
        tube((x - 0.01, 0, z - 0.2), (x, 0, z - 0.08), (0.06, 0.055), 6, Material.SKIN, skin),
    ]


def walker(rng: np.random.Generator, phase: float) -> Mesh:
    """A person at the origin facing +x; `phase` (0..1) is the place in the stride."""
    scale = float(rng.normal(1.0, 0.06)) * (0.72 if rng.random() < 0.08 else 1.0)
    top, trousers = (CLOTHES[int(i)] for i in rng.integers(len(CLOTHES), size=2))
    swing = 0.28 * float(np.sin(2 * np.pi * phase))
    parts = _head(0.02, 1.64, rng)
    parts += [
        ellipsoid((0.0, 0, 1.22), (0.14, 0.215, 0.33), Material.CLOTH, top, 10),
        ellipsoid((0.0, 0, 0.94), (0.13, 0.18, 0.17), Material.CLOTH, trousers),
    ]
    if rng.random() < 0.25:
        parts.append(
            tube((0, 0, 0.55), (0, 0, 1.0), (0.24, 0.15), 8, Material.CLOTH, trousers)
        )  # a skirt or a long coat
    if rng.random() < 0.3:
        parts.append(
            ellipsoid((-0.19, 0, 1.25), (0.1, 0.15, 0.22), Material.CLOTH, CLOTHES[int(rng.integers(len(CLOTHES)))])
        )
    for side in (-1, 1):
        step = side * swing
        knee = (0.55 * step + 0.05, side * 0.09, 0.5)
        ankle = (step - (0.08 if step < 0 else 0.0), side * 0.09, 0.09)
        parts.append(_limb([(0, side * 0.09, 0.92), knee, ankle], (0.095, 0.07, 0.05), Material.CLOTH, trousers))
        parts.append(
            ellipsoid((ankle[0] + 0.06, ankle[1], 0.05), (0.13, 0.05, 0.05), Material.CLOTH, (0.08, 0.07, 0.07))
        )
        elbow, hand = (-0.5 * step - 0.02, side * 0.27, 1.14), (-step + 0.08, side * 0.26, 0.9)
        parts.append(_limb([(0, side * 0.2, 1.42), elbow, hand], (0.06, 0.05, 0.04), Material.CLOTH, top))
        parts.append(ellipsoid(hand, (0.05, 0.04, 0.06), Material.SKIN, SKINS[1], 6))
    return merge(parts).moved(np.diag([scale, scale, scale, 1.0]))


def _ring(x: float, radius: float, color: Color) -> Mesh:
    angles = np.linspace(0, 2 * np.pi, 11)
    points = [(x + radius * float(np.cos(a)), 0.0, 0.34 + radius * float(np.sin(a))) for a in angles]
    return _limb(points, (0.02,) * 11, Material.BICYCLE, color)


def cyclist(rng: np.random.Generator, phase: float) -> Mesh:
    """A person riding a bicycle towards +x; the class of both is person, as in SemanticKITTI."""
    frame = CLOTHES[int(rng.integers(len(CLOTHES)))]
    top, trousers = (CLOTHES[int(i)] for i in rng.integers(len(CLOTHES), size=2))
    bars = [
        ((-0.5, 0, 0.34), (-0.12, 0, 0.32)), ((-0.12, 0, 0.32), (-0.22, 0, 0.9)), ((-0.12, 0, 0.32), (0.36, 0, 0.82)),
        ((-0.2, 0, 0.8), (0.36, 0, 0.84)), ((0.52, 0, 0.34), (0.36, 0, 1.0)), ((0.34, -0.25, 1.02), (0.34, 0.25, 1.02)),
        ((-0.5, 0, 0.34), (-0.21, 0, 0.82)),
    ]  # fmt: skip
    parts = [_ring(-0.5, 0.33, (0.06, 0.06, 0.06)), _ring(0.52, 0.33, (0.06, 0.06, 0.06))]
    parts += [tube(a, b, (0.022, 0.022), 5, Material.BICYCLE, frame) for a, b in bars]
    parts += _head(0.12, 1.68, rng)
    torso = ellipsoid((0, 0, 0), (0.14, 0.2, 0.34), Material.CLOTH, top, 10)
    lean = pose_at(0.0, 0.0, 1.27)
    lean[:3, :3] = [[np.cos(0.35), 0, np.sin(0.35)], [0, 1, 0], [-np.sin(0.35), 0, np.cos(0.35)]]
    parts.append(torso.moved(lean))
    for side in (-1, 1):
        turn = 2 * np.pi * phase + (np.pi if side > 0 else 0.0)
        foot = (-0.12 + 0.16 * float(np.cos(turn)), side * 0.1, 0.32 + 0.16 * float(np.sin(turn)))
        knee = (0.22 + 0.06 * float(np.cos(turn)), side * 0.1, 0.72 + 0.1 * float(np.sin(turn)))
        parts.append(_limb([(-0.18, side * 0.09, 0.96), knee, foot], (0.09, 0.07, 0.05), Material.CLOTH, trousers))
        shoulder, elbow = (0.08, side * 0.2, 1.48), (0.22, side * 0.27, 1.22)
        parts.append(_limb([shoulder, elbow, (0.34, side * 0.23, 1.05)], (0.06, 0.05, 0.04), Material.CLOTH, top))
    return merge(parts)
