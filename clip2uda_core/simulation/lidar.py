"""What a spinning LiDAR of the vehicle measures: a labelled cloud in the order in which its lasers fire."""

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.simulation import materials as m
from clip2uda_core.simulation.materials import Material
from clip2uda_core.simulation.scene import Hits, Scene, Snapshot
from clip2uda_core.simulation.sensors import LidarConfig
from clip2uda_core.simulation.textures import hash_unit
from clip2uda_core.types import PointCloud

MOTION_STEPS = 128
"""Places along a sweep from which a driving vehicle's LiDAR is cast: less than 1 cm apart at 12 m/s."""

DEEP_RETURNS = 0.07
"""Share of a window's returns that come from inside the room."""


def firing_rays(config: LidarConfig, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit directions (A, B, 3) of A firings of B beams in the LiDAR frame, and the firings' times (A,) in s.

    The head turns clockwise seen from above, from the rear over left, front and right; time 0 is when it faces
    forward.
    """
    turn = (np.arange(config.azimuth_steps) + 0.5) / config.azimuth_steps - 0.5
    azimuth = -2 * np.pi * turn + np.radians(config.azimuth_jitter_deg) * rng.standard_normal(len(turn))
    elevation = config.elevations_rad()
    flat = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)], 1)
    rays = flat[:, None] * np.cos(elevation)[:, None] + np.array([0.0, 0.0, 1.0]) * np.sin(elevation)[:, None]
    return rays.astype(np.float32), (turn / config.rate_hz).astype(np.float32)


def sweep(scene: Scene, snapshot: Snapshot, config: LidarConfig, stamp_ns: int, rng: np.random.Generator) -> PointCloud:
    """One turn around the moment of `snapshot`. Without a return there is no point, as in real drivers' clouds.

    With `ego_motion` each point is in the LiDAR frame of the moment at which it was taken, as drivers publish it.
    Other vehicles stand still during the sweep.
    """
    rays, times = firing_rays(config, rng)
    beams = rays.shape[1]
    origins, directions = _in_world(scene, snapshot, config, rays, times)
    hits = snapshot.cast(origins, directions)
    local = rays.reshape(-1, 3)
    distance, returned = _measure(hits, directions, config, beams, rng)
    kept = np.flatnonzero(returned & ~_blind(local, config))
    return PointCloud(
        xyz_m=local[kept] * distance[kept, None],
        stamp_ns=stamp_ns,
        frame_id=config.name,
        intensity=_intensity(hits, directions, config, rng)[kept],
        time_offset_s=np.repeat(times, beams)[kept],
        labels=hits.label[kept],
    )


def _in_world(
    scene: Scene, snapshot: Snapshot, config: LidarConfig, rays: NDArray[np.float32], times: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Origin (3,), or (A·B, 3) with ego motion, and directions (A·B, 3) of the rays in the world."""
    mount = config.mount.base_from_sensor()
    beams = rays.shape[1]
    if not config.ego_motion:
        pose = (snapshot.ego @ mount).astype(np.float32)
        return pose[:3, 3], rays.reshape(-1, 3) @ pose[:3, :3].T
    half = 0.5 / config.rate_hz
    step = np.minimum((times / (2 * half) + 0.5) * MOTION_STEPS, MOTION_STEPS - 1).astype(int)
    moments = snapshot.time_s + half * (2 * np.arange(MOTION_STEPS) + 1 - MOTION_STEPS) / MOTION_STEPS
    poses = (scene.ego_poses(moments) @ mount)[step]
    origins = np.repeat(poses[:, :3, 3], beams, axis=0).astype(np.float32)
    return origins, np.einsum("aij,abj->abi", poses[:, :3, :3], rays).reshape(-1, 3).astype(np.float32)


def _blind(local: NDArray[np.float32], config: LidarConfig) -> NDArray[np.bool_]:
    """Which rays (N, 3) of the LiDAR frame the vehicle's body stops."""
    hidden = np.zeros(len(local), bool)
    for sector in config.blind:
        low = np.flatnonzero(local[:, 2] < np.sin(np.radians(sector.below_deg)))
        turn = np.arctan2(local[low, 1], local[low, 0]) - np.radians(sector.middle_deg)
        hidden[low] |= np.abs(np.mod(turn + np.pi, 2 * np.pi) - np.pi) < np.radians(sector.half_width_deg)
    return hidden


def _measure(
    hits: Hits, directions: NDArray[np.float32], config: LidarConfig, beams: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Measured distances (N,) and whether there is a return (N,)."""
    count = len(hits.distance_m)
    distance = np.where(hits.hit, hits.distance_m, 0).astype(np.float32)
    facing = np.abs(np.einsum("ij,ij->i", hits.normal, directions))
    power = m.REFLECTIVITIES[hits.material] * np.sqrt(facing) * (config.power_range_m / np.maximum(distance, 1)) ** 2
    chance = 1 - np.exp(-np.log(2) * power)
    chance *= (1 - m.DROPOUTS[hits.material]) * (1 - config.lost)
    returned = hits.hit & (rng.random(count, np.float32) < chance)
    grass = np.flatnonzero(hits.material == Material.GRASS)
    blade = np.minimum(
        rng.gamma(1.2, 0.035, len(grass)), 0.6
    )  # a blade in the way, a few centimetres before the ground
    distance[grass] -= blade.astype(np.float32)
    window = np.flatnonzero((hits.material == Material.WINDOW) & (rng.random(count, np.float32) < DEEP_RETURNS))
    distance[window] += rng.uniform(0.5, 4.0, len(window)).astype(np.float32)
    bias = rng.normal(0, 0.5 * config.range_noise_m, beams)  # lasers are not calibrated perfectly
    distance += np.tile(bias, count // beams).astype(np.float32)
    distance += np.float32(config.range_noise_m) * rng.standard_normal(count, np.float32)
    returned &= (distance > config.range_m[0]) & (distance < config.range_m[1])
    return distance, returned


def _intensity(
    hits: Hits, directions: NDArray[np.float32], config: LidarConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(N,) on the sensor's scale: by material, object and angle; retroreflectors saturate at any angle."""
    facing = np.abs(np.einsum("ij,ij->i", hits.normal, directions))
    base = m.REFLECTIVITIES[hits.material]
    own = 0.6 + 0.8 * hash_unit(hits.instance[:, None], 41)
    value = base * np.where(base > 0.55, 1.0, own * (0.35 + 0.65 * facing))
    value = value * config.intensity_gain * (1 + 0.15 * rng.standard_normal(len(value), np.float32))
    value += 0.03 * rng.standard_normal(len(value), np.float32) - 0.02
    return (np.clip(value, 0, 1) * config.intensity_scale).astype(np.float32)
