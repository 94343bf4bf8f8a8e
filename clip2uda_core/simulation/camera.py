"""What a camera of the vehicle sees: an image and the class of every pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import CameraModel, FisheyeCamera, PinholeCamera
from clip2uda_core.geometry.distortion import distort_fisheye, fisheye_limit
from clip2uda_core.labels import IGNORE
from clip2uda_core.simulation import shading
from clip2uda_core.simulation.appearance import Appearance
from clip2uda_core.simulation.scene import Hits, Snapshot
from clip2uda_core.simulation.shading import Sky

MIDDLE_GRAY = 0.19
"""Mean linear brightness that the automatic exposure aims at."""

SPREAD_PX = ((-0.33, -0.2), (0.33, 0.2))
"""Where pixels on outlines are looked at besides their centre."""

EDGE_CONTRAST = 0.25
"""Least difference in the logarithm of light that makes an outline a step that shows."""


def pixel_rays(camera: CameraModel) -> NDArray[np.float32]:
    """(H·W, 3) unit directions through the pixel centres, row by row, in the optical frame; NaN where the lens has
    none, as outside a fisheye's image circle."""
    u, v = np.meshgrid(np.arange(camera.width_px, dtype=float), np.arange(camera.height_px, dtype=float))
    image_plane = np.stack([(u.ravel() - camera.cx) / camera.fx, (v.ravel() - camera.cy) / camera.fy], 1)
    if isinstance(camera, FisheyeCamera):
        rays = _fisheye_rays(image_plane, camera.distortion)
    elif isinstance(camera, PinholeCamera):
        rays = _pinhole_rays(image_plane, camera.distortion)
    else:
        raise TypeError(f"no rays are known for a {type(camera).__name__}")
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    uv_px, visible = camera.project(rays)
    off_px = np.abs(uv_px - np.stack([u.ravel(), v.ravel()], 1)).max(1)
    rays[~visible | ~(off_px < 0.05)] = np.nan
    return rays.astype(np.float32)


def _pinhole_rays(image_plane: NDArray[np.float64], distortion: tuple[float, ...]) -> NDArray[np.float64]:
    if any(distortion):
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 80, 1e-10)
        points, eye = image_plane[:, None], np.eye(3)
        points = np.asarray(cv2.undistortPointsIter(points, eye, np.array(distortion), eye, eye, criteria))
        image_plane = points[:, 0].astype(np.float64)
    return np.column_stack([image_plane, np.ones(len(image_plane))])


def _fisheye_rays(image_plane: NDArray[np.float64], distortion: tuple[float, ...]) -> NDArray[np.float64]:
    """Inverts the equidistant polynomial on a table."""
    radius = np.linalg.norm(image_plane, axis=1)
    table = np.linspace(0, fisheye_limit(distortion), 8192)
    theta = np.interp(radius, distort_fisheye(table, distortion), table, right=np.nan)
    share = np.sin(theta) / np.maximum(radius, 1e-12)
    return np.column_stack([image_plane * share[:, None], np.cos(theta)])


