"""From subscribed messages to sets for the worker: pairing by stamp, then waiting for transforms where they are needed.

Messages come from one thread, one at a time. Counts and parameters are others' business: hence the lock.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from clip2uda_core.data.assembler import FrameAssembler
from clip2uda_core.data.collector import TIME_JUMP, CollectedSet, CollectorConfig
from clip2uda_core.data.messages import decode_transforms, stamp_ns
from clip2uda_core.errors import DataError, TransformError
from clip2uda_core.geometry import TransformBuffer
from clip2uda_ros.accounts import DEACTIVATED, DISABLED, FAILED, Accounts, by_key
from clip2uda_ros.meters import StageTimes, ThrottledWarnings
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.serialized import Serialized
from clip2uda_ros.synchronizers import make_pairing


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
    the image that it belongs to; at most until `sync.timeout_s` after its cloud came. A cloud whose header cannot be
    read goes to `refuse`.
    """

    def __init__(
        self,
        node: Node,
        parameters: SegmenterParameters,
        assembler: FrameAssembler,
        transforms: TransformBuffer | None,
        submit: Callable[[CollectedSet[Serialized]], None],
        refuse: Callable[[DataError], None],
        stages: StageTimes,
        warnings: ThrottledWarnings,
    ) -> None:
        self.enabled = True
        self.points_age_s: float | None = None
        self._node = node
        self._assembler = assembler
        self._transforms = transforms
        self._submit = submit
        self._refuse = refuse
        self._stages = stages
        self._warnings = warnings
        self._waits_for_transforms = bool(transforms and parameters.tf.fixed_frame)
        self._lock = threading.Lock()
        self._pairing = make_pairing(parameters.sync.policy, pairing_config(parameters), parameters.cameras)
        self._waiting: deque[CollectedSet[Any]] = deque()
        self._paired_and_lost = 0
        self._disabled = 0
        self._malformed = 0
        self._closed = False

    def close(self) -> None:
        """Takes nothing more; what waits is counted as such."""
        with self._lock:
            self._closed = True

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
            dropped[FAILED] += self._malformed
            dropped[DEACTIVATED] += waiting if self._closed else 0
            here = Accounts(
                received=counts.clouds + self._disabled + self._malformed,
                pending=0 if self._closed else waiting,
                dropped=dropped,
                unstamped_images=counts.images_unstamped.copy(),
                bad_clouds=self._malformed,
                time_jumps=counts.time_jumps,
            )
            return here + of_submitted()

    def on_cloud(self, message: Serialized) -> None:
        def add(now_ns: int) -> list[CollectedSet[Any]]:
            self.points_age_s = (now_ns - when_ns) * 1e-9
            return self._pairing.add_cloud(when_ns, message, now_ns)

        with self._lock:
            if self._closed:
                return
            if not self.enabled:
                self._disabled += 1
                return
            try:
                when_ns = stamp_ns(message)
            except DataError as error:
                self._malformed += 1
                self._refuse(error)
            else:
                self._step(add)

    def on_image(self, message: Serialized, camera: str) -> None:
        with self._lock:
            if not self.enabled:
                return
            try:
                when_ns = stamp_ns(message)
            except DataError as error:
                self._assembler.skip(camera, error)
            else:
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

    def poll(self) -> bool:
        """Submits the sets that have waited long enough; whether any waits on."""
        with self._lock:
            if self._pairing.pending or self._waiting:
                self._step(self._pairing.poll)
            return bool(self._pairing.pending or self._waiting)

    def _step(self, pair: Callable[[int], list[CollectedSet[Any]]]) -> None:
        """Lets the pairing take a step, and submits what is ready."""
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
