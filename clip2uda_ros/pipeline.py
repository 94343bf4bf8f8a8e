"""What runs between activate and deactivate: messages are paired, then assembled, segmented, encoded and published.

The thread that receives only puts messages into the intake. All the work is the worker thread's.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rclpy.node import Node

from clip2uda_core.data.assembler import CameraSetup, FrameAssembler
from clip2uda_core.data.calibration import Calibration
from clip2uda_core.data.collector import CollectedSet
from clip2uda_core.errors import Clip2udaError, DataError
from clip2uda_core.geometry import TransformBuffer
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame, Prediction
from clip2uda_ros.accounts import DEACTIVATED, FAILED, REPLACED, Accounts
from clip2uda_ros.compat import TFMessage
from clip2uda_ros.image_decoder import decode_serialized_image
from clip2uda_ros.inputs import POINTS_TOPIC, Inputs, camera_info_topic, image_topic
from clip2uda_ros.intake import Intake
from clip2uda_ros.meters import StageTimes, ThrottledWarnings
from clip2uda_ros.outputs import Outputs
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.serialized import Serialized
from clip2uda_ros.status import CameraStatus, NodeStatus
from clip2uda_ros.worker import LatestWorker

COMPLETE, PARTIAL = "complete", "partial"


class Pipeline:
    """From subscribed messages to published clouds, until `close`.

    `segmenter` is asked for at each set, so that the model can be exchanged in between.
    """

    def __init__(
        self,
        node: Node,
        parameters: SegmenterParameters,
        calibration: Calibration | None,
        segmenter: Callable[[], Segmenter],
        warnings: ThrottledWarnings,
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._calibration = calibration
        self._segmenter = segmenter
        self._warnings = warnings
        self._failure = ""
        self._bad_clouds = 0
        self._exceptions = 0
        self._report_lock = threading.Lock()
        self._views: int | None = None
        self._seen: float | None = None
        self._stages = StageTimes()
        with_tf = calibration is None and TFMessage is not None
        transforms = TransformBuffer(parameters.tf.cache_time_s)
        self._assembler = self._make_assembler(calibration or transforms)
        self._outputs = Outputs(node, parameters)
        self._outputs.publish_label_info(segmenter().labels)
        self._worker = LatestWorker(self._process, self._failed, name="segmenter")
        self._intake = Intake(
            node,
            parameters,
            self._assembler,
            transforms if with_tf else None,
            self._worker.submit,
            self._refused,
            self._stages,
            warnings,
        )
        self._inputs = Inputs(node, parameters, self._intake, with_tf, self._reception_failed)

    def close(self) -> None:
        """Stops in the order of the data: inputs, the set at work, outputs."""
        self._intake.close()
        self._inputs.close()
        self._worker.stop()
        self._outputs.close()

    def enable(self, enabled: bool) -> None:
        """Disabled, clouds are counted and ignored."""
        self._intake.enabled = enabled

    def apply(self, parameters: SegmenterParameters) -> None:
        """Takes over the parameters that may change at run time."""
        self._intake.apply(parameters)
        self._parameters = parameters

    def publish_label_info(self, labels: LabelSpace) -> None:
        self._outputs.publish_label_info(labels)

    def accounts(self) -> Accounts:
        """Since activation; stands still once the pipeline is closed."""
        return replace(self._intake.accounts(self._accounts_of_worker), messages=self._inputs.counts())

    def extend(self, status: NodeStatus, now_s: float) -> NodeStatus:
        """Adds to the node's status what happens here; `now_s` is time.monotonic()."""
        nearest_s = self._intake.nearest_s()
        cameras = tuple(
            CameraStatus(
                name=name,
                image=self._inputs.status(self._inputs.images[name], now_s),
                info=self._inputs.status(self._inputs.camera_infos[name], now_s),
                needs_info=self._calibration is None,
                nearest_s=nearest_s.get(name),
                problem=self._assembler.last_failure.get(name, ""),
            )
            for name in self._parameters.cameras
        )
        return replace(
            status,
            tolerance_s=self._parameters.sync.tolerance_s,
            points=self._inputs.status(self._inputs.points, now_s),
            points_age_s=self._intake.points_age_s,
            cameras=cameras,
            tf=self._inputs.transforms_status(now_s),
            tf_missing=self._calibration is None and TFMessage is None,
            failure=self._failure,
            output_hz=self._outputs.meter.rate_hz(now_s),
            views=self._views,
            seen=self._seen,
            stages_ms=self._stages.percentiles_ms(),
        )

    def _make_assembler(self, extrinsics: Calibration | TransformBuffer) -> FrameAssembler:
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
        fixed_frame = self._parameters.tf.fixed_frame or None
        return FrameAssembler(setups, extrinsics, fixed_frame, names(POINTS_TOPIC), decode_serialized_image)

    def _accounts_of_worker(self) -> Accounts:
        counts = self._worker.counts
        accounts = Accounts(
            complete=counts.outcomes[COMPLETE],
            partial=counts.outcomes[PARTIAL],
            pending=counts.pending,
            skipped=self._assembler.failures.copy(),
            bad_clouds=self._bad_clouds,
            exceptions=self._exceptions,
        )
        lost = {REPLACED: counts.replaced, DEACTIVATED: counts.abandoned, FAILED: counts.outcomes[FAILED]}
        accounts.dropped.update(lost)
        return accounts

    # Called by the worker

    def _process(self, paired: CollectedSet[Serialized], waited_s: float) -> str:
        """One set, start to end; returns whether it was COMPLETE or PARTIAL."""
        parameters, segmenter = self._parameters, self._segmenter()
        self._stages.add("wait", waited_s)
        start_s = time.perf_counter()
        cloud = paired.cloud.message()
        frame = self._assembler.assemble(replace(paired, cloud=cloud))
        assembled_s = self._stamp("assemble", start_s)
        prediction = segmenter.segment(frame)
        segmented_s = self._stamp("segment", assembled_s)
        prediction = forget_unsure(prediction, parameters.confidence_threshold)
        message = self._outputs.encode(cloud, prediction, segmenter.labels, parameters)
        encoded_s = self._stamp("encode", segmented_s)
        self._outputs.publish_points(message)
        published_s = self._stamp("publish", encoded_s)
        self._stages.add("overhead", waited_s + published_s - start_s - (segmented_s - assembled_s))
        now_ns = self._node.get_clock().now().nanoseconds
        self._stages.add("latency", (now_ns - paired.arrived_ns) * 1e-9)
        for stage, seconds in prediction.times_s.items():
            self._stages.add(f"segment.{stage}", seconds)
        self._views, self._seen = len(frame.views), float(prediction.seen.mean()) if len(prediction) else 0.0
        self._draw(frame, prediction, segmenter.labels)
        self._stamp("overlay", published_s)
        return COMPLETE if len(frame.views) == len(parameters.cameras) else PARTIAL

    def _stamp(self, stage: str, since_s: float) -> float:
        now_s = time.perf_counter()
        self._stages.add(stage, now_s - since_s)
        return now_s

    def _draw(self, frame: Frame, prediction: Prediction, labels: LabelSpace) -> None:
        """The cloud is out already: a picture that fails does not make it a failed one."""
        try:
            self._outputs.publish_overlays(frame, prediction, labels)
        except Exception as error:
            self._report("an overlay was not drawn", error)

    def _failed(self, paired: CollectedSet[Serialized], error: Exception) -> None:
        self._failure = str(error) or type(error).__name__
        self._bad_clouds += isinstance(error, Clip2udaError)
        self._report("a cloud was not segmented", error)

    # Called by the thread that receives

    def _refused(self, error: DataError) -> None:
        """The intake counts these."""
        self._failure = str(error)
        self._report("a cloud was not segmented", error)

    def _reception_failed(self, error: Exception) -> None:
        self._report("a message was not taken in", error)

    # Called by both

    def _report(self, what: str, error: Exception) -> None:
        """Bad input is a warning; anything else is a mistake of ours, counted, and comes with its traceback."""
        text = f"{what}: {str(error) or type(error).__name__}"
        if not isinstance(error, Clip2udaError):
            with self._report_lock:
                self._exceptions += 1
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
