"""The executable `segment_node`: checks the interpreter, then runs the node."""

import sys

from clip2uda_core.threads import wait_without_spinning
from clip2uda_ros.executables import end_quietly
from clip2uda_ros.requirements import missing_requirements

SWITCH_INTERVAL_S = 0.00002
"""How long a thread may keep Python's lock when another waits for it. On a CPU, the model takes the lock back thousands
of times a cloud; with Python's own 5 ms, the thread that receives messages holds it up: fast sensors slow the model."""


def main() -> None:
    """Runs `segmenter` until SIGINT or SIGTERM."""
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
