"""Trees, bushes and hedges of leaf cards: random small diamonds, denser towards the surface of the crown."""

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.mesh import Color, Mesh, merge, quads, tube

GREENS: tuple[Color, ...] = (
    (0.22, 0.32, 0.12),
    (0.28, 0.37, 0.14),
    (0.18, 0.28, 0.12),
    (0.33, 0.39, 0.17),
    (0.25, 0.32, 0.17),
)
AUTUMN: tuple[Color, ...] = ((0.55, 0.35, 0.12), (0.5, 0.41, 0.14), (0.42, 0.23, 0.1), (0.37, 0.38, 0.14))
BARK: tuple[Color, ...] = ((0.3, 0.25, 0.2), (0.36, 0.32, 0.27), (0.24, 0.2, 0.17))


def leaf_cards(
    centers_m: NDArray[np.floating],
    size_m: float,
    color: Color,
    rng: np.random.Generator,
) -> Mesh:
    """One random diamond a centre, (N, 3), about `size_m` long; tones differ from card to card."""
    count = len(centers_m)
    a, b = rng.standard_normal((2, count, 3), np.float32)
    a /= np.sqrt(np.einsum("ij,ij->i", a, a))[:, None]
    b -= np.einsum("ij,ij->i", a, b)[:, None] * a
    b /= np.sqrt(np.einsum("ij,ij->i", b, b))[:, None]
    reach = np.float32(size_m) * (0.7 + 0.6 * rng.random((count, 1), np.float32))
    a *= 0.42 * reach
    b *= 0.66 * reach
    corners = np.stack([-a, -b, a, b], 1) + centers_m[:, None].astype(np.float32)
    tone = (0.72 + 0.48 * rng.random((count, 1), np.float32)) * np.asarray(color, np.float32)
    tone += np.float32(0.02) * rng.standard_normal((count, 3), np.float32)
    return quads(corners, Material.LEAF, np.clip(tone, 0.02, 1.0))


