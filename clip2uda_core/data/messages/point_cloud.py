"""PointCloud2 messages to clouds and back, and the labelled cloud that the segmenter publishes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.data.messages.point_layout import FLOAT32, UINT32, PointField, PointLayout
from clip2uda_core.data.messages.stamps import frame_id, make_header, stamp_ns
from clip2uda_core.errors import DataError
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import PointCloud, Prediction

INTENSITY_FIELDS = ("intensity", "i", "reflectivity")
TIME_FIELDS = ("t", "time", "timestamp", "time_stamp", "offset_time")

LONGEST_SWEEP_S = 1.0
"""Points further than this from their header's stamp were stamped by another clock."""

_XYZ = (PointField("x", 0, FLOAT32), PointField("y", 4, FLOAT32), PointField("z", 8, FLOAT32))
_LABELLED = (
    *_XYZ,
    PointField("rgb", 12, FLOAT32),
    PointField("label", 16, UINT32),
    PointField("confidence", 20, FLOAT32),
)


def decode_point_cloud(msg: Any, topic: str) -> PointCloud:
    """A PointCloud2 as N = height * width points, row by row; `topic` names it in errors.

    x, y, z of any datatype and place; points without a return stay in place as NaN, and an infinite coordinate counts
    as NaN too. A cloud of nothing but float32 coordinates is viewed, others are copied.

    intensity: the field `intensity`, else `i`, else `reflectivity`, on the sensor's scale.
    labels: an integer field `label`; values outside 0..255 become IGNORE.
    time_offset_s: the first of TIME_FIELDS. Integers are nanoseconds after the header's stamp (Ouster `t`, Livox
    `offset_time`, Autoware `time_stamp`), float32 seconds after it (Velodyne `time`). Float64 is whichever puts the
    points within LONGEST_SWEEP_S of the header's stamp: seconds after it, or absolute seconds (Hesai, RoboSense),
    microseconds or nanoseconds (Livox). None where nothing does, because the sensor's clock is not the header's.
    Other fields of these names with several values or an unknown datatype are left out.

    Raises DataError when x, y or z is missing or the message contradicts itself (see PointLayout.of).
    """
    layout = PointLayout.of(msg, topic)
    _check_coordinates(layout, topic)
    xyz_m = _coordinates(layout)
    if np.isinf(xyz_m).any():
        xyz_m = np.where(np.isinf(xyz_m), np.float32(np.nan), xyz_m)
    intensity = _optional(layout, INTENSITY_FIELDS)
    return PointCloud(
        xyz_m=xyz_m,
        stamp_ns=stamp_ns(msg),
        frame_id=frame_id(msg),
        intensity=None if intensity is None else _float32(intensity),
        time_offset_s=_time_offsets(layout, stamp_ns(msg)),
        labels=_labels(layout),
    )


def encode_point_cloud(cloud: PointCloud, factory: MessageFactory) -> Any:
    """An unorganised PointCloud2: x, y, z, then `intensity`, `time` (seconds, both float32) and `label` (uint32, as in
    the labelled cloud) where the cloud has them. `decode_point_cloud` gives back the same bits, but for what it says of
    infinite coordinates and of times longer than a sweep."""
    arrays = {"intensity": cloud.intensity, "time": cloud.time_offset_s, "label": cloud.labels}
    present = {name: values for name, values in arrays.items() if values is not None}
    extra = [PointField(name, 12 + 4 * i, UINT32 if name == "label" else FLOAT32) for i, name in enumerate(present)]
    layout = PointLayout.packed(1, len(cloud), (*_XYZ, *extra))
    for column, name in enumerate("xyz"):
        layout.values(name)[:] = cloud.xyz_m[:, column]
    for name, values in present.items():
        layout.values(name)[:] = values
    header = make_header(cloud.stamp_ns, cloud.frame_id, factory)
    return layout.to_message(header, bool(np.isfinite(cloud.xyz_m).all()), factory)


