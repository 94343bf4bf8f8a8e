"""What goes wrong: changed conditions on the robot, or something that is done to the node meanwhile."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from clip2uda_core.errors import DataError
from clip2uda_ros.compat import LabelInfo, TFMessage
from clip2uda_ros.soak.node import ACTIVATE, CLEAN_UP, NodeUnderTest, spinning_node
from clip2uda_ros.soak.rig import CAMERA
from clip2uda_ros.soak.robot import NODE, NORMAL, Conditions, Robot

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass(frozen=True)
class Bench:
    """What a fault may lay hands on. stop: set when the soak is to end early."""

    robot: Robot
    node: NodeUnderTest
    good_model: Path
    bad_model: Path
    stop: threading.Event

    def pause(self, seconds: float, until_s: float) -> bool:
        """Waits, not beyond `until_s`; whether there is time left."""
        self.stop.wait(max(0.0, min(seconds, until_s - time.monotonic())))
        self.node.process.check()
        self.robot.check()
        return time.monotonic() < until_s and not self.stop.is_set()


def wait(bench: Bench, until_s: float) -> None:
    """The conditions are the fault."""
    while bench.pause(0.5, until_s):
        pass


def jump_in_time(bench: Bench, until_s: float) -> None:
    """20 s back, and then 40 s forward; when the fault ends, time jumps back by 20 s again."""
    half_s = (until_s - time.monotonic()) / 2
    bench.robot.conditions = replace(bench.robot.conditions, clock_offset_s=-20.0)
    bench.pause(half_s, until_s)
    bench.robot.conditions = replace(bench.robot.conditions, clock_offset_s=20.0)
    wait(bench, until_s)


def churn_subscribers(bench: Bench, until_s: float) -> None:
    """Participants that come, subscribe to all outputs, and go; every second one never reads what it asked for."""
    reads = True
    while bench.pause(0.2, until_s):
        with spinning_node("visitor") as visitor:
            if reads:
                visitor.create_subscription(PointCloud2, f"{NODE}/output/points", _ignore, BEST_EFFORT)
            else:
                # A reliable subscriber that is stuck must not hold up the node, nor the others.
                visitor.create_subscription(PointCloud2, f"{NODE}/output/points", _stick(bench, until_s), 5)
            visitor.create_subscription(Image, f"{NODE}/output/{CAMERA}/overlay", _ignore, 1)
            visitor.create_subscription(LabelInfo, f"{NODE}/label_info", _ignore, LATCHED)
            bench.pause(1.5, until_s)
        reads = not reads


def _ignore(message: object) -> None:
    pass


def _stick(bench: Bench, until_s: float) -> Callable[[object], None]:
    def stick(message: object) -> None:
        bench.stop.wait(max(0.0, min(1.0, until_s - time.monotonic())))

    return stick


def reload_models(bench: Bench, until_s: float) -> None:
    """A damaged model, which must be refused, and the good one, in turn."""
    while True:
        bench.node.set_checkpoint(bench.bad_model)
        if bench.node.reload_model():
            raise DataError("the node says that it has loaded a damaged checkpoint")
        bench.node.set_checkpoint(bench.good_model)
        if not bench.node.reload_model():
            raise DataError("the node did not load the model that it has been running")
        if not bench.pause(1.0, until_s):
            return


def cycle_lifecycle(bench: Bench, until_s: float) -> None:
    """Deactivate and activate, then down to unconfigured and up again."""
    while True:
        bench.node.transit(CLEAN_UP[0], ACTIVATE[1])
        bench.pause(0.5, until_s)
        bench.node.transit(*CLEAN_UP, *ACTIVATE)
        if not bench.pause(1.0, until_s):
            return


@dataclass(frozen=True)
class Fault:
    """conditions: the robot's for as long as it lasts. act(bench, until_s): what is done meanwhile."""

    about: str
    conditions: Conditions = NORMAL
    act: Callable[[Bench, float], None] = wait


FAULTS = {
    "image_loss": Fault("30 % of the images are lost", Conditions(image_loss=0.3)),
    "cloud_loss": Fault("10 % of the clouds are lost", Conditions(cloud_loss=0.1)),
    "jitter": Fault(
        "stamps move by up to 80 ms to both sides, messages come up to 160 ms late", Conditions(jitter_s=0.08)
    ),
    "camera_dies": Fault("the camera's publishers vanish, and return at the end", Conditions(has_camera=False)),
    "transforms_stop": Fault("/tf stops, and goes on at the end", Conditions(has_transforms=False)),
    "camera_info_changes": Fault(
        "half of the CameraInfo messages have another focal length, or a K of zero", Conditions(info_changes=0.5)
    ),
    "corrupt_images": Fault(
        "half of the images are cut short, of an unknown encoding, without rows, or of another aspect",
        Conditions(corrupt_images=0.5),
    ),
    "corrupt_clouds": Fault(
        "half of the clouds are cut short, without x, or of a layout that does not fit their data",
        Conditions(corrupt_clouds=0.5),
    ),
    "time_jumps": Fault("the robot's time jumps 20 s back, 40 s forward, and 20 s back", act=jump_in_time),
    "subscriber_churn": Fault(
        "participants come, subscribe to all outputs, and go; every second one does not read", act=churn_subscribers
    ),
    "input_4x": Fault("four times the input rate", Conditions(rate=4.0)),
    "reload_models": Fault("a damaged and a good model are loaded in turn", act=reload_models),
    "lifecycle_cycles": Fault("deactivate, activate; deactivate, cleanup, configure, activate", act=cycle_lifecycle),
}


def runnable_faults() -> tuple[list[str], dict[str, str]]:
    """Names of the faults that this installation can have, and, for the others, why not."""
    reason = "tf2_msgs is not installed; a calibration file gives the cameras, and makes CameraInfo harmless too"
    not_run = {} if TFMessage else {"transforms_stop": reason}
    return [name for name in FAULTS if name not in not_run], not_run
