"""log.jsonl: a line an iteration. What else a run tells on the way, a line a saved state, is read here too."""

import json
from io import FileIO
from pathlib import Path
from typing import Any

from clip2uda_core.errors import Clip2udaError
from clip2uda_core.files import write_text, writing
from clip2uda_core.processes import process_rank

REMEDY = "free space and resume; the states saved earlier are intact"


class RunLog:
    """The log of a run that goes on after `step` iterations: lines of iterations that are done again are removed, and
    half a line of one that was killed. Process 0 alone writes. Raises Clip2udaError when it cannot be written."""

    def __init__(self, path: Path, step: int) -> None:
        self._what = f"log '{path}'"
        self._file: FileIO | None = None
        if process_rank() > 0:
            return
        with writing(self._what, Clip2udaError, REMEDY):
            if path.exists():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
                write_text(path, "".join(lines[:step]))
            self._file = path.open("ab", buffering=0)

    def append(self, values: dict[str, Any]) -> None:
        """Writes one line, at once: a process that is killed later has it on disk."""
        if self._file is None:
            return
        line = json.dumps(values).encode() + b"\n"
        with writing(self._what, Clip2udaError, REMEDY):
            if self._file.write(line) < len(line):  # what a file size limit or a full disk cuts short
                raise OSError("only a part of a line could be written, the disk may be full")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file that is written at once or not at all; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def training_times(out: Path) -> dict[str, float]:
    """Seconds of all iterations in the run's log, and how many of them went by in waiting for data."""
    lines = read_lines(out / "log.jsonl")
    return {
        "training": sum(line["time_s"] for line in lines),
        "waiting_for_data": sum(line["waited_s"] for line in lines),
    }
