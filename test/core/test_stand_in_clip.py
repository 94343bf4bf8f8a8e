import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.models.clip_weights import ClipConfig
from clip2uda_core.paths import share_dir
from clip2uda_core.simulation.cache import FrameCache
from clip2uda_core.simulation.scenario import RecordedDomainConfig, load_scenario
from clip2uda_core.simulation.stand_in_clip.captions import CONCEPTS, Caption, Content, truth, write_caption
from clip2uda_core.simulation.stand_in_clip.crops import CropSampler, patch_shares, subject_of
from clip2uda_core.simulation.stand_in_clip.files import TrainingLog, save_stand_in
from clip2uda_core.simulation.stand_in_clip.training import (
    StandInTrainingConfig,
    contrastive_loss,
    image_tokens,
    patch_loss,
    train_stand_in,
)
from clip2uda_core.simulation.stand_in_clip.worlds import (
    CHECK,
    FIRST_SEED,
    LOOKS,
    TRAINING,
    StreetImage,
    WorldsConfig,
    street_images,
)
from clip2uda_core.simulation.stand_in_clip.zero_shot import zero_shot
from clip2uda_core.simulation.town import load_town

SHIPPED = ClipConfig(model="sim-clip", weights="sim-clip", precision="fp32")
ROAD, SIDEWALK, GRASS, BUILDING, TREE, CAR, PERSON, POLE, SKY = range(9)


@pytest.fixture(scope="module")
def held_out() -> list[StreetImage]:
    """Four images each of a day and a night, made anew, of the streets that are kept for the check."""
    worlds = WorldsConfig(looks=("day", "night"), towns=1, frames=2)
    return list(street_images("check", worlds, FrameCache(folder=None), workers=1))


def shares(**by_name: float) -> np.ndarray:
    values = np.zeros(len(CONCEPTS))
    for name, share in by_name.items():
        values[CONCEPTS.index(name)] = share
    return values


def test_shipped_weights_tell_held_out_classes_by_name(held_out: list[StreetImage]) -> None:
    clip = FrozenClip.load(SHIPPED, text=True)
    result = zero_shot(clip, held_out, LabelSpace.load("street8"), crops_per_class=12, seed=3)
    assert result.looks == ("day", "night")
    assert (result.accuracy(result.crops) > 3 / 8).all(), result.table()
    assert (result.accuracy(result.patches) > 2 / 8).all(), result.table()


def test_random_weights_do_not(held_out: list[StreetImage]) -> None:
    clip = FrozenClip.load(SHIPPED.model_copy(update={"weights": None}), text=True)
    result = zero_shot(clip, held_out, LabelSpace.load("street8"), crops_per_class=12, seed=3)
    assert (result.accuracy(result.crops) < 3 / 8).all(), result.table()


def test_shipped_file_is_small_and_says_how_it_was_made() -> None:
    folder = share_dir() / "config" / "clip"
    assert (folder / "sim-clip.safetensors").stat().st_size <= 20e6
    lines = [json.loads(line) for line in (folder / "sim-clip.log.jsonl").read_text().splitlines()]
    assert lines[0]["command"].startswith("clip2uda train-stand-in-clip --seed ")
    assert lines[0]["seed"] == int(lines[0]["command"].split()[3])
    assert {"steps", "packages", "simulator", "images_sha256"} <= lines[0].keys()
    assert lines[-2]["step"] == lines[0]["steps"]
    assert lines[-2]["patches"] < lines[1]["patches"]
    assert set(lines[-1]["zero_shot"]["crops"]) == set(CHECK.looks)


def test_streets_are_those_of_no_scenario() -> None:
    used = {
        part: {FIRST_SEED[part] + n for n in range(worlds.towns * len(LOOKS))}
        for part, worlds in (("train", TRAINING), ("check", CHECK))
    }
    assert not used["train"] & used["check"]
    towns = set()
    for path in (share_dir() / "config" / "scenarios").glob("*.yaml"):
        scenario = load_scenario(path.stem)
        towns |= {d.town for d in (scenario.source, scenario.target) if not isinstance(d, RecordedDomainConfig)}
    assert towns
    assert not {load_town(town).seed for town in towns} & (used["train"] | used["check"])


