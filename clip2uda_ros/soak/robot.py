"""The robot: a thread that publishes clock, clouds, images, CameraInfo and transforms, under changing conditions."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from clip2uda_core.data.messages import encode_transforms
from clip2uda_core.geometry import SE3
from clip2uda_ros.compat import TFMessage
from clip2uda_ros.conversions import time_message
from clip2uda_ros.soak.rig import CAMERA, FACTORY, LIDAR_FRAME, Rig, corrupt_cloud, corrupt_image, other_camera_info

NODE = "/segmenter"
FIXED_FRAME = "odom"
TICK_S = 0.02
"""Period of /clock and /tf."""
IMAGE_DELAY_S = 0.01
"""The camera triggers so much after the LiDAR."""
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Conditions:
    """What goes wrong on the robot; the default is nothing. Shares are of the messages, 0 to 1.

    jitter_s: stamps move by up to so much to both sides, and messages come up to twice as much late.
    rate: times the normal rate. clock_offset_s: what time it is, against the truth.
    """

    image_loss: float = 0.0
    cloud_loss: float = 0.0
    jitter_s: float = 0.0
    has_camera: bool = True
    has_transforms: bool = True
    info_changes: float = 0.0
    corrupt_images: float = 0.0
    corrupt_clouds: float = 0.0
    rate: float = 1.0
    clock_offset_s: float = 0.0


NORMAL = Conditions()
SILENT = Conditions(rate=0.0)


class Robot:
    """Publishes sweeps of `rig` at `rate_hz` until `close`; `conditions`, `rig` and `rate_hz` may change at any time.

    on_sent(stamp_ns, points, when_s): called before each cloud that the node should label is published. Messages are
    best effort, as sensor drivers publish.
    """

    def __init__(self, node: Node, rig: Rig, seed: int, on_sent: Callable[[int, int, float], None]) -> None:
        self.conditions = NORMAL
        self.rig = rig
        self.rate_hz = 2.0
        self._node = node
        self._on_sent = on_sent
        self._random = np.random.default_rng(seed)
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=1))
        self._clouds = node.create_publisher(PointCloud2, f"{NODE}/input/points", SENSOR_QOS)
        self._camera: tuple[Publisher, Publisher] | None = None
        self._transforms = node.create_publisher(TFMessage, "/tf", 100) if TFMessage else None
        self._static = node.create_publisher(TFMessage, "/tf_static", LATCHED_QOS) if TFMessage else None
        self._announced: Rig | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="robot")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._failure is not None:
            raise self._failure

    def now_ns(self) -> int:
        """The robot's time, which is that of /clock."""
        return time.time_ns() + round(self.conditions.clock_offset_s * 1e9)

    def _run(self) -> None:
        next_sweep_s = next_tick_s = time.monotonic()
        try:
            while not self._stop.is_set():
                self._follow_conditions()
                now_s = time.monotonic()
                if now_s >= next_tick_s:
                    self._tick()
                    next_tick_s = max(next_tick_s + TICK_S, now_s)
                rate_hz = self.rate_hz * self.conditions.rate
                if rate_hz and now_s >= next_sweep_s:
                    self._sweep(now_s)
                    next_sweep_s = max(next_sweep_s + 1 / rate_hz, now_s)
                while self._waiting and self._waiting[0][0] <= now_s:
                    heapq.heappop(self._waiting)[2]()
                due_s = min([next_tick_s, next_sweep_s if rate_hz else next_tick_s, *(w[0] for w in self._waiting[:1])])
                self._stop.wait(max(0.0, due_s - time.monotonic()))
        except Exception as error:
            self._failure = error

    def _follow_conditions(self) -> None:
        """A camera that dies takes its publishers with it."""
        if self.conditions.has_camera and self._camera is None:
            self._camera = (
                self._node.create_publisher(Image, f"{NODE}/input/{CAMERA}/image", SENSOR_QOS),
                self._node.create_publisher(CameraInfo, f"{NODE}/input/{CAMERA}/camera_info", SENSOR_QOS),
            )
        elif not self.conditions.has_camera and self._camera is not None:
            for publisher in self._camera:
                self._node.destroy_publisher(publisher)
            self._camera = None

    def _tick(self) -> None:
        now_ns = self.now_ns()
        self._clock.publish(Clock(clock=time_message(now_ns)))
        if self._transforms is None or self._static is None:
            return
        if self._announced is not self.rig:
            self._announced = self.rig
            static = self.rig.camera_SE3_lidar.inverse()
            self._static.publish(encode_transforms([(static, now_ns)], FACTORY))
        if self.conditions.has_transforms:
            driven_m = (now_ns % 10**12) * 1e-9  # 1 m/s
            pose = SE3.from_rotation_translation(np.eye(3), np.array([driven_m, 0.0, 0.0]), FIXED_FRAME, LIDAR_FRAME)
            self._transforms.publish(encode_transforms([(pose, now_ns)], FACTORY))

    def _sweep(self, now_s: float) -> None:
        """Lets the sensors take one sweep; what they say is sent now or, with jitter, later."""
        sweep = self.rig.sweeps[next(self._numbers) % len(self.rig.sweeps)]
        stamp_ns = self.now_ns()
        if not self._happens(self.conditions.cloud_loss):
            if self._happens(self.conditions.corrupt_clouds):
                broken = corrupt_cloud(sweep.cloud, self._random)
                self._send_later(now_s, stamp_ns, lambda when_ns: self._publish(self._clouds, broken, when_ns))
            else:
                self._send_later(now_s, stamp_ns, lambda when_ns: self._send_cloud(sweep.cloud, when_ns))
        changes = self._happens(self.conditions.info_changes)
        info = other_camera_info(sweep.info, self._random) if changes else sweep.info
        self._send_later(now_s, stamp_ns, lambda when_ns: self._send_from_camera(1, info, when_ns))
        if not self._happens(self.conditions.image_loss):
            broken_image = self._happens(self.conditions.corrupt_images)
            image = corrupt_image(sweep.image, self._random) if broken_image else sweep.image
            self._send_later(
                now_s + IMAGE_DELAY_S,
                stamp_ns + round(IMAGE_DELAY_S * 1e9),
                lambda when_ns: self._send_from_camera(0, image, when_ns),
            )

    def _happens(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def _send_later(self, due_s: float, stamp_ns: int, send: Callable[[int], None]) -> None:
        jitter_s = self.conditions.jitter_s
        if jitter_s:
            due_s += self._random.uniform(0, 2 * jitter_s)
            stamp_ns += round(1e9 * self._random.uniform(-jitter_s, jitter_s))
        heapq.heappush(self._waiting, (due_s, next(self._numbers), lambda: send(stamp_ns)))

    def _send_cloud(self, message: PointCloud2, stamp_ns: int) -> None:
        self._on_sent(stamp_ns, message.width * message.height, time.monotonic())
        self._publish(self._clouds, message, stamp_ns)

    def _send_from_camera(self, which: int, message: Any, stamp_ns: int) -> None:
        if self._camera is not None:  # it may be dead, or have died in between
            self._publish(self._camera[which], message, stamp_ns)

    def _publish(self, publisher: Publisher, message: Any, stamp_ns: int) -> None:
        message.header.stamp = time_message(stamp_ns)
        publisher.publish(message)
