"""The frames of one domain, read once from any source and kept on disk, so that training can draw them in any order."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.prepare import PrepareConfig, prepare_view, select_points, voxel_features, voxelize
from clip2uda_core.data.sample import Sample, SampleView
from clip2uda_core.errors import DataError
from clip2uda_core.files import writing
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame

logger = logging.getLogger(__name__)

Domain = Literal["source", "target"]

Crop = Literal["seen", "half", "none"]
"""Which points of a scan the 3D network gets in training: those that a camera sees, as in xMUDA; the half plane in a
random direction; or all."""


@dataclass(frozen=True)
class TrainingFrame:
    """A frame before augmentation: its M points in range, with the pixels where cameras see them.

    xyz_m: (M, 3) float32, LiDAR frame. intensity: (M,) float32 or None. labels: (M,) uint8 or None.
    views: images at the size that the network gets. source: the frame's name, for messages.
    pseudo_labels: (M, 2) uint8, what 2D and what 3D learns, or None.
    """

    xyz_m: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    labels: NDArray[np.uint8] | None
    views: tuple[SampleView, ...]
    source: str
    pseudo_labels: NDArray[np.uint8] | None = None

    @staticmethod
    def of(frame: Frame, config: PrepareConfig) -> "TrainingFrame":
        kept = select_points(frame.cloud.xyz_m, config.max_range_m)
        xyz_m = frame.cloud.xyz_m[kept]
        return TrainingFrame(
            xyz_m=xyz_m,
            intensity=None if frame.cloud.intensity is None else frame.cloud.intensity[kept],
            labels=None if frame.cloud.labels is None else frame.cloud.labels[kept],
            views=tuple(prepare_view(view, xyz_m, config.image_max_width_px) for view in frame.views),
            source=frame.source,
        )

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(M,) whether some camera sees the point."""
        seen = np.zeros(len(self.xyz_m), bool)
        for view in self.views:
            seen[view.points] = True
        return seen

    def only(self, chosen: NDArray[np.bool_]) -> "TrainingFrame":
        """The frame with the chosen points (M,) alone."""
        place = np.cumsum(chosen) - 1
        views = []
        for view in self.views:
            stays = chosen[view.points]
            views.append(replace(view, points=place[view.points[stays]], uv_px=view.uv_px[stays]))
        return TrainingFrame(
            xyz_m=self.xyz_m[chosen],
            intensity=None if self.intensity is None else self.intensity[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            views=tuple(views),
            source=self.source,
            pseudo_labels=None if self.pseudo_labels is None else self.pseudo_labels[chosen],
        )

    def sample(self, config: PrepareConfig) -> Sample:
        """The frame as inference prepares it, without augmentation."""
        voxels = voxelize(self.xyz_m, config.voxel_size_m)
        return Sample(
            kept=np.arange(len(self.xyz_m)),
            xyz_m=self.xyz_m,
            voxels=voxels,
            voxel_features=voxel_features(voxels, self.intensity, config),
            views=self.views,
            labels=self.labels,
            source=self.source,
        )


@dataclass(frozen=True)
class FrameStore:
    """The training frames of one domain in a folder, one file each.

    sources: their names. seen_counts, all_counts: (K,) labelled points per class, of those that a camera sees and of
    all. skipped: frames left out, by reason. made_with: the settings that the frames depend on.
    pseudo_labels: a folder with the pseudo-labels of each frame, or None.
    """

    folder: Path
    sources: tuple[str, ...]
    seen_counts: NDArray[np.int64]
    all_counts: NDArray[np.int64]
    skipped: Counter[str]
    made_with: dict[str, Any]
    pseudo_labels: Path | None = None

    @staticmethod
    def write(
        frames: Iterable[Frame],
        folder: Path,
        domain: Domain,
        labels: LabelSpace,
        prepare: PrepareConfig,
        crop: Crop,
        with_images: bool,
    ) -> "FrameStore":
        """Reads all frames into a new folder. Source frames need labels; labels of target frames are not kept.

        Frames that cannot be trained on are left out and counted. An unfinished folder of a run that was killed is
        replaced. Raises DataError when no frame is left or the folder cannot be written.
        """
        unfinished = _unfinished(folder)
        counts = {"seen": np.zeros(len(labels), np.int64), "all": np.zeros(len(labels), np.int64)}
        skipped: Counter[str] = Counter()
        sources: list[str] = []
        with _writing(folder):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        for recorded in frames:
            frame = TrainingFrame.of(recorded, prepare)
            reason = _useless(frame, domain, with_images or crop == "seen")
            if reason is not None:
                skipped[reason] += 1
                continue
            if frame.labels is not None:
                counts["all"] += _count(frame.labels, len(labels))
                counts["seen"] += _count(frame.labels[frame.seen], len(labels))
            if crop == "seen":
                frame = frame.only(frame.seen)
            if not with_images:
                frame = replace(frame, views=())
            if domain == "target":
                frame = replace(frame, labels=None)
            with _writing(folder):
                _save(frame, unfinished / f"{len(sources)}.npz")
            sources.append(frame.source)
        if not sources:
            raise DataError(f"{domain} domain: no frame can be trained on: {_why(skipped)}")
        if skipped:
            logger.warning("%s domain: frames left out: %s", domain, _why(skipped))
        index = {name: values.tolist() for name, values in counts.items()} | {"sources": sources, "skipped": skipped}
        index["made_with"] = settings_of_frames(labels, prepare, crop, with_images)
        with _writing(folder):
            (unfinished / "index.json").write_text(json.dumps(index))
            unfinished.rename(folder)
        return FrameStore.open(folder)

    @staticmethod
    def open(folder: Path) -> "FrameStore":
        """A folder that `write` finished. Raises DataError when it is damaged."""
        try:
            index = json.loads((folder / "index.json").read_text())
            counts = (np.array(index["seen"], np.int64), np.array(index["all"], np.int64))
            return FrameStore(folder, tuple(index["sources"]), *counts, Counter(index["skipped"]), index["made_with"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: not the training frames of a run ({error}); remove it to read again") from None

    def __len__(self) -> int:
        return len(self.sources)

    def spread(self, count: int) -> list[int]:
        """Indices of so many frames, or all where there are fewer, spread evenly over the store."""
        return np.linspace(0, len(self) - 1, min(len(self), count)).round().astype(int).tolist()

    def __getitem__(self, index: int) -> TrainingFrame:
        path = self.folder / f"{index}.npz"
        try:
            frame = _load(path, self.sources[index])
            if self.pseudo_labels is None:
                return frame
            path = self.pseudo_labels / f"{index}.npy"
            return replace(frame, pseudo_labels=np.load(path, allow_pickle=False))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(
                f"{path}: not a training frame of a run ({error}); remove {path.parent} to make it again"
            ) from None


def settings_of_frames(labels: LabelSpace, prepare: PrepareConfig, crop: Crop, with_images: bool) -> dict[str, Any]:
    """What the frames that are kept depend on; other settings need them read again."""
    kept_crop = "seen" if crop == "seen" else "none"  # halves are taken when frames are drawn
    return {
        "labels": list(labels.names),
        "max_range_m": prepare.max_range_m,
        "image_max_width_px": prepare.image_max_width_px if with_images else None,
        "crop": kept_crop,
        "with_images": with_images,
    }


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What was written is removed where the rest cannot be: the disk may be full."""
    try:
        with writing(f"{folder}: training frames", DataError, "free space, or choose another folder"):
            yield
    except DataError:
        shutil.rmtree(_unfinished(folder), ignore_errors=True)
        raise


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _count(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    return np.bincount(labels[labels != IGNORE], minlength=classes)


def _useless(frame: TrainingFrame, domain: Domain, must_be_seen: bool) -> str | None:
    """Why a frame cannot be trained on; None when it can."""
    if domain == "source" and frame.labels is None:
        return "no labels"
    if len(frame.xyz_m) == 0:
        return "no point in range"
    if must_be_seen and not frame.seen.any():
        return "no point that a camera sees"
    return None


def _why(skipped: Counter[str]) -> str:
    return ", ".join(f"{count} with {reason}" for reason, count in skipped.items()) or "the recording is empty"


def _save(frame: TrainingFrame, path: Path) -> None:
    arrays: dict[str, NDArray] = {"xyz_m": frame.xyz_m}
    for name in ("intensity", "labels"):
        if getattr(frame, name) is not None:
            arrays[name] = getattr(frame, name)
    for view in frame.views:
        arrays |= {
            f"image/{view.name}": view.image,
            f"points/{view.name}": view.points,
            f"uv_px/{view.name}": view.uv_px,
        }
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _load(path: Path, source: str) -> TrainingFrame:
    with np.load(path, allow_pickle=False) as file:
        names = [key.removeprefix("image/") for key in file.files if key.startswith("image/")]
        views = (SampleView(n, file[f"image/{n}"], file[f"points/{n}"], file[f"uv_px/{n}"]) for n in names)
        return TrainingFrame(
            xyz_m=file["xyz_m"],
            intensity=file["intensity"] if "intensity" in file.files else None,
            labels=file["labels"] if "labels" in file.files else None,
            views=tuple(views),
            source=source,
        )
