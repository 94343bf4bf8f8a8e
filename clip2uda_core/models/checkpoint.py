"""The checkpoint file: safetensors with a JSON header. No pickle, and no weight of CLIP inside."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from clip2uda_core import __version__
from clip2uda_core.config import Config, parse_config
from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.files import write_bytes, writing
from clip2uda_core.labels import LabelSpace, LabelSpaceConfig
from clip2uda_core.models.tensor_file import open_tensors

FORMAT = 2
"""Version of the file's layout; raised when an older program could not read the file rightly. Format 1 had no
temperatures."""

_KEY = "clip2uda"


class CheckpointHeader(Config):
    """What a checkpoint says of itself, beside its tensors.

    config: settings of the model, to rebuild it with. clip_hash: sha256 of the CLIP image tower that it was trained
    beside. training: what it was trained on, or "untrained". package_version: of the program that wrote it.
    """

    labels: LabelSpaceConfig
    config: dict[str, Any]
    clip_hash: str
    training: str
    package_version: str = __version__
    format: int = FORMAT


@dataclass(frozen=True)
class Checkpoint:
    """A header, and the network's state by name: trained weights, running statistics, T_target, and the
    temperatures of the branches."""

    header: CheckpointHeader
    state: dict[str, Tensor]

    @property
    def labels(self) -> LabelSpace:
        return LabelSpace(self.header.labels)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the file at once or not at all: a reader never sees half of it, a full disk leaves the old one.

    Raises CheckpointError when it cannot be written.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in checkpoint.state.items()}
    content = safetensors.torch.save(state, metadata={_KEY: checkpoint.header.model_dump_json()})
    with writing(f"checkpoint '{path}'", CheckpointError, "free space, or choose another folder"):
        write_bytes(path, content)


def load_checkpoint(path: Path, labels: LabelSpace | None = None) -> Checkpoint:
    """Reads a checkpoint; `labels` demands a label space.

    Raises CheckpointError for a file that is missing, damaged, a pickle, no checkpoint of ours, written by a newer
    program, or made for other classes than those demanded.
    """
    with open_tensors(path, "checkpoint") as file:
        header = _parse_header(file.metadata() or {}, path)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    if header.format == 1:
        state["temperatures"] = torch.ones(2)
    checkpoint = Checkpoint(header, state)
    if labels is not None and labels.names != checkpoint.labels.names:
        raise CheckpointError(
            f"checkpoint '{path}' was made for label space '{checkpoint.labels.name}' with the classes "
            f"{list(checkpoint.labels.names)}; expected '{labels.name}' with {list(labels.names)}"
        )
    return checkpoint


def load_state(module: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Copies a checkpoint's tensors into the network that its header describes.

    Raises CheckpointError when names or shapes differ: then the header and the tensors are not of one model.
    """
    try:
        module.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        reason = str(error).split("\n\t")[-1]
        raise CheckpointError(
            f"checkpoint '{path}': its tensors do not fit the model in its header: {reason}"
        ) from None


def hash_state(state: Mapping[str, Tensor]) -> str:
    """sha256 of tensors by name."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().data)
    return digest.hexdigest()


def _parse_header(metadata: dict[str, str], path: Path) -> CheckpointHeader:
    if _KEY not in metadata:
        raise CheckpointError(
            f"checkpoint '{path}': a safetensors file, but not of clip2uda (its header has no '{_KEY}'); "
            f"CLIP weights are given with --clip-weights"
        )
    try:
        values = json.loads(metadata[_KEY])
        if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT:
            raise CheckpointError(
                f"checkpoint '{path}' has format {values['format']}, written by version "
                f"{values.get('package_version')}; this is version {__version__}, which reads up to format {FORMAT}: "
                f"update clip2uda_ros"
            )
        return parse_config(CheckpointHeader, values, f"header of checkpoint '{path}'")
    except (json.JSONDecodeError, ConfigError) as error:
        raise CheckpointError(f"checkpoint '{path}': its header is damaged: {error}") from None
