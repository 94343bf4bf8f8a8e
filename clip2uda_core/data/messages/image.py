"""Image messages to RGB arrays and back."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.data.messages.stamps import make_header
from clip2uda_core.errors import DataError

SMALLEST_BAYER_PX = 3
"""OpenCV's demosaicing interpolates from neighbours and gives black for less than 3x3 pixels."""


@dataclass(frozen=True)
class _Encoding:
    """`channels` values of `value_bytes` bytes a pixel; `to_rgb` is OpenCV's conversion, None where it is RGB."""

    channels: int
    to_rgb: int | None
    value_bytes: int = 1


# ROS names a Bayer pattern by the first two pixels of the first two rows; so do these names of OpenCV's (its older
# ones, COLOR_BayerBG2RGB and so on, start at the second pixel of the second row).
_BAYER = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
}

# sensor_msgs/image_encodings.hpp. 8UCn is what OpenCV programs publish without saying more: gray, BGR, BGRA.
_ENCODINGS = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding(3, cv2.COLOR_BGR2RGB),
    "8UC4": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "rgb16": _Encoding(3, None, 2),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, 2),
    "rgba16": _Encoding(4, cv2.COLOR_RGBA2RGB, 2),
    "bgra16": _Encoding(4, cv2.COLOR_BGRA2RGB, 2),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    "16UC1": _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    **{f"bayer_{pattern}8": _Encoding(1, code) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": _Encoding(1, code, 2) for pattern, code in _BAYER.items()},
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2),
}
IMAGE_ENCODINGS = tuple(_ENCODINGS)


def decode_image(msg: Any, topic: str) -> NDArray[np.uint8]:
    """An Image as (H, W, 3) uint8 RGB; `topic` names it in errors.

    Any of IMAGE_ENCODINGS, with any `step` that holds a row. Gray gives three equal channels. 16-bit values keep their
    upper byte, so a camera that fills fewer bits must shift them up for a bright image. An rgb8 image without padding
    is viewed, not copied.

    Raises DataError for an unknown encoding, an empty image, or a step or data length that contradicts the size.
    """
    encoding = _ENCODINGS.get(msg.encoding)
    if encoding is None:
        raise DataError(
            f"{topic}: unknown image encoding '{msg.encoding}', known are {', '.join(IMAGE_ENCODINGS)}; let the camera "
            f"driver publish one of these"
        )
    pixels = _pixels(msg, encoding, topic)
    if encoding.to_rgb is None:
        return np.ascontiguousarray(pixels)
    _check_subsampling(pixels, msg.encoding, topic)
    return to_rgb(pixels, encoding.to_rgb)


def encode_image(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str, factory: MessageFactory) -> Any:
    """An rgb8 Image of (H, W, 3) uint8 RGB."""
    height, width = rgb.shape[:2]
    return factory.make(
        "sensor_msgs/msg/Image",
        header=make_header(stamp_ns, frame_id, factory),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=factory.byte_array(np.ascontiguousarray(rgb).reshape(-1)),
    )


def to_rgb(pixels: NDArray[np.uint8], conversion: int) -> NDArray[np.uint8]:
    """OpenCV's colour conversion, which takes (H, W, C) views with padded rows as they are."""
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def bayer_conversion(encoding: str) -> int | None:
    """OpenCV's conversion to RGB for a `bayer_*` encoding, None for other encodings."""
    return _ENCODINGS[encoding].to_rgb if encoding.startswith("bayer_") and encoding in _ENCODINGS else None


def _pixels(msg: Any, encoding: _Encoding, topic: str) -> NDArray[np.uint8]:
    """(H, W, channels) uint8 view of the message's bytes; of 16-bit values, the upper ones."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height < 1 or width < 1:
        raise DataError(f"{topic}: expected an image with pixels, got {width}x{height}")
    pixel_bytes = encoding.channels * encoding.value_bytes
    if step < width * pixel_bytes:
        raise DataError(
            f"{topic}: expected step of at least {width * pixel_bytes} ({width} pixels of {msg.encoding}), got {step}; "
            f"the driver fills the Image wrongly"
        )
    data = np.frombuffer(msg.data, np.uint8)
    if len(data) != height * step:
        raise DataError(
            f"{topic}: expected {height * step} bytes of data (height {height} x step {step}), got {len(data)}; "
            f"the message is cut off or the driver fills the Image wrongly"
        )
    upper = encoding.value_bytes - 1 if not msg.is_bigendian else 0
    strides = (step, pixel_bytes, encoding.value_bytes)
    return np.ndarray((height, width, encoding.channels), np.uint8, data, upper, strides)


def _check_subsampling(pixels: NDArray[np.uint8], encoding: str, topic: str) -> None:
    """Colours that several pixels share need those pixels."""
    height, width, channels = pixels.shape
    if channels == 2 and width % 2:
        raise DataError(f"{topic}: expected an even width for {encoding}, got {width}")
    if encoding.startswith("bayer_") and min(height, width) < SMALLEST_BAYER_PX:
        raise DataError(f"{topic}: expected at least 3x3 pixels for {encoding}, got {width}x{height}")
