"""Rigid transforms with named frames, camera models, and projection with visibility."""

from clip2uda_core.geometry.camera import CameraModel, FisheyeCamera, PinholeCamera
from clip2uda_core.geometry.projection import Projection, project
from clip2uda_core.geometry.se3 import SE3
from clip2uda_core.geometry.transforms import TransformBuffer

__all__ = ["SE3", "CameraModel", "FisheyeCamera", "PinholeCamera", "Projection", "TransformBuffer", "project"]
