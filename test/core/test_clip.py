"""The frozen CLIP against open_clip's own forward passes, and every way in which weights can be wrong."""

import json
import pickle
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
from tiny_model import RANDOM_CLIP, random_clip, random_open_clip, save_clip_weights
from torch.nn import functional as F

from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.models.clip import FrozenClip, tap_blocks
from clip2uda_core.models.clip_weights import ClipConfig, dimensions, load_model_config
from clip2uda_core.paths import config_file

WORDS = ("car", "traffic light", "a photo of a tree.")


def images(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(RANDOM_CLIP.image_mean), torch.tensor(RANDOM_CLIP.image_std)
    return (pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@torch.no_grad()
def test_features_at_the_own_size_equal_open_clips() -> None:
    pixels = images(64, 64)
    features = random_clip().encode_images(pixels)
    theirs = random_open_clip().visual.forward_intermediates(normalised(pixels), indices=[1, 2, 3, 5])
    assert len(features.taps) == 4
    for tap, their_tap in zip(features.taps, theirs["image_intermediates"], strict=True):
        torch.testing.assert_close(tap, their_tap, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.pooled, theirs["image_features"], atol=1e-5, rtol=1e-4)
    assert features.dense.shape == (2, 128, 4, 4)
    assert features.extent_px == (64, 64)


@torch.no_grad()
def test_dense_tokens_are_projected_as_the_class_token_is() -> None:
    """A tower whose pooled token is the mean of the patches must give the mean of the dense tokens."""
    model_config = load_model_config("sim-clip")
    model_config["vision_cfg"]["pool_type"] = "avg"
    visual = open_clip.CLIP(**model_config).visual
    features = FrozenClip(visual, None, dimensions(model_config), RANDOM_CLIP).encode_images(images(64, 64))
    torch.testing.assert_close(features.pooled, features.dense.mean((2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.pooled, visual(normalised(images(64, 64))), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_other_image_sizes_equal_a_tower_built_for_them(tmp_path: Path) -> None:
    """open_clip resizes positional embeddings when it loads weights into a tower for another image size."""
    save_clip_weights(tmp_path / "clip.safetensors")
    model_config = load_model_config("sim-clip")
    model_config["vision_cfg"]["image_size"] = [96, 160]
    theirs = open_clip.CLIP(**model_config).eval()
    open_clip.load_checkpoint(theirs, str(tmp_path / "clip.safetensors"))
    ours = FrozenClip.load(ClipConfig(model="sim-clip", weights=str(tmp_path / "clip.safetensors"), precision="fp32"))
    pixels = images(96, 160)
    for _ in range(2):  # the second time from the cache of positional embeddings
        features = ours.encode_images(pixels)
        torch.testing.assert_close(features.pooled, theirs.visual(normalised(pixels)), atol=1e-5, rtol=1e-4)


def test_images_are_padded_at_the_right_and_bottom_by_their_edge() -> None:
    features = random_clip().encode_images(images(50, 70))
    by_hand = random_clip().encode_images(F.pad(images(50, 70).float(), (0, 10, 0, 14), mode="replicate").byte())
    assert features.image_px == (50, 70)
    assert features.extent_px == by_hand.extent_px == (64, 80)
    torch.testing.assert_close(features.dense, by_hand.dense)
    torch.testing.assert_close(features.taps[0], by_hand.taps[0])


def test_bfloat16_says_nearly_the_same() -> None:
    config = RANDOM_CLIP.model_copy(update={"precision": "bf16"})
    half = FrozenClip(random_clip().visual, None, random_clip().dimensions, config).encode_images(images(64, 64))
    full = random_clip().encode_images(images(64, 64))
    assert F.cosine_similarity(half.dense.float(), full.dense, dim=1).min() > 0.99
    assert F.cosine_similarity(half.taps[3].float(), full.taps[3], dim=1).min() > 0.99


@pytest.mark.parametrize(("depth", "blocks"), [(12, (3, 5, 7, 11)), (24, (7, 11, 15, 23)), (6, (1, 2, 3, 5))])
def test_taps_are_spread_over_the_depth(depth: int, blocks: tuple[int, ...]) -> None:
    assert tap_blocks(depth) == blocks


def test_images_that_are_no_bytes_are_refused() -> None:
    with pytest.raises(ConfigError, match="uint8 RGB"):
        random_clip().encode_images(torch.zeros(1, 3, 64, 64))


@torch.no_grad()
def test_plain_text_equals_open_clips() -> None:
    text = random_clip().text
    assert text is not None
    tokens = open_clip.SimpleTokenizer(context_length=32)(list(WORDS))
    torch.testing.assert_close(text.encode(WORDS), random_open_clip().encode_text(tokens), atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_context_made_of_words_equals_these_words() -> None:
    text = random_clip().text
    assert text is not None
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    context = text.token_embedding(tokenizer(["a photo of a"])[0, 1:5])
    whole = random_open_clip().encode_text(tokenizer(["a photo of a car", "a photo of a traffic light"]))
    embedded = text.encode_with_context(context, ("car", "traffic light"))
    torch.testing.assert_close(embedded, whole, atol=1e-6, rtol=1e-4)


def test_gradients_reach_the_context_and_no_weight() -> None:
    clip = random_clip()
    assert clip.text is not None
    context = torch.zeros(8, 64, requires_grad=True)
    clip.text.encode_with_context(context, WORDS).square().sum().backward()
    assert context.grad is not None
    assert (context.grad.abs().sum(1) > 0).all()
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in clip.parameters())


def test_context_that_does_not_fit_is_refused() -> None:
    text = random_clip().text
    assert text is not None
    with pytest.raises(ConfigError, match=r"30 context tokens and the class name 'traffic light' make 34 tokens.* 32"):
        text.encode_with_context(torch.zeros(30, 64), ("car", "traffic light"))


def test_it_stays_in_eval_mode_inside_a_network_that_trains() -> None:
    network = torch.nn.ModuleList([random_clip(), torch.nn.Dropout()])
    network.train()
    assert not any(module.training for module in random_clip().modules())


def test_weights_at_random_are_loud_and_repeatable(caplog: pytest.LogCaptureFixture) -> None:
    first, second = FrozenClip.load(RANDOM_CLIP), FrozenClip.load(RANDOM_CLIP)
    assert "initialised at random" in caplog.text
    assert first.weight_hash == second.weight_hash
    other = FrozenClip.load(RANDOM_CLIP.model_copy(update={"seed": 1}))
    assert other.weight_hash != first.weight_hash


def test_the_image_tower_alone_is_the_same_and_has_no_text(tmp_path: Path) -> None:
    config = save_clip_weights(tmp_path / "clip.safetensors")
    both, alone = FrozenClip.load(config, text=True), FrozenClip.load(config)
    assert alone.text is None
    assert sum(parameter.numel() for parameter in alone.parameters()) == 2_845_440
    assert alone.weight_hash == both.weight_hash == random_clip().weight_hash
    torch.testing.assert_close(alone.encode_images(images(64, 64)).dense, both.encode_images(images(64, 64)).dense)
    assert both.text is not None
    assert random_clip().text is not None
    torch.testing.assert_close(both.text.encode(WORDS), random_clip().text.encode(WORDS))


@pytest.mark.parametrize("nested", [False, True])
def test_pt_files_are_read_as_tensors_only(tmp_path: Path, nested: bool) -> None:
    state = random_open_clip().state_dict()
    stored = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}} if nested else state
    torch.save(stored, tmp_path / "clip.pt")
    clip = FrozenClip.load(ClipConfig(model="sim-clip", weights=str(tmp_path / "clip.pt")), text=True)
    assert clip.weight_hash == random_clip().weight_hash


class Dangerous:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran-code"),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"visual.proj": Dangerous()}, "zip.pt")
    Path("raw.pt").write_bytes(pickle.dumps(Dangerous()))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(CheckpointError, match=r"could run code .*convert it to safetensors"):
            FrozenClip.load(ClipConfig(model="sim-clip", weights=name))
    assert not Path("ran-code").exists()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    state = dict(random_open_clip().state_dict())
    state["visual.proj"] = torch.zeros(192, 64)
    del state["visual.ln_post.bias"]
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="are not those of 'sim-clip': 2 of 80 tensors do not fit"):
        FrozenClip.load(ClipConfig(model="sim-clip", weights=str(tmp_path / "other.safetensors")))


def test_missing_weights_say_how_to_give_them() -> None:
    with pytest.raises(CheckpointError, match=r"'nowhere.safetensors' of CLIP 'ViT-B-16'.*openai.*--clip-weights"):
        FrozenClip.load(ClipConfig(model="ViT-B-16", weights="nowhere.safetensors"))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    config = save_clip_weights(tmp_path / "clip.safetensors")
    content = (tmp_path / "clip.safetensors").read_bytes()
    for length in (0, 5, 1000, len(content) - 1):
        (tmp_path / "clip.safetensors").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated, damaged"):
            FrozenClip.load(config)


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object) -> str:
        raise OSError("network is unreachable")

    monkeypatch.setattr(open_clip, "download_pretrained", no_network)
    with pytest.raises(CheckpointError, match=r"could not be downloaded \(network is unreachable\).*--clip-weights"):
        FrozenClip.load(ClipConfig())


def test_weights_with_another_activation_or_normalisation_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"use clip\.model: ViT-B-16-quickgelu"):
        FrozenClip.load(ClipConfig(model="ViT-B-16", weights="openai"))
    with pytest.raises(ConfigError, match=r"set clip\.image_mean: \[0.485, 0.456, 0.406\]"):
        FrozenClip.load(ClipConfig(model="ViT-H-14-CLIPA", weights="datacomp1b"))


