"""What each saved state of a run is worth by some measure, and the model of the best one so far."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clip2uda_core.adaptation.log import read_lines
from clip2uda_core.files import write_text
from clip2uda_core.processes import process_rank


class SavedStates:
    """One measurement a saved state, kept as a line of the file `record`; the model of the one with the highest score
    is kept as `best_model`.

    measure: values of the model as it is now, JSON, with its `score`: the higher the better, None where it cannot be
    told. save_model: writes it to a path.
    """

    def __init__(
        self,
        record: Path,
        best_model: Path,
        measure: Callable[[], dict[str, Any]],
        save_model: Callable[[Path], None],
    ) -> None:
        self.best_model = best_model
        self._record = record
        self._measure = measure
        self._save_model = save_model
        self.results = read_lines(record)

    def is_due(self, step: int) -> bool:
        """Whether the state of a step is measured."""
        return step > 0

    def begin(self, step: int) -> None:
        """Takes up the run at `step`: forgets what is trained again, and makes up for a state that a killed run had no
        time to measure."""
        self.results = [result for result in self.results if result["step"] <= step]
        self.after_save(step)

    def after_save(self, step: int) -> None:
        """Measures the state of this step, once, where it is due."""
        if not self.is_due(step) or any(result["step"] == step for result in self.results):
            return
        started = time.perf_counter()
        measured = self._measure()
        best, now = self.best, measured["score"]
        if now is not None and (best is None or now > best["score"]):
            # Before the line: a run that is killed between the two measures this step again.
            self._save_model(self.best_model)
        self.results.append({"step": step, **measured, "time_s": time.perf_counter() - started})
        if process_rank() == 0:
            write_text(self._record, "".join(json.dumps(result) + "\n" for result in self.results))

    @property
    def best(self) -> dict[str, Any] | None:
        """The result with the highest score, the earliest of equal ones; None where none could be told."""
        told = [result for result in self.results if result["score"] is not None]
        return max(told, key=lambda result: result["score"], default=None)

    @property
    def time_s(self) -> float:
        """Seconds spent on measuring, over all resumptions."""
        return sum(result["time_s"] for result in self.results)
