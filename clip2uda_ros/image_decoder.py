"""Raw images: our decoder for the encodings that it knows, cv_bridge, where it imports, for all others.

Ours comes first because it is the same for bags and live, and takes what cv_bridge stumbles over (padded steps, yuv422,
numpy 2). cv_bridge is only imported when an image needs it: one that was compiled for another numpy breaks at import.
"""

import logging
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from clip2uda_core.data.messages import IMAGE_ENCODINGS, decode_compressed_image, decode_image
from clip2uda_core.errors import DataError
from clip2uda_ros.serialized import Serialized

logger = logging.getLogger(__name__)


def decode_serialized_image(serialized: Serialized, topic: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage. DataError when it is malformed, or nobody can decode it."""
    decode = decode_compressed_image if serialized.kind is CompressedImage else decode_any_image
    return decode(serialized.message(), topic)


def decode_any_image(message: Any, topic: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; `topic` names the message in errors. DataError when nobody can decode it."""
    if message.encoding in IMAGE_ENCODINGS:
        return decode_image(message, topic)
    bridge = _cv_bridge()
    if bridge is None:
        return decode_image(message, topic)  # its error names the encodings that can be had
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # CvBridgeError, and whatever OpenCV raises below it
        raise DataError(f"{topic}: cv_bridge cannot decode encoding '{message.encoding}': {error}") from None


@cache
def _cv_bridge() -> Any | None:
    """A CvBridge; None, and one warning, where there is none or it does not import."""
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # not ImportError alone: a compiled module of another numpy raises what it likes
        logger.warning(
            "cv_bridge does not import (%s), so only these image encodings can be decoded: %s",
            error,
            ", ".join(IMAGE_ENCODINGS),
        )
        return None
    return CvBridge()
