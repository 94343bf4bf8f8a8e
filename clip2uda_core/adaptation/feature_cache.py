"""What the frozen CLIP says about an image never changes, so it is computed once and kept in bfloat16.

An entry belongs to the bytes of an image and the hash of CLIP's weights. The mirror image is another image with an
entry of its own. Colour jitter would make every image a new one: where the cache is used, images are only mirrored.
"""

import hashlib
import logging
from pathlib import Path

import safetensors.torch
import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from clip2uda_core.config import Config
from clip2uda_core.errors import ConfigError
from clip2uda_core.files import read_checked, write_checked
from clip2uda_core.models.clip import FrozenClip, VisualFeatures

logger = logging.getLogger(__name__)

Entry = dict[str, Tensor]


class FeatureCacheConfig(Config):
    """memory_gb: features kept in memory. disk_gb: features kept in `folder`, where one is given; runs with the same
    CLIP and images share them. Both budgets at 0 run CLIP every time, which allows colour jitter.

    An image of 640 x 192 takes 1 MB with the stand-in CLIP and 5 MB with ViT-B-16, its mirror image as much again.
    """

    memory_gb: NonNegativeFloat = 2.0
    folder: Path | None = None
    disk_gb: NonNegativeFloat = 20.0

    @property
    def enabled(self) -> bool:
        return self.memory_gb > 0 or (self.folder is not None and self.disk_gb > 0)


class FeatureCache:
    """`FrozenClip.encode_images` that remembers.

    A full cache takes nothing new and evicts nothing: images are drawn at random over and over, and evicting the oldest
    would lose each one just before it is drawn again. Trouble with the disk costs time, never the run.
    """

    def __init__(self, clip: FrozenClip, config: FeatureCacheConfig) -> None:
        self._clip = clip
        self._enabled = config.enabled
        self._memory: dict[str, Entry] = {}
        self._memory_left = int(config.memory_gb * 1e9)
        self._folder = None
        self._disk_left = 0
        if config.folder is not None and config.disk_gb > 0:
            self._folder = _make_folder(config.folder / clip.weight_hash[:16])
            self._disk_left = int(config.disk_gb * 1e9) - sum(f.stat().st_size for f in self._folder.glob("*.features"))
        self.hits = 0
        self.misses = 0

    def encode_images(self, images: Tensor) -> VisualFeatures:
        """(B, 3, H, W) uint8 RGB images to features in bfloat16, on the images' device; as CLIP gives them where both
        budgets are 0.

        An image that is new is computed by itself: in a batch, the last bits of its features would depend on the other
        images in it, and a run that resumes with an empty cache would differ.
        """
        if not self._enabled:
            return self._clip.encode_images(images)
        entries = []
        for index, image in enumerate(images.cpu()):
            key = _image_key(image)
            entry = self._find(key)
            if entry is None:
                self.misses += 1
                entry = _entry(self._clip.encode_images(images[index : index + 1]))
                self._keep_in_memory(key, entry)
                self._keep_on_disk(key, entry)
            else:
                self.hits += 1
            entries.append(entry)
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return _join(entries, size, self._clip.dimensions.patch_px, images.device)

    def _find(self, key: str) -> Entry | None:
        if key in self._memory:
            return self._memory[key]
        if self._folder is None:
            return None
        path = self._folder / f"{key}.features"
        try:
            content = read_checked(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("feature cache: %s cannot be read (%s); it is computed again", path, error.strerror)
            return None
        if content is None:
            logger.warning("feature cache: %s is damaged; it is computed again", path)
            self._disk_left += path.stat().st_size
            path.unlink()
            return None
        entry = safetensors.torch.load(content)
        self._keep_in_memory(key, entry)
        return entry

    def _keep_in_memory(self, key: str, entry: Entry) -> None:
        size = sum(value.nbytes for value in entry.values())
        if key not in self._memory and size <= self._memory_left:
            self._memory[key] = entry
            self._memory_left -= size

    def _keep_on_disk(self, key: str, entry: Entry) -> None:
        if self._folder is None:
            return
        content = safetensors.torch.save(entry)
        if len(content) > self._disk_left:
            return
        try:
            self._disk_left -= write_checked(self._folder / f"{key}.features", content)
        except OSError as error:
            logger.warning("feature cache: nothing more is written to %s: %s", self._folder, error.strerror)
            self._disk_left = 0


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cache.folder: {folder} cannot be made: {error.strerror}; give a folder that can") from None
    return folder


def _image_key(image: Tensor) -> str:
    digest = hashlib.blake2b(str(tuple(image.shape)).encode(), digest_size=16)
    digest.update(image.contiguous().numpy().data)
    return digest.hexdigest()


def _entry(features: VisualFeatures) -> Entry:
    """The features of one image, on the CPU."""
    named = {f"tap{index}": tap for index, tap in enumerate(features.taps, start=1)}
    named |= {"dense": features.dense, "pooled": features.pooled}
    return {name: value[0].to("cpu", torch.bfloat16) for name, value in named.items()}


def _join(entries: list[Entry], image_px: tuple[int, int], patch_px: int, device: torch.device) -> VisualFeatures:
    stacked = {name: torch.stack([entry[name] for entry in entries]).to(device) for name in entries[0]}
    taps = tuple(stacked[f"tap{index}"] for index in range(1, len(stacked) - 1))
    return VisualFeatures(taps, stacked["dense"], stacked["pooled"], image_px, patch_px)
