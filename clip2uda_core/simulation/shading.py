"""Light on surfaces: albedo with texture, sun and sky, lamps and headlights. All light is linear RGB."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation import materials as m
from clip2uda_core.simulation.appearance import Appearance
from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.scene import Hits, Snapshot
from clip2uda_core.simulation.textures import hash_unit, sample, value_noise

Light = NDArray[np.float32]

HEADLIGHT_COLOR = np.array([1.0, 0.93, 0.8], np.float32)
HEADLIGHT_POWER = 55.0
HEADLIGHT_REACH_M = 90.0
LAMP_POWER = 16.0
LAMP_REACH_M = 25.0
CAR_LIGHTS = (Material.HEADLIGHT, Material.TAILLIGHT)
SHADOW_LIFT_M = 0.02
OCCLUSION_REACH_M = 2.5


_LINEAR = (np.linspace(0, 1, 1024) ** 2.2).astype(np.float32)


def linear(srgb: NDArray[np.floating]) -> Light:
    """Linear light of sRGB values 0..1 (as a power of 2.2, by a table)."""
    return _LINEAR[(np.clip(srgb, 0, 1) * 1023).astype(np.int32)]


@dataclass(frozen=True)
class Sky:
    """Colours of the light that comes from above: the sky at the zenith and the horizon, the sun, and what the sky
    and the ground give to shaded surfaces."""

    zenith: Light
    horizon: Light
    sun: Light
    ambient: Light
    bounce: Light

    @staticmethod
    def of(look: Appearance) -> "Sky":
        if look.night:
            glow = np.array([0.010, 0.009, 0.012], np.float32)
            return Sky(0.25 * glow, 1.6 * glow, np.zeros(3, np.float32), 0.55 * glow, 0.3 * glow)
        low = np.clip(look.sun[2] / 0.5, 0.15, 1.0)
        sun = (
            np.array([1.0, 0.78 + 0.18 * low, 0.55 + 0.35 * low], np.float32)
            * (3.4 * low**0.5)
            * (1 - look.clouds) ** 1.5
        )
        blue, white = np.array([0.22, 0.42, 0.85], np.float32), np.array([0.85, 0.9, 0.95], np.float32)
        cover = np.float32(look.clouds)
        dark = np.float32(0.55 if look.wet else 1.0)
        zenith = (blue * (1 - cover) + 0.85 * white * cover) * dark
        horizon = (white * (1 - cover) + 0.8 * white * cover) * dark
        ambient = (0.45 * zenith + 0.55 * horizon) * np.float32(0.75 + 0.45 * cover)
        bounce = 0.16 * (ambient + 0.5 * sun)
        return Sky(zenith, horizon, sun, ambient.astype(np.float32), bounce.astype(np.float32))

    def toward(self, directions: NDArray[np.float32], look: Appearance) -> Light:
        """(N, 3) light from the directions (N, 3); below the horizon that of the ground."""
        up = directions[:, 2]
        blend = np.clip(up, 0, 1)[:, None] ** 0.45
        light = self.horizon * (1 - blend) + self.zenith * blend
        light = np.where((up < 0)[:, None], self.bounce * np.float32(0.8), light)
        if look.night:
            return light
        spread = directions[:, :2] / np.maximum(up, 0.06)[:, None]
        puffs = np.clip(value_noise(spread * 1.1, look.seed) * 2.2 - 2.0 * (1 - look.clouds), 0, 1)
        puffs *= np.clip(up * 8, 0, 1)
        cloud = np.array([0.95, 0.95, 0.96], np.float32) * (0.55 if look.wet else 1.05)
        light += puffs[:, None] * 0.7 * (cloud - light)
        toward_sun = np.clip(directions @ look.sun, 0, 1)
        halo = 0.35 * toward_sun**24 + 40.0 * (toward_sun > 0.9996)
        return (light + halo[:, None] * self.sun * 0.5).astype(np.float32)


def albedo(hits: Hits, view: NDArray[np.float32], pixel_rad: float, look: Appearance) -> Light:
    """(N, 3) share of light that comes back: the face's colour with its material's texture, darker when wet."""
    kind, tile = m.TEXTURES[hits.material], m.TILES_M[hits.material]
    normal, place = hits.normal, hits.place_m
    flat = np.abs(normal[:, 2]) > 0.7
    run = np.hypot(normal[:, 0], normal[:, 1]) + 1e-6
    along = (place[:, 1] * normal[:, 0] - place[:, 0] * normal[:, 1]) / run
    across = np.where(flat, place[:, 0], along)
    up = np.where(flat, place[:, 1], place[:, 2])
    grazing = np.abs(np.einsum("ij,ij->i", normal, view))
    footprint = hits.distance_m * np.float32(pixel_rad) / np.sqrt(np.clip(grazing, 0.02, 1))
    pattern = sample(kind, np.stack([across / tile, up / tile], 1), footprint / tile)
    color = hits.color * (1 + pattern * m.CONTRASTS[hits.material])[:, None]
    _paint_ground(hits, color)
    _paint_windows(hits, color, look)
    share = linear(np.maximum(color, 0.03))
    if look.wet:
        soaked = np.isin(hits.material, [Material.ASPHALT, Material.COBBLES, Material.PAVING, Material.KERB])
        share[soaked] *= 0.45
    return share


def _paint_ground(hits: Hits, color: NDArray[np.float32]) -> None:
    """Large stains and repaired patches, which break up even surfaces."""
    at = np.flatnonzero(np.isin(hits.material, [Material.ASPHALT, Material.PAVING, Material.MARKING]))
    place = hits.place_m[at, :2]
    stain = value_noise(place * 0.23, 3) - 0.5
    patch = hash_unit(np.floor(place * np.array([0.21, 0.37], np.float32)), 5) < 0.06
    color[at] *= (1 + 0.14 * stain - 0.13 * patch)[:, None]


def _paint_windows(hits: Hits, color: NDArray[np.float32], look: Appearance) -> None:
    """Frames and bars around the panes; curtains behind some."""
    at = np.flatnonzero(hits.material == Material.WINDOW)
    u, v = hits.pane_uv[at, 0], hits.pane_uv[at, 1]
    pane = hash_unit((hits.face[at, None] // 2), 11)
    curtain = (pane < 0.3) & (np.abs(u - 0.5) > 0.2)
    blind = (pane > 0.85) & (v > 0.4)
    color[at[curtain | blind]] = (0.55, 0.53, 0.5)
    color[at[is_frame(hits, at)]] = (0.78, 0.77, 0.74)


def is_frame(hits: Hits, at: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of the points `at` on window panes lie on their frame, which neither mirrors nor shines."""
    u, v = hits.pane_uv[at, 0], hits.pane_uv[at, 1]
    return (u < 0.07) | (u > 0.93) | (v < 0.05) | (v > 0.95) | (np.abs(u - 0.5) < 0.035)


