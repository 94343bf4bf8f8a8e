"""The training state: all that a run needs to go on exactly where it stopped, in one object and one file.

A model for inference is another file, `clip2uda_core.models.checkpoint`; it has neither optimizers nor settings of the
training. A state holds tensors, numbers and text alone; it is read without running any code that it may hold.
"""

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from clip2uda_core.adaptation.config import OptimizerConfig
from clip2uda_core.adaptation.log import REMEDY
from clip2uda_core.adaptation.rng import generator_states, set_generator_states
from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.files import read_checked, remove_unfinished, write_checked, writing

logger = logging.getLogger(__name__)

KEPT = 2
"""States kept on disk: the newest, and the one before in case the newest turns out damaged."""


@dataclass
class TrainingState:
    """What changes while a run trains. What is drawn from the data follows from `step` and the run's seed alone; the
    global generators, which dropout draws from, are saved with the state.

    prompt_optimizer: of step (a), None where there is no prompt to learn. optimizer: of step (b). schedulers: one for
    each optimizer. step: iterations done.
    """

    network: nn.Module
    prompt_optimizer: Adam | None
    optimizer: Adam
    schedulers: list[MultiStepLR]
    step: int = 0

    @staticmethod
    def begin(network: nn.Module, with_prompts: bool, config: OptimizerConfig, steps: int) -> "TrainingState":
        """A network before its first iteration."""
        prompt, representation = split_parameters(network)
        prompt_optimizer = Adam(prompt, config.prompt_learning_rate) if prompt and with_prompts else None
        optimizer = Adam([{"params": part} for part in representation], config.learning_rate)
        milestones = [round(share * steps) for share in config.decay_at]
        optimizers = [optimizer] if prompt_optimizer is None else [prompt_optimizer, optimizer]
        schedulers = [MultiStepLR(each, milestones, config.decay) for each in optimizers]
        return TrainingState(network, prompt_optimizer, optimizer, schedulers)

    def advance(self) -> None:
        """Counts an iteration, and lowers the learning rates where that is due."""
        for scheduler in self.schedulers:
            scheduler.step()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizers": [scheduler.optimizer.state_dict() for scheduler in self.schedulers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "generators": generator_states(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.step = saved["step"]
        # A state of an earlier version has no temperatures; in training they are 1.
        self.network.load_state_dict({"temperatures": torch.ones(2)} | saved["network"])
        for scheduler, of_optimizer, of_scheduler in zip(
            self.schedulers, saved["optimizers"], saved["schedulers"], strict=True
        ):
            scheduler.optimizer.load_state_dict(of_optimizer)
            scheduler.load_state_dict(of_scheduler)
        set_generator_states(saved["generators"])


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[list[nn.Parameter]]]:
    """What step (a) trains, and what step (b) trains, in 3D and in 2D, where there is a 2D branch: all weights of the
    network, each once, and none of CLIP's."""
    prompt: list[nn.Parameter] = []
    of_points: list[nn.Parameter] = []
    of_images: list[nn.Parameter] = []
    parts = {"prompts": prompt, "adapter": prompt, "sparse_unet": of_points, "heads_3d": of_points}
    parts |= dict.fromkeys(("decoder", "unet2d", "heads_2d"), of_images)
    for name, parameter in network.named_parameters():
        parts[name.split(".", 1)[0]].append(parameter)
    return prompt, [part for part in (of_points, of_images) if part]


def save_state(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Writes the state after `step` iterations and removes all but the last two. Raises CheckpointError when it cannot
    be written; the older ones stay then."""
    path = folder / f"state_{step:08d}.pt"
    content = io.BytesIO()
    torch.save(dict(state), content)
    with writing(f"training state '{path}'", CheckpointError, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder, "state_*.pt")
        write_checked(path, content.getvalue())
        for old in _saved(folder)[:-KEPT]:
            old.unlink()
    return path


def load_newest_state(folder: Path) -> dict[str, Any] | None:
    """The newest state that can be read, None where none was ever saved; CheckpointError when all are damaged."""
    saved = _saved(folder)
    for path in reversed(saved):
        try:
            content = read_checked(path)
        except OSError as error:
            raise CheckpointError(f"training state '{path}': cannot be read: {error.strerror}") from None
        if content is not None:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        logger.warning("training state '%s' is damaged; the one before is taken", path)
    if saved:
        raise CheckpointError(f"{folder}: none of its {len(saved)} training states can be read; start again")
    return None


def check_identity(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuses to resume a run with other settings or data; both are trees of plain values. Raises ConfigError that
    names each difference."""
    before, now = _flatten(saved), _flatten(current)
    missing = object()
    differences = [
        f"{key} was {before.get(key, 'not there')!r}, is now {now.get(key, 'not there')!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing)
    ]
    if differences:
        raise ConfigError(
            f"this run cannot be resumed with other settings or data: {'; '.join(differences)}; "
            f"resume with the same, or start a new run with another --out"
        )


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("state_*.pt"))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"optimizer.learning_rate": 0.001, ...}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
