"""CompressedImage <-> RGB: whole, cut off, and built to hurt."""

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from message_runtimes import STAMP_NS, each_runtime, header

from clip2uda_core.data.messages import RosbagsFactory, decode_compressed_image, encode_compressed_image
from clip2uda_core.errors import DataError

ROSBAGS = RosbagsFactory()
V, U = np.mgrid[:60, :80]
RGB = np.dstack([2 * U + 40, 3 * V + 20, 220 - 2 * U]).astype(np.uint8)


def compressed(data, format="rgb8; jpeg compressed bgr8", factory=ROSBAGS):
    return factory.make(
        "sensor_msgs/msg/CompressedImage",
        header=header(factory, "camera"),
        format=format,
        data=factory.byte_array(np.frombuffer(bytes(data), np.uint8)),
    )


def encoded(suffix, image, *settings):
    return cv2.imencode(suffix, image, settings)[1].tobytes()


def jpeg_segment(marker, payload):
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def png_chunk(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


JPEG = encoded(".jpg", RGB[..., ::-1])
PNG = encoded(".png", RGB[..., ::-1])


@each_runtime
def test_png_round_trip_keeps_every_bit(factory):
    msg = encode_compressed_image(RGB, STAMP_NS, "front_optical_frame", factory)
    assert msg.format == "rgb8; png compressed bgr8"
    assert msg.header == header(factory, "front_optical_frame")
    np.testing.assert_array_equal(decode_compressed_image(msg, "/image"), RGB)


@each_runtime
def test_jpeg_round_trip_is_close(factory):
    msg = encode_compressed_image(RGB, STAMP_NS, "front", factory, format="jpeg")
    assert msg.format == "rgb8; jpeg compressed bgr8"
    decoded = decode_compressed_image(msg, "/image")
    np.testing.assert_allclose(decoded.astype(int), RGB.astype(int), atol=6)


@pytest.mark.parametrize("format", ["jpeg", "png", "", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8"])
def test_the_data_decide_not_the_format(format):
    np.testing.assert_array_equal(decode_compressed_image(compressed(PNG, format), "/image"), RGB)
    decoded = decode_compressed_image(compressed(JPEG, format), "/image")
    np.testing.assert_allclose(decoded.astype(int), RGB.astype(int), atol=6)


def test_gray_alpha_and_16_bits():
    gray = decode_compressed_image(compressed(encoded(".png", RGB[..., 0])), "/image")
    np.testing.assert_array_equal(gray, np.repeat(RGB[..., :1], 3, axis=2))
    alpha = np.dstack([RGB[..., ::-1], np.full(RGB.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(decode_compressed_image(compressed(encoded(".png", alpha)), "/image"), RGB)
    deep = RGB[..., ::-1].astype(np.uint16) << 8 | 0xEE
    np.testing.assert_array_equal(decode_compressed_image(compressed(encoded(".png", deep)), "/image"), RGB)


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_cut_off_anywhere(progressive):
    data = encoded(".jpg", RGB[..., ::-1], cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    decode_compressed_image(compressed(data), "/image")
    for length in range(len(data) - 1):
        with pytest.raises(DataError):
            decode_compressed_image(compressed(data[:length]), "/camera")


def test_png_cut_off_anywhere():
    for length in range(0, len(PNG) - 4, 5):
        with pytest.raises(DataError):
            decode_compressed_image(compressed(PNG[:length]), "/camera")


def test_cut_off_says_what_came():
    with pytest.raises(DataError, match=r"/camera: expected a whole image, got 1000 bytes without its end"):
        decode_compressed_image(compressed(JPEG[:1000]), "/camera")


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image():
    thumbnail = jpeg_segment(0xE1, b"Exif\0\0" + encoded(".jpg", RGB[:8, :8]))
    data = JPEG[:2] + thumbnail + JPEG[2:]
    decode_compressed_image(compressed(data), "/image")
    with pytest.raises(DataError, match="without its end"):
        decode_compressed_image(compressed(data[: len(data) // 2]), "/image")


@pytest.mark.parametrize("data", [JPEG, PNG])
def test_bytes_after_the_end_do_not_matter(data):
    assert decode_compressed_image(compressed(data + b"\0" * 100), "/image").shape == RGB.shape


def test_exif_orientation_is_not_applied():
    rotated = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    data = JPEG[:2] + jpeg_segment(0xE1, b"Exif\0\0" + rotated) + JPEG[2:]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (80, 60, 3)  # the marker works
    assert decode_compressed_image(compressed(data), "/image").shape == (60, 80, 3)


def test_a_compressed_bayer_mosaic():
    measured = np.empty((6, 8), np.uint8)
    measured[::2, ::2], measured[::2, 1::2], measured[1::2, ::2], measured[1::2, 1::2] = 120, 200, 30, 120  # gr/bg
    msg = compressed(encoded(".png", measured), "bayer_grbg8; png compressed ")
    np.testing.assert_array_equal(
        decode_compressed_image(msg, "/image"), np.broadcast_to(np.uint8([200, 120, 30]), (6, 8, 3))
    )
    colour = compressed(PNG, "bayer_grbg8; png compressed bgr8")
    np.testing.assert_array_equal(decode_compressed_image(colour, "/image"), RGB)


def test_depth_is_refused():
    msg = compressed(b"\0" * 12 + PNG, "16UC1; compressedDepth png")
    with pytest.raises(
        DataError, match=r"/depth: expected a colour or gray image, got a depth image .*compressedDepth"
    ):
        decode_compressed_image(msg, "/depth")


@pytest.mark.parametrize("data", [b"", b"\xff", b"GIF89a" + b"\0" * 50, b"RIFF\0\0\0\0WEBPVP8 ", b"\0" * 100])
def test_other_formats(data):
    with pytest.raises(DataError, match=r"/image: expected JPEG or PNG data, got format 'webp'"):
        decode_compressed_image(compressed(data, "webp"), "/image")


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (20_000, 20_000), (0, 5)])
def test_a_decompression_bomb(size):
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    png += png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"/image: expected an image of up to 100000000 pixels, got"):
        decode_compressed_image(compressed(png, "png"), "/image")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_a_size_that_opencv_refuses():
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2_000_000, 2, 8, 2, 0, 0, 0))
    png += png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"the 2000000x2 image .* is damaged"):
        decode_compressed_image(compressed(png, "png"), "/image")


def test_damaged_png():
    damaged = bytearray(PNG)
    damaged[len(PNG) // 2] ^= 0xFF
    with pytest.raises(DataError, match=r"the 80x60 image \(format 'png', \d+ bytes\) is damaged"):
        decode_compressed_image(compressed(damaged, "png"), "/image")
