"""Image <-> RGB, against pixels written by hand."""

import numpy as np
import pytest
from message_runtimes import STAMP_NS, changed, each_runtime, header

from clip2uda_core.data.messages import IMAGE_ENCODINGS, RosbagsFactory, decode_image, encode_image
from clip2uda_core.errors import DataError

ROSBAGS = RosbagsFactory()
RGB = np.random.default_rng(5).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def image_message(factory, encoding, rows, *, padding=0, big_endian=False):
    """`rows` is (H, row bytes) uint8; `padding` bytes of garbage follow each row."""
    rows = np.ascontiguousarray(rows, np.uint8)
    pixel_bytes = {"mono16": 2, "16UC1": 2, "yuv422": 2, "uyvy": 2, "yuv422_yuy2": 2, "yuyv": 2, "rgb16": 6, "bgr16": 6}
    channels = 4 if encoding in ("rgba8", "bgra8", "8UC4") else 3 if encoding in ("rgb8", "bgr8", "8UC3") else 1
    if encoding.startswith("bayer_") and encoding.endswith("16"):
        channels = 2
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    return factory.make(
        "sensor_msgs/msg/Image",
        header=header(factory, "camera"),
        height=len(rows),
        width=rows.shape[1] // pixel_bytes.get(encoding, channels),
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=padded.shape[1],
        data=factory.byte_array(padded.reshape(-1)),
    )


def words(values, big_endian):
    """(H, W) uint16 values as (H, 2 W) bytes."""
    return values.astype(">u2" if big_endian else "<u2").view(np.uint8).reshape(len(values), -1)


@each_runtime
@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., :1]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., :1]])),
        ("8UC4", np.dstack([RGB[..., ::-1], RGB[..., :1]])),
    ],
)
def test_colour(factory, encoding, channels, padding):
    msg = image_message(factory, encoding, channels.reshape(4, -1), padding=padding)
    decoded = decode_image(msg, "/image")
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_gray_has_three_equal_channels(encoding):
    decoded = decode_image(image_message(ROSBAGS, encoding, RGB[..., 0], padding=3), "/image")
    np.testing.assert_array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_16_bits_keep_the_upper_byte(encoding, big_endian):
    values = np.array([[0x0000, 0x00FF, 0x0100], [0x12FF, 0xAB00, 0xFFFF]])
    msg = image_message(ROSBAGS, encoding, words(values, big_endian), padding=2, big_endian=big_endian)
    assert decode_image(msg, "/image")[..., 1].tolist() == [[0, 0, 1], [0x12, 0xAB, 0xFF]]


@pytest.mark.parametrize("big_endian", [False, True])
def test_16_bit_colour(big_endian):
    values = RGB[..., ::-1].reshape(4, -1).astype(np.uint16) << 8 | 0x7F
    msg = image_message(ROSBAGS, "bgr16", words(values, big_endian), big_endian=big_endian)
    np.testing.assert_array_equal(decode_image(msg, "/image"), RGB)


@each_runtime
def test_rgb8_is_viewed_not_copied(factory):
    msg = image_message(factory, "rgb8", RGB.reshape(4, -1))
    assert np.shares_memory(decode_image(msg, "/image"), np.frombuffer(msg.data, np.uint8))


# ROS names the pattern by the colours of the first row's first two pixels and the second row's
PATTERNS = {"rggb": "rg/gb", "bggr": "bg/gr", "gbrg": "gb/rg", "grbg": "gr/bg"}


def mosaic(rgb, pattern):
    """What a sensor behind this colour filter measures of an RGB image."""
    top, bottom = pattern.split("/")
    channel = {"r": 0, "g": 1, "b": 2}
    measured = np.empty(rgb.shape[:2], rgb.dtype)
    for row, filters in enumerate((top, bottom)):
        for column, colour in enumerate(filters):
            measured[row::2, column::2] = rgb[row::2, column::2, channel[colour]]
    return measured


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_pattern_names_are_those_of_ros(name, bits):
    flat = np.broadcast_to(np.uint8([200, 120, 30]), (6, 8, 3))
    values = mosaic(flat, PATTERNS[name])
    rows = values if bits == 8 else words(values.astype(np.uint16) << 8, False)
    msg = image_message(ROSBAGS, f"bayer_{name}{bits}", rows, padding=4)
    np.testing.assert_array_equal(decode_image(msg, "/image"), flat)


