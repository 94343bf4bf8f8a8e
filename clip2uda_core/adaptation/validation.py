"""Validation on the way: what each saved state is worth on labelled frames, and which was the best so far."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clip2uda_core.adaptation.log import read_lines
from clip2uda_core.adaptation.report import Summary
from clip2uda_core.files import write_text
from clip2uda_core.processes import process_rank


def score(summary: Summary) -> float | None:
    """The mIoU, in percent, by which checkpoints are chosen: of the fused labels where a camera sees (for a model of
    points alone these are 3D's), or of all points where none ever does. None where nothing is labelled."""
    means = [summary["iou_percent"].get(name, {}).get("mean") for name in ("fused", "all")]
    return next((mean for mean in means if mean is not None), None)


class Validation:
    """The validations of a run, one a saved state, in `validation.jsonl`; the checkpoint of the best one is kept as
    `best.safetensors`.

    evaluate: measures the model as it is now. save_model: writes it to a path.
    """

    def __init__(self, out: Path, evaluate: Callable[[], Summary], save_model: Callable[[Path], None]) -> None:
        self.best_model = out / "best.safetensors"
        self._path = out / "validation.jsonl"
        self._evaluate = evaluate
        self._save_model = save_model
        self.results: list[dict[str, Any]] = read_lines(self._path)

    def begin(self, step: int) -> None:
        """Takes up the run at `step`: forgets what is trained again, and makes up for a validation that a killed run
        had no time for."""
        self.results = [result for result in self.results if result["step"] <= step]
        if step > 0:
            self.after_save(step)

    def after_save(self, step: int) -> None:
        """Validates the state of this step, once."""
        if any(result["step"] == step for result in self.results):
            return
        started = time.perf_counter()
        summary = self._evaluate()
        best, now = self.best, score(summary)
        if now is not None and (best is None or now > best["score"]):
            # Before the line: a run that is killed between the two validates this step again.
            self._save_model(self.best_model)
        self.results.append({"step": step, "score": now, "val": summary, "time_s": time.perf_counter() - started})
        if process_rank() == 0:
            write_text(self._path, "".join(json.dumps(result) + "\n" for result in self.results))

    @property
    def best(self) -> dict[str, Any] | None:
        """The result with the highest score, the earliest of equal ones; None where nothing was scored."""
        scored = [result for result in self.results if result["score"] is not None]
        return max(scored, key=lambda result: result["score"], default=None)

    @property
    def time_s(self) -> float:
        return sum(result["time_s"] for result in self.results)
