"""The labelled cloud that is published, byte by byte."""

import struct

import numpy as np
import pytest
from message_runtimes import each_runtime, header

from clip2uda_core.data.messages import RosbagsFactory, decode_point_cloud, encode_labelled_cloud
from clip2uda_core.errors import DataError
from clip2uda_core.labels import IGNORE, IGNORE_COLOR, LabelSpace
from clip2uda_core.types import Prediction

UINT8, UINT16, UINT32, FLOAT32, FLOAT64 = 2, 4, 6, 7, 8
ROSBAGS = RosbagsFactory()
LABELS = LabelSpace.from_dict(
    {
        "name": "two",
        "classes": [
            {"name": "car", "prompt": "car", "color": [0x12, 0x34, 0x56]},
            {"name": "road", "prompt": "road", "color": [0xFF, 0x00, 0xFE]},
        ],
    },
    "test",
)
OUTPUT_FIELDS = [
    ("x", 0, FLOAT32, 1),
    ("y", 4, FLOAT32, 1),
    ("z", 8, FLOAT32, 1),
    ("rgb", 12, FLOAT32, 1),
    ("label", 16, UINT32, 1),
    ("confidence", 20, FLOAT32, 1),
]


def prediction(labels, confidence):
    n = len(labels)
    return Prediction(
        labels=np.array(labels, np.uint8),
        confidence=np.array(confidence, np.float32),
        seen=np.zeros(n, np.bool_),
        probabilities_2d=np.full((n, 2), np.nan, np.float32),
        probabilities_3d=np.full((n, 2), np.nan, np.float32),
    )


def input_cloud(factory, record, points, height=1, row_padding=0):
    """`record` is a numpy structured dtype; the message takes fields, offsets and byte order from it."""
    array = np.array(points, record)
    width = len(array) // height
    datatypes = {"u1": UINT8, "u2": UINT16, "u4": UINT32, "f4": FLOAT32, "f8": FLOAT64}
    fields, big_endian = [], False
    for name, (kind, offset) in record.fields.items():
        value, shape = kind.subdtype or (kind, (1,))
        big_endian |= value.byteorder == ">"
        field = {"offset": offset, "datatype": datatypes[value.str[1:]], "count": shape[0]}
        fields.append(factory.make("sensor_msgs/msg/PointField", name=name, **field))
    rows = np.frombuffer(array.tobytes(), np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, row_padding)))
    return factory.make(
        "sensor_msgs/msg/PointCloud2",
        header=header(factory),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=big_endian,
        point_step=record.itemsize,
        row_step=rows.shape[1],
        data=factory.byte_array(np.ascontiguousarray(rows).reshape(-1)),
        is_dense=True,
    )


XYZI = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
NAN = float("nan")


def layout(msg):
    return [(f.name, f.offset, f.datatype, f.count) for f in msg.fields]


@each_runtime
def test_fields_offsets_and_bits(factory):
    msg = input_cloud(factory, XYZI, [(1, 2, 3, 9), (4, 5, 6, 9), (7, 8, 9, 9)])
    out = encode_labelled_cloud(msg, prediction([0, 1, IGNORE], [0.5, 1.0, 0.0]), LABELS, factory)
    assert layout(out) == OUTPUT_FIELDS
    assert (out.point_step, out.row_step, out.is_bigendian, out.is_dense) == (24, 72, False, True)
    ignored = IGNORE_COLOR[0] << 16 | IGNORE_COLOR[1] << 8 | IGNORE_COLOR[2]
    expected = [
        (1, 2, 3, 0x00123456, 0, 0.5),
        (4, 5, 6, 0x00FF00FE, 1, 1.0),
        (7, 8, 9, ignored, IGNORE, 0.0),
    ]
    assert bytes(out.data) == b"".join(struct.pack("<fffIIf", *point) for point in expected)


@each_runtime
def test_header_is_the_inputs(factory):
    msg = input_cloud(factory, XYZI, [(1, 2, 3, 9)])
    out = encode_labelled_cloud(msg, prediction([0], [1]), LABELS, factory)
    assert out.header == msg.header


def test_without_colour_the_layout_stays():
    msg = input_cloud(ROSBAGS, XYZI, [(1, 2, 3, 9)])
    out = encode_labelled_cloud(msg, prediction([1], [0.25]), LABELS, ROSBAGS, publish_rgb=False)
    assert layout(out) == OUTPUT_FIELDS
    assert bytes(out.data) == struct.pack("<fffIIf", 1, 2, 3, 0, 1, 0.25)


