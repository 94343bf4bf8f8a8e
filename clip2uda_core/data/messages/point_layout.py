"""Where the values of a PointCloud2 are: its fields, strides and bytes, checked before anything is read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.errors import DataError

INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64 = range(1, 9)
"""Values of sensor_msgs/PointField.datatype."""

_FORMATS = {INT8: "i1", UINT8: "u1", INT16: "i2", UINT16: "u2", INT32: "i4", UINT32: "u4", FLOAT32: "f4", FLOAT64: "f8"}


@dataclass(frozen=True)
class PointField:
    """`count` values of `datatype`, `offset` bytes after the start of each point."""

    name: str
    offset: int
    datatype: int
    count: int = 1

    @property
    def size(self) -> int | None:
        """Bytes of all values, None for a datatype that sensor_msgs does not define."""
        return np.dtype(_FORMATS[self.datatype]).itemsize * self.count if self.datatype in _FORMATS else None


@dataclass(frozen=True)
class PointLayout:
    """The bytes of a cloud and how to find a field in them.

    data: (height * row_step,) uint8. Points follow each other by `point_step` bytes, rows by `row_step`.
    """

    height: int
    width: int
    point_step: int
    row_step: int
    big_endian: bool
    fields: dict[str, PointField]
    data: NDArray[np.uint8]

    @staticmethod
    def of(msg: Any, topic: str) -> "PointLayout":
        """Layout of a PointCloud2; its bytes are viewed, not copied.

        Raises DataError when the sizes contradict each other or the data, or a field lies outside its point. `data`
        must have exactly height * row_step bytes, and a single row has no padding (RViz is as strict): more bytes than
        that mean that a step is wrong, and the points would be read from the wrong places.
        """
        fields = _checked_fields(msg, topic)
        layout = PointLayout(
            height=int(msg.height),
            width=int(msg.width),
            point_step=int(msg.point_step),
            row_step=int(msg.row_step),
            big_endian=bool(msg.is_bigendian),
            fields=fields,
            data=np.frombuffer(msg.data, np.uint8),
        )
        if layout.count:
            layout._check_sizes(topic)
        return layout

    @staticmethod
    def packed(height: int, width: int, fields: Iterable[PointField]) -> "PointLayout":
        """Zeroed bytes for a new little-endian cloud; a point ends with its last field, padded to 4 bytes."""
        by_name = {field.name: field for field in fields}
        end = max(field.offset + (field.size or 0) for field in by_name.values())
        point_step = end + -end % 4
        data = np.zeros(height * width * point_step, np.uint8)
        return PointLayout(height, width, point_step, width * point_step, False, by_name, data)

    @property
    def count(self) -> int:
        """The number of points."""
        return self.height * self.width

    def values(self, name: str) -> NDArray[Any]:
        """(N,) values of a field, (N, count) where it has several, in the cloud's byte order.

        A view of `data`, except where the rows of an organised cloud are padded.
        """
        field = self.fields[name]
        values = self.vectors(field.offset, field.datatype, field.count)
        return values[:, 0] if field.count == 1 else values

    def vectors(self, offset: int, datatype: int, count: int) -> NDArray[Any]:
        """(N, count) values that start `offset` bytes after the start of each point; a view as far as `values`."""
        dtype = np.dtype(_FORMATS[datatype]).newbyteorder(">" if self.big_endian else "<")
        if not self.count:
            return np.empty((0, count), dtype)
        rows, columns = (1, self.count) if self.row_step == self.width * self.point_step else (self.height, self.width)
        strides = (self.row_step, self.point_step, dtype.itemsize)
        return np.ndarray((rows, columns, count), dtype, self.data, offset, strides).reshape(-1, count)

    def to_message(self, header: Any, is_dense: bool, factory: MessageFactory) -> Any:
        """The PointCloud2 with these bytes."""
        fields = [
            factory.make("sensor_msgs/msg/PointField", name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
            for f in self.fields.values()
        ]
        return factory.make(
            "sensor_msgs/msg/PointCloud2",
            header=header,
            height=self.height,
            width=self.width,
            fields=fields,
            is_bigendian=self.big_endian,
            point_step=self.point_step,
            row_step=self.row_step,
            data=factory.byte_array(self.data),
            is_dense=is_dense,
        )

    def _check_sizes(self, topic: str) -> None:
        row_bytes = self.width * self.point_step
        if self.row_step < row_bytes or (self.height == 1 and self.row_step != row_bytes):
            raise DataError(
                f"{topic}: expected row_step {'' if self.height == 1 else 'of at least '}{row_bytes} "
                f"(width {self.width} x point_step {self.point_step}), got {self.row_step}; the driver fills the "
                f"PointCloud2 wrongly"
            )
        expected = self.height * self.row_step
        if len(self.data) != expected:
            raise DataError(
                f"{topic}: expected {expected} bytes of data (height {self.height} x row_step {self.row_step}), "
                f"got {len(self.data)}; the message is cut off or the driver fills the PointCloud2 wrongly"
            )


def _checked_fields(msg: Any, topic: str) -> dict[str, PointField]:
    """Fields by name; those of an unknown datatype stay, for whoever reads them to refuse."""
    fields: dict[str, PointField] = {}
    for f in msg.fields:
        # PCL takes a count of 0 for 1, and drivers rely on it
        field = PointField(str(f.name), int(f.offset), int(f.datatype), max(int(f.count), 1))
        if field.name in fields:
            raise DataError(f"{topic}: expected field names that differ, got '{field.name}' twice")
        if field.size is not None and field.offset + field.size > msg.point_step:
            raise DataError(
                f"{topic}: expected field '{field.name}' within point_step {msg.point_step}, got bytes "
                f"{field.offset} to {field.offset + field.size}; the driver fills the PointCloud2 wrongly"
            )
        fields[field.name] = field
    return fields
