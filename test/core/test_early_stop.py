"""The early stop on a signal without labels: what the signal says, and where a run ends by it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
from numpy.typing import NDArray

from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.early_stop import EarlyStop, TargetProbe, balanced, places
from clip2uda_core.adaptation.report import Report
from clip2uda_core.adaptation.run import run
from clip2uda_core.adaptation.run_data import Recording, RunData, RunOptions
from clip2uda_core.cli.run_tables import print_report
from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.data.sample import Sample
from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import SE3
from clip2uda_core.inference.segmenter import ModelConfig
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.checkpoint import load_checkpoint
from clip2uda_core.report import early_stop_charts
from clip2uda_core.types import Frame, PointCloud, Prediction

STREET8 = LabelSpace.load("street8")
CLASSES = len(STREET8)


def _table(*rows: Sequence[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def test_each_class_counts_alike_and_a_missing_one_counts() -> None:
    # 2 * 6 / (8 + 8), 2 * 1 / (4 + 4), and a class that nobody gives.
    assert balanced(_table((6, 2, 0), (2, 1, 1), (0, 1, 0))) == pytest.approx((12 / 16 + 2 / 8 + 0 / 2) / 3)
    assert balanced(_table((6, 2, 0), (2, 2, 0), (0, 0, 0))) == pytest.approx((12 / 16 + 4 / 8) / 3)
    assert balanced(np.zeros((3, 3), np.int64)) is None


def test_collapse_and_chance_are_no_better_than_each_other() -> None:
    """Kappa has 1 for two classes that are given alike by both; this has the 2/K that they are worth."""
    one, two = np.zeros((CLASSES, CLASSES), np.int64), np.zeros((CLASSES, CLASSES), np.int64)
    one[0, 0], two[0, 0], two[1, 1] = 1000, 990, 10
    many = np.diag(np.full(CLASSES, 80)) + 5  # 85 of 120 points of each class have it on both sides
    drawn = np.random.default_rng(0).integers(0, CLASSES, (2, 100_000))
    chance = np.bincount(drawn[0] * CLASSES + drawn[1], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    assert balanced(one) == pytest.approx(1 / CLASSES)
    assert balanced(chance) == pytest.approx(1 / CLASSES, abs=0.01)
    assert balanced(two) == pytest.approx(2 / CLASSES)
    assert balanced(many) == pytest.approx(85 / 120)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 9, 500])
def test_places_are_neighbours_spread_over_the_target(frames: int) -> None:
    chosen = places(frames)
    listed = [index for place in chosen for index in place]
    assert len(listed) == len(set(listed)) == min(8, frames - frames % 2 if frames > 1 else 1)
    assert all(place[-1] - place[0] == len(place) - 1 for place in chosen)
    if frames >= 8:
        assert (listed[0], listed[-1]) == (0, frames - 1)


class ByPlace:
    """Looks like a Segmenter; gives what `labels_of` says of the points (M, 3) of a frame, in 2D and in 3D."""

    config = ModelConfig(prepare=PrepareConfig(voxel_size_m=0.5))

    def __init__(self, labels_of: Any) -> None:
        self._labels_of = labels_of

    def segment_sample(self, sample: Sample) -> Prediction:
        in_2d, in_3d = (np.eye(CLASSES, dtype=np.float32)[labels] for labels in self._labels_of(sample))
        fused = (in_2d + in_3d) / 2
        return Prediction(
            labels=fused.argmax(1).astype(np.uint8),
            confidence=fused.max(1),
            seen=np.ones(len(fused), bool),
            probabilities_2d=in_2d,
            probabilities_3d=in_3d,
            times_s={},
        )


def _corner(random: np.random.Generator) -> NDArray[np.float32]:
    """Ground, two walls at an angle and posts, 8000 points: a scene that holds a scan in every direction."""
    across, up = random.uniform(-20, 20, 8000), random.uniform(-2, 3, 8000)
    ground = np.column_stack([across, random.uniform(-20, 20, 8000), np.full(8000, -2.0)])
    walls = [np.column_stack([across, np.full(8000, 8.0), up]), np.column_stack([np.full(8000, 14.0), across, up])]
    return np.concatenate([ground, *walls]).astype(np.float32)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    """Two scans of one corner, between which the robot moved by 0.6 m."""
    random = np.random.default_rng(0)
    moved = SE3.from_rotation_translation(np.eye(3), (0.6, 0.0, 0.0), "lidar", "lidar")
    frames = []
    for number, pose in enumerate((SE3.identity("lidar"), moved)):
        xyz_m = pose.inverse().transform(_corner(random))
        frames.append(Frame(PointCloud(xyz_m, number), (), f"corner[{number}]"))
    folder = tmp_path_factory.mktemp("drive") / "target"
    return FrameStore.write(frames, folder, "target", STREET8, ByPlace.config.prepare, "none", False)


def test_the_signal_of_a_model_that_sees_surfaces_is_that_of_its_labels(drive: FrameStore) -> None:
    probe = TargetProbe(drive, STREET8)

    def surfaces(sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ground, and what stands on it: right wherever the robot is."""
        labels = (sample.xyz_m[:, 2] > -1.5).astype(np.int64)
        return labels, labels

    def flicker(sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        labels = np.random.default_rng(len(sample.source)).integers(0, 2, (2, len(sample.xyz_m)))
        return labels[0], labels[1]

    def one_class(sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        labels = np.zeros(len(sample.xyz_m), np.int64)
        return labels, labels

    right, noise, collapsed = (probe.measure(ByPlace(each)) for each in (surfaces, flicker, one_class))  # type: ignore[arg-type]
    assert right["agreement"] == pytest.approx(2 / CLASSES)
    assert right["consistency"] == pytest.approx(2 / CLASSES, rel=0.03)
    assert right["score"] == pytest.approx((right["agreement"] + right["consistency"]) / 2)
    assert collapsed["score"] == pytest.approx(1 / CLASSES)
    assert noise["score"] < 0.7 * right["score"]


def _stop(out: Path, scores: Iterator[float | None], patience: int = 2) -> EarlyStop:
    def measure() -> dict[str, Any]:
        return {"score": next(scores), "agreement": None, "consistency": None}

    def save(path: Path) -> None:
        path.write_text(str(len((out / "signal.jsonl").read_text().splitlines())) if list(out.glob("*.jsonl")) else "0")

    return EarlyStop(out, patience, lambda step: step % 10 == 0, measure, save)


def test_it_is_over_when_the_signal_has_not_risen_for_as_long_as_patience_lasts(tmp_path: Path) -> None:
    stop = _stop(tmp_path, iter([0.3, 0.5, 0.5, 0.4]))
    stop.begin(0)
    over = []
    for step in (10, 15, 20, 30):  # 15 is the state of an interruption
        stop.after_save(step)
        over.append(stop.is_over)
    assert over == [False, False, False, True]
    assert stop.best is not None
    assert stop.best["step"] == 10
    assert stop.best_model.read_text() == "1", "saved as the second of the measured states, and not again"
    assert [json.loads(line)["step"] for line in (tmp_path / "signal.jsonl").read_text().splitlines()] == [
        0,
        10,
        20,
        30,
    ]


def test_resumed_it_goes_on_where_the_run_does(tmp_path: Path) -> None:
    first = _stop(tmp_path, iter([0.3, 0.5, 0.4]))
    for step in (10, 20, 30):
        first.after_save(step)
    again = _stop(tmp_path, iter([0.2]))
    again.begin(30)
    assert not again.is_over
    again.after_save(40)
    assert again.is_over
    back = _stop(tmp_path, iter([0.6]))
    back.begin(20)  # the state of 30 was damaged
    assert [result["step"] for result in back.results] == [10, 20]
    back.after_save(30)
    assert back.best is not None
    assert back.best["step"] == 30
    late = _stop(tmp_path, iter([0.1]))
    late.begin(40)  # killed after the state was saved, before it was measured
    assert [result["step"] for result in late.results] == [10, 20, 30, 40]


def test_a_signal_that_cannot_be_told_ends_nothing(tmp_path: Path) -> None:
    stop = _stop(tmp_path, iter([None] * 5))
    for step in range(10, 60, 10):
        stop.after_save(step)
    assert not stop.is_over
    assert stop.best is None


def _data() -> RunData:
    source = Recording("source", "", lambda labels: tiny_run.SOURCE)
    target = [replace(frame, cloud=replace(frame.cloud, labels=None)) for frame in tiny_run.TARGET]
    return RunData(source=source, target=Recording("target", "", lambda labels: target))


def _config(patience: int, *settings: str) -> AdaptConfig:
    """A learning rate so high that what was learned is lost again."""
    words = ("save_every=2", "optimizer.learning_rate=0.2", f"patience={patience}", *settings)
    return tiny_run.config("clip2uda", 16, *words)


def _scores(report: Report) -> dict[int, float]:
    return {result["step"]: result["score"] for result in report.signal}


@pytest.fixture(scope="module")
def unended(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The signal of a run whose patience is longer than the run."""
    report = run(_config(99), _data(), tmp_path_factory.mktemp("unended"))
    assert (report.steps, report.stopped_early) == (16, False)
    scores = _scores(report)
    assert list(scores) == list(range(2, 17, 2))
    assert report.model_step == max(scores, key=lambda step: scores[step]), "the best model is kept all the same"
    return scores


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("early") / "run"
    run(_config(2), _data(), out)
    return out


def test_a_run_ends_early_with_its_best_model_and_says_so(
    tmp_path: Path, unended: dict[int, float], early: Path
) -> None:
    report, scores = Report.read(early), list(unended.values())
    ends = next(i for i in range(2, 8) if max(scores[i - 1], scores[i]) <= max(scores[: i - 1]))
    assert (report.steps, report.finished, report.stopped_early) == (2 * ends + 2, True, True)
    assert _scores(report) == dict(list(unended.items())[: ends + 1])
    assert report.model_step == 2 * ends - 2
    assert run(_config(2), _data(), early) == report, "it is finished"

    # Its model is that of a run which was interrupted there.
    log, kept = tmp_path / "log.jsonl", report.model_step
    options = RunOptions(interrupted=lambda: log.exists() and len(log.read_text().splitlines()) >= kept)
    run(_config(0), _data(), tmp_path, options=options)
    tiny_run.assert_same_state(*(load_checkpoint(out / "model.safetensors").state for out in (early, tmp_path)))


def test_interrupted_anywhere_it_ends_where_it_would_have(tmp_path: Path, early: Path) -> None:
    whole, log = Report.read(early), tmp_path / "log.jsonl"
    for steps in (3, 6):

        def interrupted(steps: int = steps) -> bool:
            return log.exists() and len(log.read_text().splitlines()) >= steps

        part = run(_config(2), _data(), tmp_path, options=RunOptions(interrupted=interrupted))
        assert (part.steps, part.finished, part.stopped_early) == (steps, False, False)
    parts = run(_config(2), _data(), tmp_path)
    assert (parts.steps, parts.model_step, _scores(parts)) == (whole.steps, whole.model_step, _scores(whole))
    assert (tmp_path / "model.safetensors").read_bytes() == (early / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"config\.save_every was 2, is now 3"):
        run(_config(2, "save_every=3"), _data(), tmp_path)


def test_a_model_that_only_got_worse_is_printed_as_that_of_iteration_0(
    early: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    iou = {"fused": {"mean": 50.0, "classes": {"road": 50.0}}, "all": {"mean": 40.0, "classes": {"road": 40.0}}}
    last = {"iou_percent": iou, "labelled_frames": 3, "label_free": {}}
    print_report(replace(Report.read(early), model_step=0, last=last))
    assert "after iteration (0)" in " ".join(capsys.readouterr().out.split())


def test_patience_needs_a_target() -> None:
    with pytest.raises(ConfigError, match="patience needs a loss on the target"):
        tiny_run.config("source_only", 4, "patience=1")


def test_the_page_shows_the_signal_and_what_was_kept() -> None:
    signal = [{"step": s, "score": v, "agreement": None, "consistency": v} for s, v in ((2, 0.3), (4, 0.5), (6, 0.4))]
    (chart,) = early_stop_charts(signal, 4)
    assert [series.name for series in chart.series] == ["mean", "labels last"]
    assert chart.series[0].y == pytest.approx((30, 50, 40))
    assert chart.marked_x == (4.0, "kept")
    assert early_stop_charts([], 4) == ()
