"""Lens distortion, and how far from the axis each polynomial can be trusted.

The polynomials are fitted inside the image. Further out they turn round and fold far points back into it, where no
light of theirs falls. The limit is the first radius at which the radial mapping stops growing.
"""

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

Array = NDArray[np.float64]

PINHOLE_COEFFICIENTS = (0, 4, 5, 8, 12, 14)
"""Lengths of OpenCV's vector k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]]]; plumb_bob is 5, rational 8."""

FISHEYE_COEFFICIENTS = (4,)


def distort_pinhole(x: Array, y: Array, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    """OpenCV's pinhole distortion of normalised image coordinates x = X/Z, y = Y/Z.

    Radial (rational), tangential, thin prism and sensor tilt, in that order, as in OpenCV's calib3d documentation.
    """
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = _padded(coefficients)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if k4 or k5 or k6:
        radial /= 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    xy2 = 2 * x * y
    xd = x * radial + p1 * xy2 + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + p2 * xy2
    if s1 or s2 or s3 or s4:
        xd += r2 * (s1 + r2 * s2)
        yd += r2 * (s3 + r2 * s4)
    if tau_x or tau_y:
        tilt = tilt_homography(tau_x, tau_y)
        w = tilt[2, 0] * xd + tilt[2, 1] * yd + tilt[2, 2]
        w[w <= 0] = np.nan  # beyond the horizon of the tilted sensor
        xd, yd = (
            (tilt[0, 0] * xd + tilt[0, 1] * yd + tilt[0, 2]) / w,
            (tilt[1, 0] * xd + tilt[1, 1] * yd + tilt[1, 2]) / w,
        )
    return xd, yd


def pinhole_limit(coefficients: tuple[float, ...]) -> float:
    """Largest squared radius x² + y² up to which r (1 + k1 r² + ..) / (1 + k4 r² + ..) grows; inf where it always does.

    With s = r², N and D the two polynomials in s, the derivative's sign is that of (N + 2 s N') D - 2 s N D'.
    """
    k1, k2, _, _, k3, k4, k5, k6 = _padded(coefficients)[:8]
    numerator, denominator = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])
    s2 = Polynomial([0, 2])
    slope = (numerator + s2 * numerator.deriv()) * denominator - s2 * numerator * denominator.deriv()
    return min(_first_positive_root(slope), _first_positive_root(denominator))


def distort_fisheye(theta: Array, coefficients: tuple[float, ...]) -> Array:
    """The equidistant (Kannala-Brandt) model: distorted angle of a ray `theta` radians off the optical axis."""
    k1, k2, k3, k4 = coefficients
    t2 = theta * theta
    return theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))


def fisheye_limit(coefficients: tuple[float, ...]) -> float:
    """Largest angle in radians, at most pi, up to which the distorted angle grows."""
    slope = Polynomial([(2 * i + 1) * k for i, k in enumerate((1.0, *coefficients))])
    return min(float(np.sqrt(_first_positive_root(slope))), np.pi)


def tilt_homography(tau_x: float, tau_y: float) -> Array:
    """(3, 3) homography of a sensor tilted by tau_x, tau_y radians against the lens (Scheimpflug)."""
    cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    r = about_y @ about_x
    return np.array([[r[2, 2], 0, -r[0, 2]], [0, r[2, 2], -r[1, 2]], [0, 0, 1]]) @ r


def _padded(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    return coefficients + (0.0,) * (14 - len(coefficients))


def _first_positive_root(polynomial: Polynomial) -> float:
    """Smallest positive real root of a polynomial that is 1 at 0; inf where there is none.

    Taken as the largest root of the reversed polynomial, which is monic, so that tiny coefficients do no harm.
    """
    roots = Polynomial(polynomial.coef[::-1]).roots()
    real = roots.real[np.abs(roots.imag) <= 1e-9 * np.abs(roots)]
    largest = float(real.max(initial=0))
    return 1 / largest if largest > 1e-100 else np.inf
