"""PointCloud2 <-> arrays, against bytes packed by hand."""

import struct
import tracemalloc

import numpy as np
import pytest
from message_runtimes import STAMP_NS, changed, each_runtime, header

from clip2uda_core.data.messages import RosbagsFactory, decode_point_cloud, encode_point_cloud
from clip2uda_core.errors import DataError
from clip2uda_core.labels import IGNORE
from clip2uda_core.types import PointCloud

INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64 = range(1, 9)
CODES = {INT8: "b", UINT8: "B", INT16: "h", UINT16: "H", INT32: "i", UINT32: "I", FLOAT32: "f", FLOAT64: "d"}
XYZ = (("x", 0, FLOAT32), ("y", 4, FLOAT32), ("z", 8, FLOAT32))
ROSBAGS = RosbagsFactory()


def cloud_message(factory, fields, points, point_step, *, width=None, row_padding=0, big_endian=False, **overrides):
    """`fields` are (name, offset, datatype); each of `points` gives their values, packed one by one with struct."""
    width = len(points) if width is None else width
    data = bytearray()
    for i, point in enumerate(points):
        record = bytearray(b"\xa5" * point_step)  # padding is not zero
        for (_, offset, datatype), value in zip(fields, point, strict=True):
            struct.pack_into((">" if big_endian else "<") + CODES[datatype], record, offset, value)
        data += record
        if width and (i + 1) % width == 0:
            data += b"\x5a" * row_padding
    made = [
        factory.make("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=datatype, count=1)
        for name, offset, datatype in fields
    ]
    values = {
        "header": header(factory),
        "height": len(points) // width if width else 1,
        "width": width,
        "fields": made,
        "is_bigendian": big_endian,
        "point_step": point_step,
        "row_step": width * point_step + row_padding,
        "data": factory.byte_array(np.frombuffer(bytes(data), np.uint8)),
        "is_dense": True,
    }
    return factory.make("sensor_msgs/msg/PointCloud2", **{**values, **overrides})


def timed_message(datatype, values, name):
    fields = (*XYZ, (name, 16, datatype))
    return cloud_message(ROSBAGS, fields, [(0, 0, 0, value) for value in values], 24)


@each_runtime
@pytest.mark.parametrize("big_endian", [False, True])
def test_fields_of_any_order_place_and_type(factory, big_endian):
    fields = (("z", 2, FLOAT32), ("ring", 6, UINT16), ("x", 11, FLOAT64), ("intensity", 19, UINT8), ("y", 21, INT16))
    points = [(-1.5, 7, 2.25, 200, -300), (0.125, 8, -1e3, 0, 32767), (3.0, 9, 0.1, 255, 0)]
    cloud = decode_point_cloud(cloud_message(factory, fields, points, 26, big_endian=big_endian), "/points")
    assert cloud.xyz_m.dtype == np.float32
    assert cloud.xyz_m.dtype.isnative
    np.testing.assert_array_equal(cloud.xyz_m, np.float32([[2.25, -300, -1.5], [-1e3, 32767, 0.125], [0.1, 0, 3.0]]))
    np.testing.assert_array_equal(cloud.intensity, np.float32([200, 0, 255]))
    assert (cloud.stamp_ns, cloud.frame_id) == (STAMP_NS, "velodyne")
    assert cloud.time_offset_s is None
    assert cloud.labels is None


@pytest.mark.parametrize("datatype", CODES)
def test_coordinates_of_every_datatype(datatype):
    fields = (("x", 0, datatype), ("y", 8, datatype), ("z", 16, datatype))
    cloud = decode_point_cloud(cloud_message(ROSBAGS, fields, [(1, 2, 100), (3, 0, 7)], 24), "/points")
    np.testing.assert_array_equal(cloud.xyz_m, np.float32([[1, 2, 100], [3, 0, 7]]))


@each_runtime
@pytest.mark.parametrize("row_padding", [0, 5])
def test_organised_cloud_row_by_row(factory, row_padding):
    points = [(i, 10 * i, -i) for i in range(6)]
    msg = cloud_message(factory, XYZ, points, 16, width=3, row_padding=row_padding)
    assert (msg.height, msg.width) == (2, 3)
    np.testing.assert_array_equal(decode_point_cloud(msg, "/points").xyz_m, np.float32(points))


@each_runtime
def test_bare_coordinates_are_viewed_not_copied(factory):
    msg = cloud_message(factory, XYZ, [(1, 2, 3), (4, 5, 6)], 12)
    assert np.shares_memory(decode_point_cloud(msg, "/points").xyz_m, np.frombuffer(msg.data, np.uint8))


def test_points_without_a_return_keep_their_place():
    nan, inf = float("nan"), float("inf")
    msg = cloud_message(ROSBAGS, XYZ, [(nan, nan, nan), (1, 2, 3), (4, -inf, 6), (nan, 1, 2)], 16)
    expected = np.float32([[nan, nan, nan], [1, 2, 3], [4, nan, 6], [nan, 1, 2]])
    np.testing.assert_array_equal(decode_point_cloud(msg, "/points").xyz_m, expected)


def test_float64_beyond_float32_is_no_return():
    fields = (("x", 0, FLOAT64), ("y", 8, FLOAT64), ("z", 16, FLOAT64))
    cloud = decode_point_cloud(cloud_message(ROSBAGS, fields, [(1e300, 1, 2)], 24), "/points")
    np.testing.assert_array_equal(cloud.xyz_m, np.float32([[np.nan, 1, 2]]))


@each_runtime
def test_empty_cloud(factory):
    cloud = decode_point_cloud(cloud_message(factory, (*XYZ, ("intensity", 12, FLOAT32)), [], 16), "/points")
    assert cloud.xyz_m.shape == (0, 3)
    assert cloud.intensity.shape == (0,)


def test_three_million_points():
    xyz_m = np.arange(9_000_000, dtype=np.float32).reshape(-1, 3)
    msg = encode_point_cloud(PointCloud(xyz_m, STAMP_NS, intensity=xyz_m[:, 0].copy()), ROSBAGS)
    cloud = decode_point_cloud(msg, "/points")
    np.testing.assert_array_equal(cloud.xyz_m, xyz_m)


def test_fields_with_several_values_are_skipped():
    msg = cloud_message(ROSBAGS, XYZ, [(1, 2, 3)], 20)
    msg.fields.append(ROSBAGS.make("sensor_msgs/msg/PointField", name="intensity", offset=12, datatype=UINT8, count=8))
    cloud = decode_point_cloud(msg, "/points")
    np.testing.assert_array_equal(cloud.xyz_m, np.float32([[1, 2, 3]]))
    assert cloud.intensity is None


def test_a_count_of_zero_means_one():
    msg = cloud_message(ROSBAGS, XYZ, [(1, 2, 3)], 12)
    for field in msg.fields:
        field.count = 0
    np.testing.assert_array_equal(decode_point_cloud(msg, "/points").xyz_m, np.float32([[1, 2, 3]]))


def test_ros1_frame_loses_its_slash():
    msg = cloud_message(ROSBAGS, XYZ, [], 12)
    msg.header.frame_id = "/velodyne"
    assert decode_point_cloud(msg, "/points").frame_id == "velodyne"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("reflectivity", "intensity"), 1),
        (("i", "ring"), 0),
        (("reflectivity", "ambient"), 0),
        (("ring", "other"), None),
    ],
)
def test_which_field_is_the_intensity(names, chosen):
    fields = (*XYZ, (names[0], 12, UINT16), (names[1], 14, UINT16))
    cloud = decode_point_cloud(cloud_message(ROSBAGS, fields, [(0, 0, 0, 11, 22)], 16), "/points")
    assert cloud.intensity is None if chosen is None else cloud.intensity.tolist() == [(11, 22)[chosen]]


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        (UINT8, (0, 3, 255), [0, 3, 255]),
        (UINT32, (7, 256, 0xFFFF0007), [7, IGNORE, IGNORE]),
        (INT8, (5, -1, 127), [5, IGNORE, 127]),
        (INT32, (-5, 254, 70000), [IGNORE, 254, IGNORE]),
        (FLOAT32, (1.0, 2.0, 3.0), None),
    ],
)
def test_labels(datatype, values, expected):
    fields = (*XYZ, ("label", 12, datatype))
    cloud = decode_point_cloud(cloud_message(ROSBAGS, fields, [(0, 0, 0, v) for v in values], 16), "/points")
    if expected is None:
        assert cloud.labels is None
    else:
        assert cloud.labels.dtype == np.uint8
        assert cloud.labels.tolist() == expected


