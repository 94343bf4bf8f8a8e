"""The executable `segment_node`: checks the interpreter, then runs the node."""

import ctypes
import os
import sys

from clip2uda_core.threads import wait_without_spinning
from clip2uda_ros.executables import end_quietly
from clip2uda_ros.requirements import missing_requirements

SWITCH_INTERVAL_S = 0.00002
"""How long a thread may keep Python's lock when another waits for it. On a CPU, the model takes the lock back thousands
of times a cloud; with Python's own 5 ms, the thread that receives messages holds it up: fast sensors slow the model."""


M_ARENA_MAX, ARENAS = -8, 2
"""glibc gives each thread a heap of its own, and clouds and images that pass through a dozen threads leave holes in all
of them: the node's memory crept up for a quarter of an hour. Two are enough: threads hardly ever allocate at once."""


def share_heaps() -> None:
    """Limits glibc's heaps, unless the user did (MALLOC_ARENA_MAX). To be called while there is one thread. Other C
    libraries have no such setting and need none."""
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, ARENAS)


def main() -> None:
    """Runs `segmenter` until SIGINT or SIGTERM."""
    share_heaps()
    wait_without_spinning()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if problem := missing_requirements():
        sys.exit(f"segment_node: {problem}")
    end_quietly()  # the imports take seconds
    from clip2uda_ros.process import run_process
    from clip2uda_ros.spin import run

    run_process(run)


if __name__ == "__main__":
    main()
