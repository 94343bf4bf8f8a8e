"""Records topics into an mcap until SIGINT: `ros2 run clip2uda_ros clip2uda_record OUT.mcap TOPIC …`.

Messages are written as they come over DDS, without decoding. A topic's type and QoS are taken from its publisher, so
the recorder may be started first.
"""

import argparse
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_ros.conversions import message_class
from clip2uda_ros.process import run_process

DISCOVERY_PERIOD_S = 0.1
QUEUE = 100


class Recorder(Node):
    """Subscribes to topics as their publishers appear, and writes what comes."""

    def __init__(self, writer: BagWriter, topics: Sequence[str]) -> None:
        super().__init__("recorder")
        self.counts: Counter[str] = Counter()
        self._writer = writer
        self._waiting = {self.resolve_topic_name(topic) for topic in topics}
        self._discovery = self.create_timer(DISCOVERY_PERIOD_S, self._subscribe_to_new)

    def drain(self, executor: SingleThreadedExecutor) -> None:
        """Writes what has arrived already."""
        self._discovery.cancel()
        written = -1
        while written < self.counts.total():
            written = self.counts.total()
            executor.spin_once(timeout_sec=DISCOVERY_PERIOD_S)

    def _subscribe_to_new(self) -> None:
        for topic in sorted(self._waiting):
            offers = self.get_publishers_info_by_topic(topic)
            if not offers:
                continue
            self._waiting.remove(topic)
            msgtype = offers[0].topic_type
            kind = message_class(msgtype)
            if kind is None:
                self.get_logger().error(f"{topic} is not recorded: {msgtype} is not installed")
                continue
            profiles = [offer.qos_profile for offer in offers]
            reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles)
            latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
            qos = QoSProfile(
                depth=QUEUE,
                reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            self.create_subscription(kind, topic, self._write_to(topic, msgtype, latched), qos, raw=True)
            self.get_logger().info(f"recording {topic}")

    def _write_to(self, topic: str, msgtype: str, latched: bool) -> Callable[[bytes], None]:
        def write(data: bytes) -> None:
            self._writer.write_raw(topic, msgtype, data, self.get_clock().now().nanoseconds, latched=latched)
            self.counts[topic] += 1

        return write


def run(arguments: Sequence[str], stop: threading.Event) -> int:
    """Records until stopped. Raises DataError when nothing came, or the file cannot be written."""
    parser = argparse.ArgumentParser("clip2uda_record", description=__doc__)
    parser.add_argument("out", type=Path, help="the recording: a file .mcap, or a folder for a rosbag2")
    parser.add_argument("topics", nargs="+", help="what to record")
    parser.add_argument("--force", action="store_true", help="replace OUT")
    options = parser.parse_args(arguments)
    with BagWriter(options.out, overwrite=options.force) as writer:
        recorder = Recorder(writer, options.topics)
        executor = SingleThreadedExecutor()
        executor.add_node(recorder)
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
        recorder.drain(executor)
        executor.shutdown()
        recorder.destroy_node()
    for topic, count in sorted(recorder.counts.items()):
        recorder.get_logger().info(f"{count} messages of {topic} in {options.out}")
    return 0


def main() -> None:
    run_process(run)


if __name__ == "__main__":
    main()
