"""TF messages to named transforms and back."""

import logging
from collections.abc import Iterable
from typing import Any

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.data.messages.stamps import frame_id, make_header, stamp_ns
from clip2uda_core.errors import TransformError
from clip2uda_core.geometry import SE3

logger = logging.getLogger(__name__)


def decode_transforms(msg: Any) -> list[tuple[SE3, int]]:
    """Each transform of a TFMessage as (parent_SE3_child, stamp_ns).

    One that is not a rigid transform (a quaternion of zeros, NaN) is left out with a warning, as tf2 does, so that the
    others of its message are still used. A leading slash of ROS 1 is not part of a frame's name.
    """
    transforms = []
    for stamped in msg.transforms:
        rotation, translation = stamped.transform.rotation, stamped.transform.translation
        try:
            parent_SE3_child = SE3.from_quaternion_xyzw(
                [rotation.x, rotation.y, rotation.z, rotation.w],
                [translation.x, translation.y, translation.z],
                target=frame_id(stamped),
                source=str(stamped.child_frame_id).lstrip("/"),
            )
        except TransformError as error:
            logger.warning("a transform on TF is not used: %s", error)
            continue
        transforms.append((parent_SE3_child, stamp_ns(stamped)))
    return transforms


def encode_transforms(transforms: Iterable[tuple[SE3, int]], factory: MessageFactory) -> Any:
    """A TFMessage of (parent_SE3_child, stamp_ns) pairs."""
    return factory.make("tf2_msgs/msg/TFMessage", transforms=[_stamped(*pair, factory) for pair in transforms])


def _stamped(parent_SE3_child: SE3, stamp_ns: int, factory: MessageFactory) -> Any:
    x, y, z = map(float, parent_SE3_child.translation)
    qx, qy, qz, qw = map(float, parent_SE3_child.quaternion_xyzw())
    return factory.make(
        "geometry_msgs/msg/TransformStamped",
        header=make_header(stamp_ns, parent_SE3_child.target, factory),
        child_frame_id=parent_SE3_child.source,
        transform=factory.make(
            "geometry_msgs/msg/Transform",
            translation=factory.make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
            rotation=factory.make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        ),
    )
