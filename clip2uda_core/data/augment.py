"""Augmentation for training: points before they become voxels, images with the pixels of their points.

The protocol is xMUDA's (section 4.2). Points are projected before they are moved, so a point keeps the pixel where it
truly was, and the flip of an image is independent of the flip of the cloud.
"""

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torchvision.transforms import functional as image_functional

from clip2uda_core.config import Config
from clip2uda_core.data.sample import SampleView, Voxels

Probability = Annotated[float, Field(ge=0, le=1)]


class PointAugmentConfig(Config):
    """noise: standard deviation of what is added to each element of the identity that transforms the points.
    flip: probability to mirror left and right (y). rotation_deg: rotation about z, uniform between 0 and this.
    translation_cells: shift of the voxel grid, uniform below this many cells along each axis. A shift changes which
        cells a strided convolution joins; 64 cells cover all phases of seven levels.
    """

    noise: NonNegativeFloat = 0.1
    flip: Probability = 0.5
    rotation_deg: NonNegativeFloat = 360.0
    translation_cells: NonNegativeInt = 64


class ImageAugmentConfig(Config):
    """color_jitter: brightness, contrast and saturation are scaled by a factor within 1 +- this, each; not possible
    where the features of the frozen CLIP are cached. flip: probability to mirror the image left and right."""

    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.4
    flip: Probability = 0.5


class AugmentConfig(Config):
    points: PointAugmentConfig = PointAugmentConfig()
    image: ImageAugmentConfig = ImageAugmentConfig()


def augment_points(
    xyz_m: NDArray[np.float32], config: PointAugmentConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(M, 3) points in the LiDAR frame to where the augmentation takes them: noise, then flip, then rotation."""
    noisy = np.eye(3) + config.noise * rng.standard_normal((3, 3))
    mirrored = np.diag([1.0, -1.0 if rng.random() < config.flip else 1.0, 1.0])
    angle = np.radians(rng.uniform(0, config.rotation_deg))
    cos, sin = np.cos(angle), np.sin(angle)
    rotated = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return xyz_m @ (rotated @ mirrored @ noisy).T.astype(np.float32)


def translate_voxels(voxels: Voxels, config: PointAugmentConfig, rng: np.random.Generator) -> Voxels:
    """Shifts all cells by the same whole numbers of cells."""
    shift = rng.integers(0, max(config.translation_cells, 1), 3, dtype=np.int32)
    return replace(voxels, coordinates=voxels.coordinates + shift)


def augment_view(view: SampleView, config: ImageAugmentConfig, rng: np.random.Generator) -> SampleView:
    """Jitters the colours of an image and mirrors it, together with the pixels of its points."""
    if config.color_jitter:
        view = replace(view, image=jitter_colors(view.image, config.color_jitter, rng))
    return flip_view(view) if rng.random() < config.flip else view


def flip_view(view: SampleView) -> SampleView:
    """The mirror image, left for right: pixel u becomes W - 1 - u, so that a point stays on what it shows."""
    width_px = view.image.shape[1]
    uv_px = np.stack([width_px - 1 - view.uv_px[:, 0], view.uv_px[:, 1]], 1)
    return replace(view, image=np.ascontiguousarray(view.image[:, ::-1]), uv_px=uv_px)


def jitter_colors(image: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Scales brightness, contrast and saturation of an (H, W, 3) RGB image, in random order."""
    adjustments = (
        image_functional.adjust_brightness,
        image_functional.adjust_contrast,
        image_functional.adjust_saturation,
    )
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    factors = rng.uniform(1 - strength, 1 + strength, len(adjustments))
    for index in rng.permutation(len(adjustments)):
        pixels = adjustments[index](pixels, float(factors[index]))
    return pixels.permute(1, 2, 0).contiguous().numpy()
