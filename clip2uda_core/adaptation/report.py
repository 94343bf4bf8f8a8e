"""What a run says about itself when it is over: `report.json`."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from clip2uda_core import __version__
from clip2uda_core.errors import DataError
from clip2uda_core.files import write_text

FILE = "report.json"

LIBRARIES = ("torch", "open_clip_torch", "spconv-cu120", "spconv-cu121", "torchvision", "numpy")

Summary = dict[str, Any]
"""`Evaluation.summary()`."""


@dataclass(frozen=True)
class Report:
    """A run in plain values.

    steps: iterations done; finished: whether these are all, or the run stopped early. source, target, val, test: the
        names of the recordings, None where there was none. teacher: the model that made the pseudo-labels.
    last: the evaluation of the run's model on `test`; without a test recording, on frames of the target, whose labels
        are not read. None where the run was interrupted before.
    best: the same of the checkpoint that was best on `val`, with its `step`; None where there is no `val`.
    validation: [{"step", "val": summary}, ...]. timing_s: seconds by what they were spent on, over all resumptions.
    model_step: the iteration whose model `model.safetensors` is: the last one, or with `patience` the one with the
        highest signal. stopped_early: whether that signal ended the run. signal: its value at each saved state.
    """

    method: str
    seed: int
    steps: int
    finished: bool
    source: str | None
    target: str | None
    val: str | None
    test: str | None
    teacher: str | None
    last: Summary | None
    best: Summary | None
    validation: list[dict[str, Any]]
    timing_s: dict[str, float]
    environment: dict[str, Any]
    model_step: int | None = None
    stopped_early: bool = False
    signal: list[dict[str, Any]] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> "Report":
        """The report in a run's folder. Raises DataError where there is none or it is damaged."""
        path = folder / FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return Report(**{each.name: values[each.name] for each in fields(Report) if each.name in values})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not the report of a run ({error!r})") from None


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, as far as they may change a result or its time."""
    return {
        "clip2uda": __version__,
        "python": platform.python_version(),
        **{name: found for name in LIBRARIES if (found := _version(name)) is not None},
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


@cache
def cpu_model() -> str:
    """The CPU's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
