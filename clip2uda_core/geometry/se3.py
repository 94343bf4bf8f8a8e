"""Rigid transforms with named frames: `camera_SE3_lidar` takes points in the LiDAR frame to the camera frame."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip2uda_core.errors import TransformError

F = TypeVar("F", np.float32, np.float64)

ROTATION_TOLERANCE = 1e-3
"""How far an entry of R Rᵀ may be from the identity: calibration files are printed with as few as four digits."""

QUATERNION_TOLERANCE = 1e-2
"""How far the squared norm of a quaternion may be from one; tf2 uses the same bound."""


@dataclass(frozen=True, eq=False)
class SE3:
    """A rigid transform `target_SE3_source`: p_target = R p_source + t.

    matrix: (4, 4) float64, read-only. The rotation is checked and made exactly orthonormal; translation in metres.
    target, source: names of the frames.

    Raises TransformError when the matrix is not finite, not a rotation (mirrored, scaled, sheared), or misshapen.
    """

    matrix: NDArray[np.float64]
    target: str
    source: str

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        if matrix.shape != (4, 4):
            raise TransformError(f"{self}: expected a 4x4 matrix, got shape {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise TransformError(f"{self}: expected finite numbers, got\n{matrix}")
        if not np.array_equal(matrix[3], (0, 0, 0, 1)):
            raise TransformError(f"{self}: expected the last row 0 0 0 1, got {matrix[3]}")
        matrix[:3, :3] = checked_rotation(matrix[:3, :3], str(self))
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    def __str__(self) -> str:
        return f"transform {self.target} <- {self.source}"

    @staticmethod
    def identity(frame: str) -> "SE3":
        """The transform of a frame to itself."""
        return SE3(np.eye(4), frame, frame)

    @staticmethod
    def from_rotation_translation(rotation: ArrayLike, translation: ArrayLike, target: str, source: str) -> "SE3":
        """From a 3x3 rotation matrix and a translation in metres."""
        matrix = np.eye(4)
        try:
            matrix[:3, :3] = rotation
            matrix[:3, 3] = translation
        except (ValueError, TypeError):
            raise TransformError(
                f"transform {target} <- {source}: expected a 3x3 rotation and 3 numbers of translation, "
                f"got shapes {np.shape(rotation)} and {np.shape(translation)}"
            ) from None
        return SE3(matrix, target, source)

    @staticmethod
    def from_quaternion_xyzw(quaternion: ArrayLike, translation: ArrayLike, target: str, source: str) -> "SE3":
        """From a quaternion (x, y, z, w), as ROS orders it, and a translation in metres.

        Raises TransformError when the quaternion's squared norm is not one within QUATERNION_TOLERANCE.
        """
        q = np.asarray(quaternion, np.float64)
        if q.shape != (4,):
            raise TransformError(f"transform {target} <- {source}: expected a quaternion x y z w, got shape {q.shape}")
        norm_squared = float(q @ q)
        if not abs(norm_squared - 1) <= QUATERNION_TOLERANCE:  # also refuses NaN
            raise TransformError(
                f"transform {target} <- {source}: expected a unit quaternion x y z w, got {q.tolist()} "
                f"of norm {np.sqrt(norm_squared):.4g}"
            )
        rotation = _rotation_of_quaternion(q / np.sqrt(norm_squared))
        return SE3.from_rotation_translation(rotation, translation, target, source)

    @staticmethod
    def _of_valid(matrix: NDArray[np.float64], target: str, source: str) -> "SE3":
        """Without the checks, for what is computed from valid transforms: lookups in live code make many of them."""
        pose = object.__new__(SE3)
        matrix.setflags(write=False)
        for name, value in (("matrix", matrix), ("target", target), ("source", source)):
            object.__setattr__(pose, name, value)
        return pose

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) rotation matrix."""
        return self.matrix[:3, :3]

    @property
    def translation(self) -> NDArray[np.float64]:
        """(3,) translation in metres: where the source's origin is in the target frame."""
        return self.matrix[:3, 3]

    def __matmul__(self, other: "SE3") -> "SE3":
        """a_SE3_b @ b_SE3_c -> a_SE3_c; TransformError when the inner names differ."""
        if self.source != other.target:
            raise TransformError(
                f"({self}) @ ({other}): the inner frames must be the same, got '{self.source}' and '{other.target}'"
            )
        return SE3._of_valid(self.matrix @ other.matrix, self.target, other.source)

    def inverse(self) -> "SE3":
        """source_SE3_target."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation.T
        matrix[:3, 3] = -self.rotation.T @ self.translation
        return SE3._of_valid(matrix, self.source, self.target)

    def transform(self, points: NDArray[F]) -> NDArray[F]:
        """Takes (N, 3) points from the source to the target frame. float32 stays float32; NaN points stay NaN.

        The result is stored by column, which is what makes this and the projection after it fast.
        """
        if points.ndim != 2 or points.shape[1] != 3:
            raise TransformError(f"{self}: expected points of shape (N, 3), got {points.shape}")
        matrix: NDArray[Any] = self.matrix.astype(np.float32 if points.dtype == np.float32 else np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # points at infinity become NaN, which no camera sees
            moved = matrix[:3, :3] @ points.T
            moved += matrix[:3, 3:]
        return moved.T

    def quaternion_xyzw(self) -> NDArray[np.float64]:
        """(4,) unit quaternion x, y, z, w with w >= 0, by the largest component (Shepperd's method)."""
        r = self.rotation
        xx, yy, zz = r.diagonal().tolist()
        trace = xx + yy + zz
        squared = (1 + 2 * xx - trace, 1 + 2 * yy - trace, 1 + 2 * zz - trace, 1 + trace)
        largest = squared.index(max(squared))  # of 4x², 4y², 4z², 4w²
        if largest == 3:
            q = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squared[3]])
        else:
            i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
            q = np.empty(4)
            q[i], q[j], q[k] = squared[i], r[i, j] + r[j, i], r[i, k] + r[k, i]
            q[3] = r[k, j] - r[j, k]
        q /= np.sqrt(q @ q)
        return -q if q[3] < 0 else q

    def interpolate(self, other: "SE3", fraction: float) -> "SE3":
        """Between this transform (fraction 0) and `other` (1): slerp of the rotation, lerp of the translation, as tf2.

        The rotation takes the shorter way. Raises TransformError when the two are not between the same frames.
        """
        if (self.target, self.source) != (other.target, other.source):
            raise TransformError(f"cannot interpolate between {self} and {other}: the frames differ")
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation_of_quaternion(_slerp(self.quaternion_xyzw(), other.quaternion_xyzw(), fraction))
        matrix[:3, 3] = (1 - fraction) * self.translation + fraction * other.translation
        return SE3._of_valid(matrix, self.target, self.source)


