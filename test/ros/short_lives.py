"""A node that starts and is stopped again and again in one process, at random moments: `short_lives.py LIVES SEED`.

Its model is missing, so a life costs little. Another process keeps asking it things meanwhile.
"""

import random
import sys
import threading

import rclpy
from rclpy.signals import SignalHandlerOptions

from clip2uda_ros.spin import run


def main(lives: int, seed: int) -> None:
    delays_s = random.Random(seed)
    rclpy.init(args=["--ros-args", "-p", "checkpoint:=/missing"], signal_handler_options=SignalHandlerOptions.NO)
    for _ in range(lives):
        stop = threading.Event()
        threading.Timer(delays_s.uniform(0.3, 0.8), stop.set).start()
        run([], stop)
    rclpy.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
