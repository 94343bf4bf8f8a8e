"""What a run trains on: the frames of both domains, and the pseudo-labels of the target, each written once."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import Progress
from torch import Tensor

from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.initial_weights import check_same_model
from clip2uda_core.adaptation.pseudo_labels import PseudoLabels, check_teacher, teacher_identity
from clip2uda_core.data.frame_store import Domain, FrameStore, settings_of_frames
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.processes import process_rank, wait_for_all
from clip2uda_core.types import Frame

logger = logging.getLogger(__name__)


class FrameSource(Protocol):
    """Frames that can be counted and read once: a Reader, or a list."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Frame]: ...


Frames = FrameSource | FrameStore
"""Frames to be read, or those that an earlier run has read and keeps."""


@dataclass(frozen=True)
class Domains:
    """The frames of a run. source None: it is source-free. target None: it does not adapt."""

    source: FrameStore | None
    target: FrameStore | None
    pseudo_labels: PseudoLabels | None

    @property
    def adapted_to(self) -> FrameStore:
        """Frames of the domain that the model is meant for: the target, or the source of a run that does not adapt."""
        frames = self.source if self.target is None else self.target
        assert frames is not None, "a run has frames of some domain"
        return frames

    def source_counts(self, supervise: str, classes: int) -> Tensor:
        """(K,) labelled points of the source per class, of those that the losses see; 0 where there is no source."""
        if self.source is None:
            return torch.zeros(classes, dtype=torch.int64)
        return torch.from_numpy(self.source.seen_counts if supervise == "seen" else self.source.all_counts)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        stores = {"source": self.source, "target": self.target}
        made = {} if self.pseudo_labels is None else {"pseudo-labels": _hash(json.dumps(self.pseudo_labels.summary))}
        return {
            d: "none" if s is None else f"{len(s)}, {_hash(chr(10).join(s.sources))}" for d, s in stores.items()
        } | made

    def description(self) -> str:
        """For the model card: how many frames of what."""
        parts = []
        if self.source is not None:
            parts.append(_describe(self.source))
        if self.target is not None:
            parts.append(f"adapted to {_describe(self.target)}")
        if self.pseudo_labels is not None:
            parts.append(f"with pseudo-labels of ({self.pseudo_labels.summary['teacher']['training']})")
        return ", ".join(parts)


class DomainReader:
    """Reads the domains of a run into `folder`, or finds there what an earlier process of it has read. Process 0 reads;
    the others wait for it."""

    def __init__(self, config: AdaptConfig, labels: LabelSpace, folder: Path, progress: Progress) -> None:
        self._config = config
        self._labels = labels
        self._folder = folder
        self._progress = progress

    def read(self, source: Frames | None, target: Frames | None, teacher: Segmenter | None) -> Domains:
        """Raises ConfigError when a domain or teacher that the method needs is missing or does not fit, DataError when
        a domain has no frame to train on."""
        config, losses = self._config, self._config.losses
        if losses.use_source and source is None:
            raise ConfigError(f"method '{config.method}' learns from labels of the source domain, but none was given")
        if losses.use_target and target is None:
            raise ConfigError(f"method '{config.method}' adapts to a target domain, but none was given")
        if teacher is not None and losses.pseudo_label:
            check_teacher(teacher, self._labels, config.model)
            if config.teacher == "given":
                check_same_model(teacher.config, config.model)
        of_source = self._frames(source, "source") if source is not None and losses.use_source else None
        of_target = self._frames(target, "target") if target is not None and losses.use_target else None
        if of_source is not None:
            self._check_labels(of_source)
        if of_target is None or not losses.pseudo_label:
            return Domains(of_source, of_target, None)
        pseudo_labels = self._pseudo_labels(of_target, teacher)
        return Domains(of_source, replace(of_target, pseudo_labels=pseudo_labels.folder), pseudo_labels)

    def _frames(self, source: Frames, domain: Domain) -> FrameStore:
        model, crop = self._config.model, self._config.loader.crop
        folder = source.folder if isinstance(source, FrameStore) else self._folder / domain
        if process_rank() == 0 and not folder.exists():
            assert not isinstance(source, FrameStore)
            frames = self._progress.track(source, total=len(source), description=f"reading the {domain} domain")
            FrameStore.write(frames, folder, domain, self._labels, model.prepare, crop, model.uses_images)
        wait_for_all()
        store = FrameStore.open(folder)
        if store.made_with != settings_of_frames(self._labels, model.prepare, crop, model.uses_images):
            raise ConfigError(
                f"{folder} holds frames that were read with other settings ({store.made_with}); resume with the same, "
                f"or start a new run with another --out"
            )
        return store

    def _check_labels(self, source: FrameStore) -> None:
        counts = Domains(source, None, None).source_counts(self._config.losses.supervise, len(self._labels))
        absent = [name for name, count in zip(self._labels.names, counts.tolist(), strict=True) if count == 0]
        if len(absent) == len(self._labels):
            raise DataError(
                f"source domain {_name(source)}: none of its points has a label of '{self._labels.name}'; "
                f"choose the label space that fits it, or another source"
            )
        if absent:
            logger.warning("the source has no point of %s: it cannot be learned", ", ".join(absent))

    def _pseudo_labels(self, target: FrameStore, teacher: Segmenter | None) -> PseudoLabels:
        folder = self._folder / "target_pseudo_labels"
        if folder.exists():
            made = PseudoLabels.open(folder)
            if teacher is not None and teacher_identity(teacher) != made.summary["teacher"]:
                raise ConfigError(
                    f"{folder} was made by another teacher ({made.summary['teacher']['training']}); resume with that "
                    f"one, or start a new run with another --out"
                )
            return made
        if teacher is None:
            raise ConfigError(
                f"method '{self._config.method}' learns from pseudo-labels: give the model of a run of "
                f"'{'any method' if self._config.teacher == 'given' else self._config.teacher}' as the teacher"
            )
        wait_for_all()  # nobody makes the folder before all have looked
        made = PseudoLabels.make(teacher, target, self._config.losses.pseudo_labels, folder, self._progress)
        if process_rank() == 0:
            made.log_statistics()
        return made


def _describe(store: FrameStore) -> str:
    return f"{len(store)} frames of {_name(store)}"


def _name(store: FrameStore) -> str:
    return store.sources[0].rsplit("[", 1)[0]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
