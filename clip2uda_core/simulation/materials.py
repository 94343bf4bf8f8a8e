"""What surfaces are made of: the class they belong to, how a camera and how a LiDAR see them.

Every face of the world has one of these materials; its colour is the face's own. The classes are those of
`config/labels/street8.yaml`, in its order.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from clip2uda_core.labels import IGNORE

ROAD, SIDEWALK, TERRAIN, BUILDING, VEGETATION, VEHICLE, PERSON, POLE = range(8)


class Texture(IntEnum):
    """Patterns of `textures.py`."""

    PLAIN = 0
    ASPHALT = 1
    PAVING = 2
    GRASS = 3
    BRICK = 4
    PLASTER = 5
    BARK = 6
    TILES = 7
    WOOD = 8
    GRAVEL = 9
    COBBLES = 10


class Material(IntEnum):
    GROUND = 0
    """The ground sheet, whose real material depends on the place: `Ground.surface` gives it."""
    ASPHALT = 1
    MARKING = 2
    COBBLES = 3
    PAVING = 4
    KERB = 5
    GRASS = 6
    GRAVEL = 7
    PLASTER = 8
    BRICK = 9
    WINDOW = 10
    DOOR = 11
    ROOF = 12
    TRIM = 13
    WOOD_FENCE = 14
    LEAF = 15
    BARK = 16
    PAINT = 17
    CAR_GLASS = 18
    TYRE = 19
    CAR_TRIM = 20
    HEADLIGHT = 21
    TAILLIGHT = 22
    PLATE = 23
    SKIN = 24
    CLOTH = 25
    BICYCLE = 26
    METAL = 27
    SIGN = 28
    SIGNAL = 29
    LAMP = 30
    CLUTTER = 31


class Surface(NamedTuple):
    """label: class index or IGNORE. gloss: share of mirrored sky seen head-on, 0..1. reflectivity: LiDAR, 0..1.
    dropout: probability that the LiDAR gets nothing back, at any range."""

    material: Material
    label: int
    texture: Texture = Texture.PLAIN
    tile_m: float = 2.0
    contrast: float = 0.0
    gloss: float = 0.0
    reflectivity: float = 0.3
    dropout: float = 0.0


SURFACES = (
    Surface(Material.GROUND, TERRAIN, Texture.GRASS, 4.0, 0.5),
    Surface(Material.ASPHALT, ROAD, Texture.ASPHALT, 4.0, 0.32, 0.01, 0.24),
    Surface(Material.MARKING, ROAD, Texture.ASPHALT, 4.0, 0.25, 0.01, 0.62),
    Surface(Material.COBBLES, ROAD, Texture.COBBLES, 2.0, 0.6, 0.01, 0.28),
    Surface(Material.PAVING, SIDEWALK, Texture.PAVING, 3.2, 0.4, 0.01, 0.32),
    Surface(Material.KERB, SIDEWALK, Texture.PLASTER, 1.5, 0.3, 0.01, 0.34),
    Surface(Material.GRASS, TERRAIN, Texture.GRASS, 3.0, 0.45, 0.0, 0.33),
    Surface(Material.GRAVEL, TERRAIN, Texture.GRAVEL, 2.0, 0.6, 0.0, 0.3),
    Surface(Material.PLASTER, BUILDING, Texture.PLASTER, 6.0, 0.1, 0.0, 0.36),
    Surface(Material.BRICK, BUILDING, Texture.BRICK, 1.6, 0.55, 0.0, 0.3),
    Surface(Material.WINDOW, BUILDING, Texture.PLAIN, 1.0, 0.0, 0.1, 0.12, 0.35),
    Surface(Material.DOOR, BUILDING, Texture.WOOD, 1.2, 0.3, 0.05, 0.28),
    Surface(Material.ROOF, BUILDING, Texture.TILES, 2.0, 0.5, 0.02, 0.28),
    Surface(Material.TRIM, BUILDING, Texture.PLASTER, 2.0, 0.15, 0.03, 0.38),
    Surface(Material.WOOD_FENCE, BUILDING, Texture.WOOD, 1.2, 0.5, 0.0, 0.3),
    Surface(Material.LEAF, VEGETATION, Texture.PLAIN, 1.0, 0.0, 0.0, 0.36, 0.02),
    Surface(Material.BARK, VEGETATION, Texture.BARK, 0.8, 0.6, 0.0, 0.28),
    Surface(Material.PAINT, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.06, 0.3, 0.04),
    Surface(Material.CAR_GLASS, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.09, 0.08, 0.6),
    Surface(Material.TYRE, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.01, 0.08, 0.1),
    Surface(Material.CAR_TRIM, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.05, 0.12, 0.08),
    Surface(Material.HEADLIGHT, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.3, 0.45, 0.2),
    Surface(Material.TAILLIGHT, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.2, 0.6),
    Surface(Material.PLATE, VEHICLE, Texture.PLAIN, 1.0, 0.0, 0.02, 0.95),
    Surface(Material.SKIN, PERSON, Texture.PLAIN, 1.0, 0.0, 0.02, 0.35),
    Surface(Material.CLOTH, PERSON, Texture.PLASTER, 0.5, 0.1, 0.0, 0.3),
    Surface(Material.BICYCLE, PERSON, Texture.PLAIN, 1.0, 0.0, 0.1, 0.25, 0.05),
    Surface(Material.METAL, POLE, Texture.PLASTER, 1.0, 0.2, 0.06, 0.35),
    Surface(Material.SIGN, POLE, Texture.PLAIN, 1.0, 0.0, 0.05, 0.98),
    Surface(Material.SIGNAL, POLE, Texture.PLAIN, 1.0, 0.0, 0.05, 0.3),
    Surface(Material.LAMP, POLE, Texture.PLAIN, 1.0, 0.0, 0.1, 0.3),
    Surface(Material.CLUTTER, IGNORE, Texture.PLASTER, 1.0, 0.2, 0.04, 0.35),
)
assert [s.material for s in SURFACES] == list(Material), "one row a material, in order"

LABELS = np.array([s.label for s in SURFACES], np.uint8)
TEXTURES = np.array([s.texture for s in SURFACES], np.int64)
TILES_M = np.array([s.tile_m for s in SURFACES], np.float32)
CONTRASTS = np.array([s.contrast for s in SURFACES], np.float32)
GLOSSES = np.array([s.gloss for s in SURFACES], np.float32)
REFLECTIVITIES = np.array([s.reflectivity for s in SURFACES], np.float32)
DROPOUTS = np.array([s.dropout for s in SURFACES], np.float32)
