"""A frame and its labels as a small block of bytes for the 3D view."""

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.pictures import draw_birds_eye
from clip2uda_core.labels import LabelSpace
from clip2uda_core.report.content import CloudView
from clip2uda_core.types import Frame, Prediction

MAX_POINTS = 130_000
"""Points of one view: a scan of 64 beams in full. At most 12 bytes each: four views take 8 MB of a page."""

MAX_RANGE_M = 250.0
"""Points beyond are left out: a few strays would spoil the step of the positions."""


def cloud_view(
    frame: Frame, before: Prediction | None, after: Prediction, labels: LabelSpace, max_points: int = MAX_POINTS
) -> CloudView:
    """The cloud of a frame with its labels before and after, confidences, intensity, and its own labels if it has any.

    Positions are rounded to 16 bits per axis between the smallest and the largest: to 4 mm within 250 m. Clouds
    of more than `max_points` are thinned at random, always in the same way. Raises DataError when a prediction is of
    another cloud, or when no point is within MAX_RANGE_M.
    """
    for name, prediction in (("before", before), ("after", after)):
        if prediction is not None and len(prediction) != len(frame.cloud):
            raise DataError(
                f"{frame.source}: the prediction '{name}' has {len(prediction)} labels, its cloud {len(frame.cloud)} "
                f"points; expected one for each"
            )
    xyz_m = frame.cloud.xyz_m
    finite = np.flatnonzero(np.isfinite(xyz_m).all(1))
    kept = finite[np.abs(xyz_m[finite]).max(1, initial=0) <= MAX_RANGE_M]
    if not len(kept):
        raise DataError(f"{frame.source}: no finite point within {MAX_RANGE_M:g} m to show")
    if len(kept) > max_points:
        kept = np.sort(np.random.default_rng(0).choice(kept, max_points, replace=False))
    quantised, low_m, step_m = _quantise(xyz_m[kept])
    return CloudView(
        caption=frame.source or f"{frame.cloud.stamp_ns} ns",
        points=len(kept),
        points_in_cloud=len(finite),
        xyz_u16=quantised.tobytes(),
        low_m=low_m,
        step_m=step_m,
        layers={name: values[kept].tobytes() for name, values in _layers(frame, before, after).items()},
        class_names=labels.names,
        class_colors=tuple(c.color for c in labels.config.classes),
        picture_png=_png(draw_birds_eye(xyz_m[kept], after.labels[kept], labels, size_px=640)),
    )


def _layers(frame: Frame, before: Prediction | None, after: Prediction) -> dict[str, NDArray[np.uint8]]:
    """(N,) uint8 each, of all points of the cloud."""
    layers = {"after": after.labels, "confidence_after": _bytes(after.confidence)}
    if before is not None:
        layers |= {"before": before.labels, "confidence_before": _bytes(before.confidence)}
    if frame.cloud.labels is not None:
        layers["truth"] = frame.cloud.labels
    intensity = frame.cloud.intensity
    if intensity is not None and np.isfinite(intensity).any():
        low, high = np.nanpercentile(np.where(np.isfinite(intensity), intensity, np.nan), (1, 99))
        layers["intensity"] = _bytes((intensity - low) / max(float(high - low), 1e-9))
    return layers


def _bytes(fraction: NDArray[np.floating]) -> NDArray[np.uint8]:
    """0..1 to 0..255; values outside are clipped, and what is no number is 0."""
    return np.rint(255 * np.clip(np.nan_to_num(fraction), 0, 1)).astype(np.uint8)


def _quantise(
    xyz_m: NDArray[np.float32],
) -> tuple[NDArray[np.uint16], tuple[float, float, float], tuple[float, float, float]]:
    """(P, 3) uint16, and the metres of value 0 and of one step, per axis."""
    low_m = xyz_m.min(0).astype(np.float64)
    step_m = np.maximum((xyz_m.max(0) - low_m) / 65535, 1e-6)
    quantised = np.rint((xyz_m - low_m) / step_m).astype("<u2")
    x0, y0, z0 = low_m.tolist()
    dx, dy, dz = step_m.tolist()
    return quantised, (x0, y0, z0), (dx, dy, dz)


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