def render(
    snapshot: Snapshot,
    camera: CameraModel,
    rays: NDArray[np.float32],
    world_from_camera: NDArray[np.float64],
    look: Appearance,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image (H, W, 3) RGB and the labels (H, W), IGNORE for the sky; `rays` as `pixel_rays` gives them."""
    shape = (camera.height_px, camera.width_px)
    pixel_rad = 1.0 / camera.fx
    directions = rays @ world_from_camera[:3, :3].T.astype(np.float32)
    seen = np.isfinite(directions[:, 0])
    directions[~seen] = (0, 0, 1)
    origin = world_from_camera[:3, 3].astype(np.float32)
    hits = snapshot.cast(origin, directions)
    opened = np.ones(len(rays), np.float32) if look.night else _openness(snapshot, hits, shape, rng)
    light = radiance(snapshot, hits, directions, pixel_rad, look, opened)
    edges = _edges(hits, light, shape)
    around = _rays_around(directions.reshape(*shape, 3), edges)
    more = snapshot.cast(origin, around)
    spread = radiance(snapshot, more, around, pixel_rad, look, np.tile(opened[edges], len(SPREAD_PX)))
    light[edges] = (light[edges] + spread.reshape(len(SPREAD_PX), -1, 3).sum(0)) / (1 + len(SPREAD_PX))
    light[~seen] = 0
    labels = np.where(hits.hit & seen, hits.label, IGNORE).astype(np.uint8).reshape(shape)
    return develop(light.reshape(*shape, 3), look, rng), labels


def _openness(snapshot: Snapshot, hits: Hits, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """(H·W,) how much of the sky's light gets to the surfaces, 0..1: noisy samples at every other pixel of every other
    row, averaged over about 9 x 9 pixels."""
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)[::2, ::2]
    sampled = pixels.ravel()[hits.hit[pixels.ravel()]]
    total, count = np.zeros((2, *pixels.shape), np.float32)
    total.ravel()[hits.hit[pixels.ravel()]] = shading.openness(snapshot, hits, sampled, rng)
    count.ravel()[hits.hit[pixels.ravel()]] = 1
    total, count = (cv2.boxFilter(sums, -1, (5, 5), normalize=False) for sums in (total, count))
    mean = (total + 0.5) / (count + 0.5)
    return np.asarray(cv2.resize(mean, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32).ravel()


def _edges(hits: Hits, light: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.integer]:
    """Pixels on outlines of objects and materials that differ in brightness, where one ray would make steps."""
    kind = (hits.instance * 64 + hits.material + (~hits.hit) * 32).reshape(shape)
    tone = np.log(light @ np.array([0.21, 0.72, 0.07], np.float32) + 0.02).reshape(shape)
    edge = np.zeros(shape, bool)
    across = (kind[1:] != kind[:-1]) & (np.abs(tone[1:] - tone[:-1]) > EDGE_CONTRAST)
    along = (kind[:, 1:] != kind[:, :-1]) & (np.abs(tone[:, 1:] - tone[:, :-1]) > EDGE_CONTRAST)
    edge[1:] |= across
    edge[:-1] |= across
    edge[:, 1:] |= along
    edge[:, :-1] |= along
    return np.flatnonzero(edge)


def _rays_around(directions: NDArray[np.float32], pixels: NDArray[np.integer]) -> NDArray[np.float32]:
    """(S·P, 3) unit directions through the S places SPREAD_PX around the centre of each of the P pixels."""
    along_u = np.gradient(directions, axis=1).reshape(-1, 3)[pixels]
    along_v = np.gradient(directions, axis=0).reshape(-1, 3)[pixels]
    center = directions.reshape(-1, 3)[pixels]
    shifted = np.concatenate([center + np.float32(du) * along_u + np.float32(dv) * along_v for du, dv in SPREAD_PX])
    return shifted / np.sqrt(np.einsum("ij,ij->i", shifted, shifted))[:, None]


def radiance(
    snapshot: Snapshot,
    hits: Hits,
    directions: NDArray[np.float32],
    pixel_rad: float,
    look: Appearance,
    opened: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(N, 3) linear light along each ray; opened (N,): see `shading.daylight`."""
    sky = Sky.of(look)
    share = shading.albedo(hits, directions, pixel_rad, look)
    falling = shading.daylight(snapshot, hits, sky, look, opened)
    if look.night:
        falling += shading.lamplight(snapshot, hits) + shading.headlight(snapshot, hits)
    mirror, part = shading.mirrored(hits, directions, sky, look)
    light = (
        share * falling * (1 - part[:, None])
        + mirror * part[:, None]
        + shading.own_light(hits, look, snapshot.movers_from)
    )
    clear = np.exp(-hits.distance_m / np.float32(look.haze_m))[:, None]
    light = light * clear + sky.horizon * np.float32(0.9) * (1 - clear)
    misses = ~hits.hit
    above = directions[misses] * np.array([1, 1, 0], np.float32) + np.abs(directions[misses]) * np.array(
        [0, 0, 1], np.float32
    )
    light[misses] = sky.toward(above, look)  # below the horizon, behind the end of the world: as above it
    return light


def develop(light: NDArray[np.float32], look: Appearance, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image (H, W, 3) that a camera makes of linear light: glow, blur, exposure, noise, tone curve."""
    height, width = light.shape[:2]
    bright = np.maximum(light - 1.5, 0)
    if bright.max() > 0:
        light = light + 0.12 * cv2.GaussianBlur(np.minimum(bright, 20), (0, 0), 0.012 * width)
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), max(look.blur_px, 0.15)), np.float32)
    gray = light @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    lower = gray[height // 4 :]
    level = float(np.exp(np.mean(np.log(lower + 2e-3))))
    gain = float(np.clip(MIDDLE_GRAY / level, 0.15, 14.0 if look.night else 6.0)) * 2.0**look.exposure_ev
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    corner = gain * (1 - 0.5 * look.vignette * (x * x + (y * y)[:, None]))
    light = np.clip(light * corner[..., None] * look.tint, 0, 1)
    spread = 2 * look.noise * np.sqrt(light * 0.8 + 0.06)
    light += spread * rng.standard_normal(light.shape, np.float32)
    tone = _tone_curve(look.contrast)[(np.clip(light, 0, 1) * 4095).astype(np.int32)]
    mean = tone.mean(axis=2, keepdims=True)
    tone = mean + (tone - mean) * np.float32(0.0 if look.gray else look.saturation)
    return np.clip(tone * 255 + 0.5, 0, 255).astype(np.uint8)


def _tone_curve(contrast: float) -> NDArray[np.float32]:
    """(4096,) display values 0..1 of linear light 0..1."""
    display = np.linspace(0, 1, 4096) ** (1 / 2.2)
    return np.clip(0.5 + (display - 0.5) * contrast, 0, 1).astype(np.float32)
