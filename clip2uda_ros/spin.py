"""The process of the node: its executor, the core's log in ROS' log, and an end in order."""

import logging
import threading
import time
import traceback
from collections.abc import Sequence

from rclpy.executors import ExternalShutdownException

from clip2uda_ros.executor import NodeExecutor
from clip2uda_ros.node import SegmenterNode

LOGGERS = ("clip2uda_core", "clip2uda_ros")
THREADS = 3
"""One for each callback group of the node."""
STOP_CHECK_S = 0.1
"""The executor looks this often whether it is to stop, where no message wakes it."""


class _RosLog(logging.Handler):
    """What the libraries log, in ROS' log; warnings throttled, for a bad topic repeats its own."""

    def __init__(self, node: SegmenterNode) -> None:
        super().__init__(logging.INFO)
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._node.warnings.warn(record.getMessage(), time.monotonic())
        else:
            self._node.get_logger().info(record.getMessage())


def run(arguments: Sequence[str], stop: threading.Event) -> int:
    """Spins the node until `stop`, then shuts it down in order."""
    node = SegmenterNode()
    handler = _RosLog(node)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    executor = NodeExecutor(num_threads=THREADS)
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor, node, stop), name="executor")
    spinner.start()
    stop.wait()
    spinner.join()
    executor.finish()
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(handler)
    node.finish()
    node.destroy_node()
    return 0


def _spin(executor: NodeExecutor, node: SegmenterNode, stop: threading.Event) -> None:
    """An exception of one callback must not end the others."""
    while not stop.is_set() and node.context.ok():
        try:
            executor.spin_once(timeout_sec=STOP_CHECK_S)
        except ExternalShutdownException:
            break
        except Exception:
            node.count_exception()
            node.get_logger().error(f"a callback failed:\n{traceback.format_exc()}")
    stop.set()
