"""Procedural surface patterns: small tileable images of brightness, made once a process, with blurred levels.

A surface point picks a pixel of its material's pattern by its place in the world. Farther points take it from a more
blurred level, as mip maps do, so that one ray a pixel does not flicker.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation.materials import Texture

SIZE = 256
LEVELS = 7


def hash_unit(cells: NDArray[np.integer], seed: int) -> NDArray[np.float32]:
    """A fixed pseudo-random number in 0..1 per row of integers, (N, K) -> (N,)."""
    h = np.full(len(cells), np.uint32((seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF), np.uint32)
    for column in np.asarray(cells).astype(np.int64).astype(np.uint32).T:
        h ^= column
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(1 / (1 << 24))


@cache
def _noise_tile(seed: int, octaves: int) -> NDArray[np.float32]:
    """(SIZE, SIZE) tileable fractal noise in 0..1, even histogram."""
    rng = np.random.default_rng([seed, octaves])
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        cells = 8 << octave
        grid = rng.random((cells, cells), np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        big = cv2.resize(grid, None, fx=SIZE / cells, fy=SIZE / cells, interpolation=cv2.INTER_CUBIC)
        edge = 2 * SIZE // cells
        total += big[edge : edge + SIZE, edge : edge + SIZE] * np.float32(0.5**octave)
    ranks = np.empty(total.size, np.float32)
    ranks[np.argsort(total, axis=None, kind="stable")] = np.linspace(0, 1, total.size, dtype=np.float32)
    return ranks.reshape(total.shape)


def value_noise(xy: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Smooth noise in 0..1 with features about one unit apart, (N, 2) -> (N,)."""
    tile = _noise_tile(seed % 16, 4)
    index = np.floor(xy * (SIZE / 8)).astype(np.int32) + seed * 7919 % SIZE
    return tile[index[:, 1] & (SIZE - 1), index[:, 0] & (SIZE - 1)]


def _grid_pattern(rows: int, columns: int, joint: int, offset: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """Bricks, slabs or tiles: brightness differs by piece, joints are dark."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    row = y * rows // SIZE
    shift = (row % 2) * (SIZE // columns // 2) if offset else 0
    column = ((x + shift) % SIZE) * columns // SIZE
    tone = rng.random((rows, columns)).astype(np.float32)[row, column]
    in_row = (y * rows) % SIZE < joint * rows
    in_column = (((x + shift) % SIZE) * columns) % SIZE < joint * columns
    return np.where(in_row | in_column, -0.5, 0.25 + 0.75 * tone).astype(np.float32)


def _cobbles(rng: np.random.Generator) -> NDArray[np.float32]:
    """Rounded stones: cells around jittered centres, tileable."""
    cells, step = 16, SIZE // 16
    jitter = rng.uniform(0.2, 0.8, (cells, cells, 2)) * step
    tone = rng.random((cells, cells))
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    distances, tones = [], []
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            i, j = y // step + di, x // step + dj
            center = jitter[i % cells, j % cells]
            distances.append(np.hypot(i * step + center[..., 0] - y, j * step + center[..., 1] - x))
            tones.append(tone[i % cells, j % cells])
    distance = np.stack(distances)
    order = np.sort(distance, axis=0)
    nearest_tone = np.take_along_axis(np.stack(tones), distance.argmin(0)[None], 0)[0]
    return np.where(order[1] - order[0] < 2.0, -0.6, 0.2 + 0.8 * nearest_tone).astype(np.float32)


def _pattern(kind: Texture) -> NDArray[np.float32]:
    """Brightness around its mean, about -1..1."""
    rng = np.random.default_rng([77, int(kind)])
    speckle = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    clouds = _noise_tile(int(kind), 5) * 2 - 1
    fine = cv2.GaussianBlur(np.pad(speckle, 8, mode="wrap"), (0, 0), 1.0)[8:-8, 8:-8] * 3
    match kind:
        case Texture.ASPHALT:
            return 0.45 * speckle + 0.35 * clouds
        case Texture.PAVING:
            return _grid_pattern(8, 8, 2, False, rng) + 0.2 * fine
        case Texture.GRASS:
            return 0.55 * fine + 0.6 * clouds + 0.25 * speckle
        case Texture.BRICK:
            return _grid_pattern(20, 8, 2, True, rng) + 0.15 * fine
        case Texture.PLASTER:
            return 0.6 * clouds + 0.15 * fine
        case Texture.BARK | Texture.WOOD:
            streaks = cv2.GaussianBlur(np.pad(speckle, 48, mode="wrap"), (0, 0), sigmaX=1.2, sigmaY=14)[48:-48, 48:-48]
            return 4 * streaks + 0.3 * clouds
        case Texture.TILES:
            return _grid_pattern(10, 12, 3, True, rng) + 0.2 * fine
        case Texture.GRAVEL:
            return 0.7 * fine + 0.4 * speckle
        case Texture.COBBLES:
            return _cobbles(rng) + 0.2 * fine
        case _:
            return np.zeros((SIZE, SIZE), np.float32)


@cache
def _patterns() -> NDArray[np.float32]:
    """(kinds, LEVELS, SIZE, SIZE): every pattern, level l averaged over 2^l pixels."""
    levels = np.zeros((len(Texture), LEVELS, SIZE, SIZE), np.float32)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    for kind in Texture:
        pattern = np.clip(_pattern(kind), -2.0, 2.0)
        pattern -= pattern.mean()
        levels[kind, 0] = pattern
        spectrum = np.fft.rfft2(pattern)
        for level in range(1, LEVELS):
            levels[kind, level] = np.fft.irfft2(spectrum * np.exp(-0.5 * (np.pi * frequency * 2**level) ** 2))
    return levels


def sample(
    kind: NDArray[np.integer], place: NDArray[np.floating], footprint: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Brightness (N,), about -1..1, of patterns `kind` (N,) at `place` (N, 2), counted in tiles.

    footprint: (N,) size of the looked-at spot, in tiles.
    """
    pixel = np.floor(place * SIZE).astype(np.int32)
    dither = ((pixel[:, 0] * 5 + pixel[:, 1] * 11) & 15) * np.float32(1 / 16)  # no seam where the level changes
    level = np.clip(np.log2(np.maximum(footprint * SIZE, 1.0)) + dither, 0, LEVELS - 1).astype(np.int32)
    pixel &= SIZE - 1
    return _patterns()[kind, level, pixel[:, 1], pixel[:, 0]]
