"""Executables whose modules take a while to import: until that is done, Ctrl-C ends them at once and quietly."""

import signal
import sys


def end_quietly() -> None:
    """What signals do until the program takes them: nothing has begun that would have to end in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def play() -> None:
    """`clip2uda_play`."""
    end_quietly()
    from clip2uda_ros.player import main

    main()


def record() -> None:
    """`clip2uda_record`."""
    end_quietly()
    from clip2uda_ros.recorder import main

    main()