@pytest.mark.parametrize("name", PATTERNS)
def test_bayer_of_a_smooth_image(name):
    v, u = np.mgrid[:20, :20]
    rgb = np.dstack([5 * u + 20, 3 * v + 40, 200 - 4 * u]).astype(np.uint8)
    decoded = decode_image(image_message(ROSBAGS, f"bayer_{name}8", mosaic(rgb, PATTERNS[name])), "/image")
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(decoded[inner].astype(int), rgb[inner].astype(int), atol=1)


# Y'CbCr of BT.601 in the video range, rounded: red, green, blue, white
YCBCR = {
    (255, 0, 0): (81, 90, 240),
    (0, 255, 0): (145, 54, 34),
    (0, 0, 255): (41, 240, 110),
    (255,) * 3: (235, 128, 128),
}


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
def test_yuv422(encoding, order):
    pairs = []
    for y, cb, cr in YCBCR.values():
        pairs += [cb, y, cr, y] if order == "uyvy" else [y, cb, y, cr]
    decoded = decode_image(image_message(ROSBAGS, encoding, [pairs, pairs], padding=6), "/image")
    expected = np.repeat(np.array(list(YCBCR)), 2, axis=0)
    np.testing.assert_allclose(decoded.astype(int), np.broadcast_to(expected, (2, 8, 3)), atol=3)


@each_runtime
@pytest.mark.parametrize(
    ("encoding", "fields", "match"),
    [
        ("rgb8", {"encoding": "nv21"}, r"/image: unknown image encoding 'nv21', known are rgb8, .*bayer_rggb8.*yuyv"),
        ("rgb8", {"encoding": ""}, "unknown image encoding ''"),
        ("rgb8", {"step": 17}, r"/image: expected step of at least 18 \(6 pixels of rgb8\), got 17"),
        ("rgb8", {"step": 19}, r"/image: expected 76 bytes .* got 72"),
        ("rgb8", {"height": 3}, "expected 54 bytes .* got 72"),
        ("rgb8", {"data": b"\0" * 71}, "expected 72 bytes .* got 71"),
        ("rgb8", {"data": b""}, "expected 72 bytes .* got 0"),
        ("rgb8", {"height": 0, "data": b""}, "expected an image with pixels, got 6x0"),
        ("rgb8", {"width": 0}, "expected an image with pixels, got 0x4"),
        ("rgb8", {"width": 2**32 - 1, "height": 2**32 - 1}, "expected step of at least"),
        ("rgb8", {"height": 2**32 - 1}, "expected 77309411310 bytes"),
        ("rgb8", {"encoding": "uyvy", "width": 5, "step": 18}, "expected an even width for uyvy, got 5"),
        ("rgb8", {"encoding": "bayer_rggb8", "width": 2}, "expected at least 3x3 pixels for bayer_rggb8, got 2x4"),
    ],
)
def test_a_message_that_contradicts_itself(factory, encoding, fields, match):
    msg = changed(image_message(factory, encoding, RGB.reshape(4, -1)), **fields)
    with pytest.raises(DataError, match=match):
        decode_image(msg, "/image")


@each_runtime
def test_round_trip(factory):
    msg = encode_image(RGB, STAMP_NS, "front_optical_frame", factory)
    assert (msg.width, msg.height, msg.step, msg.encoding) == (6, 4, 18, "rgb8")
    assert msg.header == header(factory, "front_optical_frame")
    np.testing.assert_array_equal(decode_image(msg, "/image"), RGB)


def test_a_view_of_an_image_is_encoded_as_it_looks():
    np.testing.assert_array_equal(
        decode_image(encode_image(RGB[:, ::-1], STAMP_NS, "front", ROSBAGS), "/image"), RGB[:, ::-1]
    )


def test_every_known_encoding_decodes():
    for encoding in IMAGE_ENCODINGS:
        msg = changed(image_message(ROSBAGS, "mono8", np.zeros((4, 32), np.uint8)), encoding=encoding, width=4)
        assert decode_image(msg, "/image").shape == (4, 4, 3)