def test_organised_cloud_stays_organised_and_loses_its_padding():
    points = [(i, 0, 0, 0) for i in range(6)]
    msg = input_cloud(ROSBAGS, XYZI, points, height=2, row_padding=8)
    out = encode_labelled_cloud(msg, prediction([0, 1, 0, 1, 0, 1], [1] * 6), LABELS, ROSBAGS)
    assert (out.height, out.width, out.point_step, out.row_step, len(out.data)) == (2, 3, 24, 72, 144)
    decoded = decode_point_cloud(out, "/output")
    assert decoded.xyz_m[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert decoded.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_points_without_a_return_keep_their_place_and_have_no_class():
    msg = input_cloud(ROSBAGS, XYZI, [(NAN, NAN, NAN, 0), (1, 2, 3, 0), (1, float("inf"), 3, 0)])
    out = encode_labelled_cloud(msg, prediction([0, 1, 1], [0.9, 0.8, 0.7]), LABELS, ROSBAGS)
    assert not out.is_dense
    points = list(struct.iter_unpack("<fffIIf", bytes(out.data)))
    assert [point[4] for point in points] == [IGNORE, 1, IGNORE]
    assert [point[5] for point in points] == pytest.approx([0, 0.8, 0])
    assert np.isnan(points[0][:3]).all()
    assert points[2][:3] == (1, float("inf"), 3)


def test_empty_cloud():
    out = encode_labelled_cloud(input_cloud(ROSBAGS, XYZI, []), prediction([], []), LABELS, ROSBAGS)
    assert layout(out) == OUTPUT_FIELDS
    assert (out.height, out.width, out.row_step, len(out.data), out.is_dense) == (1, 0, 0, 0, True)


@each_runtime
@pytest.mark.parametrize("order", ["<", ">"])
def test_kept_fields_have_their_types_and_follow_the_output(factory, order):
    record = np.dtype(
        {
            "names": ["label", "intensity", "x", "y", "z", "ring", "timestamp", "tags"],
            "formats": [f"{order}u4", "u1", f"{order}f8", f"{order}f8", f"{order}f8", f"{order}u2", f"{order}f8",
                        (f"{order}u2", (3,))],
            "offsets": [0, 4, 5, 13, 21, 29, 31, 40],
            "itemsize": 50,
        }
    )  # fmt: skip
    points = [(77, 200, 1, 2, 3, 513, 1e9 + 0.25, [1, 2, 3]), (88, 1, 4, 5, 6, 7, -0.5, [4, 5, 65535])]
    msg = input_cloud(factory, record, points)
    out = encode_labelled_cloud(msg, prediction([1, 0], [0.5, 0.25]), LABELS, factory, keep_input_fields=True)
    kept = [
        ("intensity", 24, UINT8, 1),
        ("ring", 26, UINT16, 1),
        ("timestamp", 32, FLOAT64, 1),
        ("tags", 40, UINT16, 3),
    ]
    assert layout(out) == OUTPUT_FIELDS + kept
    assert (out.point_step, out.is_bigendian) == (48, False)
    expected = [
        (1, 2, 3, 0x00FF00FE, 1, 0.5, 200, 513, 1e9 + 0.25, 1, 2, 3),
        (4, 5, 6, 0x00123456, 0, 0.25, 1, 7, -0.5, 4, 5, 65535),
    ]
    assert bytes(out.data) == b"".join(struct.pack("<fffIIfBxHxxxxdHHHxx", *point) for point in expected)


def test_a_kept_field_of_unknown_type():
    msg = input_cloud(ROSBAGS, XYZI, [(1, 2, 3, 9)])
    msg.fields[3].datatype = 11
    encode_labelled_cloud(msg, prediction([0], [1]), LABELS, ROSBAGS)
    with pytest.raises(DataError, match=r"'intensity' of datatype 1 .* got 11; turn off keep_input_fields"):
        encode_labelled_cloud(msg, prediction([0], [1]), LABELS, ROSBAGS, keep_input_fields=True)


def test_written_to_a_bag_and_read_back():
    msg = input_cloud(ROSBAGS, XYZI, [(1, 2, 3, 9), (NAN, 5, 6, 9)])
    out = encode_labelled_cloud(msg, prediction([1, 0], [0.5, 0.5]), LABELS, ROSBAGS, keep_input_fields=True)
    store = ROSBAGS.typestore
    read = store.deserialize_cdr(store.serialize_cdr(out, out.__msgtype__), out.__msgtype__)
    assert layout(read) == layout(out)
    assert bytes(read.data) == bytes(out.data)
    assert decode_point_cloud(read, "/output").intensity.tolist() == [9, 9]


def test_sent_through_rclpys_serialisation():
    serialization = pytest.importorskip("rclpy.serialization")
    from clip2uda_ros.conversions import RclpyFactory

    factory = RclpyFactory()
    msg = input_cloud(factory, XYZI, [(1, 2, 3, 9)])
    out = encode_labelled_cloud(msg, prediction([1], [0.5]), LABELS, factory)
    store = ROSBAGS.typestore
    read = store.deserialize_cdr(serialization.serialize_message(out), "sensor_msgs/msg/PointCloud2")
    assert layout(read) == OUTPUT_FIELDS
    assert bytes(read.data) == struct.pack("<fffIIf", 1, 2, 3, 0x00FF00FE, 1, 0.5)