def openness(snapshot: Snapshot, hits: Hits, at: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.float32]:
    """(M,) a noisy 0 or 1 for the M points `at`: whether a random direction from the surface is free for the next
    metres (one sample of ambient occlusion)."""
    normal = hits.normal[at]
    direction = rng.standard_normal(normal.shape, np.float32)
    direction /= np.sqrt(np.einsum("ij,ij->i", direction, direction))[:, None]
    direction += 1.02 * normal
    direction /= np.sqrt(np.einsum("ij,ij->i", direction, direction))[:, None]
    origins = hits.place_m[at] + normal * np.float32(SHADOW_LIFT_M)
    reach = np.full(len(at), OCCLUSION_REACH_M, np.float32)
    return (~snapshot.blocked(origins, direction, reach)).astype(np.float32)


def daylight(snapshot: Snapshot, hits: Hits, sky: Sky, look: Appearance, opened: NDArray[np.float32]) -> Light:
    """(N, 3) light that falls on the surfaces from the sun, the sky and the ground; opened (N,): how much of the
    sky's light gets there, 0..1."""
    up = hits.normal[:, 2:3]
    light = sky.ambient * (0.5 + 0.5 * up) + sky.bounce * (0.5 - 0.5 * up)
    light *= (0.3 + 0.7 * opened)[:, None]
    if sky.sun.max() < 1e-3:
        return light
    facing = hits.normal @ look.sun
    leaf = hits.material == Material.LEAF
    facing = np.where(leaf, 0.25 + 0.6 * np.abs(facing), facing)
    lit = np.flatnonzero(facing > 0)
    origins = hits.place_m[lit] + hits.normal[lit] * np.float32(SHADOW_LIFT_M)
    toward = np.broadcast_to(look.sun, origins.shape).astype(np.float32)
    blocked = snapshot.blocked(origins, toward, np.full(len(lit), 250.0, np.float32))
    sunlit = lit[~blocked]
    light[sunlit] += facing[sunlit, None] * sky.sun
    return light


def lamplight(snapshot: Snapshot, hits: Hits) -> Light:
    """(N, 3) light from street lamps; the strongest one's is shadowed."""
    total = np.zeros_like(hits.place_m)
    best, best_power = np.zeros(len(total), np.int32), np.zeros(len(total), np.float32)
    x, y = np.ascontiguousarray(hits.place_m[:, 0]), np.ascontiguousarray(hits.place_m[:, 1])
    for number, lamp in enumerate(snapshot.lamps):
        lx, ly, _ = lamp.place_m.tolist()
        near = np.flatnonzero((np.abs(x - lx) < LAMP_REACH_M) & (np.abs(y - ly) < LAMP_REACH_M) & hits.hit)
        toward = lamp.place_m.astype(np.float32) - hits.place_m[near]
        squared = np.einsum("ij,ij->i", toward, toward)
        facing = np.clip(np.einsum("ij,ij->i", toward, hits.normal[near]), 0, None)
        down = np.clip(toward[:, 2], 0, None)
        power = LAMP_POWER * facing * np.sqrt(down) / ((squared + 1.0) * squared**0.75)
        power *= np.clip(2 - 2 * np.sqrt(squared) / LAMP_REACH_M, 0, 1)  # fades out where it is cut off
        stronger = power > best_power[near]
        best[near[stronger]], best_power[near[stronger]] = number, power[stronger]
        total[near] += power[:, None] * linear(np.array(lamp.color))
    lit = np.flatnonzero(best_power > 0.004)
    if len(lit):
        places = np.array([lamp.place_m for lamp in snapshot.lamps], np.float32)[best[lit]]
        colors = linear(np.array([lamp.color for lamp in snapshot.lamps]))[best[lit]]
        origins = hits.place_m[lit] + hits.normal[lit] * np.float32(SHADOW_LIFT_M)
        toward = places - origins
        distance = np.linalg.norm(toward, axis=1)
        hidden = snapshot.blocked(origins, toward / distance[:, None], distance - 0.6)
        total[lit[hidden]] -= best_power[lit[hidden], None] * colors[hidden]
    return np.maximum(total, 0)