def test_training_lowers_the_losses_and_repeats_itself(held_out: list[StreetImage]) -> None:
    config = StandInTrainingConfig(steps=9, text_steps=10, crops=6, strips=1, warmup_steps=2)

    def run() -> tuple[list[float], dict[str, torch.Tensor]]:
        losses = []
        model = train_stand_in(held_out, config, lambda step, loss: losses.append(loss["patches"]))
        return losses, model.state_dict()

    losses, weights = run()
    again, same_weights = run()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert losses == again
    assert all(torch.equal(value, same_weights[name]) for name, value in weights.items())


def test_saved_weights_are_read_back_in_half_precision(tmp_path: Path, held_out: list[StreetImage]) -> None:
    config = StandInTrainingConfig(seed=5, steps=1, text_steps=1, crops=4, strips=1)
    log = TrainingLog(tmp_path / "w.log.jsonl")
    log.begin("clip2uda train-stand-in-clip --seed 5", config, held_out, threads=1)
    model = train_stand_in(held_out, config, log.step)
    save_stand_in(model, tmp_path / "w.safetensors")
    clip = FrozenClip.load(SHIPPED.model_copy(update={"weights": str(tmp_path / "w.safetensors")}), text=True)
    images = torch.from_numpy(held_out[0].image[None, :64, :96].copy()).permute(0, 3, 1, 2)
    features = clip.encode_images(images)
    mean, std = torch.tensor(SHIPPED.image_mean).view(3, 1, 1), torch.tensor(SHIPPED.image_std).view(3, 1, 1)
    pooled, patches = image_tokens(model.visual, (images / 255 - mean) / std)
    torch.testing.assert_close(features.pooled, pooled, atol=0.02, rtol=0.02)
    torch.testing.assert_close(features.dense.flatten(2).transpose(1, 2), patches, atol=0.02, rtol=0.02)


def test_subject_is_what_a_person_would_name() -> None:
    assert subject_of(shares(road=0.7, building=0.3)) == ROAD
    assert subject_of(shares(road=0.5, building=0.5)) is None
    assert subject_of(shares(building=0.8, pole=0.2)) == POLE
    assert subject_of(shares(building=0.9, pole=0.1)) is None
    assert subject_of(shares(person=0.4, pole=0.2, road=0.4)) == PERSON


def test_captions_are_true_of_their_own_crop_and_of_like_ones() -> None:
    night_car = Content(CAR, shares(vehicle=0.7, road=0.3), "night_rain")
    day_car = Content(CAR, shares(vehicle=0.95, building=0.05), "gray")
    rng = np.random.default_rng(0)
    for content in (night_car, day_car):
        assert all(write_caption(content, rng).holds_for(content) for _ in range(50))
    captions = [
        Caption("a car", CAR, None, None),
        Caption("a car next to a road", CAR, ROAD, None),
        Caption("a car at night", CAR, None, "night"),
        Caption("a car by day", CAR, None, "day"),
        Caption("a road", ROAD, None, None),
    ]
    assert truth(captions, [night_car, day_car]).tolist() == [
        [True, True, True, False, False],
        [True, False, False, True, False],
    ]


def test_patch_shares_count_pixels() -> None:
    concepts = np.full((32, 16), BUILDING, np.uint8)
    concepts[:4] = SKY
    found = patch_shares([concepts], 16)
    assert found.shape == (1, 2, 9)
    assert found[0, 0, SKY] == 0.25
    assert found[0, 0, BUILDING] == 0.75
    assert found[0, 1, BUILDING] == 1


def test_losses_by_hand() -> None:
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    scale = torch.tensor(math.log(2.0))
    apart = contrastive_loss(torch.stack([one, other]), torch.stack([one, other]), torch.eye(2), scale)
    assert apart.item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    both_true = contrastive_loss(torch.stack([one, one]), torch.stack([one, one]), torch.ones(2, 2), scale)
    assert both_true.item() == pytest.approx(math.log(2), abs=1e-6)
    texts = torch.stack([one, other])
    weighted = patch_loss(torch.stack([one, one]), texts, torch.eye(2), torch.tensor([1.0, 3.0]), scale)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert weighted.item() == pytest.approx((right + 3 * wrong) / 4, abs=1e-6)


def test_crops_show_their_subject_and_no_class_is_invented(held_out: list[StreetImage]) -> None:
    sampler = CropSampler(held_out)
    rng = np.random.default_rng(1)
    for concept in range(len(CONCEPTS)):
        crop = sampler.crop(concept, rng)
        assert crop is None or (crop.concepts == concept).mean() > 0.1
    only_sky = [StreetImage(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8), "day")]
    assert CropSampler(only_sky).crop(CAR, rng) is None
