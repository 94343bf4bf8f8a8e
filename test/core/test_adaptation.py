"""The training engine: what each step trains, exact resuming, and what it does with bad input.

Networks are tiny and CLIP is the stand-in's architecture at random: the engine is tested, not what it learns.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
import tiny_run
import torch

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.checkpoint import load_newest_state, save_state, split_parameters
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.config import parse_config
from clip2uda_core.errors import CheckpointError, Clip2udaError, ConfigError, DataError
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter, build_network
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.checkpoint import load_checkpoint
from clip2uda_core.paths import share_dir
from clip2uda_core.types import Frame, PointCloud

METHODS = sorted(path.stem for path in (share_dir() / "config" / "adapt").glob("*.yaml"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_its_model_segments(method: str, tmp_path: Path) -> None:
    config, teacher, given = tiny_run.config(method, 2), None, None
    if config.teacher is not None:
        name = "clip2uda" if config.teacher == "given" else config.teacher
        first = tiny_run.adapter(tiny_run.config(name, 1), tmp_path / "teacher")
        assert first.fit()
        teacher = first.segmenter()
        first.save_model(tmp_path / "teacher.safetensors")
        given = load_checkpoint(tmp_path / "teacher.safetensors")
    adapter = tiny_run.adapter(config, tmp_path, teacher, given if config.initial == "given" else None)
    assert adapter.fit()
    adapter.save_model(tmp_path / "model.safetensors")
    segmenter = Segmenter.from_checkpoint(tmp_path / "model.safetensors", "cpu")
    prediction = segmenter.segment(tiny_run.TARGET[0])
    assert (prediction.labels != 255).all()
    assert prediction.seen.any() == (method != "source_only_3d")
    assert np.array_equal(prediction.labels, adapter.segmenter().segment(tiny_run.TARGET[0]).labels)
    trained_on = "3 frames of town0" if config.losses.use_source else "adapted to 3 frames of town100"
    assert segmenter.training.startswith(f"{method}, 2 steps, seed 0: {trained_on}")


def test_losses_of_clip2uda_are_those_of_the_method(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config("clip2uda", 1), tmp_path)
    adapter.fit()
    expected = {"step", "prompt_source", "prompt_target", "segmentation_2d", "segmentation_3d"}
    expected |= {f"cross_modal_{modality}_{domain}" for modality in ("2d", "3d") for domain in ("source", "target")}
    assert set(tiny_run.log(tmp_path)[0]) == expected


def test_no_weight_of_clip_changes_and_none_is_trained_or_saved(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config(), tmp_path)
    clip = adapter._clip
    assert clip is not None
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    adapter.fit(tiny_run.until(3, adapter))
    for name, value in clip.state_dict().items():
        assert torch.equal(value, before[name]), name
    frozen = {parameter.data_ptr() for parameter in clip.parameters()}
    for scheduler in adapter.state.schedulers:
        for group in scheduler.optimizer.param_groups:
            assert not frozen & {parameter.data_ptr() for parameter in group["params"]}
    saved = load_newest_state(tmp_path / "states")
    assert saved is not None
    assert not [name for name in saved["network"] if name.startswith(("visual", "text.", "clip"))]


def test_the_two_steps_share_no_weight_and_miss_none(tmp_path: Path) -> None:
    network = tiny_run.adapter(tiny_run.config(), tmp_path).network
    prompt, (of_points, of_images) = split_parameters(network)
    everything = [id(parameter) for parameter in network.parameters()]
    assert sorted(map(id, [*prompt, *of_points, *of_images])) == sorted(everything)


def test_a_network_of_points_alone_has_nothing_for_images() -> None:
    network = build_network(ModelConfig(branches="3d"), LabelSpace.load("street8"), clip=None)
    prompt, (of_points,) = split_parameters(network)
    assert prompt == []
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"sparse_unet", "heads_3d"}
    assert len(of_points) == len(list(network.parameters()))


def test_each_step_gives_gradients_to_its_own_modules_alone(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config(), tmp_path)
    iteration, network = adapter._iteration, adapter.network.train()
    passes = [iteration.look(next(batches), domain) for domain, batches in adapter._batches().items()]

    def taught(losses: dict[str, torch.Tensor]) -> set[str]:
        network.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        return {name for name, parameter in network.named_parameters() if parameter.grad is not None}

    step_a = taught(iteration.learn_prompts(passes))
    assert {"prompts.source", "prompts.target", "adapter.gamma"} <= step_a
    assert {name.split(".")[0] for name in step_a} == {"prompts", "adapter"}
    step_b = taught(iteration.learn_representations(passes))
    assert {name.split(".")[0] for name in step_b} == {"decoder", "heads_2d", "sparse_unet", "heads_3d"}
    assert step_a | step_b == {name for name, _ in network.named_parameters()}


def test_joint_lets_the_representations_teach_the_prompts(tmp_path: Path) -> None:
    silent = ("losses.prompt_source=0", "losses.prompt_target=0")
    for schedule, moves in (("joint", True), ("alternate", False)):
        adapter = tiny_run.adapter(tiny_run.config("clip2uda", 1, f"schedule={schedule}", *silent), tmp_path / schedule)
        before = adapter.network.prompts.source.clone()
        adapter.fit()
        assert torch.equal(adapter.network.prompts.source, before) != moves


def test_joint_schedule_has_the_same_losses(tmp_path: Path) -> None:
    for schedule in ("alternate", "joint"):
        tiny_run.adapter(tiny_run.config("clip2uda", 1, f"schedule={schedule}"), tmp_path / schedule).fit()
    alternate, joint = tiny_run.log(tmp_path / "alternate")[0], tiny_run.log(tmp_path / "joint")[0]
    assert alternate.keys() == joint.keys()
    # Nothing has moved before the first step (a); after it only the text of step (b) differs.
    assert joint["prompt_source"] == alternate["prompt_source"]
    assert joint["segmentation_3d"] == alternate["segmentation_3d"]


def test_with_and_without_the_cache_losses_agree_within_bfloat16(tmp_path: Path) -> None:
    flat = "augment.image={color_jitter: 0}"
    tiny_run.adapter(tiny_run.config("clip2uda", 1, flat), tmp_path / "cached").fit()
    tiny_run.adapter(tiny_run.config("clip2uda", 1, flat, "cache.memory_gb=0"), tmp_path / "computed").fit()
    cached, computed = tiny_run.log(tmp_path / "cached")[0], tiny_run.log(tmp_path / "computed")[0]
    assert cached == pytest.approx(computed, rel=0.02)


def test_a_crop_without_any_point_that_a_camera_sees_trains_on(tmp_path: Path) -> None:
    """Half a scan may lie behind the camera; then 2D has nothing to learn from, and nothing breaks."""
    behind = tiny_run.SOURCE[0].cloud.xyz_m[tiny_run.SOURCE[0].cloud.xyz_m[:, 0] < -1]
    labels = np.zeros(len(behind), np.uint8)
    ahead = np.array([[10, 0, 0]], np.float32)
    cloud = PointCloud(np.concatenate([behind, ahead]), 0, labels=np.append(labels, np.uint8(1)))
    frame = Frame(cloud, tiny_run.SOURCE[0].views, "behind[0]")
    adapter = Adapter(tiny_run.config("clip2uda", 6, "loader.crop=half"), tmp_path, "cpu")
    adapter.setup([frame], [frame])
    adapter.build()
    adapter.fit()
    losses = [line["segmentation_2d"] for line in tiny_run.log(tmp_path)]
    assert 0 in losses
    assert max(losses) > 0


def test_learning_rates_decay_at_their_shares_of_the_run(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config(), tmp_path)
    rates = []
    for _ in range(10):
        rates.append(adapter.state.optimizer.param_groups[0]["lr"])
        for scheduler in adapter.state.schedulers:
            scheduler.optimizer.step()
        adapter.state.advance()
    assert rates == pytest.approx([1e-3] * 8 + [1e-4, 1e-5])


def test_points_alone_learn_what_can_be_learned(tmp_path: Path) -> None:
    """The intensity of a point tells its class."""
    frames = [
        Frame(PointCloud(f.cloud.xyz_m, 0, intensity=f.cloud.labels.astype(np.float32), labels=f.cloud.labels))  # type: ignore[union-attr]
        for f in tiny_run.SOURCE
    ]
    prepare = "model.prepare={voxel_size_m: 0.2, point_features: [constant, intensity], intensity_full_scale: 8}"
    config = tiny_run.config("source_only_3d", 60, prepare, "optimizer.learning_rate=0.02", "loader.crop=none")
    adapter = Adapter(config, tmp_path, "cpu")
    adapter.setup(frames, None)
    adapter.build()
    adapter.fit()
    losses = [line["segmentation_3d"] for line in tiny_run.log(tmp_path)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config(), tmp_path)
    adapter.fit(tiny_run.until(1, adapter))
    with torch.no_grad():
        adapter.network.heads_3d.main.weight[0, 0] = torch.nan
    with pytest.raises(Clip2udaError, match=r"iteration 2: .*nan.*town0\[\d\], town0\[\d\]; town100\[\d\]"):
        adapter.fit()
    saved = torch.load(tmp_path / "not_finite.pt", weights_only=True)
    assert saved[0]["sources"][0].startswith("town0")
    assert load_newest_state(tmp_path / "states")["step"] == 1  # type: ignore[index]


def test_a_state_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_state(tmp_path / "file", 1, {"step": 1})


def test_a_source_without_labels_of_the_space_is_refused(tmp_path: Path) -> None:
    xyz_m = tiny_model.scattered_points(50)
    nothing = PointCloud(xyz_m, 0, labels=np.full(50, 255, np.uint8))
    frames = [Frame(nothing, (tiny_model.camera_view(),), "void[0]")]
    with pytest.raises(DataError, match="none of its points has a label of 'street8'"):
        Adapter(tiny_run.config(), tmp_path, "cpu").setup(frames, tiny_run.TARGET)


def test_a_class_that_the_source_lacks_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cloud = PointCloud(tiny_run.SOURCE[0].cloud.xyz_m, 0, labels=np.zeros(300, np.uint8))
    Adapter(tiny_run.config(), tmp_path, "cpu").setup(
        [Frame(cloud, tiny_run.SOURCE[0].views, "roads[0]")], tiny_run.TARGET
    )
    assert "no point of sidewalk, terrain" in caplog.text


def test_adapting_without_a_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no"):
        Adapter(tiny_run.config(), tmp_path, "cpu").setup(tiny_run.SOURCE, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loses": {}}, "loses: unknown setting"),
        ({"model": {"branches": "3d"}}, "must be 0"),
        ({"steps": 0}, "steps"),
        ({"losses": {"min_confidence": 1.0}}, r"losses\.min_confidence"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(AdaptConfig, {"method": "mine", **settings}, "mine.yaml")