def _blob(center: NDArray, radii: NDArray, count: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """Places in an ellipsoid, denser towards its surface."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return center + direction * radii * rng.beta(4.0, 1.2, (count, 1))


def _number(density: float, area: float, detail: float) -> int:
    """How many cards cover an area: fewer (and larger, `_size`) ones where `detail` (0..1) is low."""
    return max(int(0.5 * density * area * detail), 6)


def _size(detail: float) -> float:
    return 0.22 / float(np.sqrt(max(detail, 0.05)))


def _dark(color: Color) -> Color:
    """Leaves inside a crown, which get little light."""
    return 0.5 * color[0], 0.5 * color[1], 0.5 * color[2]


def tree(rng: np.random.Generator, autumn: float, detail: float) -> Mesh:
    """A broad-leaved tree of 4.5 to 13 m at the origin: a crown of overlapping blobs on forking branches."""
    height = float(rng.uniform(4.5, 13.0))
    trunk_radius = float(np.clip(height * rng.uniform(0.010, 0.036), 0.06, 0.45))
    bare = float(rng.uniform(0.16, 0.34)) * height
    lean = rng.normal(0, 0.02, 2) * height
    top = (lean[0], lean[1], height * 0.72)
    fork = (lean[0] * 0.4, lean[1] * 0.4, bare)
    bark = BARK[int(rng.integers(len(BARK)))]
    parts = [
        tube((0, 0, -0.3), fork, (trunk_radius * 1.25, trunk_radius), 9, Material.BARK, bark),
        tube(fork, top, (trunk_radius * 0.8, trunk_radius * 0.25), 7, Material.BARK, bark),
    ]
    crown = (height - bare) / 2
    spread = crown * float(rng.uniform(0.55, 1.0))
    palette = AUTUMN if rng.random() < autumn else GREENS
    color = palette[int(rng.integers(len(palette)))]
    density = float(rng.uniform(110.0, 210.0))
    outer, inner = [], []
    for _ in range(int(rng.integers(7, 12))):
        angle, level = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.65)
        out = spread * np.sqrt(rng.random()) * 0.8 * np.sqrt(max(1 - (level - 0.9) ** 2, 0.1))
        center = np.array([lean[0] + out * np.cos(angle), lean[1] + out * np.sin(angle), bare + crown * level])
        radius = spread * rng.uniform(0.36, 0.58)
        branch = (0.75 * center + 0.25 * np.array(fork)).tolist()
        parts.append(tube(fork, branch, (trunk_radius * 0.35, 0.02), 5, Material.BARK, bark))
        outer.append(_blob(center, radius * np.array([1, 1, 0.8]), _number(density, radius * radius, detail), rng))
        inner.append(_blob(center, 0.7 * radius * np.array([1, 1, 0.8]), _number(14.0, radius * radius, detail), rng))
    parts.append(leaf_cards(np.concatenate(outer), _size(detail), color, rng))
    parts.append(leaf_cards(np.concatenate(inner), 3 * _size(detail), _dark(color), rng))
    return merge(parts)


def conifer(rng: np.random.Generator, detail: float) -> Mesh:
    """A spruce-like tree: whorls of cards that narrow upwards."""
    height, radius = float(rng.uniform(4.0, 12.0)), float(rng.uniform(0.9, 2.2))
    bare = float(rng.uniform(0.1, 1.2))
    count = _number(170.0, radius * height * 0.6, detail)
    share = 1 - np.sqrt(rng.random(count))
    z = bare + share * (height - bare)
    reach = radius * (1 - share) * (0.75 + 0.25 * np.sin(9 * z)) * rng.beta(5, 1.2, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    centers = np.stack([reach * np.cos(angle), reach * np.sin(angle), z], 1)
    trunk = tube((0, 0, -0.3), (0, 0, height * 0.95), (0.03 * height, 0.03), 7, Material.BARK, BARK[0])
    return merge([trunk, leaf_cards(centers, 1.1 * _size(detail), (0.13, 0.22, 0.12), rng)])


def bush(rng: np.random.Generator, autumn: float, detail: float) -> Mesh:
    """A shrub of 0.5 to 2.5 m."""
    palette = AUTUMN if rng.random() < autumn * 0.5 else GREENS
    color = palette[int(rng.integers(len(palette)))]
    radius = float(rng.uniform(0.4, 1.1))
    outer, inner = [], []
    for _ in range(int(rng.integers(1, 4))):
        r = radius * rng.uniform(0.6, 1.0)
        center = np.array([*rng.normal(0, radius * 0.5, 2), r * rng.uniform(0.55, 0.95)])
        outer.append(_blob(center, r * np.array([1, 1, 0.9]), _number(350.0, r * r, detail), rng))
        inner.append(_blob(center, 0.6 * r * np.array([1, 1, 0.9]), _number(30.0, r * r, detail), rng))
    leaves, core = np.concatenate(outer), np.concatenate(inner)
    return merge(
        [
            leaf_cards(leaves[leaves[:, 2] > 0.02], 0.75 * _size(detail), color, rng),
            leaf_cards(core[core[:, 2] > 0.1], 2.0 * _size(detail), _dark(color), rng),
        ]
    )


def hedge(length_m: float, rng: np.random.Generator, detail: float) -> Mesh:
    """A trimmed hedge along x, centred at the origin: cards near the faces of a box that hides what is behind."""
    width, height = float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.8, 2.0))
    color = GREENS[int(rng.integers(len(GREENS)))]
    area = 2 * length_m * height + length_m * width
    count, size = _number(75.0, area, detail), _size(detail)
    unit = rng.uniform(-0.5, 0.5, (count, 3))
    face = rng.random(count)
    side = np.sign(unit[:, 1]) * (0.5 - rng.gamma(1.2, 0.07, count))
    unit[:, 1] = np.where(face < 0.7, side, unit[:, 1])
    unit[:, 2] = np.where(face >= 0.7, 0.5 - rng.gamma(1.2, 0.05, count), unit[:, 2])
    ends = rng.random(count) < width / length_m
    unit[ends, 0] = np.sign(unit[ends, 0]) * 0.5
    centers = unit * [length_m, width, height] + [0, 0, height / 2]
    centers += rng.normal(0, 0.04, (count, 3))
    inner = centers[: count // 3] * [0.97, 0.6, 0.85]
    leaves = centers[centers[:, 2] > 0.02]
    return merge([leaf_cards(inner, 2 * size, _dark(color), rng), leaf_cards(leaves, size, color, rng)])