def encode_labelled_cloud(
    msg: Any,
    prediction: Prediction,
    labels: LabelSpace,
    factory: MessageFactory,
    *,
    publish_rgb: bool = True,
    keep_input_fields: bool = False,
) -> Any:
    """The segmenter's output for the input cloud `msg`: same header, rows, columns and order.

    Fields x, y, z float32 at 0, 4, 8; rgb float32 at 12, its bits r << 16 | g << 8 | b with a zero top byte, as RViz
    reads them, or all zero without `publish_rgb`; label uint32 at 16; confidence float32 at 20; 24 bytes a point.
    Points that are not finite keep their place with label IGNORE and confidence 0. `keep_input_fields` appends the
    input's other fields with their types, in their order, each aligned to its size.

    `prediction` has one entry per point of `msg`. Raises DataError like `decode_point_cloud`, and for a kept field of
    unknown datatype.
    """
    layout = PointLayout.of(msg, "input cloud")
    _check_coordinates(layout, "input cloud")
    assert len(prediction) == layout.count, f"{len(prediction)} labels for {layout.count} points"
    kept = _kept_fields(layout) if keep_input_fields else []
    out = PointLayout.packed(layout.height, layout.width, (*_LABELLED, *kept))

    with np.errstate(over="ignore", invalid="ignore"):
        for name in "xyz":
            out.values(name)[:] = layout.values(name)
    label, confidence = prediction.labels, prediction.confidence
    finite = np.logical_and.reduce([np.isfinite(out.values(name)) for name in "xyz"])
    is_dense = bool(finite.all())
    if not is_dense:
        label, confidence = np.where(finite, label, np.uint8(IGNORE)), np.where(finite, confidence, np.float32(0))
    out.values("label")[:] = label
    out.values("confidence")[:] = confidence
    if publish_rgb:
        r, g, b = labels.colors.astype(np.uint32).T
        out.vectors(12, UINT32, 1)[:, 0] = np.take(r << 16 | g << 8 | b, label)
    for field in kept:
        out.values(field.name)[:] = layout.values(field.name)
    return out.to_message(msg.header, is_dense, factory)


def _check_coordinates(layout: PointLayout, topic: str) -> None:
    for name in "xyz":
        if name not in layout.fields:
            there = ", ".join(layout.fields) or "none"
            raise DataError(f"{topic}: expected a cloud with fields x, y, z, got no '{name}' (fields: {there})")
        field = layout.fields[name]
        if field.size is None or field.count != 1:
            raise DataError(
                f"{topic}: expected field '{name}' with one value of datatype 1 (INT8) to 8 (FLOAT64), "
                f"got {field.count} of datatype {field.datatype}"
            )


def _coordinates(layout: PointLayout) -> NDArray[np.float32]:
    """(N, 3) native, contiguous float32; a view where the message already has that."""
    if layout.point_step == 12 and tuple(layout.fields.values()) == _XYZ:
        return _float32(layout.vectors(0, FLOAT32, 3))
    xyz_m = np.empty((layout.count, 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for column, name in enumerate("xyz"):  # numpy copies long columns faster than short rows
            xyz_m[:, column] = layout.values(name)
    return xyz_m


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Native, contiguous float32; numbers beyond its range become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, np.float32)


def _optional(layout: PointLayout, names: tuple[str, ...]) -> NDArray[Any] | None:
    """(N,) values of the first of `names` that is a field with one value of a known datatype."""
    for name in names:
        field = layout.fields.get(name)
        if field is not None and field.size is not None and field.count == 1:
            return layout.values(name)
    return None


def _labels(layout: PointLayout) -> NDArray[np.uint8] | None:
    values = _optional(layout, ("label",))
    if values is None or values.dtype.kind not in "iu":
        return None
    return np.minimum(values.astype(np.uint32), IGNORE).astype(np.uint8)  # negative numbers wrap to large ones


def _time_offsets(layout: PointLayout, header_stamp_ns: int) -> NDArray[np.float32] | None:
    values = _optional(layout, TIME_FIELDS)
    if values is None:
        return None
    if values.dtype.kind in "iu":
        units = [(1e-9, 0.0)]
    elif values.dtype.itemsize == 4:
        units = [(1.0, 0.0)]
    else:
        units = [(1.0, 0.0), *((unit_s, header_stamp_ns * 1e-9 / unit_s) for unit_s in (1.0, 1e-6, 1e-9))]
    offset_s = np.empty(layout.count, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for unit_s, start in units:
            np.subtract(values, start, out=offset_s, casting="unsafe")  # in float64 where the values are
            offset_s *= np.float32(unit_s)
            if np.fmax.reduce(np.abs(offset_s), initial=0) <= LONGEST_SWEEP_S:
                return offset_s
    return None


def _kept_fields(layout: PointLayout) -> list[PointField]:
    """The input's fields that the output does not have, laid out after its own."""
    taken = {field.name for field in _LABELLED}
    kept: list[PointField] = []
    end = 24
    for field in layout.fields.values():
        if field.name in taken:
            continue
        if field.size is None:
            raise DataError(
                f"input cloud: expected field '{field.name}' of datatype 1 (INT8) to 8 (FLOAT64), got "
                f"{field.datatype}; turn off keep_input_fields"
            )
        offset = end + -end % (field.size // field.count)
        kept.append(PointField(field.name, offset, field.datatype, field.count))
        end = offset + field.size
    return kept
