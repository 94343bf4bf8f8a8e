"""Camera models: points in the camera's optical frame (REP 103: x right, y down, z forward) to pixels.

Pixels follow OpenCV: integer coordinates are pixel centres, so an image of width W spans -0.5 <= u < W - 0.5.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import distortion as lens
from clip2uda_core.geometry.se3 import checked_rotation

F = TypeVar("F", np.float32, np.float64)
C = TypeVar("C", bound="CameraModel")


def _identity() -> NDArray[np.float64]:
    return np.eye(3)


def _zeros() -> NDArray[np.float64]:
    return np.zeros(3)


@dataclass(frozen=True, eq=False)
class CameraModel(ABC):
    """What all cameras have: an image size, a focal length and a principal point in pixels.

    Raises CalibrationError when the size or focal length is not positive (an uncalibrated camera's K is zero), or a
    number is not finite.
    """

    width_px: int
    height_px: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            raise CalibrationError(f"camera: expected a positive image size, got {self.width_px}x{self.height_px}")
        if not (self.fx > 0 and self.fy > 0 and np.isfinite([self.fx, self.fy, self.cx, self.cy]).all()):
            raise CalibrationError(
                f"camera: expected positive focal lengths and a finite principal point, got fx={self.fx}, "
                f"fy={self.fy}, cx={self.cx}, cy={self.cy}; calibrate the camera or give its calibration in a YAML"
            )

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) K."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    @abstractmethod
    def project(self, points_m: NDArray[F]) -> tuple[NDArray[F], NDArray[np.bool_]]:
        """Projects (N, 3) points of the camera frame, float32 or float64.

        Returns uv_px (N, 2) of the points' dtype and visible (N,). A point is visible when it is in front of the
        camera, within the part of the lens model that can be trusted, and inside the image. Pixels of points that
        the model cannot project (behind, folded, NaN) are NaN; those that fall beside the image are given.
        """

    def resized(self: C, width_px: int, height_px: int) -> C:
        """The camera of this image resized: u' = (u + 0.5) s - 0.5, as cv2.resize maps pixels."""
        sx, sy = width_px / self.width_px, height_px / self.height_px
        return replace(
            self,
            width_px=width_px,
            height_px=height_px,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def cropped(self: C, x_px: int, y_px: int, width_px: int, height_px: int) -> C:
        """The camera of image[y:y+height, x:x+width]; the window may reach beyond the image (padding)."""
        return replace(self, width_px=width_px, height_px=height_px, cx=self.cx - x_px, cy=self.cy - y_px)

    def _pixels(self, x: NDArray, y: NDArray, dtype: DTypeLike) -> tuple[NDArray, NDArray[np.bool_]]:
        """uv_px and visible from the distorted image-plane coordinates of all points, NaN where there are none.

        Works in place on x and y: fresh arrays of a whole cloud cost more than the arithmetic.
        """
        uv = np.empty((len(x), 2), dtype)
        visible = np.ones(len(x), np.bool_)
        for column, plane, focal, centre, size in (
            (0, x, self.fx, self.cx, self.width_px),
            (1, y, self.fy, self.cy, self.height_px),
        ):
            with np.errstate(over="ignore", invalid="ignore"):
                plane *= focal
                plane += centre
                pixels = plane.astype(dtype, copy=False)
            # decided on the values as rounded to dtype, so that the pixel of no visible point rounds out of the image
            visible &= pixels >= -0.5
            visible &= pixels < size - 0.5
            uv[:, column] = pixels
        return uv, visible


@dataclass(frozen=True, eq=False)
class PinholeCamera(CameraModel):
    """A pinhole camera with OpenCV's distortion.

    distortion: 0, 4, 5 (plumb_bob), 8 (rational_polynomial), 12 or 14 coefficients in OpenCV's order.
    rotation, offset_m: applied to the points first, p' = R p + t. The rotation is the transpose of CameraInfo.R where a
    raw image is used with the frame of the rectified camera; the offset is K⁻¹ P[:, 3] of a rectified stereo camera
    or of KITTI's P2, whose frame is that of the first camera.
    """

    distortion: tuple[float, ...] = ()
    rotation: NDArray[np.float64] = field(default_factory=_identity)
    offset_m: NDArray[np.float64] = field(default_factory=_zeros)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "distortion", _checked_coefficients(self.distortion, lens.PINHOLE_COEFFICIENTS))
        offset = np.array(self.offset_m, np.float64)
        if offset.shape != (3,) or not np.isfinite(offset).all():
            raise CalibrationError(f"pinhole camera: expected an offset of 3 finite numbers, got {self.offset_m}")
        object.__setattr__(self, "rotation", checked_rotation(self.rotation, "pinhole camera"))
        object.__setattr__(self, "offset_m", offset)

    @cached_property
    def _limit(self) -> float:
        return lens.pinhole_limit(self.distortion)

    @cached_property
    def _moves_points(self) -> bool:
        return not (np.array_equal(self.rotation, np.eye(3)) and not self.offset_m.any())

    def project(self, points_m: NDArray[F]) -> tuple[NDArray[F], NDArray[np.bool_]]:
        points = _checked_points(points_m)
        if self._moves_points:
            points = _moved(points, self.rotation, self.offset_m)
        x, y, z = points.T
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # far off the axis: infinite, not inside
            inverse = 1 / z
            np.copyto(inverse, np.nan, where=~((z > 0) & (z < np.inf)))
            x, y = x * inverse, y * inverse
            if any(self.distortion):
                trusted = x * x + y * y < self._limit
                # high powers of the radius cancel: float32 is not enough for a hundredth of a pixel
                xt, yt = x[trusted].astype(np.float64), y[trusted].astype(np.float64)
                x, y = _scattered(trusted, *lens.distort_pinhole(xt, yt, self.distortion))
        return self._pixels(x, y, points.dtype)


@dataclass(frozen=True, eq=False)
class FisheyeCamera(CameraModel):
    """The equidistant model (Kannala and Brandt 2006; ROS `equidistant`, cv2.fisheye); sees beyond 90 degrees.

    distortion: k1..k4. rotation: as for PinholeCamera.
    """

    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    rotation: NDArray[np.float64] = field(default_factory=_identity)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "distortion", _checked_coefficients(self.distortion, lens.FISHEYE_COEFFICIENTS))
        object.__setattr__(self, "rotation", checked_rotation(self.rotation, "fisheye camera"))

    @cached_property
    def _limit(self) -> float:
        return lens.fisheye_limit(self.distortion)

    def project(self, points_m: NDArray[F]) -> tuple[NDArray[F], NDArray[np.bool_]]:
        points = _checked_points(points_m)
        if not np.array_equal(self.rotation, np.eye(3)):
            points = _moved(points, self.rotation, np.zeros(3))
        x, y, z = points.T
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            radius = np.hypot(x, y)
            theta = np.arctan2(radius, z)
            scale = lens.distort_fisheye(theta, self.distortion) / radius
            scale[radius == 0] = 0  # on the axis
            trusted = (theta < self._limit) & (z < np.inf) & ((radius > 0) | (z > 0))
            scale[~trusted] = np.nan
            x, y = x * scale, y * scale
        return self._pixels(x, y, points.dtype)


