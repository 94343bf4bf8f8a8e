"""CompressedImage messages (JPEG, PNG) to RGB arrays and back.

OpenCV decodes a JPEG that was cut off into an image whose lower part is gray, and allocates what any header asks for.
Both are found before it is called, from the few bytes of either format that tell size and end.
"""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.data.messages.image import bayer_conversion, to_rgb
from clip2uda_core.data.messages.stamps import make_header
from clip2uda_core.errors import DataError

MOST_PIXELS = 100_000_000
"""A larger image is taken for a damaged header; 100 megapixels decode to 300 MB."""

JPEG_QUALITY = 95

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def decode_compressed_image(msg: Any, topic: str) -> NDArray[np.uint8]:
    """A CompressedImage as (H, W, 3) uint8 RGB; `topic` names it in errors.

    JPEG or PNG, told by the data, of 1, 3 or 4 channels, 8 or 16 bits (which keep their upper byte). An orientation in
    JPEG's EXIF is not applied, as CameraInfo describes the pixels as stored. `format` is that of image_transport:
    `bayer_rggb8; jpeg compressed ` holds the mosaic as a gray image, which is demosaiced.

    Raises DataError for depth images, other formats, data that are cut off or damaged, and more than MOST_PIXELS.
    """
    kind = str(msg.format)
    data = np.frombuffer(msg.data, np.uint8)
    if "compressedDepth" in kind:
        raise DataError(f"{topic}: expected a colour or gray image, got a depth image (format '{kind}')")
    width, height = _checked_size(data.tobytes(), kind, topic)
    if not 0 < width * height <= MOST_PIXELS:
        raise DataError(f"{topic}: expected an image of up to {MOST_PIXELS} pixels, got {width}x{height}")

    encoding, _, coding = kind.partition(";")
    mosaic = None if "compressed bgr" in coding else bayer_conversion(encoding.strip())
    channels = cv2.IMREAD_COLOR if mosaic is None else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(data, channels | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{topic}: the {width}x{height} image (format '{kind}', {len(data)} bytes) is damaged")
    return to_rgb(np.asarray(image, np.uint8), cv2.COLOR_BGR2RGB if mosaic is None else mosaic)


def encode_compressed_image(
    rgb: NDArray[np.uint8],
    stamp_ns: int,
    frame_id: str,
    factory: MessageFactory,
    format: Literal["png", "jpeg"] = "png",
) -> Any:
    """A CompressedImage of (H, W, 3) uint8 RGB; PNG keeps every bit, JPEG is of JPEG_QUALITY."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if format == "jpeg" else []
    _, data = cv2.imencode(f".{format}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)
    return factory.make(
        "sensor_msgs/msg/CompressedImage",
        header=make_header(stamp_ns, frame_id, factory),
        format=f"rgb8; {format} compressed bgr8",
        data=factory.byte_array(np.asarray(data, np.uint8).reshape(-1)),
    )


def _checked_size(data: bytes, kind: str, topic: str) -> tuple[int, int]:
    """Width and height that the data's header tells, once their end is there."""
    if data.startswith(_JPEG_START):
        size = _jpeg_size(data)
    elif data.startswith(_PNG_START):
        size = _png_size(data)
    else:
        raise DataError(
            f"{topic}: expected JPEG or PNG data, got format '{kind}' with {len(data)} bytes that start with "
            f"{data[:4].hex(' ') or 'nothing'}"
        )
    if size is None:
        raise DataError(
            f"{topic}: expected a whole image, got {len(data)} bytes without its end (format '{kind}'); the message "
            f"was cut off on its way, or the camera sends broken images"
        )
    return size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Size in the frame header (ITU T.81, B.2.2); None when the end marker does not follow the first scan."""
    size = None
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _JPEG_SCAN:
            return size if data.rfind(_JPEG_END) > position else None
        if marker in _JPEG_FRAMES:
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            size = int.from_bytes(width, "big"), int.from_bytes(height, "big")
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Size in the header chunk, which is the first (PNG specification, 11.2.1); None when the end chunk is missing."""
    if data.rfind(_PNG_END) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
