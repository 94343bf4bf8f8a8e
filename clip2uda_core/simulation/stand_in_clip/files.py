"""What training sim-clip leaves: its weights, and the log that says how they were made."""

import hashlib
import json
import logging
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save_file

from clip2uda_core.errors import CheckpointError
from clip2uda_core.simulation.generate import world_version
from clip2uda_core.simulation.stand_in_clip.training import StandInTrainingConfig
from clip2uda_core.simulation.stand_in_clip.worlds import StreetImage
from clip2uda_core.simulation.stand_in_clip.zero_shot import ZeroShotResult

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "open_clip_torch", "numpy", "trimesh", "embreex")

STEPS_PER_LINE = 20


def save_stand_in(model: open_clip.CLIP, path: Path) -> None:
    """Writes the weights in half precision, by open_clip's names. Raises CheckpointError where they cannot be."""
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    about = {"what": "sim-clip: a stand-in trained on simulated streets. It is not CLIP."}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path, about)
    except OSError as error:
        raise CheckpointError(
            f"{path}: the weights cannot be written ({error.strerror}); choose another --out"
        ) from None


class TrainingLog:
    """A JSONL file: a line about the run, one every 20 steps with the mean losses, one about the result."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        self._losses: list[dict[str, float]] = []

    def begin(self, command: str, config: StandInTrainingConfig, images: Sequence[StreetImage], threads: int) -> None:
        looks = [image.look for image in images]
        self._lines.append(
            {
                "what": "training of sim-clip, a stand-in that is not CLIP",
                "command": command,
                **config.model_dump(),
                "threads": threads,
                "images": {look: looks.count(look) for look in dict.fromkeys(looks)},
                "images_sha256": _digest(images),
                "simulator": world_version()[:24],
                "python": platform.python_version(),
                "packages": {name: version(name) for name in PACKAGES},
            }
        )

    def step(self, step: int, losses: dict[str, float]) -> None:
        self._losses.append(losses)
        if (step + 1) % STEPS_PER_LINE == 0:
            means = {name: round(sum(loss[name] for loss in self._losses) / len(self._losses), 4) for name in losses}
            self._lines.append({"step": step + 1, **means})
            logger.info("sim-clip, step %d: %s", step + 1, means)
            self._losses.clear()

    def end(self, weights: Path, seconds: float, result: ZeroShotResult) -> None:
        """Adds the result and writes the file."""
        accuracies = {
            kind: dict(zip(result.looks, result.accuracy(counts).round(4).tolist(), strict=True))
            for kind, counts in (("crops", result.crops), ("patches", result.patches))
        }
        self._lines.append(
            {
                "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
                "training_s": round(seconds, 1),
                "zero_shot": accuracies,
            }
        )
        self.path.write_text("".join(json.dumps(line) + "\n" for line in self._lines), encoding="utf-8")


def _digest(images: Sequence[StreetImage]) -> str:
    """Of all pixels and labels, so that a second run can tell whether it had the same images."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.image.tobytes())
        digest.update(image.labels.tobytes())
    return digest.hexdigest()
