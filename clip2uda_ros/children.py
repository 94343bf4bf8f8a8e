"""This package's processes as children of a command: never left behind, and ended the way a robot ends them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clip2uda_core.errors import DataError
from clip2uda_ros.transport import profile_variables

END_TIMEOUT_S = 60.0


class Child:
    """A running `python -m clip2uda_ros.<module>`; what it prints goes to `log`."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        self.module = module
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"clip2uda_ros.{module}", *arguments],
                env={**os.environ, **profile_variables(os.environ)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises DataError with the log when the process ended by itself, badly or well."""
        if self._process.poll() is not None:
            raise DataError(f"{self.module} ended with code {self._process.returncode}; {self._said()}")

    def wait(self, timeout_s: float) -> bool:
        """Whether the process has ended within the time; DataError when it ended badly."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if code != 0:
            raise DataError(f"{self.module} ended with code {code}; {self._said()}")
        return True

    def interrupt(self) -> None:
        """Ctrl-C, and waits for the end; DataError when it does not come in order."""
        self.check()
        self._process.send_signal(signal.SIGINT)
        if not self.wait(END_TIMEOUT_S):
            raise DataError(f"{self.module} did not end within {END_TIMEOUT_S:.0f} s of SIGINT; {self._said()}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"the end of {self.log}:", *lines[-20:]])


@contextmanager
def child(module: str, arguments: Sequence[str], log: Path) -> Iterator[Child]:
    """A process for the length of a block, which it does not outlive."""
    running = Child(module, arguments, log)
    try:
        yield running
    finally:
        running.kill()
