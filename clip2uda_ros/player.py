"""Publishes a recording over DDS at its own rate: `ros2 run clip2uda_ros clip2uda_play BAG [--clock] [--ros-args …]`.

Plays what rosbag2's player may have no plugin for (rosbag1, SQLite, mcap, damaged files) and decodes nothing: the
serialised messages go out as they were recorded. Topics whose message package is not installed are named and left out.
"""

import argparse
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from clip2uda_core.data.readers.bag import Bag
from clip2uda_core.errors import DataError
from clip2uda_ros.conversions import message_class, time_message
from clip2uda_ros.process import run_process

NS_PER_S = 1_000_000_000
CLOCK_PERIOD_S = 0.01
LINGER_S = 1.0
"""How long the process outlives its last message: its shared memory holds what subscribers have not read yet."""
SETTLE_S = 0.5
"""One side of a connection knows of it before the other, and what is published in between is lost."""

SENSOR_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Player(Node):
    """Publishers for the topics of a bag, and the loop that feeds them in the recording's time."""

    def __init__(self, bag: Bag, topics: Sequence[str], with_clock: bool) -> None:
        super().__init__("player")
        self._bag = bag
        self._publishers_by_topic: dict[str, Publisher] = {}
        for topic in bag.topics:
            if topics and topic.name not in topics:
                continue
            kind = message_class(topic.msgtype)
            if kind is None:
                self.get_logger().warning(f"{topic.name} is left out: {topic.msgtype} is not installed")
                continue
            qos = LATCHED_QOS if topic.name.endswith("tf_static") else SENSOR_QOS
            self._publishers_by_topic[topic.name] = self.create_publisher(kind, topic.name, qos)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10) if with_clock else None

    def wait_for_subscribers(self, topics: Sequence[str], count: int, timeout_s: float, stop: threading.Event) -> None:
        """Returns when each of `topics` has `count` subscribers, at the timeout (with a warning), or when stopped.

        Raises DataError for a topic that is not played.
        """
        unknown = sorted(set(topics) - set(self._publishers_by_topic))
        if unknown:
            there = ", ".join(self._publishers_by_topic) or "none"
            raise DataError(f"--wait-for {' '.join(unknown)}: expected topics that are played, which are {there}")
        deadline_s = time.monotonic() + timeout_s
        while missing := [t for t in topics if self._publishers_by_topic[t].get_subscription_count() < count]:
            if time.monotonic() > deadline_s:
                self.get_logger().warning(f"too few subscribers of {', '.join(missing)}; playing all the same")
                return
            if stop.wait(0.02):
                return
        stop.wait(SETTLE_S)

    def play(self, rate: float, stop: threading.Event) -> int:
        """Publishes the bag once; returns the number of messages."""
        started_s, first_ns, count = time.monotonic(), None, 0
        for message in self._bag.messages(list(self._publishers_by_topic)):
            if first_ns is None:
                first_ns = message.log_time_ns
            due_s = started_s + (message.log_time_ns - first_ns) / NS_PER_S / rate
            if not self._wait_until(due_s, message.log_time_ns, rate, stop):
                break
            self._publishers_by_topic[message.topic].publish(bytes(message.cdr()))
            count += 1
        return count

    def linger(self, stop: threading.Event) -> None:
        """Lets reliable subscribers confirm, and best-effort ones read, what was published last."""
        for publisher in self._publishers_by_topic.values():
            publisher.wait_for_all_acked(Duration(seconds=LINGER_S))
        stop.wait(LINGER_S)

    def _wait_until(self, due_s: float, due_ns: int, rate: float, stop: threading.Event) -> bool:
        """Sleeps until a message is due, with /clock running on; False when stopped."""
        while (remaining_s := due_s - time.monotonic()) > 0:
            self._publish_clock(due_ns - round(remaining_s * rate * NS_PER_S))
            if stop.wait(min(remaining_s, CLOCK_PERIOD_S) if self._clock_publisher else remaining_s):
                return False
        self._publish_clock(due_ns)
        return not stop.is_set()

    def _publish_clock(self, now_ns: int) -> None:
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=time_message(now_ns)))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("clip2uda_play", description=__doc__)
    parser.add_argument("bag", type=Path, help="a .mcap, .db3 or .bag file, or a folder of a rosbag2")
    parser.add_argument("--topics", nargs="+", default=[], help="publish these alone")
    parser.add_argument("--rate", type=float, default=1.0, help="times the recording's speed")
    parser.add_argument("--clock", action="store_true", help="publish /clock, for nodes with use_sim_time")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--wait-for", nargs="+", default=[], metavar="TOPIC", help="wait until these are subscribed to")
    parser.add_argument("--subscribers", type=int, default=1, metavar="N", help="by so many each")
    parser.add_argument("--wait-s", type=float, default=60.0, help="for at most so many seconds")
    options = parser.parse_args(arguments)
    if not options.rate > 0:
        parser.error(f"--rate: expected more than 0, got {options.rate}")
    return options


def run(arguments: Sequence[str], stop: threading.Event) -> int:
    """Plays until the end of the bag or until stopped."""
    options = parse_arguments(arguments)
    bag = Bag(options.bag)
    player = Player(bag, options.topics, options.clock)
    try:
        player.wait_for_subscribers(options.wait_for, options.subscribers, options.wait_s, stop)
        while True:
            count = player.play(options.rate, stop)
            player.get_logger().info(f"published {count} messages of {options.bag.name}")
            if not options.loop or stop.is_set():
                break
        player.linger(stop)
        for warning in bag.warnings:
            player.get_logger().warning(warning)
    finally:
        player.destroy_node()
        bag.close()
    return 0


def main() -> None:
    run_process(run)


if __name__ == "__main__":
    main()
