"""A stand-in CLIP at random, and a frame whose every number is known, for the tests of models and inference."""

from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import torch
from numpy.typing import NDArray

from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.models.clip_weights import ClipConfig, load_model_config
from clip2uda_core.types import CameraView, Frame, PointCloud

RANDOM_CLIP = ClipConfig(model="sim-clip", weights=None, precision="fp32")

LIDAR_TO_OPTICAL = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])


@cache
def random_clip() -> FrozenClip:
    """The stand-in with both towers, at random."""
    return FrozenClip.load(RANDOM_CLIP, text=True)


@cache
def random_open_clip() -> open_clip.CLIP:
    """The same weights as `random_clip`, in open_clip's own model."""
    torch.manual_seed(RANDOM_CLIP.seed)
    return open_clip.CLIP(**load_model_config("sim-clip")).eval()


def save_clip_weights(path: Path, seed: int = 0) -> ClipConfig:
    """Writes random weights in open_clip's format, and gives the config that reads them."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**load_model_config("sim-clip"))
    safetensors.torch.save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return ClipConfig(model="sim-clip", weights=str(path), precision="fp32")


def camera_view(name: str = "front", width_px: int = 160, height_px: int = 96, yaw_rad: float = 0.0) -> CameraView:
    """A camera at the LiDAR's origin with a field of view of 90 degrees, turned about z, and an image of noise."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    image = np.random.default_rng(width_px).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    camera = PinholeCamera(width_px, height_px, width_px / 2, width_px / 2, (width_px - 1) / 2, (height_px - 1) / 2)
    pose = SE3.from_rotation_translation(LIDAR_TO_OPTICAL @ turn, np.zeros(3), name, "lidar")
    return CameraView(name, image, 0, camera, pose)


def scattered_points(count: int = 3000, seed: int = 0) -> NDArray[np.float32]:
    """(count, 3) points all around, from 2 to 30 m."""
    random = np.random.default_rng(seed)
    directions = random.normal(size=(count, 3)) * (1, 1, 0.2)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (directions * random.uniform(2, 30, (count, 1))).astype(np.float32)


def frame(xyz_m: NDArray[np.float32], *views: CameraView) -> Frame:
    return Frame(PointCloud(xyz_m, 0), views, "test")