def headlight(snapshot: Snapshot, hits: Hits) -> Light:
    """(N, 3) light of the ego vehicle's dipped beams: wide, cut off above the horizon. Both are taken as one lamp in
    their middle; what it would shadow, the camera above it hardly sees."""
    total = np.zeros_like(hits.place_m)
    ego = snapshot.ego.astype(np.float32)
    lamp = ego[:3, :3] @ np.array([2.0, 0.0, 0.7], np.float32) + ego[:3, 3]
    ahead = np.flatnonzero(hits.hit & (hits.distance_m < HEADLIGHT_REACH_M))
    toward = hits.place_m[ahead] - lamp
    squared = np.einsum("ij,ij->i", toward, toward) + 1.0
    local = (toward @ ego[:3, :3]) / np.sqrt(squared)[:, None]
    beam = np.exp(-0.5 * (local[:, 1] / np.maximum(local[:, 0], 1e-3) / 0.35) ** 2) * (local[:, 0] > 0.05)
    high_deg = np.degrees(local[:, 2])
    cutoff = 0.5 - 0.5 * np.tanh((high_deg - 0.3) * 1.5) + 0.03
    spread = np.exp(-0.5 * (np.minimum(high_deg + 3, 0) / 9) ** 2)
    facing = np.clip(-np.einsum("ij,ij->i", toward, hits.normal[ahead]) / np.sqrt(squared), 0.05, 1)
    total[ahead] = (2 * HEADLIGHT_POWER * beam * cutoff * spread * facing / squared)[:, None] * HEADLIGHT_COLOR
    return total


def own_light(hits: Hits, look: Appearance, movers_from: int) -> Light:
    """(N, 3) light that surfaces give themselves: lamps, signals, and at night windows and the lights of cars that take
    part in traffic, whose object numbers begin at `movers_from`."""
    light = np.zeros_like(hits.place_m)
    strength = {Material.SIGNAL: 1.5}
    if look.night:
        strength |= {Material.LAMP: 6.0, Material.HEADLIGHT: 6.0, Material.TAILLIGHT: 1.2}
    for material, power in strength.items():
        at = np.flatnonzero(
            (hits.material == material) & ((hits.instance >= movers_from) | (material not in CAR_LIGHTS))
        )
        light[at] = power * linear(hits.color[at])
    if look.night:
        at = np.flatnonzero(hits.material == Material.WINDOW)
        at = at[~is_frame(hits, at)]
        chance = hash_unit(hits.face[at, None] // 2, look.seed & 0xFFFF)
        at = at[chance < look.lit_windows]
        warmth = hash_unit(hits.face[at, None] // 2, 29)[:, None]
        light[at] = (0.10 + 0.25 * warmth) * np.array([1.0, 0.72, 0.4], np.float32)
    return light


def mirrored(hits: Hits, view: NDArray[np.float32], sky: Sky, look: Appearance) -> tuple[Light, NDArray[np.float32]]:
    """Light (N, 3) that glossy surfaces mirror and its share (N,), by Schlick's approximation of Fresnel's law."""
    gloss = m.GLOSSES[hits.material].copy()
    rough = np.full(len(gloss), 0.75, np.float32)
    panes = np.flatnonzero(hits.material == Material.WINDOW)
    gloss[panes[is_frame(hits, panes)]] = 0.0
    if look.wet:
        ground = np.isin(hits.material, [Material.ASPHALT, Material.MARKING, Material.COBBLES, Material.PAVING])
        gloss[ground] = 0.05
        rough[ground] = 0.3
    facing = np.clip(-np.einsum("ij,ij->i", hits.normal, view), 0, 1)
    share = np.where(gloss > 0.02, gloss + (1 - gloss) * rough * (1 - facing) ** 5, 0).astype(np.float32)
    light = np.zeros_like(hits.place_m)
    at = np.flatnonzero(share > 0.01)
    back = view[at] + 2 * facing[at, None] * hits.normal[at]
    light[at] = sky.toward(back.astype(np.float32), look)
    return light, share
