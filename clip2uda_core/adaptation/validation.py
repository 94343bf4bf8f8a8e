"""Validation on the way: what each saved state is worth on labelled frames, and which was the best so far."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clip2uda_core.adaptation.report import Summary
from clip2uda_core.adaptation.saved_states import SavedStates


def score(summary: Summary) -> float | None:
    """The mIoU, in percent, by which checkpoints are chosen: of the fused labels where a camera sees (for a model of
    points alone these are 3D's), or of all points where none ever does. None where nothing is labelled."""
    means = [summary["iou_percent"].get(name, {}).get("mean") for name in ("fused", "all")]
    return next((mean for mean in means if mean is not None), None)


class Validation(SavedStates):
    """The validations of a run, one a saved state, in `validation.jsonl`; the checkpoint of the best one is kept as
    `best.safetensors`.

    evaluate: measures the model as it is now. save_model: writes it to a path.
    """

    def __init__(self, out: Path, evaluate: Callable[[], Summary], save_model: Callable[[Path], None]) -> None:
        def measure() -> dict[str, Any]:
            summary = evaluate()
            return {"score": score(summary), "val": summary}

        super().__init__(out / "validation.jsonl", out / "best.safetensors", measure, save_model)