STAMP_S = STAMP_NS / 1e9


@pytest.mark.parametrize(
    ("name", "datatype", "values"),
    [
        pytest.param("time", FLOAT32, (0, 0.05, 0.1), id="velodyne: float seconds"),
        pytest.param("t", UINT32, (0, 50_000_000, 100_000_000), id="ouster: ns"),
        pytest.param("offset_time", UINT32, (0, 50_000_000, 100_000_000), id="livox: ns"),
        pytest.param("time_stamp", UINT32, (0, 50_000_000, 100_000_000), id="autoware: ns"),
        pytest.param("timestamp", FLOAT64, (STAMP_S, STAMP_S + 0.05, STAMP_S + 0.1), id="hesai: absolute s"),
        pytest.param("timestamp", FLOAT64, (STAMP_NS, STAMP_NS + 5e7, STAMP_NS + 1e8), id="livox: absolute ns"),
        pytest.param("timestamp", FLOAT64, (STAMP_S * 1e6, STAMP_S * 1e6 + 5e4, STAMP_S * 1e6 + 1e5), id="absolute us"),
        pytest.param("timestamp", FLOAT64, (0, 0.05, 0.1), id="relative seconds"),
    ],
)
def test_time_of_each_point(name, datatype, values):
    offset_s = decode_point_cloud(timed_message(datatype, values, name), "/points").time_offset_s
    assert offset_s.dtype == np.float32
    np.testing.assert_allclose(offset_s, [0, 0.05, 0.1], atol=1e-6)


