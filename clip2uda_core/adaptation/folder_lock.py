"""One process at a time works on a run."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clip2uda_core.errors import ConfigError
from clip2uda_core.processes import is_first_process


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keeps other processes out of the run's folder, but for those that torchrun started with this one. Raises
    ConfigError when one is in it."""
    if not is_first_process():
        yield
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"--out {out}: the folder cannot be made or read: {error.strerror}") from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{out}: another process is working on this run; wait for it, or end it first") from None
        yield
    finally:
        os.close(folder)
