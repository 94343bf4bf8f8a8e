"""What runs between activate and deactivate: messages are paired, then assembled, segmented, encoded and published.

Subscription callbacks only put messages into the collector. All the work is the worker thread's.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from clip2uda_core.data.assembler import CameraSetup, FrameAssembler
from clip2uda_core.data.calibration import Calibration
from clip2uda_core.data.collector import CollectedSet, Collector, CollectorConfig
from clip2uda_core.data.messages import decode_transforms, stamp_ns
from clip2uda_core.errors import Clip2udaError, TransformError
from clip2uda_core.geometry import TransformBuffer
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Prediction
from clip2uda_ros.compat import TFMessage
from clip2uda_ros.diagnostics import CameraStatus, NodeStatus
from clip2uda_ros.inputs import POINTS_TOPIC, Inputs, camera_info_topic, image_topic
from clip2uda_ros.meters import StageTimes, ThrottledWarnings
from clip2uda_ros.outputs import Outputs
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.worker import LatestWorker

POLL_PERIOD_S = 0.02
"""How often the collector is asked for sets whose cameras did not come in time, while any waits."""


def collector_config(parameters: SegmenterParameters) -> CollectorConfig:
    sync = parameters.sync
    return CollectorConfig(
        tolerance_s=sync.tolerance_s,
        timeout_s=sync.timeout_s,
        max_age_s=sync.max_age_s,
        min_cameras=sync.min_cameras,
        stamp_offset_s={name: camera.stamp_offset_s for name, camera in parameters.camera.items()},
    )


class Pipeline:
    """From subscribed messages to published clouds, until `close`.

    `segmenter` is asked for at each set, so that the model can be exchanged in between. `group` holds the subscriptions
    and the poll timer, so their callbacks come one at a time.
    """

    def __init__(
        self,
        node: Node,
        parameters: SegmenterParameters,
        calibration: Calibration | None,
        segmenter: Callable[[], Segmenter],
        warnings: ThrottledWarnings,
        group: CallbackGroup,
    ) -> None:
        self.enabled = True
        self._node = node
        self._parameters = parameters
        self._calibration = calibration
        self._segmenter = segmenter
        self._warnings = warnings
        self._closed = False
        self._failure = ""
        self._stages = StageTimes()
        self._transforms = TransformBuffer(parameters.tf.cache_time_s)
        self._collector_lock = threading.Lock()
        self._collector: Collector[Any] = Collector(collector_config(parameters), parameters.cameras)
        self._assembler = self._make_assembler()
        self._outputs = Outputs(node, parameters)
        self._outputs.publish_label_info(segmenter().labels)
        self._worker = LatestWorker(self._process, self._failed, name="segmenter")
        # Steady, not the node's clock: with use_sim_time that one stands still until somebody publishes /clock.
        self._timer = node.create_timer(POLL_PERIOD_S, self.poll, group, Clock(clock_type=ClockType.STEADY_TIME))
        self._inputs = Inputs(node, parameters, group, self, with_tf=calibration is None and TFMessage is not None)

    def close(self) -> None:
        """Stops in the order of the data: inputs, the set at work, outputs."""
        with self._collector_lock:
            self._closed = True
        self._inputs.close()
        self._node.destroy_timer(self._timer)
        self._worker.stop()
        self._outputs.close()

    def apply(self, parameters: SegmenterParameters) -> None:
        """Takes over the parameters that may change at run time."""
        with self._collector_lock:
            self._collector.config = collector_config(parameters)
        self._parameters = parameters

    def publish_label_info(self, labels: LabelSpace) -> None:
        self._outputs.publish_label_info(labels)

    def extend(self, status: NodeStatus, now_s: float) -> NodeStatus:
        """Adds to the node's status what happens here; `now_s` is time.monotonic()."""
        with self._collector_lock:
            counts = deepcopy(self._collector.counts)
        worker = self._worker.counts
        cameras = tuple(
            CameraStatus(
                name=name,
                image=self._inputs.status(self._inputs.images[name], now_s),
                info=self._inputs.status(self._inputs.camera_infos[name], now_s),
                needs_info=self._calibration is None,
                nearest_s=counts.nearest_s.get(name),
                skipped=self._assembler.skipped(name),
                problem=self._assembler.last_failure.get(name, ""),
            )
            for name in self._parameters.cameras
        )
        return replace(
            status,
            tolerance_s=self._parameters.sync.tolerance_s,
            points=self._inputs.status(self._inputs.points, now_s),
            cameras=cameras,
            complete=counts.complete,
            partial=counts.partial,
            dropped=dict(counts.dropped),
            replaced=worker.replaced,
            failed=worker.failed,
            failure=self._failure,
            published=worker.done,
            output_hz=self._outputs.meter.rate_hz(now_s),
            stages_ms=self._stages.percentiles_ms(),
        )

    def _make_assembler(self) -> FrameAssembler:
        names = self._node.resolve_topic_name
        setups = []
        for name in self._parameters.cameras:
            camera = self._parameters.camera[name]
            setups.append(
                CameraSetup(
                    name,
                    rectified=camera.rectified,
                    image_topic=names(image_topic(name, camera.compressed)),
                    info_topic=names(camera_info_topic(name)),
                )
            )
        return FrameAssembler(
            setups,
            self._calibration or self._transforms,
            self._parameters.tf.fixed_frame or None,
            names(POINTS_TOPIC),
        )

    # Called by the executor, one at a time

    def on_cloud(self, message: PointCloud2) -> None:
        if self.enabled:
            self._collect(lambda now_ns: self._collector.add_cloud(stamp_ns(message), message, now_ns))

    def on_image(self, message: Image | CompressedImage, camera: str) -> None:
        if self.enabled:
            self._collect(lambda now_ns: self._collector.add_image(camera, stamp_ns(message), message, now_ns))

    def on_camera_info(self, message: CameraInfo, camera: str) -> None:
        self._assembler.set_camera_info(camera, message)

    def on_transforms(self, message: Any, static: bool) -> None:
        for parent_SE3_child, when_ns in decode_transforms(message):
            try:
                self._transforms.set_transform(parent_SE3_child, when_ns, static)
            except TransformError as error:
                self._warnings.warn(f"a transform on TF is not used: {error}", time.monotonic())

    def poll(self) -> None:
        """Fires the sets that waited long enough."""
        self._collect(self._collector.poll)

    def _collect(self, step: Callable[[int], Iterable[CollectedSet[Any]]]) -> None:
        """Lets the collector take a step, hands what is ready to the worker, and polls on while a cloud waits."""
        now_ns = self._node.get_clock().now().nanoseconds
        with self._collector_lock:
            if self._closed:
                return
            jumps = self._collector.counts.time_jumps
            for paired in step(now_ns):
                self._stages.add("collect", (now_ns - paired.arrived_ns) * 1e-9)
                self._worker.submit(paired)
            if self._collector.counts.time_jumps > jumps:
                self._transforms.clear_dynamic()
                self._warnings.warn("time jumped back: waiting messages and moving TF are forgotten", time.monotonic())
            if self._collector.pending == 0:
                self._timer.cancel()
            elif self._timer.is_canceled():
                self._timer.reset()

    # Called by the worker

    def _process(self, paired: CollectedSet[Any], waited_s: float) -> None:
        """One set, start to end."""
        parameters, segmenter = self._parameters, self._segmenter()
        self._stages.add("wait", waited_s)
        start_s = time.perf_counter()
        frame = self._assembler.assemble(paired)
        assembled_s = self._stamp("assemble", start_s)
        prediction = segmenter.segment(frame)
        segmented_s = self._stamp("segment", assembled_s)
        prediction = forget_unsure(prediction, parameters.confidence_threshold)
        message = self._outputs.encode(paired.cloud, prediction, segmenter.labels, parameters)
        encoded_s = self._stamp("encode", segmented_s)
        self._outputs.publish_points(message)
        published_s = self._stamp("publish", encoded_s)
        now_ns = self._node.get_clock().now().nanoseconds
        self._stages.add("latency", (now_ns - paired.arrived_ns) * 1e-9)
        for stage, seconds in prediction.times_s.items():
            self._stages.add(f"segment.{stage}", seconds)
        self._outputs.publish_overlays(frame, prediction, segmenter.labels)
        self._stamp("overlay", published_s)

    def _stamp(self, stage: str, since_s: float) -> float:
        now_s = time.perf_counter()
        self._stages.add(stage, now_s - since_s)
        return now_s

    def _failed(self, paired: CollectedSet[Any], error: Exception) -> None:
        """Bad input is a warning; anything else is a mistake of ours and comes with its traceback."""
        self._failure = str(error) or type(error).__name__
        text = f"a cloud was not segmented: {self._failure}"
        if not isinstance(error, Clip2udaError):
            text += "\n" + "".join(traceback.format_exception(error))
        self._warnings.warn(text, time.monotonic())


def forget_unsure(prediction: Prediction, threshold: float) -> Prediction:
    """Points whose confidence is below the threshold become IGNORE, with confidence 0 as all that are."""
    unsure = prediction.confidence < threshold
    if not unsure.any():
        return prediction
    return replace(
        prediction,
        labels=np.where(unsure, np.uint8(IGNORE), prediction.labels),
        confidence=np.where(unsure, np.float32(0), prediction.confidence),
    )
