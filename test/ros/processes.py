"""Processes of the package under test: started with a domain of their own, and ended the way a robot ends them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 120.0


class Process:
    """A running `python -m <module>`, whose output goes to `log`; `python_path` is put before ours."""

    def __init__(self, module: str, arguments: list[str], domain: int, log: Path, python_path: str = "") -> None:
        self.log = log
        paths = [path for path in (python_path, os.environ.get("PYTHONPATH", "")) if path]
        environment = {"ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        with log.open("w") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def running(self) -> bool:
        return self._popen.poll() is None

    def end(self) -> int:
        """Waits for the end; returns the exit code."""
        return self._popen.wait(DEADLINE_S)

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._popen.send_signal(signal.SIGINT)
        return self.end()

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


@contextmanager
def process(module: str, arguments: list[str], domain: int, log: Path, python_path: str = "") -> Iterator[Process]:
    """Runs a process for the length of a block; it must still run at the end, then end cleanly on SIGINT."""
    running = Process(module, arguments, domain, log, python_path)
    try:
        yield running
        assert running.running(), f"{module} ended by itself:\n{log.read_text()}"
        code = running.interrupt()
        text = log.read_text()
        assert code == 0, f"{module} ended with {code} on SIGINT:\n{text}"
        assert "Traceback" not in text, text
        assert "never retrieved" not in text, text
    except BaseException:
        print(f"--- log of {module} ---\n{log.read_text()}")
        raise
    finally:
        running.kill()