@pytest.mark.parametrize(
    ("model", "kind"),
    [("RN50", "ResNet"), ("convnext_base", "timm's convnext_base"), ("coca_ViT-B-32", "pooling|CoCa")],
)
def test_towers_without_patch_tokens_are_refused(model: str, kind: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"'{model}': expected an image tower that is a plain ViT, got .*({kind})"
    ):
        FrozenClip.load(ClipConfig(model=model, weights=None))


def test_text_towers_of_another_kind_are_refused_only_where_text_is_needed() -> None:
    with pytest.raises(CheckpointError, match="own causal text tower"):
        FrozenClip.load(ClipConfig(model="ViT-H-14-CLIPA", weights=None), text=True)


def test_unknown_models_name_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"CLIP model 'ViT-Q-99'.*sim-clip.*ViT-B-16"):
        load_model_config("ViT-Q-99")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_model_config(str(tmp_path / "bad.json"))
    (tmp_path / "other.json").write_text(json.dumps({"embed_dim": 3}))
    with pytest.raises(ConfigError, match="vision_cfg"):
        load_model_config(str(tmp_path / "other.json"))


def test_sizes_of_the_models() -> None:
    base = dimensions(load_model_config("ViT-B-16"))
    assert (base.width, base.embed_dim, base.text_width, base.patch_px) == (768, 512, 512, 16)
    stand_in = dimensions(load_model_config(str(config_file("sim-clip", "clip", ".json"))))
    assert (stand_in.width, stand_in.embed_dim, stand_in.text_width, stand_in.patch_px) == (192, 128, 64, 16)
