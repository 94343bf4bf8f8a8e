"""`clip2uda adapt --target RECORDING` from a bag that nobody labelled to a checkpoint that the node loads.

The real drive goes through the whole command, in every format that a bag may have. Training is a few steps: what is
tested is the way, not the quality.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.convert import convert as convert_bag
from rosbags.typesys import Stores, get_typestore
from test_demo import check_what_was_published, run_demo
from typer.testing import CliRunner

from clip2uda_core.cli import app
from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.checkpoint import load_checkpoint
from clip2uda_core.paths import config_file
from clip2uda_core.types import Frame

FRAMES = 3
KITTI = "kitti_raw_2011_09_26_drive_0001"

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def drive(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the real drive as mcap."""
    bag = tmp_path_factory.mktemp("drive") / "k.mcap"
    with BagWriter(bag) as writer:
        for frame in open_source(real_data / KITTI, ReaderOptions(max_frames=FRAMES)):
            writer.write_frame(frame)
    return bag


@pytest.fixture(scope="module")
def adapted(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the drive with all defaults but its length; the source is simulated with the drive's own sensors."""
    out = tmp_path_factory.mktemp("adapted") / "run"
    adapt(drive, out)
    return out


def adapt(target: Path, out: Path, *options: str) -> str:
    words = ["adapt", "--target", str(target), "--out", str(out), "--steps", "1", "--max-frames", str(FRAMES)]
    words += ["--every", "0", "--set", "loader.workers=0", "--set", "loader.batch_size=1", *options]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rewritten(bag: Path, path: Path, storage: str, version: int, compress: str | None, mode: str) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC if path.suffix == ".bag" else Stores.ROS2_KILTED)
    convert_bag([bag], path, storage, version, compress, mode, None, store, (), (), (), ())
    return path


def test_the_source_has_the_sensors_of_the_recording(adapted: Path) -> None:
    address = f"synthetic:{adapted / 'source' / 'source_scenario.yaml'}:source:train"
    source = open_source(address, ReaderOptions(label_space=LabelSpace.load("street8")))
    simulated = next(iter(source))
    elevation = np.degrees(np.arcsin(simulated.cloud.xyz_m[:, 2] / np.linalg.norm(simulated.cloud.xyz_m, axis=1)))
    assert elevation.max() == pytest.approx(2.5, abs=1.0), "an HDL-64E looks up by 2 degrees"
    assert elevation.min() == pytest.approx(-24, abs=1.5), "and down by 24"
    labels = simulated.cloud.labels
    assert labels is not None
    ground = simulated.cloud.xyz_m[labels == 0, 2]
    assert np.median(ground) == pytest.approx(-1.73, abs=0.25), "KITTI's LiDAR is 1.73 m above the road"


def test_a_run_leaves_a_model_a_verdict_and_a_page(adapted: Path, drive: Path) -> None:
    verdict = json.loads((adapted / "verdict.json").read_text())
    chosen = (adapted / "chosen.safetensors").read_bytes()
    new = (adapted / "model.safetensors").read_bytes()
    assert (chosen == new) == (verdict["decision"] == "replace")
    assert verdict["scan_pairs"] == FRAMES - 1
    page = (adapted / "report.html").read_text()
    assert ("Keep the old checkpoint" in page) == (verdict["decision"] == "keep")
    assert "64 beams" in page
    read = page[page.index("Frames for training") : page.index("What was found")]
    assert re.findall(r'class="number">([^<]*)<', read) == ["Duration", str(FRAMES), str(FRAMES), "0.2 s"]


def test_a_finished_run_that_is_resumed_is_not_judged_again(adapted: Path, drive: Path) -> None:
    decision = json.loads((adapted / "verdict.json").read_text())["decision"]
    left = {name: (adapted / name).stat().st_mtime_ns for name in ("verdict.json", "report.html", "chosen.safetensors")}
    said = adapt(drive, adapted, "--resume")
    assert {name: (adapted / name).stat().st_mtime_ns for name in left} == left
    assert f"judged before: {decision}" in said
    assert str(adapted / "chosen.safetensors") in said
    assert str(adapted / "report.html") in said
    assert "without labels: agreement_2d_3d" in said
    (adapted / "report.html").unlink()
    said = adapt(drive, adapted, "--resume")
    assert ("keep: the old model stays" in said) == (decision == "keep")
    assert "64 beams" in (adapted / "report.html").read_text()


def test_a_model_that_training_ruined_is_not_taken(adapted: Path, drive: Path, tmp_path: Path) -> None:
    source = f"synthetic:{adapted / 'source' / 'source_scenario.yaml'}:source:train"
    said = adapt(drive, tmp_path / "run", "--source", source, "--set", "optimizer.learning_rate=1.0")
    assert "keep: the old model stays" in said
    assert "Keep the old checkpoint" in (tmp_path / "run" / "report.html").read_text()
    chosen = (tmp_path / "run" / "chosen.safetensors").read_bytes()
    assert chosen == config_file("default", "checkpoints", ".safetensors").read_bytes()