def test_time_before_the_stamp_and_missing_times():
    offset_s = decode_point_cloud(timed_message(FLOAT32, (-0.1, float("nan"), 0.0), "time"), "/points").time_offset_s
    np.testing.assert_array_equal(offset_s, np.float32([-0.1, np.nan, 0.0]))


@pytest.mark.parametrize("values", [(5000.0, 5000.1), (STAMP_S - 60, STAMP_S), (1e300, -1e300)])
def test_another_clock_gives_no_times(values):
    assert decode_point_cloud(timed_message(FLOAT64, values, "timestamp"), "/points").time_offset_s is None


POINTS = [(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)]


@each_runtime
@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"point_step": 8}, r"/points: expected field 'z' within point_step 8, got bytes 8 to 12"),
        ({"point_step": 20}, r"/points: expected row_step 80 \(width 4 x point_step 20\), got 64"),
        ({"point_step": 12}, r"/points: expected row_step 48 .* got 64"),
        ({"row_step": 63}, r"/points: expected row_step 64 .* got 63"),
        ({"row_step": 0}, r"/points: expected row_step 64 .* got 0"),
        ({"width": 5}, r"/points: expected row_step 80"),
        ({"height": 2}, r"/points: expected 128 bytes of data \(height 2 x row_step 64\), got 64"),
        ({"data": b"\0" * 63}, r"/points: expected 64 bytes .* got 63"),
        ({"data": b"\0" * 65}, r"/points: expected 64 bytes .* got 65"),
        ({"data": b""}, r"/points: expected 64 bytes .* got 0"),
        ({"fields": []}, r"/points: .*fields x, y, z, got no 'x' \(fields: none\)"),
        ({"height": 2**32 - 1, "width": 2**32 - 1}, r"/points: expected row_step of at least 68719476720"),
        ({"height": 2**32 - 1}, r"/points: expected 274877906880 bytes"),
    ],
)
def test_a_message_that_contradicts_itself(factory, fields, match):
    msg = changed(cloud_message(factory, XYZ, POINTS, 16), **fields)
    tracemalloc.start()
    with pytest.raises(DataError, match=match):
        decode_point_cloud(msg, "/points")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ((XYZ[0], XYZ[1], ("intensity", 8, FLOAT32)), r"got no 'z' \(fields: x, y, intensity\)"),
        ((*XYZ, ("x", 12, FLOAT32)), "field names that differ, got 'x' twice"),
    ],
)
def test_fields_that_cannot_be_used(fields, match):
    msg = cloud_message(ROSBAGS, fields, [range(len(fields))], 16)
    with pytest.raises(DataError, match=match):
        decode_point_cloud(msg, "/points")


