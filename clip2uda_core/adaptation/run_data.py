"""What a run is given beside its settings: recordings, and what changes no result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from clip2uda_core.adaptation.domains import FrameSource
from clip2uda_core.labels import LabelSpace


@dataclass(frozen=True)
class Recording:
    """Frames that a run can open whenever it needs them, with the labels of a label space or without any.

    name: as the user would give it, for the report. options: how they are read; name and options together say which
    frames are the same.
    """

    name: str
    options: str
    open: Callable[[LabelSpace | None], FrameSource]


@dataclass(frozen=True)
class RunData:
    """The recordings of a run. source: labelled, to train on. target: to adapt to; its labels are read by a method that
    trains on them (`train_on: target`, the oracle) and by no other. val: labelled, for the choice of a checkpoint.
    test: for the result."""

    source: Recording | None = None
    target: Recording | None = None
    val: Recording | None = None
    test: Recording | None = None


@dataclass(frozen=True)
class RunOptions:
    """What changes no result. interrupted: whether the user wants the run to save and end. deadline: of
    `time.monotonic()`, when training ends although it is not finished. tensorboard: write its event files too. frames:
    a folder for the frames that were read, which runs may share; None keeps them in the run's own."""

    device: str = "auto"
    tensorboard: bool = False
    deadline: float | None = None
    interrupted: Callable[[], bool] = lambda: False
    progress: Progress = field(default_factory=lambda: Progress(disable=True))
    frames: Path | None = None

    def should_stop(self) -> bool:
        return self.interrupted() or (self.deadline is not None and time.monotonic() > self.deadline)
