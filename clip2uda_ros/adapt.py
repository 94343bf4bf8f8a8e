"""The executable `adapt`: `clip2uda adapt` where `ros2 run` and `ros2 launch` find it."""

import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Runs `clip2uda adapt` with this process' arguments. Ctrl-C saves a state and ends with 0, as nodes end."""
    # The imports take a while, and until they are done there is nothing that would have to be saved.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))
    try:
        from clip2uda_core import cli

        sys.argv[1:1] = ["adapt"]
        cli.main()
    except SystemExit as end:
        sys.exit(0 if end.code == INTERRUPTED else end.code)


if __name__ == "__main__":
    main()