@pytest.mark.parametrize(("attribute", "value"), [("datatype", 0), ("datatype", 11), ("count", 2)])
def test_coordinates_that_cannot_be_read(attribute, value):
    msg = cloud_message(ROSBAGS, XYZ, POINTS, 16)
    setattr(msg.fields[1], attribute, value)
    with pytest.raises(DataError, match="expected field 'y' with one value of datatype"):
        decode_point_cloud(msg, "/points")


def test_an_unknown_datatype_that_is_not_needed_does_not_matter():
    msg = cloud_message(ROSBAGS, (*XYZ, ("intensity", 12, FLOAT32)), [(1, 2, 3, 4)], 16)
    msg.fields[3].datatype = 11  # PCL 1.13 publishes 64-bit integers as 11, which sensor_msgs does not define
    assert decode_point_cloud(msg, "/points").intensity is None


@each_runtime
def test_round_trip_keeps_every_bit(factory):
    rng = np.random.default_rng(3)
    xyz_m = rng.normal(0, 30, (1000, 3)).astype(np.float32)
    xyz_m[::50] = np.nan
    cloud = PointCloud(
        xyz_m,
        STAMP_NS,
        "os_lidar",
        intensity=rng.random(1000, np.float32),
        time_offset_s=rng.random(1000, np.float32) * np.float32(0.1),
        labels=rng.integers(0, 256, 1000).astype(np.uint8),
    )
    msg = encode_point_cloud(cloud, factory)
    assert [f.name for f in msg.fields] == ["x", "y", "z", "intensity", "time", "label"]
    assert (msg.height, msg.width, msg.point_step, msg.is_dense) == (1, 1000, 24, False)
    decoded = decode_point_cloud(msg, "/points")
    assert (decoded.stamp_ns, decoded.frame_id) == (cloud.stamp_ns, cloud.frame_id)
    for name in ("xyz_m", "intensity", "time_offset_s", "labels"):
        assert getattr(decoded, name).tobytes() == getattr(cloud, name).tobytes(), name


@each_runtime
def test_a_plain_cloud_has_no_other_fields(factory):
    msg = encode_point_cloud(PointCloud(np.ones((2, 3), np.float32), STAMP_NS), factory)
    assert [f.name for f in msg.fields] == ["x", "y", "z"]
    assert msg.is_dense
    decoded = decode_point_cloud(msg, "/points")
    assert decoded.intensity is None
    assert decoded.labels is None
    assert decoded.time_offset_s is None


def test_a_stamp_that_ros_cannot_hold():
    with pytest.raises(DataError, match="32 bits of seconds"):
        encode_point_cloud(PointCloud(np.ones((2, 3), np.float32), 2**31 * 1_000_000_000), ROSBAGS)
