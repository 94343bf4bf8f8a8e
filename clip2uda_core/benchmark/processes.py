"""Runs as processes of their own, a few at a time, each with its share of the cores."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress, TaskID

from clip2uda_core.benchmark.plan import PlannedRun

POLL_S = 0.5


@dataclass
class _Running:
    run: PlannedRun
    process: subprocess.Popen[bytes]
    task: TaskID


class Processes:
    """Works off planned runs; what is finished is skipped, what was begun goes on.

    command: the command line of a run. jobs: processes at a time. tell: is told in a line of each run that ends.
    """

    def __init__(
        self,
        command: Callable[[PlannedRun], list[str]],
        jobs: int,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        self._command = command
        self._jobs = jobs
        self._progress = progress
        self._tell = tell
        self.failed: dict[str, str] = {}
        """What went wrong, by the name of the run."""

    def work_off(self, runs: Sequence[PlannedRun]) -> None:
        """Returns when every run is finished or has failed, or cannot start because one that it needs has. When this is
        interrupted, the processes save their states and end first."""
        left = [run for run in runs if run.report() is None]
        overall = self._progress.add_task("all runs", total=len(runs), completed=len(runs) - len(left))
        running: list[_Running] = []
        try:
            while left or running:
                self._drop_what_cannot_start(left)
                while len(running) < self._jobs and (ready := self._next(left)) is not None:
                    left.remove(ready)
                    running.append(self._start(ready))
                time.sleep(POLL_S)
                for one in list(running):
                    self._show(one)
                    if one.process.poll() is not None:
                        running.remove(one)
                        self._end(one)
                self._progress.update(overall, completed=len(runs) - len(left) - len(running))
        finally:
            for one in running:
                one.process.send_signal(signal.SIGINT)
            for one in running:
                one.process.wait()

    def _next(self, left: list[PlannedRun]) -> PlannedRun | None:
        """The first run of which all that it needs is finished."""
        ready = (run for run in left if all(needed.report() is not None for needed in run.needs))
        return next(ready, None)

    def _drop_what_cannot_start(self, left: list[PlannedRun]) -> None:
        for run in list(left):
            failed = [needed.name for needed in run.needs if needed.name in self.failed]
            if failed:
                left.remove(run)
                self._fail(run, f"not started: it needs {failed[0]}, which failed")

    def _start(self, run: PlannedRun) -> _Running:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        threads = str(max(1, (os.cpu_count() or 1) // self._jobs))
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        with _output(run).open("wb") as output:
            # In a session of its own: Ctrl-C comes from us alone, once.
            process = subprocess.Popen(
                [sys.executable, "-m", "clip2uda_core.cli", *self._command(run)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return _Running(run, process, self._progress.add_task(run.name, total=run.config.steps))

    def _show(self, one: _Running) -> None:
        step = steps_done(one.run.folder)
        doing = "" if step is None else ", testing" if step >= one.run.config.steps else ", training"
        self._progress.update(one.task, completed=step or 0, description=one.run.name + doing)

    def _end(self, one: _Running) -> None:
        self._progress.remove_task(one.task)
        if one.process.returncode == 0 and one.run.report() is not None:
            shutil.rmtree(one.run.folder / "states", ignore_errors=True)  # nothing is left to resume
            self._tell(f"{one.run.name}: finished")
        else:
            self._fail(one.run, f"exit status {one.process.returncode}; {_last_words(_output(one.run))}")

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self.failed[run.name] = reason
        self._tell(f"{run.name}: failed, {reason}")


def steps_done(folder: Path) -> int | None:
    """Iterations that the log of a run counts; None before the first."""
    try:
        with (folder / "log.jsonl").open("rb") as log:
            return sum(1 for _ in log) or None
    except OSError:
        return None


def _output(run: PlannedRun) -> Path:
    return run.folder.with_name(f"{run.folder.name}.output.txt")


def _last_words(path: Path) -> str:
    """The end of what a process printed, and where the rest is."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{path} ends with: {' '.join(lines[-3:])}" if lines else f"{path} is empty"
