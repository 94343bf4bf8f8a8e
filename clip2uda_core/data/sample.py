"""A frame as the network takes it, and several of them as one batch of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Voxels:
    """V occupied cells, no two the same, in the order of their coordinates.

    coordinates: (V, 3) int32, cell indices x, y, z, from 0. of_point: (M,) int64, the cell that each point is in.
    """

    coordinates: NDArray[np.int32]
    of_point: NDArray[np.int64]


@dataclass(frozen=True)
class SampleView:
    """One image, and the P points that its camera sees.

    image: (H, W, 3) uint8 RGB, at most as wide as the config says. points: (P,) int64 indices into the sample's M
    points. uv_px: (P, 2) float32 pixels of this image; integers are pixel centres.
    """

    name: str
    image: NDArray[np.uint8]
    points: NDArray[np.int64]
    uv_px: NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A frame prepared for the network: the M points that can be segmented, of the N that came.

    kept: (M,) int64 indices of these points in the cloud. xyz_m: (M, 3) float32, LiDAR frame.
    voxel_features: (V, F) float32, what the 3D network is told of each cell beside its place.
    labels: (M,) uint8, or None for an unlabelled cloud. source: the frame's name, for messages.
    pseudo_labels: (M, 2) uint8, what 2D and 3D learn from in place of labels, IGNORE where nothing; or None.
    """

    kept: NDArray[np.int64]
    xyz_m: NDArray[np.float32]
    voxels: Voxels
    voxel_features: NDArray[np.float32]
    views: tuple[SampleView, ...]
    labels: NDArray[np.uint8] | None
    source: str
    pseudo_labels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ImageGroup:
    """The B images of a batch that share a size, of all its samples, and the P points seen in them.

    images: (B, 3, H, W) uint8 RGB. uv_px: per image (P_b, 2) float32. points: (P,) int64 indices into the batch's
    points, those of the first image first; a point that two cameras see is in here twice.
    """

    images: Tensor
    uv_px: tuple[Tensor, ...]
    points: Tensor

    def to(self, device: torch.device) -> "ImageGroup":
        return ImageGroup(self.images.to(device), tuple(uv.to(device) for uv in self.uv_px), self.points.to(device))


@dataclass(frozen=True)
class Batch:
    """S samples as tensors; their points follow each other.

    voxels: (V, 4) int32, sample index and cell x, y, z. voxel_features: (V, F) float32.
    voxel_of_point: (M,) int64. labels: (M,) int64, pseudo_labels: (M, 2) int64; None where a sample has none.
    point_counts: points of each sample. groups: the images, by size; none where no sample has a view.
    """

    voxels: Tensor
    voxel_features: Tensor
    voxel_of_point: Tensor
    labels: Tensor | None
    pseudo_labels: Tensor | None
    point_counts: tuple[int, ...]
    groups: tuple[ImageGroup, ...]

    def to(self, device: torch.device) -> "Batch":
        return replace(
            self,
            voxels=self.voxels.to(device),
            voxel_features=self.voxel_features.to(device),
            voxel_of_point=self.voxel_of_point.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            pseudo_labels=None if self.pseudo_labels is None else self.pseudo_labels.to(device),
            groups=tuple(group.to(device) for group in self.groups),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to a batch. Images of different sizes stay apart: padding them to one size would change what CLIP says
    about an image with what it is batched with."""
    cells = [np.insert(sample.voxels.coordinates, 0, index, axis=1) for index, sample in enumerate(samples)]
    voxel_starts = _starts([len(sample.voxels.coordinates) for sample in samples])
    return Batch(
        voxels=torch.from_numpy(np.concatenate(cells)),
        voxel_features=torch.from_numpy(np.concatenate([sample.voxel_features for sample in samples])),
        voxel_of_point=torch.from_numpy(
            np.concatenate([s.voxels.of_point + start for s, start in zip(samples, voxel_starts, strict=True)])
        ),
        labels=_join([sample.labels for sample in samples]),
        pseudo_labels=_join([sample.pseudo_labels for sample in samples]),
        point_counts=tuple(len(sample.kept) for sample in samples),
        groups=_group_images(samples),
    )


def _join(labels: Sequence[NDArray[np.uint8] | None]) -> Tensor | None:
    present = [each for each in labels if each is not None]
    return torch.from_numpy(np.concatenate(present).astype(np.int64)) if len(present) == len(labels) else None


def _group_images(samples: Sequence[Sample]) -> tuple[ImageGroup, ...]:
    point_starts = _starts([len(sample.kept) for sample in samples])
    by_size: dict[tuple[int, ...], list[tuple[SampleView, int]]] = {}
    for sample, start in zip(samples, point_starts, strict=True):
        for view in sample.views:
            by_size.setdefault(view.image.shape, []).append((view, start))
    return tuple(
        ImageGroup(
            images=torch.from_numpy(np.stack([view.image for view, _ in views])).permute(0, 3, 1, 2),
            uv_px=tuple(torch.from_numpy(view.uv_px) for view, _ in views),
            points=torch.from_numpy(np.concatenate([view.points + start for view, start in views])),
        )
        for _, views in sorted(by_size.items(), key=lambda item: item[0])
    )


def _starts(counts: list[int]) -> list[int]:
    return [0, *np.cumsum(counts)[:-1].tolist()]
