"""What the active node publishes."""

import time

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from clip2uda_core.data.messages.image import encode_image
from clip2uda_core.data.messages.point_cloud import encode_labelled_cloud
from clip2uda_core.evaluation.pictures import draw_overlay
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import Frame, Prediction
from clip2uda_ros.compat import LabelInfo, make_label_info
from clip2uda_ros.conversions import RclpyFactory
from clip2uda_ros.meters import RateMeter
from clip2uda_ros.parameters import SegmenterParameters

CLOSE_TIMEOUT_S = 1.0


class Outputs:
    """Creates the publishers on `node`; `close` destroys them. Published to from the worker's thread."""

    def __init__(self, node: Node, parameters: SegmenterParameters) -> None:
        self._node = node
        self._factory = RclpyFactory()
        self.meter = RateMeter()
        self._points = node.create_publisher(
            PointCloud2,
            "~/output/points",
            QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._overlays = {
            camera: node.create_publisher(Image, f"~/output/{camera}/overlay", QoSProfile(depth=1))
            for camera in parameters.cameras
        }
        latched = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        self._label_info = node.create_publisher(LabelInfo, "~/label_info", latched)

    def close(self) -> None:
        """Lets reliable subscribers get the last cloud first: what is not yet read goes with the publisher."""
        self._points.wait_for_all_acked(Duration(seconds=CLOSE_TIMEOUT_S))
        for publisher in (self._points, *self._overlays.values(), self._label_info):
            self._node.destroy_publisher(publisher)

    def publish_label_info(self, labels: LabelSpace) -> None:
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._label_info.publish(make_label_info(labels, header))

    def encode(
        self, message: PointCloud2, prediction: Prediction, labels: LabelSpace, parameters: SegmenterParameters
    ) -> PointCloud2:
        return encode_labelled_cloud(
            message,
            prediction,
            labels,
            self._factory,
            publish_rgb=parameters.output.publish_rgb,
            keep_input_fields=parameters.output.keep_input_fields,
        )

    def publish_points(self, message: PointCloud2) -> None:
        self._points.publish(message)
        self.meter.tick(time.monotonic())

    def publish_overlays(self, frame: Frame, prediction: Prediction, labels: LabelSpace) -> None:
        """Draws and publishes the overlays that somebody looks at."""
        for view in frame.views:
            publisher = self._overlays[view.name]
            if not publisher.get_subscription_count():
                continue
            projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
            picture = draw_overlay(view.image, projection, prediction.labels, labels)
            publisher.publish(encode_image(picture, view.stamp_ns, view.camera_SE3_lidar.target, self._factory))