def _checked_coefficients(distortion: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[float, ...]:
    coefficients = tuple(float(k) for k in distortion)
    if len(coefficients) not in lengths or not np.isfinite(coefficients).all():
        expected = " or ".join(str(n) for n in lengths)
        raise CalibrationError(
            f"camera: expected {expected} finite distortion coefficients, got {len(coefficients)}: {coefficients}"
        )
    return coefficients


def _checked_points(points_m: NDArray[F]) -> NDArray[F]:
    if points_m.ndim != 2 or points_m.shape[1] != 3:
        raise CalibrationError(f"project: expected points of shape (N, 3), got {points_m.shape}")
    return points_m if points_m.dtype in (np.float32, np.float64) else points_m.astype(np.float64)


def _moved(points: NDArray[F], rotation: NDArray[np.float64], offset_m: NDArray[np.float64]) -> NDArray[F]:
    with np.errstate(over="ignore", invalid="ignore"):
        moved = rotation.astype(points.dtype) @ points.T
        moved += offset_m.astype(points.dtype)[:, None]
    return moved.T


def _scattered(mask: NDArray[np.bool_], *values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Per array of values at the true places of the mask: one of the mask's length, NaN elsewhere."""
    results = tuple(np.full(len(mask), np.nan) for _ in values)
    for result, kept in zip(results, values, strict=True):
        result[mask] = kept
    return results
