"""The pictures that a run leaves in `out/pictures`."""

from pathlib import Path
from typing import Any

from clip2uda_core.adaptation.log import read_lines
from clip2uda_core.evaluation.curves import draw_confusion, draw_losses, draw_validation
from clip2uda_core.evaluation.evaluate import Evaluation
from clip2uda_core.evaluation.gallery import Gallery, draw_comparison
from clip2uda_core.evaluation.pictures import save_png


def draw_training(out: Path, validations: list[dict[str, Any]], best: dict[str, Any] | None) -> None:
    """losses.png from the run's log, and validation.png where it was validated."""
    draw_losses(read_lines(out / "log.jsonl"), out / "pictures" / "losses.png")
    points: dict[str, list[tuple[int, float]]] = {}
    for validation in validations:
        for name, iou in validation["val"]["iou_percent"].items():
            if name != "all" and iou["mean"] is not None:
                points.setdefault(name, []).append((validation["step"], iou["mean"]))
    draw_validation(points, best["step"] if best else None, out / "pictures" / "validation.png")


def draw_result(out: Path, evaluation: Evaluation, gallery: Gallery) -> None:
    """confusion.png where there are labels, and a comparison of each frame that the gallery kept."""
    pictures = out / "pictures"
    if evaluation.labelled_frames:
        at_pixels = evaluation.seen["fused"]
        matrix, which = (at_pixels, "in view") if at_pixels.counts.any() else (evaluation.all, "")
        title = f"fused labels, {int(matrix.counts.sum()):,} points {which}".rstrip()
        draw_confusion(matrix, f"{title}; rows in percent", pictures / "confusion.png")
    for number, (frame, prediction) in enumerate(gallery.kept):
        save_png(draw_comparison(frame, prediction, evaluation.labels), pictures / f"frame_{number}.png")
