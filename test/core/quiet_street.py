"""A domain whose frames cost little: an all but empty street, few rays, a small image."""

import hashlib

import numpy as np

from clip2uda_core.simulation.appearance import AppearanceConfig
from clip2uda_core.simulation.scenario import (
    Domain,
)
from clip2uda_core.simulation.sensors import CameraConfig, LidarConfig, MountConfig
from clip2uda_core.simulation.town import (
    BuildingConfig,
    PlantConfig,
    RoadConfig,
    StreetLifeConfig,
    TownConfig,
)
from clip2uda_core.types import Frame


def quiet_town(seed: int) -> TownConfig:
    """An all but empty street, which is made quickly."""
    return TownConfig(
        seed=seed,
        road=RoadConfig(crossings=(0, 0)),
        buildings=BuildingConfig(empty_lots=0.8, gardens=0.0),
        plants=PlantConfig(street_trees=(0, 1), yard_trees=(0, 1), bushes=(0, 1), hedges=(0, 0)),
        life=StreetLifeConfig(parked=(0, 0.1), moving=(0, 1), walkers=(1, 2), clutter=(0, 1), sheds=(0, 0)),
    )


def tiny_domain(**changes: object) -> Domain:
    camera = {"width_px": 96, "height_px": 32, "fx": 56.0, "fy": 56.0, "cx": 47.5, "cy": 15.5}
    values: dict = {
        "town": quiet_town(12),
        "lidar": LidarConfig(elevations_deg=(0.0, -4.0, -10.0), azimuth_steps=256, mount=MountConfig(z_m=1.8)),
        "cameras": (CameraConfig(name="front", mount=MountConfig(z_m=1.6), **camera),),
        "appearance": AppearanceConfig(),
        "frames_per_scene": 2,
        "spacing_m": 6.0,
    }
    return Domain(**(values | changes))


def digest(frame: Frame) -> str:
    cloud = frame.cloud
    arrays = [cloud.xyz_m, cloud.intensity, cloud.time_offset_s, cloud.labels]
    arrays += [array for view in frame.views for array in (view.image, view.labels, view.camera_SE3_lidar.matrix)]
    stamps = [cloud.stamp_ns, *(view.stamp_ns for view in frame.views)]
    content = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays if a is not None)
    return hashlib.sha256(content + repr(stamps).encode()).hexdigest()
