"""What is left of a run whose loss is not finite: the batch that caused it, and an error that says what to do."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from clip2uda_core.data.loader import TrainingBatch
from clip2uda_core.errors import Clip2udaError
from clip2uda_core.files import write_bytes
from clip2uda_core.processes import process_rank


def not_finite(
    out: Path, iteration: int, values: Mapping[str, float], batches: Sequence[TrainingBatch]
) -> Clip2udaError:
    """The error to raise; each process has saved its part of the batch in `out`.

    values: the losses, and the norm of the gradient, by name.
    """
    path = out / (f"not_finite_{process_rank()}.pt" if process_rank() else "not_finite.pt")
    content = io.BytesIO()
    torch.save([asdict(batch) for batch in batches], content)
    with contextlib.suppress(OSError):  # the error to report is the loss, not the disk
        write_bytes(path, content.getvalue())
    listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    frames = "; ".join(", ".join(batch.sources) for batch in batches)
    return Clip2udaError(
        f"iteration {iteration}: losses and gradients must be finite, got {listed}, on the frames {frames} (saved in "
        f"{path}). The states saved earlier are intact: look at these frames, or start again with a lower "
        f"optimizer.learning_rate"
    )
