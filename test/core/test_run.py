"""A whole run: what it leaves, what it does not do again, whose labels it reads, and how it goes on."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_run

from clip2uda_core.adaptation.checkpoint import load_newest_state
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.report import Report
from clip2uda_core.adaptation.run import run
from clip2uda_core.adaptation.run_data import Recording, RunData, RunOptions
from clip2uda_core.adaptation.validation import Validation, score
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.evaluation.evaluate import evaluate
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import Frame

STREET8 = LabelSpace.load("street8")


class Opened:
    """Recordings of frames in memory that remember how they were opened."""

    def __init__(self) -> None:
        self.times: list[tuple[str, bool]] = []

    def recording(self, name: str, frames: list[Frame]) -> Recording:
        def open_frames(labels: LabelSpace | None) -> list[Frame]:
            self.times.append((name, labels is not None))
            if labels is not None:
                return frames
            return [replace(frame, cloud=replace(frame.cloud, labels=None)) for frame in frames]

        return Recording(name, "", open_frames)

    def data(self) -> RunData:
        val, test = tiny_run.frames(2, 200), tiny_run.frames(5, 300)
        named = {"source": tiny_run.SOURCE, "target": tiny_run.TARGET, "val": val, "test": test}
        return RunData(**{name: self.recording(name, frames) for name, frames in named.items()})


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five iterations from its beginning to its end."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    run(config(), Opened().data(), out)
    return out


def config(method: str = "clip2uda", steps: int = 5) -> AdaptConfig:
    return tiny_run.config(method, steps, "save_every=2")


def until(out: Path, step: int) -> Callable[[], bool]:
    """An interruption after so many iterations."""
    log = out / "log.jsonl"
    return lambda: log.exists() and len(log.read_text().splitlines()) >= step


def test_a_run_leaves_a_report_the_best_checkpoint_and_pictures(finished: Path) -> None:
    report = Report.read(finished)
    assert (report.method, report.seed, report.steps, report.finished) == ("clip2uda", 0, 5, True)
    assert (report.source, report.target, report.val, report.test) == ("source", "target", "val", "test")
    assert [validation["step"] for validation in report.validation] == [2, 4, 5]
    scores = {validation["step"]: score(validation["val"]) for validation in report.validation}
    assert report.best is not None
    assert scores[report.best["step"]] == max(scores.values())  # type: ignore[type-var]
    assert report.timing_s["training"] > 0
    assert report.environment["cores"] == os.cpu_count()

    for name, expected in (("model", report.last), ("best", report.best)):
        segmenter = Segmenter.from_checkpoint(finished / f"{name}.safetensors", "cpu")
        measured = evaluate(segmenter.segment, tiny_run.frames(5, 300), STREET8).summary()
        assert expected is not None
        assert measured == {key: value for key, value in expected.items() if key != "step"}
    pictures = {path.name for path in (finished / "pictures").iterdir()}
    assert pictures == {"losses.png", "validation.png", "confusion.png", *(f"frame_{i}.png" for i in range(4))}


def test_labels_of_the_target_are_not_read_but_by_the_oracle(tmp_path: Path, opened: Opened) -> None:
    data = replace(opened.data(), val=None, test=None)
    run(config(), data, tmp_path / "clip2uda")
    assert set(opened.times) == {("source", True), ("target", False)}
    opened.times.clear()
    run(config("oracle"), replace(data, test=data.target), tmp_path / "oracle")
    assert set(opened.times) == {("target", True)}
    card = Segmenter.from_checkpoint(tmp_path / "oracle" / "model.safetensors", "cpu").training
    assert card.startswith("oracle, 5 steps, seed 0: 3 frames of town100")


def test_a_finished_run_is_not_done_again(tmp_path: Path, finished: Path, opened: Opened) -> None:
    data, report = opened.data(), Report.read(finished)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    assert run(config(), data, tmp_path) == report
    assert opened.times == []
    other = replace(data, test=opened.recording("other", tiny_run.frames(1, 400)))
    again = run(config(), other, tmp_path)
    assert again.last is not None
    assert (again.test, again.last["frames"]) == ("other", 1)
    assert again.validation == report.validation
    with pytest.raises(ConfigError, match=r"config\.steps was 5, is now 6"):
        run(config(steps=6), data, tmp_path)


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path: Path, finished: Path, opened: Opened) -> None:
    whole, out = Report.read(finished), tmp_path / "parts"
    first = run(config(), opened.data(), out, options=RunOptions(interrupted=until(out, 3)))
    assert (first.steps, first.finished, first.last) == (3, False, None)
    assert [validation["step"] for validation in first.validation] == [2]
    parts = run(config(), opened.data(), out)
    assert parts.finished
    assert parts.last == whole.last
    of_step = {validation["step"]: validation["val"] for validation in parts.validation}
    assert of_step.keys() == {2, 3, 4, 5}  # 3 is a saved state of this run alone
    assert [of_step[validation["step"]] for validation in whole.validation] == [v["val"] for v in whole.validation]


def test_an_interruption_while_it_evaluates_ends_at_once(tmp_path: Path, opened: Opened) -> None:
    asked = False
    data = opened.data()

    def frames() -> Iterator[Frame]:
        nonlocal asked
        yield tiny_run.SOURCE[0]
        asked = True
        yield from tiny_run.SOURCE

    class Slow(list):
        def __iter__(self) -> Iterator[Frame]:
            return frames()

    slow = Recording("slow", "", lambda labels: Slow(tiny_run.SOURCE))
    with pytest.raises(KeyboardInterrupt):
        run(config(), replace(data, val=None, test=slow), tmp_path, options=RunOptions(interrupted=lambda: asked))
    state = load_newest_state(tmp_path / "states")
    assert state is not None
    assert state["step"] == 5


def test_a_validation_that_a_killed_run_had_no_time_for_is_made_up(tmp_path: Path) -> None:
    done: list[int] = []

    def evaluate_now() -> dict:
        done.append(len(done))
        return {"iou_percent": {"fused": {"mean": 50.0 - len(done)}}}

    Validation(tmp_path, evaluate_now, Path.touch).begin(2)
    again = Validation(tmp_path, evaluate_now, Path.touch)
    again.begin(4)
    again.after_save(4)
    assert [result["step"] for result in again.results] == [2, 4]
    assert again.best is not None
    assert again.best["step"] == 2
    back = Validation(tmp_path, evaluate_now, Path.touch)
    back.begin(2)
    assert [result["step"] for result in back.results] == [2]
    assert len(done) == 2


def test_the_score_is_fused_where_a_camera_sees_and_of_all_points_where_none_does() -> None:
    assert score({"iou_percent": {"3d": {"mean": 3.0}, "fused": {"mean": 2.0}, "all": {"mean": 1.0}}}) == 2.0
    assert score({"iou_percent": {"3d": {"mean": None}, "fused": {"mean": None}, "all": {"mean": 1.0}}}) == 1.0
    assert score({"iou_percent": {}}) is None


def test_a_teacher_is_trained_first_and_taken_over_where_it_is_finished(tmp_path: Path, opened: Opened) -> None:
    data = replace(opened.data(), val=None, test=None)
    pupil, teacher = config("clip2uda_pl", 2), config("clip2uda", 2)
    late = run(pupil, data, tmp_path / "late", teacher, RunOptions(deadline=0.0))
    assert (late.steps, late.finished, late.last) == (0, False, None)
    assert not (tmp_path / "late" / "model.safetensors").exists()
    with pytest.raises(ConfigError, match="not finished"):
        run(pupil, data, tmp_path / "other", tmp_path / "late" / "teacher")

    report = run(pupil, data, tmp_path / "late", teacher)
    first = Report.read(tmp_path / "late" / "teacher")
    assert (first.method, first.finished) == ("clip2uda", True)
    assert (report.method, report.finished) == ("clip2uda_pl", True)
    assert report.teacher == str(tmp_path / "late" / "teacher" / "model.safetensors")
    log = json.loads((tmp_path / "late" / "log.jsonl").read_text().splitlines()[0])
    assert any("pseudo" in name for name in log)

    given = run(pupil, data, tmp_path / "given", tmp_path / "late" / "teacher")
    assert given.last == report.last
    assert not (tmp_path / "given" / "teacher").exists()
    with pytest.raises(ConfigError, match="teacher"):
        run(pupil, data, tmp_path / "none")


def test_without_a_test_recording_the_target_gives_the_signals(tmp_path: Path, opened: Opened) -> None:
    report = run(config(), replace(opened.data(), val=None, test=None), tmp_path)
    assert report.last is not None
    assert report.last["frames"] == len(tiny_run.TARGET)
    assert report.last["iou_percent"] == {}
    assert report.last["label_free"]["mean_confidence"] > 0
    assert report.best is None
    assert not (tmp_path / "pictures" / "confusion.png").exists()


def test_two_processes_do_not_work_on_one_run(tmp_path: Path, opened: Opened) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="another process"):
        run(config(), opened.data(), tmp_path)
    os.close(other)


def test_runs_share_the_frames_that_they_prepare_alike(tmp_path: Path, finished: Path, opened: Opened) -> None:
    data, options = replace(opened.data(), val=None), RunOptions(frames=tmp_path / "frames")
    first = run(config(), data, tmp_path / "first", options=options)
    second = run(config("source_only"), replace(data, test=None), tmp_path / "second", options=options)
    assert first.last == Report.read(finished).last
    assert second.finished
    assert not list((tmp_path / "first").glob("frames/*/*.npz"))
    assert len(list((tmp_path / "frames").glob("*/index.json"))) == 2
    whole_scans = tiny_run.config("clip2uda", 1, "loader.crop=none")
    run(whole_scans, replace(data, test=None), tmp_path / "third", options=options)
    assert len(list((tmp_path / "frames").glob("*/index.json"))) == 4


def test_a_damaged_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the report"):
        Report.read(tmp_path)
    (tmp_path / "report.json").write_text('{"method": "clip2uda"}')
    with pytest.raises(DataError, match="not the report"):
        Report.read(tmp_path)