def checked_rotation(matrix: ArrayLike, what: str) -> NDArray[np.float64]:
    """The rotation matrix nearest to `matrix`; TransformError when it is further than ROTATION_TOLERANCE from one."""
    rotation = np.array(matrix, np.float64)
    if rotation.shape != (3, 3):
        raise TransformError(f"{what}: expected a 3x3 rotation matrix, got shape {rotation.shape}")
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    determinant = float(np.linalg.det(rotation))
    if not error <= ROTATION_TOLERANCE or determinant < 0:
        raise TransformError(
            f"{what}: expected a rotation matrix, got one with determinant {determinant:.4g} and R Rᵀ {error:.2g} "
            f"away from the identity:\n{rotation}"
        )
    if error > 1e-12:  # an exact one is kept bit for bit
        u, _, vt = np.linalg.svd(rotation)
        rotation = u @ vt
    return rotation


def _rotation_of_quaternion(unit_xyzw: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z, w = unit_xyzw.tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _slerp(q0: NDArray[np.float64], q1: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    cosine = float(q0 @ q1)
    if cosine < 0:  # q and -q are the same rotation
        q1, cosine = -q1, -cosine
    if cosine > 1 - 1e-9:  # the angle is too small to divide by its sine
        q = (1 - fraction) * q0 + fraction * q1
    else:
        angle = np.arccos(cosine)
        q = (np.sin((1 - fraction) * angle) * q0 + np.sin(fraction * angle) * q1) / np.sin(angle)
    return q / np.sqrt(q @ q)
