"""The cache gives what CLIP gives, keeps to its budgets, and survives damage."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from clip2uda_core.adaptation.feature_cache import FeatureCache, FeatureCacheConfig
from clip2uda_core.errors import ConfigError
from clip2uda_core.models.clip import FrozenClip, VisualFeatures
from clip2uda_core.models.clip_weights import ClipConfig

ENTRY_BYTES = 2 * (2 * 3 * (4 * 192 + 128) + 128)  # bf16: four taps and V on 2 x 3 tokens, and g


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    """The stand-in's architecture with random weights."""
    return FrozenClip.load(ClipConfig(model="sim-clip", weights=None, precision="fp32"))


def _images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 30, 48), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _assert_same(cached: VisualFeatures, computed: VisualFeatures) -> None:
    assert (cached.image_px, cached.patch_px) == (computed.image_px, computed.patch_px)
    pairs = zip(
        (*cached.taps, cached.dense, cached.pooled), (*computed.taps, computed.dense, computed.pooled), strict=True
    )
    for kept, true in pairs:
        assert kept.dtype == torch.bfloat16
        assert torch.allclose(kept.float(), true, rtol=2**-8, atol=1e-6)  # half a unit in bfloat16's last place


def test_features_are_clips_own_in_bfloat16_computed_and_remembered(clip: FrozenClip) -> None:
    cache = FeatureCache(clip, FeatureCacheConfig())
    images = _images(3)
    computed = clip.encode_images(images)
    _assert_same(cache.encode_images(images), computed)
    assert (cache.hits, cache.misses) == (0, 3)
    _assert_same(cache.encode_images(images), computed)
    assert (cache.hits, cache.misses) == (3, 3)


def test_old_and_new_images_in_one_batch_keep_their_order(clip: FrozenClip) -> None:
    cache = FeatureCache(clip, FeatureCacheConfig())
    cache.encode_images(_images(3)[1:2])
    _assert_same(cache.encode_images(_images(3)), clip.encode_images(_images(3)))
    assert (cache.hits, cache.misses) == (1, 3)


def test_the_mirror_image_has_an_entry_of_its_own(clip: FrozenClip) -> None:
    cache = FeatureCache(clip, FeatureCacheConfig())
    mirrored = _images(1).flip(-1)
    cache.encode_images(_images(1))
    _assert_same(cache.encode_images(mirrored), clip.encode_images(mirrored))
    assert cache.misses == 2


def test_memory_budget_holds_and_the_rest_is_computed(clip: FrozenClip) -> None:
    cache = FeatureCache(clip, FeatureCacheConfig(memory_gb=2.5 * ENTRY_BYTES / 1e9))
    cache.encode_images(_images(4))
    _assert_same(cache.encode_images(_images(4)), clip.encode_images(_images(4)))
    assert (cache.hits, cache.misses) == (2, 6)


def test_disk_is_shared_by_runs_and_keeps_to_its_budget(clip: FrozenClip, tmp_path: Path) -> None:
    config = FeatureCacheConfig(memory_gb=0, folder=tmp_path, disk_gb=2.5 * ENTRY_BYTES / 1e9)
    FeatureCache(clip, config).encode_images(_images(4))
    files = list(tmp_path.rglob("*.features"))
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) <= 2.5 * ENTRY_BYTES

    second = FeatureCache(clip, config)
    _assert_same(second.encode_images(_images(4)), clip.encode_images(_images(4)))
    assert (second.hits, second.misses) == (2, 2)
    assert len(list(tmp_path.rglob("*.features"))) == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped bit", "not a cache file"])
def test_damaged_entries_are_computed_again_and_replaced(clip: FrozenClip, tmp_path: Path, damage: str) -> None:
    config = FeatureCacheConfig(memory_gb=0, folder=tmp_path)
    FeatureCache(clip, config).encode_images(_images(1))
    (file,) = tmp_path.rglob("*.features")
    intact = file.read_bytes()
    flipped = bytearray(intact)
    flipped[-100] ^= 4
    damaged = {"truncated": intact[:700], "empty": b"", "flipped bit": bytes(flipped), "not a cache file": b"hello" * 9}
    file.write_bytes(damaged[damage])

    cache = FeatureCache(clip, config)
    _assert_same(cache.encode_images(_images(1)), clip.encode_images(_images(1)))
    assert (cache.hits, cache.misses) == (0, 1)
    assert file.read_bytes() == intact


def test_another_clip_finds_nothing(clip: FrozenClip, tmp_path: Path) -> None:
    config = FeatureCacheConfig(folder=tmp_path)
    FeatureCache(clip, config).encode_images(_images(1))
    other = FrozenClip.load(ClipConfig(model="sim-clip", weights=None, precision="fp32", seed=1))
    cache = FeatureCache(other, config)
    _assert_same(cache.encode_images(_images(1)), other.encode_images(_images(1)))
    assert cache.misses == 1


def test_a_folder_that_vanishes_costs_only_time(clip: FrozenClip, tmp_path: Path) -> None:
    cache = FeatureCache(clip, FeatureCacheConfig(memory_gb=0, folder=tmp_path))
    (folder,) = tmp_path.iterdir()
    folder.rmdir()
    _assert_same(cache.encode_images(_images(1)), clip.encode_images(_images(1)))


def test_a_folder_that_cannot_be_made_is_an_error_at_once(clip: FrozenClip, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cache\.folder"):
        FeatureCache(clip, FeatureCacheConfig(folder=tmp_path / "file"))
