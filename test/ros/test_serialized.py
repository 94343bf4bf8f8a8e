"""The header is read from the bytes as ROS itself reads it; of bytes that are no message it is said what they are."""

import struct
from contextlib import suppress
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from clip2uda_core.data.messages import frame_id, stamp_ns
from clip2uda_core.errors import DataError
from clip2uda_ros.serialized import Serialized

HEADERS = st.builds(
    Header,
    stamp=st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=st.integers(0, 2**32 - 1)),
    frame_id=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40),
)


def filled(kind: type, header: Header) -> Any:
    """A message with something in each of its parts."""
    if kind is PointCloud2:
        field = PointField(name="x", offset=0, datatype=7, count=1)
        return PointCloud2(header=header, height=1, width=2, fields=[field], point_step=4, row_step=8, data=bytes(8))
    if kind is Image:
        return Image(header=header, height=2, width=3, encoding="mono8", step=3, data=bytes(6))
    return CompressedImage(header=header, format="jpeg", data=bytes(5))


@pytest.mark.parametrize("kind", [PointCloud2, Image, CompressedImage])
@given(header=HEADERS)
def test_the_header_is_the_messages(kind: type, header: Header) -> None:
    message = filled(kind, header)
    serialized = Serialized(serialize_message(message), kind, "/topic")
    assert serialized.header == header
    assert stamp_ns(serialized) == stamp_ns(message)
    assert frame_id(serialized) == frame_id(message)
    assert serialized.message() == message


def big_endian(header: Header) -> bytes:
    """The header as a machine of the other byte order sends it."""
    name = header.frame_id.encode() + b"\0"
    return struct.pack(">4siII", b"\0\0\0\0", header.stamp.sec, header.stamp.nanosec, len(name)) + name


@given(header=HEADERS)
def test_the_header_of_a_big_endian_machine(header: Header) -> None:
    data = big_endian(header)
    assert Serialized(data, PointCloud2, "/topic").header == header == deserialize_message(data, Header)


@pytest.mark.parametrize("kind", [PointCloud2, Image, CompressedImage])
def test_bytes_that_are_cut_off_are_told_at_every_length(kind: type) -> None:
    header = Header(stamp=Time(sec=7, nanosec=8), frame_id="lidar")
    data = serialize_message(filled(kind, header))
    header_end = 4 + 12 + len("lidar") + 1
    for length in range(len(data)):
        serialized = Serialized(data[:length], kind, "/points")
        with pytest.raises(DataError, match=rf"^/points: expected a {kind.__name__} .*, got {length} bytes"):
            serialized.message()
        if length < header_end:
            with pytest.raises(DataError, match=rf"^/points: expected a {kind.__name__} .*, got {length} bytes"):
                stamp_ns(serialized)
        else:
            assert serialized.header == header


@given(start=st.sampled_from([b"", b"\0\0\0\0", b"\0\1\0\0"]), rest=st.binary(max_size=40))
def test_any_bytes_have_a_header_or_a_reason(start: bytes, rest: bytes) -> None:
    """And where both read a header, ROS reads the same stamp."""
    data = start + rest
    with suppress(DataError):
        assert Serialized(data, Image, "/image").header.stamp == deserialize_message(data, Time)


@pytest.mark.parametrize(
    ("length", "name", "reason"),
    [(2**32 - 1, b"lidar\0", "a frame_id of 4294967295 bytes"), (5, b"lidar", "that ends in a zero")],
)
def test_a_frame_id_that_is_none(length: int, name: bytes, reason: str) -> None:
    data = struct.pack("<4siII", b"\0\1\0\0", 1, 2, length) + name
    with pytest.raises(DataError, match=reason):
        Serialized(data, PointCloud2, "/points").header  # noqa: B018


def test_an_empty_frame_id_without_its_zero_is_empty() -> None:
    """Some middleware writes it so."""
    data = struct.pack("<4siII", b"\0\1\0\0", 1, 2, 0)
    assert Serialized(data, PointCloud2, "/points").header == Header(stamp=Time(sec=1, nanosec=2))


def test_another_encapsulation_is_named() -> None:
    data = b"\0\3" + serialize_message(filled(Image, Header()))[2:]
    with pytest.raises(DataError, match="starting with one of 0000, 0001, 0006, 0007"):
        Serialized(data, Image, "/image").header  # noqa: B018
