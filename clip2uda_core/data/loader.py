"""Batches for training: frames drawn at random, augmented and batched without end.

What is drawn is a function of seed, domain and position alone. A run that resumes at step n, with any number of worker
processes, sees what it would have seen.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clip2uda_core.config import Config
from clip2uda_core.data.augment import AugmentConfig, augment_points, augment_view, translate_voxels
from clip2uda_core.data.frame_store import Crop, Domain, FrameStore, TrainingFrame
from clip2uda_core.data.prepare import PrepareConfig, voxel_features, voxelize
from clip2uda_core.data.sample import Batch, Sample, collate
from clip2uda_core.errors import ConfigError
from clip2uda_core.processes import process_count, process_rank


class LoaderConfig(Config):
    """batch_size: frames of each domain a step; where several processes train together, they share them out.
    workers: processes that load and augment, for each that trains; 0 does it in the trainer's.
    crop: which points of a scan the 3D network gets. `seen`: those that a camera sees, as in xMUDA. `half`: the half
        plane in a random direction. `none`: all.
    """

    batch_size: PositiveInt = 8
    workers: NonNegativeInt = 2
    crop: Crop = "seen"


@dataclass(frozen=True)
class TrainingBatch:
    """A batch of one domain, and the names of its frames."""

    batch: Batch
    sources: tuple[str, ...]

    def to(self, device: torch.device) -> "TrainingBatch":
        return replace(self, batch=self.batch.to(device))

    def seen_points(self) -> Tensor:
        """(P,) indices of points in the order in which the batch's groups see them."""
        return torch.cat([self.batch.voxel_of_point.new_empty(0), *(group.points for group in self.batch.groups)])


def load_batches(
    store: FrameStore,
    domain: Domain,
    config: LoaderConfig,
    prepare: PrepareConfig,
    augment: AugmentConfig,
    seed: int,
    first_step: int = 0,
) -> Iterator[TrainingBatch]:
    """Batches of a domain from a step on, without end. Every frame comes once before any comes again.

    Where several processes train together, each gets its part of every batch.
    """
    draws = _Draws(store, domain, config.crop, prepare, augment, seed)
    loader = DataLoader(
        draws,
        batch_sampler=_Positions(first_step, config.batch_size),
        num_workers=config.workers,
        collate_fn=_collate,
        generator=torch.Generator(),  # not the global one: loading takes no random number from anybody
        worker_init_fn=_leave_interrupts_to_the_trainer,
    )
    return iter(loader)


class _Positions:
    """Positions of this process's part of the batches, step after step; a sampler that never ends."""

    def __init__(self, first_step: int, batch_size: int) -> None:
        self._first_step = first_step
        self._batch_size = batch_size
        if batch_size % process_count():
            raise ConfigError(
                f"loader.batch_size: {batch_size} frames cannot be dealt out evenly to {process_count()} processes; "
                f"take a multiple of {process_count()}"
            )

    def __iter__(self) -> Iterator[list[int]]:
        part = self._batch_size // process_count()
        start = self._first_step * self._batch_size + process_rank() * part
        while True:
            yield list(range(start, start + part))
            start += self._batch_size


class _Draws(Dataset[Sample]):
    """The endless sequence of samples of a domain: position -> frame, augmented, as voxels and pixels."""

    def __init__(
        self, store: FrameStore, domain: Domain, crop: Crop, prepare: PrepareConfig, augment: AugmentConfig, seed: int
    ) -> None:
        self._store = store
        self._seed = (seed, 0 if domain == "source" else 1)
        self._crop = crop
        self._prepare = prepare
        self._augment = augment

    def __getitem__(self, position: int) -> Sample:
        epoch, place = divmod(position, len(self._store))
        order = np.random.default_rng((*self._seed, 0, epoch)).permutation(len(self._store))
        frame = self._store[int(order[place])]
        return draw_sample(
            frame, self._crop, self._prepare, self._augment, np.random.default_rng((*self._seed, 1, position))
        )


def draw_sample(
    frame: TrainingFrame, crop: Crop, prepare: PrepareConfig, augment: AugmentConfig, rng: np.random.Generator
) -> Sample:
    """A frame as one random draw of the augmentation shows it. Points and pixels belong together as they truly do."""
    if crop == "half":
        angle = rng.uniform(0, 2 * np.pi)
        ahead = frame.xyz_m[:, :2] @ np.array([np.cos(angle), np.sin(angle)], np.float32) >= 0
        frame = frame.only(ahead if ahead.any() else ~ahead)
    xyz_m = augment_points(frame.xyz_m, augment.points, rng)
    voxels = voxelize(xyz_m, prepare.voxel_size_m)
    return Sample(
        kept=np.arange(len(xyz_m)),
        xyz_m=xyz_m,
        voxels=translate_voxels(voxels, augment.points, rng),
        voxel_features=voxel_features(voxels, frame.intensity, prepare),
        views=tuple(augment_view(view, augment.image, rng) for view in frame.views),
        labels=frame.labels,
        source=frame.source,
        pseudo_labels=frame.pseudo_labels,
    )


def _collate(samples: list[Sample]) -> TrainingBatch:
    return TrainingBatch(collate(samples), tuple(sample.source for sample in samples))


def _leave_interrupts_to_the_trainer(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; the trainer ends its step and saves, with its workers still alive."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