def test_without_a_source_the_model_in_use_teaches_itself(drive: Path, tmp_path: Path) -> None:
    """The default checkpoint; a state before the first iteration, and one after it."""
    out = tmp_path / "run"
    options = ["--source", "none", "--patience", "3", "--steps", "2"]
    said = adapt(drive, out, *options, "--set", "save_every=1", "--time-budget", "1h")
    report = json.loads((out / "report.json").read_text())
    assert (report["method"], report["source"], report["finished"]) == ("source_free", None, True)
    assert report["teacher"].endswith("default.safetensors")
    assert [result["step"] for result in report["signal"]] == [0, 1, 2]
    assert all(0 < result["consistency"] < 1 for result in report["signal"]), "scans of a drive can be registered"
    assert not (out / "frames" / "source").exists()
    assert not (out / "source").exists(), "nothing was simulated"
    given = load_checkpoint(config_file("default", "checkpoints", ".safetensors"))
    made = load_checkpoint(out / "model.safetensors")
    assert ModelConfig(**made.header.config) == ModelConfig(**given.header.config)
    assert set(json.loads((out / "log.jsonl").read_text().splitlines()[0])) >= {"pseudo_label_3d"}

    verdict = json.loads((out / "verdict.json").read_text())
    chosen = (out / "chosen.safetensors").read_bytes()
    replaced = chosen == (out / "model.safetensors").read_bytes()
    assert replaced == (verdict["decision"] == "replace")
    assert f"the model is that of iteration {report['model_step']}" in said
    assert "Signal of the early stop" in (out / "report.html").read_text()


def test_the_new_model_labels_the_recording(adapted: Path, drive: Path) -> None:
    frame = next(iter(open_source(drive)))
    prediction = Segmenter.from_checkpoint(adapted / "model.safetensors").segment(frame)
    assert len(prediction) == len(frame.cloud)
    assert not np.isnan(prediction.probabilities_2d).all(), "both branches were trained"


@pytest.mark.ros
def test_the_node_publishes_labels_from_the_new_model(adapted: Path, drive: Path, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="the node needs ROS 2")
    run_demo(tmp_path, "--checkpoint", str(adapted / "model.safetensors"))
    check_what_was_published(tmp_path)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("rosbag1", lambda bag, to: rewritten(bag, to / "k.bag", "", 0, None, "")),
        ("sqlite3", lambda bag, to: rewritten(bag, to / "k", "sqlite3", 9, None, "")),
        ("zstd", lambda bag, to: rewritten(bag, to / "k", "sqlite3", 9, "zstd", "file")),
    ],
)
def test_any_format_of_the_bag_will_do(
    name: str, variant: Callable[[Path, Path], Path], drive: Path, adapted: Path, tmp_path: Path
) -> None:
    source = f"synthetic:{adapted / 'source' / 'source_scenario.yaml'}:source:train"
    adapt(variant(drive, tmp_path), tmp_path / "run", "--source", source)
    losses = [json.loads((run / "log.jsonl").read_text().splitlines()[0]) for run in (adapted, tmp_path / "run")]
    times = {"time_s", "waited_s"}
    before, after = ({key: value for key, value in line.items() if key not in times} for line in losses)
    assert after == before, "the same frames, whatever the format"


def test_six_cameras(nuscenes_frame: Frame, tmp_path: Path) -> None:
    """nuScenes' key frame, repeated with jitter: not a drive, but six cameras around one LiDAR."""
    random = np.random.default_rng(0)
    with BagWriter(tmp_path / "n.mcap") as writer:
        for index in range(FRAMES):
            writer.write_frame(moved(nuscenes_frame, (index + 1) * 100_000_000, random))
    # Repeats of one frame are no evidence against its calibration, though edges that fit by chance repeat, too.
    adapt(tmp_path / "n.mcap", tmp_path / "run", "--trust-calibration")
    log = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert all(np.isfinite(value) for value in log.values())
    cameras = list((tmp_path / "run" / "source" / "sensors").glob("camera_*.yaml"))
    assert len(cameras) == 6


def moved(frame: Frame, after_ns: int, random: np.random.Generator) -> Frame:
    jitter = random.normal(0, 0.01, frame.cloud.xyz_m.shape).astype(np.float32)
    cloud = replace(frame.cloud, xyz_m=frame.cloud.xyz_m + jitter, stamp_ns=frame.cloud.stamp_ns + after_ns)
    views = tuple(replace(view, stamp_ns=view.stamp_ns + after_ns) for view in frame.views)
    return replace(frame, cloud=cloud, views=views)
