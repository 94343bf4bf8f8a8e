"""A street made of boxes, scanned by rays from a known pose: what registration and labels over time are held against.

Classes are those of street8 by index: the ground is 0, buildings 2, poles 4, and a car 7 that may drive.
"""

import numpy as np

from clip2uda_core.geometry import SE3
from clip2uda_core.types import PointCloud

GROUND, BUILDING, POLE, CAR = 0, 2, 4, 7
HEIGHT_M = 1.7
EPOCH_NS = 1_700_000_000_000_000_000


def boxes(car_x_m: float) -> list[tuple[tuple[float, float, float], tuple[float, float, float], int]]:
    """(lower corner, upper corner, class): houses with gaps along a street in x, poles at the kerb, one car."""
    found = []
    for number, x in enumerate(range(-40, 80, 12)):
        depth = 1.5 * (number % 3)
        found.append(((x, 8 + depth, 0), (x + 9, 16, 6 + number % 4), BUILDING))
        found.append(((x + 5, -16, 0), (x + 12, -7 - depth, 7), BUILDING))
        found.append(((x + 2, 5, 0), (x + 2.3, 5.3, 5), POLE))
        found.append(((x + 7, -5.3, 0), (x + 7.3, -5, 5), POLE))
    found.append(((car_x_m, 2, 0.3), (car_x_m + 4, 3.8, 1.7), CAR))
    return found


def pose(x_m: float, yaw_deg: float = 0.0, y_m: float = 0.0) -> SE3:
    """world_SE3_lidar of a vehicle on the street."""
    cosine, sine = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return SE3.from_rotation_translation(rotation, (x_m, y_m, HEIGHT_M), "world", "lidar")


def scan(
    world_SE3_lidar: SE3, seed: int = 0, beams: int = 32, columns: int = 720, car_x_m: float = 12.0
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) float32 in the LiDAR's frame, with 1 cm of noise in range, and their classes (N,). Each seed turns
    the sensor's columns differently, so that no point is met twice."""
    rng = np.random.default_rng(seed)
    azimuth = np.linspace(0, 2 * np.pi, columns, endpoint=False) + rng.uniform(0, 2 * np.pi / columns)
    elevation = np.radians(np.linspace(-25, 10, beams))
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(azimuth, elevation))
    local = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    direction, origin = local @ world_SE3_lidar.rotation.T, world_SE3_lidar.translation
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(direction[:, 2] < 0, -origin[2] / direction[:, 2], np.inf)
        label = np.full(len(local), GROUND, np.uint8)
        for lower, upper, index in boxes(car_x_m):
            a, b = (np.array(lower) - origin) / direction, (np.array(upper) - origin) / direction
            enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
            hit = (enter < leave) & (enter > 0) & (enter < distance)
            distance[hit], label[hit] = enter[hit], index
    seen = distance < 70
    distance = distance + rng.normal(0, 0.01, len(distance))
    return (local[seen] * distance[seen, None]).astype(np.float32), label[seen]


def cloud(world_SE3_lidar: SE3, index: int, period_s: float = 0.1, **options: float) -> PointCloud:
    """The scan of a drive's `index`-th pose, with its labels."""
    xyz_m, labels = scan(world_SE3_lidar, seed=index, **options)  # type: ignore[arg-type]
    return PointCloud(xyz_m, EPOCH_NS + round(1e9 * period_s * index), "lidar", labels=labels)
