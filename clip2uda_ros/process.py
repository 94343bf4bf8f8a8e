"""How each process of this package starts and ends: transport profile, signals, errors in one line, exit code.

rclpy's own signal handlers tear the context down under running callbacks. Here SIGINT and SIGTERM only set an event,
and the process then ends in order: no traceback, nothing left behind, exit code 0.
"""

import signal
import sys
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from clip2uda_core.errors import Clip2udaError
from clip2uda_ros import transport


def run_process(run: Callable[[Sequence[str], threading.Event], int]) -> None:
    """Runs `run(arguments without ROS' own, stop)` between rclpy's init and shutdown, and exits with its code."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    transport.use_profile()
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    try:
        code = run(remove_ros_args(sys.argv)[1:], stop)
    except (Clip2udaError, ParameterException) as error:
        get_logger("clip2uda_ros").fatal(str(error))
        code = 1
    finally:
        rclpy.try_shutdown()
    sys.exit(code)
