"""ROS messages to arrays and back: the same code for rosbags' messages and rclpy's, told apart by nothing.

Decoders take any object with the message's fields. Encoders make their messages through a `MessageFactory`.
"""

from clip2uda_core.data.messages.camera_info import decode_camera_info, encode_camera_info
from clip2uda_core.data.messages.compressed_image import decode_compressed_image, encode_compressed_image
from clip2uda_core.data.messages.factory import MessageFactory, RosbagsFactory
from clip2uda_core.data.messages.image import IMAGE_ENCODINGS, decode_image, encode_image
from clip2uda_core.data.messages.point_cloud import decode_point_cloud, encode_labelled_cloud, encode_point_cloud
from clip2uda_core.data.messages.stamps import frame_id, stamp_ns
from clip2uda_core.data.messages.transforms import decode_transforms, encode_transforms

__all__ = [
    "IMAGE_ENCODINGS",
    "MessageFactory",
    "RosbagsFactory",
    "decode_camera_info",
    "decode_compressed_image",
    "decode_image",
    "decode_point_cloud",
    "decode_transforms",
    "encode_camera_info",
    "encode_compressed_image",
    "encode_image",
    "encode_labelled_cloud",
    "encode_point_cloud",
    "encode_transforms",
    "frame_id",
    "stamp_ns",
]
