"""The subscriptions of the active node: their messages are counted and handed on, in a thread of their own."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from clip2uda_ros.compat import Subscriber, SubscriptionEventCallbacks, TFMessage
from clip2uda_ros.meters import RateMeter
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.reception import Reception, ReceptionGroup
from clip2uda_ros.serialized import Serialized
from clip2uda_ros.status import TopicStatus

POINTS_TOPIC = "~/input/points"


def image_topic(camera: str, compressed: bool) -> str:
    return f"~/input/{camera}/image/compressed" if compressed else f"~/input/{camera}/image"


def camera_info_topic(camera: str) -> str:
    return f"~/input/{camera}/camera_info"


def sensor_qos() -> QoSProfile:
    """Best effort and shallow: lost is better than late. New each time, as ROS writes the overrides into it."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def transform_qos(static: bool) -> QoSProfile:
    """What tf2's listener asks for."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL if static else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


class Receiver(Protocol):
    """Who takes the messages. Called from one thread; `poll` after each, and repeatedly while it says that it waits."""

    def on_cloud(self, message: Serialized) -> None: ...
    def on_image(self, message: Serialized, camera: str) -> None: ...
    def on_camera_info(self, message: CameraInfo, camera: str) -> None: ...
    def on_transforms(self, message: Any, static: bool) -> None: ...
    def poll(self) -> bool: ...


@dataclass(frozen=True)
class Input:
    """One subscription, and how fast its messages come."""

    topic: str
    subscriber: Subscriber
    meter: RateMeter


class Inputs:
    """Creates the subscriptions of `parameters` on `node`; `close` destroys them.

    Clouds and images are handed on as bytes, small messages as themselves. What `receiver` raises goes to `on_error`.
    QoS is sensor data's (best effort), and ROS' `qos_overrides.<topic>.subscription.*` parameters change it.
    """

    def __init__(
        self,
        node: Node,
        parameters: SegmenterParameters,
        receiver: Receiver,
        with_tf: bool,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._node = node
        self._group = ReceptionGroup()
        self.points = self._subscribe_bytes(PointCloud2, POINTS_TOPIC, receiver.on_cloud)
        self.images: dict[str, Input] = {}
        self.camera_infos: dict[str, Input] = {}
        for name, camera in ((name, parameters.camera[name]) for name in parameters.cameras):
            kind = CompressedImage if camera.compressed else Image
            topic = image_topic(name, camera.compressed)
            self.images[name] = self._subscribe_bytes(kind, topic, receiver.on_image, name)
            info_topic = camera_info_topic(name)
            self.camera_infos[name] = self._subscribe(
                CameraInfo, info_topic, sensor_qos(), receiver.on_camera_info, name
            )
        self.transforms: list[Input] = []
        if with_tf:
            for topic, static in (("/tf", False), ("/tf_static", True)):
                entry = self._subscribe(TFMessage, topic, transform_qos(static), receiver.on_transforms, static)
                self.transforms.append(entry)
        subscriptions = [entry.subscriber.sub for entry in self._all()]
        self._reception = Reception(node.context, subscriptions, receiver.poll, on_error)

    def close(self) -> None:
        self._reception.close()
        for entry in self._all():
            self._node.destroy_subscription(entry.subscriber.sub)

    def status(self, entry: Input, now_s: float) -> TopicStatus:
        """Who publishes the topic, whose QoS does not fit, and what arrives."""
        publishers = self._node.get_publishers_info_by_topic(entry.topic)
        mine = entry.subscriber.sub.qos_profile
        misfits = [
            info for info in publishers if qos_check_compatible(info.qos_profile, mine)[0] == QoSCompatibility.ERROR
        ]
        return TopicStatus(
            topic=entry.topic,
            publishers=len(publishers),
            incompatible=tuple(sorted({f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in misfits})),
            count=entry.meter.count,
            rate_hz=entry.meter.rate_hz(now_s),
        )

    def transforms_status(self, now_s: float) -> TopicStatus | None:
        """/tf and /tf_static as one; None where they are not subscribed to."""
        if not self.transforms:
            return None
        parts = [self.status(entry, now_s) for entry in self.transforms]
        return TopicStatus(
            topic=", ".join(part.topic for part in parts),
            publishers=sum(part.publishers for part in parts),
            incompatible=tuple(name for part in parts for name in part.incompatible),
            count=sum(part.count for part in parts),
            rate_hz=sum(part.rate_hz for part in parts),
        )

    def counts(self) -> Counter[str]:
        """Messages since activation: `points`, `tf`, `<camera>.image`, `<camera>.camera_info`."""
        counts = Counter({"points": self.points.meter.count})
        counts["tf"] = sum(entry.meter.count for entry in self.transforms)
        for name in self.images:
            counts[f"{name}.image"] = self.images[name].meter.count
            counts[f"{name}.camera_info"] = self.camera_infos[name].meter.count
        return counts

    def _subscribe_bytes(self, kind: type, topic: str, callback: Callable[..., None], *arguments: Any) -> Input:
        """`callback` gets each message as a Serialized, before the arguments."""
        name = self._node.resolve_topic_name(topic)

        def hand_on(data: bytes) -> None:
            callback(Serialized(data, kind, name), *arguments)

        return self._subscribe(kind, topic, sensor_qos(), hand_on, raw=True)

    def _subscribe(
        self,
        kind: type,
        topic: str,
        qos: QoSProfile,
        callback: Callable[..., None],
        *arguments: Any,
        raw: bool = False,
    ) -> Input:
        subscriber = Subscriber(
            self._node,
            kind,
            topic,
            qos_profile=qos,
            callback_group=self._group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),  # `status` tells what they would
            raw=raw,
        )
        meter = RateMeter()
        subscriber.registerCallback(lambda _: meter.tick(time.monotonic()))
        subscriber.registerCallback(callback, *arguments)
        return Input(subscriber.sub.topic_name, subscriber, meter)

    def _all(self) -> Sequence[Input]:
        return [self.points, *self.images.values(), *self.camera_infos.values(), *self.transforms]
