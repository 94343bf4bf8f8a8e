"""The executable `segment_node`: checks the interpreter, then runs the node."""

import signal
import sys

from clip2uda_core.threads import wait_without_spinning
from clip2uda_ros.requirements import missing_requirements


def main() -> None:
    """Runs `segmenter` until SIGINT or SIGTERM."""
    wait_without_spinning()
    if problem := missing_requirements():
        sys.exit(f"segment_node: {problem}")
    # The imports take seconds, and until they are done there is nothing that would have to end in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from clip2uda_ros.process import run_process
    from clip2uda_ros.spin import run

    run_process(run)


if __name__ == "__main__":
    main()
