"""Makes messages of one runtime, so that the same encoders serve bags (rosbags) and the live node (rclpy)."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


class MessageFactory(Protocol):
    """What the encoders need of a runtime."""

    def make(self, msgtype: str, **fields: Any) -> Any:
        """A message of a type such as `sensor_msgs/msg/PointCloud2`; every field that differs from zero is given.

        Arrays of bytes come from `byte_array`, arrays of numbers as numpy arrays, sub-messages from `make`.
        """

    def byte_array(self, data: NDArray[np.uint8]) -> Any:
        """A `uint8[]` field from (n,) contiguous bytes, in the type that the runtime takes without looking at each."""


class RosbagsFactory:
    """Messages as rosbags reads and writes them. `typestore` holds the definitions of one ROS 2 distribution."""

    def __init__(self, typestore: Typestore | None = None) -> None:
        self.typestore = typestore or get_typestore(Stores.ROS2_KILTED)

    def make(self, msgtype: str, **fields: Any) -> Any:
        return self.typestore.types[msgtype](**fields)

    def byte_array(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return data
