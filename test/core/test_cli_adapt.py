"""`clip2uda adapt`: its options, one run of it, and how it ends when it is asked to."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_model
import typer
from tiny_run import TINY
from typer.testing import CliRunner, Result

from clip2uda_core.adaptation.judgement import is_judged
from clip2uda_core.adaptation.methods import load_method
from clip2uda_core.adaptation.tensorboard import TensorBoard
from clip2uda_core.cli.adapt import adapt, check_out, interrupt_as_request
from clip2uda_core.cli.durations import parse_duration_s
from clip2uda_core.errors import Clip2udaError, ConfigError
from clip2uda_core.inference.segmenter import Segmenter


@pytest.mark.parametrize(
    ("setting", "said"),
    [("steps", "KEY=VALUE"), ("steps.more=1", "holds no settings"), ("losses.colour=1", r"losses\.colour: unknown")],
)
def test_wrong_overrides_are_refused(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_method("clip2uda", {"steps": 3}, None, [setting])


def test_clip_is_what_was_asked_for_then_the_methods_own_then_the_stand_in(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("method: own\nmodel: {clip: {model: ViT-L-14, weights: openai}}\n")
    assert load_method(str(own), {}, "ViT-B-32:openai", []).model.clip.model == "ViT-B-32"
    assert load_method(str(own), {}, None, []).model.clip.model == "ViT-L-14"
    assert load_method("clip2uda", {}, None, ["model.clip.model=ViT-B-32"]).model.clip.model == "ViT-B-32"
    assert load_method("clip2uda", {}, None, []).model.clip.weights == "sim-clip"


def test_a_budget_holds_where_the_method_says_nothing() -> None:
    assert load_method("clip2uda", {}, None, [], "cpu").loader.batch_size == 1
    assert load_method("source_only_3d", {}, None, [], "cpu").steps == 1200
    assert load_method("clip2uda", {"steps": 7}, None, [], "cpu").steps == 7


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


def _command(out: Path, *options: str, settings: list[str] = TINY) -> list[str]:
    return ["--out", str(out), *options, *(part for setting in settings for part in ("--set", setting))]


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(adapt)
    return CliRunner().invoke(app, list(arguments))


def test_one_command_trains_adapts_evaluates_and_resumes(tmp_path: Path) -> None:
    sequence, out = str(_write_sequence(tmp_path / "00")), tmp_path / "run"
    recordings = [part for kind in ("source", "target", "val", "test") for part in (f"--{kind}", sequence)]
    command = _command(out, *recordings, "--steps", "3")

    stopped = _run(*command, "--time-budget", "0")
    assert stopped.exit_code == 0, stopped.output
    assert json.loads((out / "report.json").read_text())["steps"] == 0
    finished = _run(*command, "--resume")
    assert finished.exit_code == 0, finished.output
    assert "fused (seen)" in finished.output
    assert "agreement_2d_3d" in finished.output
    report = json.loads((out / "report.json").read_text())
    assert report["steps"] == 3
    assert report["test"] == sequence
    last = report["last"]
    assert set(last["iou_percent"]) == {"2d", "3d", "fused", "xm", "all"}
    assert last["labelled_points"]["all"] == 900
    assert last["iou_percent"]["all"]["classes"]["building"] is None
    assert report["best"]["step"] == 3
    assert Segmenter.from_checkpoint(out / "model.safetensors", "cpu").labels.name == "street8"
    again = _run(*command)
    assert isinstance(again.exception, ConfigError)


def test_several_recordings_are_one_domain(tmp_path: Path) -> None:
    first, second = (str(_write_sequence(tmp_path / name)) for name in ("00", "01"))
    done = _run(
        *_command(tmp_path / "run", "--method", "source_only", "--source", first, "--source", second, "--steps", "1")
    )
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["source"] == f"{first} + {second}"
    assert report["target"] is None
    assert report["last"] is None
    card = Segmenter.from_checkpoint(tmp_path / "run" / "model.safetensors", "cpu").training
    assert "6 frames" in card


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "source_only"], "no --source"),
        (["--source", "synthetic:day_to_night"], "no --target"),
        (["--method", "oracle", "--source", "synthetic:day_to_night"], "no --target"),
        (["--scenario", "sim_to_kitti"], "no --target"),
        (["--scenario", "day_to_night", "--test", "nowhere.mcap"], "nowhere.mcap: no such file"),
        (["--scenario", "dusk_to_dawn"], "no file 'dusk_to_dawn'"),
    ],
)
def test_a_missing_recording_is_told_before_anything_is_read(tmp_path: Path, options: list[str], said: str) -> None:
    refused = _run(*_command(tmp_path / "run", *options, settings=[]))
    assert isinstance(refused.exception, Clip2udaError)
    assert said in str(refused.exception)
    assert not (tmp_path / "run").exists()


def test_fifty_steps_from_day_to_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the documentation, with few frames, coarse voxels and small images: losses fall, and what was
    learned labels the night better than chance."""
    monkeypatch.setenv("CLIP2UDA_CACHE", os.environ.get("CLIP2UDA_CACHE", str(tmp_path / "cache")))
    settings = ["loader.batch_size=1", "loader.workers=0", "model.prepare={voxel_size_m: 0.3, image_max_width_px: 320}"]
    settings += ["optimizer.learning_rate=0.003"]
    options = ["--scenario", "day_to_night", "--method", "clip2uda", "--steps", "50", "--max-frames", "4"]
    done = _run(*_command(tmp_path / "run", *options, settings=settings))
    assert done.exit_code == 0, done.output
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 50
    for loss, share in (("segmentation_2d", 0.8), ("segmentation_3d", 0.8), ("prompt_source", 0.97)):
        first, last = (sum(line[loss] for line in part) / 10 for part in (log[:10], log[-10:]))
        assert last < share * first, loss
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["best"]["step"] == 50
    iou = report["last"]["iou_percent"]
    assert iou["fused"]["mean"] > 15
    assert (tmp_path / "run" / "pictures" / "frame_3.png").exists()


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match="pip install"):
        TensorBoard(tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h1s", 3601), ("1.5h", 5400), ("10", 600), ("0", 0)],
)
def test_durations_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration_s("--time-budget", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "30 m", "30min", "m", "-5", "30m1h", "1h30", "nan", "inf", "1e3"])
def test_what_is_no_duration_is_refused_before_anything_is_read(text: str, tmp_path: Path) -> None:
    refused = _run("--out", str(tmp_path / "run"), "--scenario", "day_to_night", "--time-budget", text)
    assert isinstance(refused.exception, ConfigError)
    assert f"--time-budget {text}: expected a duration, as in 90s, 30m, 2h or 1h30m" in str(refused.exception)


def test_a_run_is_judged_when_its_page_is_newer_than_its_report(tmp_path: Path) -> None:
    assert not is_judged(tmp_path)
    for name, at in (("report.json", 100), ("report.html", 101)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert is_judged(tmp_path)
    os.utime(tmp_path / "report.json", (102, 102))  # the run went on after its time was over
    assert not is_judged(tmp_path)


def test_two_runs_do_not_mix_in_one_folder(tmp_path: Path) -> None:
    check_out(tmp_path / "new", resume=False)
    with pytest.raises(ConfigError, match="no run"):
        check_out(tmp_path / "new", resume=True)
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(ConfigError, match="not empty"):
        check_out(tmp_path, resume=False)
    check_out(tmp_path, resume=True)


@pytest.fixture
def interrupts_raise() -> Iterator[None]:
    """As in a terminal: a shell that starts a process in the background makes it ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_raise")
def test_the_first_interrupt_is_a_request_and_a_later_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with interrupt_as_request() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        now_s += 0.2
        signal.raise_signal(signal.SIGINT)  # the same Ctrl-C, passed on by a launcher
        now_s += 1.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
