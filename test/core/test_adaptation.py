"""The training engine: what each step trains, exact resuming, and what it does with bad input.

Networks are tiny and CLIP is the stand-in's architecture at random: the engine is tested, not what it learns.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_model
import torch
import typer
from typer.testing import CliRunner

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.checkpoint import check_identity, load_newest_state, save_state, split_parameters
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.cli.adapt import adapt, check_out, interrupt_as_request, load_method
from clip2uda_core.config import parse_config
from clip2uda_core.errors import CheckpointError, Clip2udaError, ConfigError, DataError
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter, build_network
from clip2uda_core.labels import LabelSpace
from clip2uda_core.paths import share_dir
from clip2uda_core.types import Frame, PointCloud

METHODS = sorted(path.stem for path in (share_dir() / "config" / "adapt").glob("*.yaml"))
TINY = [
    "model.clip={model: sim-clip, weights: null, precision: fp32}",
    "model.prepare={voxel_size_m: 1.0}",
    "model.network.decoder={channels: 8}",
    "model.network.adapter={width: 16, heads: 2, layers: 1}",
    "model.network.sparse_unet={channels: 4, levels: 2}",
    "loader.batch_size=2",
    "loader.workers=0",
    "losses.min_confidence=0",
]


def _config(method: str = "clip2uda", steps: int = 10, *settings: str) -> AdaptConfig:
    clip_settings = [s for s in TINY if method != "source_only_3d" or "min_confidence" not in s]
    return load_method(method, {"steps": steps}, None, [*clip_settings, *settings])


def _frames(count: int, seed: int) -> list[Frame]:
    """Points whose class is how high they lie, seen by a small camera."""
    frames = []
    for number in range(count):
        xyz_m = tiny_model.scattered_points(300, seed + number)
        labels = np.clip(xyz_m[:, 2] + 4, 0, 7).astype(np.uint8)
        view = tiny_model.camera_view(width_px=48, height_px=32)
        frames.append(Frame(PointCloud(xyz_m, number, labels=labels), (view,), f"town{seed}[{number}]"))
    return frames


SOURCE, TARGET = _frames(3, 0), _frames(3, 100)


def _adapter(config: AdaptConfig, out: Path) -> Adapter:
    adapter = Adapter(config, out, "cpu")
    adapter.setup(SOURCE, TARGET)
    adapter.build()
    return adapter


def _until(step: int, adapter: Adapter) -> Callable[[], bool]:
    return lambda: adapter.state.step >= step


def _log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time_s", "waited_s")} for line in lines]


def _assert_same_state(first: Any, second: Any, where: str = "state") -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            _assert_same_state(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            _assert_same_state(a, b, f"{where}[{index}]")
    else:
        assert first == second, where


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_its_model_segments(method: str, tmp_path: Path) -> None:
    adapter = _adapter(_config(method, 2), tmp_path)
    assert adapter.fit()
    adapter.save_model(tmp_path / "model.safetensors")
    segmenter = Segmenter.from_checkpoint(tmp_path / "model.safetensors", "cpu")
    prediction = segmenter.segment(TARGET[0])
    assert (prediction.labels != 255).all()
    assert prediction.seen.any() == (method != "source_only_3d")
    assert np.array_equal(prediction.labels, adapter.segmenter().segment(TARGET[0]).labels)
    assert segmenter.training.startswith(f"{method}, 2 steps, seed 0: 3 frames of town0")


def test_losses_of_clip2uda_are_those_of_the_method(tmp_path: Path) -> None:
    adapter = _adapter(_config("clip2uda", 1), tmp_path)
    adapter.fit()
    expected = {"step", "prompt_source", "prompt_target", "segmentation_2d", "segmentation_3d"}
    expected |= {f"cross_modal_{modality}_{domain}" for modality in ("2d", "3d") for domain in ("source", "target")}
    assert set(_log(tmp_path)[0]) == expected


def test_no_weight_of_clip_changes_and_none_is_trained_or_saved(tmp_path: Path) -> None:
    adapter = _adapter(_config(), tmp_path)
    clip = adapter._clip
    assert clip is not None
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    adapter.fit(_until(3, adapter))
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
    network = _adapter(_config(), tmp_path).network
    prompt, representation = split_parameters(network)
    everything = [id(parameter) for parameter in network.parameters()]
    assert sorted(map(id, [*prompt, *representation])) == sorted(everything)


def test_a_network_of_points_alone_has_nothing_for_images() -> None:
    network = build_network(ModelConfig(branches="3d"), LabelSpace.load("street8"), clip=None)
    prompt, representation = split_parameters(network)
    assert prompt == []
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"sparse_unet", "heads_3d"}
    assert len(representation) == len(list(network.parameters()))


def test_each_step_gives_gradients_to_its_own_modules_alone(tmp_path: Path) -> None:
    adapter = _adapter(_config(), tmp_path)
    iteration, network = adapter._iteration, adapter.network.train()
    assert adapter._target is not None
    source, target = (
        next(adapter._batches(adapter._source, "source")),
        next(adapter._batches(adapter._target, "target")),
    )
    passes = [iteration.look(source, "source"), iteration.look(target, "target")]

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
        adapter = _adapter(_config("clip2uda", 1, f"schedule={schedule}", *silent), tmp_path / schedule)
        before = adapter.network.prompts.source.clone()
        adapter.fit()
        assert torch.equal(adapter.network.prompts.source, before) != moves


def test_joint_schedule_has_the_same_losses(tmp_path: Path) -> None:
    for schedule in ("alternate", "joint"):
        _adapter(_config("clip2uda", 1, f"schedule={schedule}"), tmp_path / schedule).fit()
    alternate, joint = _log(tmp_path / "alternate")[0], _log(tmp_path / "joint")[0]
    assert alternate.keys() == joint.keys()
    # Nothing has moved before the first step (a); after it only the text of step (b) differs.
    assert joint["prompt_source"] == alternate["prompt_source"]
    assert joint["segmentation_3d"] == alternate["segmentation_3d"]


def test_ten_steps_equal_five_and_five(tmp_path: Path) -> None:
    _adapter(_config(), tmp_path / "whole").fit()
    first = _adapter(_config(), tmp_path / "parts")
    assert not first.fit(_until(5, first))
    second = _adapter(_config(), tmp_path / "parts")
    assert second.state.step == 5
    assert second.fit()
    whole, parts = (load_newest_state(tmp_path / run / "states") for run in ("whole", "parts"))
    _assert_same_state(whole, parts)
    assert _log(tmp_path / "whole") == _log(tmp_path / "parts")
    assert [line["step"] for line in _log(tmp_path / "parts")] == list(range(1, 11))


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_adaptation import _adapter, _config
adapter = _adapter(_config("clip2uda", 12, "save_every=2"), Path({out!r}))
adapter.fit(lambda: print(adapter.state.step, flush=True))
"""


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), out=str(tmp_path / "killed"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "7":
            assert process.poll() is None, "the run ended before it could be killed"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    config = _config("clip2uda", 12, "save_every=2")
    resumed = _adapter(config, tmp_path / "killed")
    assert 6 <= resumed.state.step <= 12
    resumed.fit()
    _adapter(config, tmp_path / "whole").fit()
    _assert_same_state(
        load_newest_state(tmp_path / "killed" / "states"), load_newest_state(tmp_path / "whole" / "states")
    )
    assert _log(tmp_path / "killed") == _log(tmp_path / "whole")


def test_with_and_without_the_cache_losses_agree_within_bfloat16(tmp_path: Path) -> None:
    flat = "augment.image={color_jitter: 0}"
    _adapter(_config("clip2uda", 1, flat), tmp_path / "cached").fit()
    _adapter(_config("clip2uda", 1, flat, "cache.memory_gb=0"), tmp_path / "computed").fit()
    cached, computed = _log(tmp_path / "cached")[0], _log(tmp_path / "computed")[0]
    assert cached == pytest.approx(computed, rel=0.02)


def test_a_crop_without_any_point_that_a_camera_sees_trains_on(tmp_path: Path) -> None:
    """Half a scan may lie behind the camera; then 2D has nothing to learn from, and nothing breaks."""
    behind = SOURCE[0].cloud.xyz_m[SOURCE[0].cloud.xyz_m[:, 0] < -1]
    labels = np.zeros(len(behind), np.uint8)
    ahead = np.array([[10, 0, 0]], np.float32)
    cloud = PointCloud(np.concatenate([behind, ahead]), 0, labels=np.append(labels, np.uint8(1)))
    frame = Frame(cloud, SOURCE[0].views, "behind[0]")
    adapter = Adapter(_config("clip2uda", 6, "loader.crop=half"), tmp_path, "cpu")
    adapter.setup([frame], [frame])
    adapter.build()
    adapter.fit()
    losses = [line["segmentation_2d"] for line in _log(tmp_path)]
    assert 0 in losses
    assert max(losses) > 0


def test_learning_rates_decay_at_their_shares_of_the_run(tmp_path: Path) -> None:
    adapter = _adapter(_config(), tmp_path)
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
        for f in SOURCE
    ]
    prepare = "model.prepare={voxel_size_m: 0.2, point_features: [constant, intensity], intensity_full_scale: 8}"
    config = _config("source_only_3d", 60, prepare, "optimizer.learning_rate=0.02", "loader.crop=none")
    adapter = Adapter(config, tmp_path, "cpu")
    adapter.setup(frames, None)
    adapter.build()
    adapter.fit()
    losses = [line["segmentation_3d"] for line in _log(tmp_path)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(tmp_path: Path) -> None:
    adapter = _adapter(_config(), tmp_path)
    adapter.fit(_until(1, adapter))
    with torch.no_grad():
        adapter.network.heads_3d.main.weight[0, 0] = torch.nan
    with pytest.raises(Clip2udaError, match=r"iteration 2: .*nan.*town0\[\d\], town0\[\d\]; town100\[\d\]"):
        adapter.fit()
    saved = torch.load(tmp_path / "not_finite.pt", weights_only=True)
    assert saved[0]["sources"][0].startswith("town0")
    assert load_newest_state(tmp_path / "states")["step"] == 1  # type: ignore[index]


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    adapter = _adapter(_config(), tmp_path)
    adapter.fit(_until(1, adapter))
    with pytest.raises(ConfigError, match=r"config\.optimizer\.learning_rate was 0\.001, is now 0\.1"):
        _adapter(_config("clip2uda", 10, "optimizer.learning_rate=0.1"), tmp_path)
    _adapter(_config("clip2uda", 10, "save_every=3", "cache.memory_gb=0.1"), tmp_path)  # these change no result


def test_a_damaged_state_falls_back_on_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state_00000002.pt", "state_00000003.pt"]
    (tmp_path / "state_00000003.pt").write_bytes(b"\x80half")
    assert load_newest_state(tmp_path) == {"step": 2}
    (tmp_path / "state_00000002.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of its 2 training states"):
        load_newest_state(tmp_path)


def test_a_state_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_state(tmp_path / "file", 1, {"step": 1})


def test_every_difference_of_a_resumed_run_is_named() -> None:
    with pytest.raises(ConfigError, match=r"a\.b was 1, is now 2; c was 'not there', is now 3"):
        check_identity({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})


def test_a_source_without_labels_of_the_space_is_refused(tmp_path: Path) -> None:
    xyz_m = tiny_model.scattered_points(50)
    nothing = PointCloud(xyz_m, 0, labels=np.full(50, 255, np.uint8))
    frames = [Frame(nothing, (tiny_model.camera_view(),), "void[0]")]
    with pytest.raises(DataError, match="none of its points has a label of 'street8'"):
        Adapter(_config(), tmp_path, "cpu").setup(frames, TARGET)


def test_a_class_that_the_source_lacks_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cloud = PointCloud(SOURCE[0].cloud.xyz_m, 0, labels=np.zeros(300, np.uint8))
    Adapter(_config(), tmp_path, "cpu").setup([Frame(cloud, SOURCE[0].views, "roads[0]")], TARGET)
    assert "no point of sidewalk, terrain" in caplog.text


def test_adapting_without_a_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no"):
        Adapter(_config(), tmp_path, "cpu").setup(SOURCE, None)


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


@pytest.mark.parametrize(
    ("setting", "said"),
    [("steps", "KEY=VALUE"), ("steps.more=1", "holds no settings"), ("losses.colour=1", r"losses\.colour: unknown")],
)
def test_wrong_overrides_are_refused(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_method("clip2uda", {"steps": 3}, None, [setting])


def test_clip_option_needs_model_and_weights() -> None:
    assert load_method("clip2uda", {}, "ViT-B-32:openai", []).model.clip.weights == "openai"
    with pytest.raises(ConfigError, match="MODEL:WEIGHTS"):
        load_method("clip2uda", {}, "ViT-B-32", [])


def _write_sequence(folder: Path) -> Path:
    """A SemanticKITTI sequence of three scans: a road, label 40, and what stands on it, a car, label 10."""
    for name in ("velodyne", "labels", "image_2"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        xyz_m = tiny_model.scattered_points(300, number)
        np.column_stack([xyz_m, np.ones(300)]).astype("<f4").tofile(folder / "velodyne" / f"{number:06d}.bin")
        np.where(xyz_m[:, 2] < 0, 40, 10).astype("<u4").tofile(folder / "labels" / f"{number:06d}.label")
        cv2.imwrite(
            str(folder / "image_2" / f"{number:06d}.png"), tiny_model.camera_view(width_px=48, height_px=32).image
        )
    calibration = "P2: 24 0 23.5 0 0 24 15.5 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    (folder / "calib.txt").write_text(calibration)
    return folder


def test_one_command_trains_adapts_evaluates_and_resumes(tmp_path: Path) -> None:
    sequence, out = str(_write_sequence(tmp_path / "00")), tmp_path / "run"
    command = ["--source", sequence, "--target", sequence, "--test", sequence, "--out", str(out), "--steps", "3"]
    command += [part for setting in TINY for part in ("--set", setting)]
    app = typer.Typer()
    app.command()(adapt)

    stopped = CliRunner().invoke(app, [*command, "--time-budget", "0"])
    assert stopped.exit_code == 0, stopped.output
    assert json.loads((out / "report.json").read_text())["steps"] == 0
    finished = CliRunner().invoke(app, [*command, "--resume"])
    assert finished.exit_code == 0, finished.output
    report = json.loads((out / "report.json").read_text())
    assert report["steps"] == 3
    assert set(report["iou_percent"]) == {"2d", "3d", "fused", "all"}
    assert report["labelled_points"]["all"] == 900
    assert report["iou_percent"]["all"]["classes"]["building"] is None
    assert Segmenter.from_checkpoint(out / "model.safetensors", "cpu").labels.name == "street8"
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, ConfigError)


def test_two_runs_do_not_mix_in_one_folder(tmp_path: Path) -> None:
    check_out(tmp_path / "new", resume=False)
    with pytest.raises(ConfigError, match="no run"):
        check_out(tmp_path / "new", resume=True)
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(ConfigError, match="not empty"):
        check_out(tmp_path, resume=False)
    check_out(tmp_path, resume=True)


def test_the_first_interrupt_is_a_request_and_the_second_ends() -> None:
    with interrupt_as_request() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
