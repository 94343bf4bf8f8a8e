"""The consoles that the commands write to."""

from rich.console import Console

TABLE_WIDTH = 120


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; a file or a pipe has no width, and eighty columns would fold the tables."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=TABLE_WIDTH)
