"""From subscribed messages to sets for the worker: pairing by stamp, then waiting for transforms where they are needed.

All callbacks come from one callback group, one at a time. Counts and parameters are others' business: hence the lock.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from clip2uda_core.data.assembler import FrameAssembler
from clip2uda_core.data.collector import TIME_JUMP, CollectedSet, CollectorConfig
from clip2uda_core.data.messages import decode_transforms, stamp_ns
from clip2uda_core.errors import TransformError
from clip2uda_core.geometry import TransformBuffer
from clip2uda_ros.accounts import DEACTIVATED, DISABLED, Accounts, by_key
from clip2uda_ros.meters import StageTimes, ThrottledWarnings
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.synchronizers import make_pairing

POLL_PERIOD_S = 0.02
"""How often sets are looked for whose images or transforms did not come in time, while any waits."""


def pairing_config(parameters: SegmenterParameters) -> CollectorConfig:
    sync = parameters.sync
    return CollectorConfig(
        tolerance_s=sync.tolerance_s,
        timeout_s=sync.timeout_s,
        max_age_s=sync.max_age_s,
        min_cameras=sync.min_cameras,
        stamp_offset_s={name: camera.stamp_offset_s for name, camera in parameters.camera.items()},
        image_queue=sync.queue_size,
    )


class Intake:
    """The `Receiver` of the subscriptions. Sets that are ready go to `submit`, in the order of their stamps.

    With a fixed frame a set waits for the transforms of its images and cloud, because odometry is often published after
    the image that it belongs to; at most until `sync.timeout_s` after its cloud came.
    """

    def __init__(
        self,
        node: Node,
        parameters: SegmenterParameters,
        assembler: FrameAssembler,
        transforms: TransformBuffer | None,
        submit: Callable[[CollectedSet[Any]], None],
        stages: StageTimes,
        warnings: ThrottledWarnings,
        group: CallbackGroup,
    ) -> None:
        self.enabled = True
        self.points_age_s: float | None = None
        self._node = node
        self._assembler = assembler
        self._transforms = transforms
        self._submit = submit
        self._stages = stages
        self._warnings = warnings
        self._waits_for_transforms = bool(transforms and parameters.tf.fixed_frame)
        self._lock = threading.Lock()
        self._pairing = make_pairing(parameters.sync.policy, pairing_config(parameters), parameters.cameras)
        self._waiting: deque[CollectedSet[Any]] = deque()
        self._paired_and_lost = 0
        self._disabled = 0
        self._closed = False
        # Steady, not the node's clock: with use_sim_time that one stands still until somebody publishes /clock.
        self._timer = node.create_timer(POLL_PERIOD_S, self.poll, group, Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Takes nothing more; what waits is counted as such."""
        with self._lock:
            self._closed = True
        self._node.destroy_timer(self._timer)

    def apply(self, parameters: SegmenterParameters) -> None:
        """Takes over the parameters that may change at run time."""
        with self._lock:
            self._pairing.config = pairing_config(parameters)

    def nearest_s(self) -> dict[str, float]:
        """Per camera, how far in time the nearest image was from the latest cloud that was decided."""
        with self._lock:
            return dict(self._pairing.counts.nearest_s)

    def accounts(self, of_submitted: Callable[[], Accounts]) -> Accounts:
        """What became of the clouds until they were submitted, and after that, as of one moment."""
        with self._lock:
            counts = self._pairing.counts
            dropped = by_key(counts.dropped + Counter({TIME_JUMP: self._paired_and_lost}))
            waiting = self._pairing.pending + len(self._waiting)
            dropped[DISABLED] += self._disabled
            dropped[DEACTIVATED] += waiting if self._closed else 0
            here = Accounts(
                received=counts.clouds + self._disabled,
                pending=0 if self._closed else waiting,
                dropped=dropped,
                unstamped_images=counts.images_unstamped.copy(),
                time_jumps=counts.time_jumps,
            )
            return here + of_submitted()

    def on_cloud(self, message: PointCloud2) -> None:
        when_ns = stamp_ns(message)

        def add(now_ns: int) -> list[CollectedSet[Any]]:
            self.points_age_s = (now_ns - when_ns) * 1e-9
            return self._pairing.add_cloud(when_ns, message, now_ns)

        with self._lock:
            if self.enabled:
                self._step(add)
            elif not self._closed:
                self._disabled += 1

    def on_image(self, message: Image | CompressedImage, camera: str) -> None:
        when_ns = stamp_ns(message)
        with self._lock:
            if self.enabled:
                self._step(lambda now_ns: self._pairing.add_image(camera, when_ns, message, now_ns))

    def on_camera_info(self, message: CameraInfo, camera: str) -> None:
        self._assembler.set_camera_info(camera, message)

    def on_transforms(self, message: Any, static: bool) -> None:
        assert self._transforms is not None
        for parent_SE3_child, when_ns in decode_transforms(message):
            try:
                self._transforms.set_transform(parent_SE3_child, when_ns, static)
            except TransformError as error:
                self._warnings.warn(f"a transform on TF is not used: {error}", time.monotonic())
        if static:
            self._assembler.forget_rigid_transforms()
        with self._lock:
            if self._waiting:
                self._step(self._pairing.poll)

    def poll(self) -> None:
        """Submits the sets that have waited long enough."""
        with self._lock:
            self._step(self._pairing.poll)

    def _step(self, pair: Callable[[int], list[CollectedSet[Any]]]) -> None:
        """Lets the pairing take a step, submits what is ready, and polls on while anything waits."""
        if self._closed:
            return
        now_ns = self._node.get_clock().now().nanoseconds
        jumps = self._pairing.counts.time_jumps
        paired = pair(now_ns)
        if self._pairing.counts.time_jumps > jumps:
            self._forget_the_past()
        self._waiting.extend(paired)
        while self._waiting and (self._is_overdue(self._waiting[0], now_ns) or self._is_ready(self._waiting[0])):
            ready = self._waiting.popleft()
            self._stages.add("collect", (now_ns - ready.arrived_ns) * 1e-9)
            self._submit(ready)
        if self._pairing.pending == 0 and not self._waiting:
            self._timer.cancel()
        elif self._timer.is_canceled():
            self._timer.reset()

    def _is_ready(self, paired: CollectedSet[Any]) -> bool:
        return not self._waits_for_transforms or self._assembler.has_transforms(paired)

    def _is_overdue(self, paired: CollectedSet[Any], now_ns: int) -> bool:
        return now_ns - paired.arrived_ns >= self._pairing.config.timeout_s * 1e9

    def _forget_the_past(self) -> None:
        """Time jumped back: sets that wait for transforms of before will not get them."""
        self._paired_and_lost += len(self._waiting)
        self._waiting.clear()
        if self._transforms is not None:
            self._transforms.clear_dynamic()
        self._warnings.warn("time jumped back: waiting messages and moving TF are forgotten", time.monotonic())
