"""The benchmark: its arithmetic against numbers worked out by hand, its plan, and a tiny one from end to end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tiny_scenario import write_scenario
from typer.testing import CliRunner, Result

from clip2uda_core.adaptation.report import Report
from clip2uda_core.benchmark.figures import draw_bars
from clip2uda_core.benchmark.plan import (
    METHODS,
    Plan,
    check_data,
    is_source_stage,
    make_plan,
    read_settings,
    settings_of,
)
from clip2uda_core.benchmark.results import Results, spread
from clip2uda_core.benchmark.source_models import SourceModel
from clip2uda_core.benchmark.tables import Provenance, page
from clip2uda_core.cli.benchmark import benchmark
from clip2uda_core.errors import ConfigError
from clip2uda_core.models.checkpoint import hash_state, load_checkpoint
from clip2uda_core.models.clip_weights import ClipConfig

ENVIRONMENT = {"cpu": "a CPU", "cores": 2, "threads": 1, "device": "cpu", "system": "Linux", "torch": "2"}


def _summary(scores: dict[str, float], road: float, confidence: float) -> dict[str, Any]:
    """mIoU by modality; every modality has the classes road and pole, of which no pole is there."""
    iou = {name: {"mean": mean, "classes": {"road": road, "pole": None}} for name, mean in scores.items()}
    iou["all"] = {"mean": road, "classes": {"road": road, "pole": None}}
    signals = {"agreement_2d_3d": None, "mean_confidence": confidence, "mean_entropy_nats": 1.0}
    reliability = {"2d": {"confidence": 80.0, "accuracy": 60.0, "calibration_error": 20.0}}
    mistakes = {"counted": 2.0, "independent": confidence}
    return {
        "iou_percent": iou,
        "reliability_percent": reliability,
        "same_mistakes_percent": mistakes if "2d" in scores else None,
        "label_free": signals,
    }


def _report(method: str, seed: int, fused: float, best: float | None = None, confidence: float = 0.5) -> Report:
    last = _summary({"2d": fused - 2, "3d": fused - 1, "fused": fused, "xm": fused - 0.5}, fused + 5, confidence)
    of_best = None if best is None else {"step": 200, **_summary({"fused": best}, best, 0.5)}
    timing_s = {"training": 60.0, "waiting_for_data": 5.0, "validation": 30.0, "evaluation": 30.0}
    named = {"source": "a", "target": "b", "val": None, "test": "c", "teacher": None}
    return Report(
        method, seed, 400, True, **named, last=last, best=of_best, validation=[], timing_s=timing_s,
        environment=ENVIRONMENT,
    )  # fmt: skip


@pytest.fixture
def results() -> Results:
    methods = {
        "source_only": {0: _report("source_only", 0, 30.0, 31.0, 0.6), 1: _report("source_only", 1, 34.0, 33.0, 0.7)},
        "clip2uda": {0: _report("clip2uda", 0, 44.0, 45.0, 0.8)},
        "xmuda": {},
        "oracle": {0: _report("oracle", 0, 52.0, 50.0, 1.0)},
    }
    return Results("day_to_night", 400, methods)


def test_the_numbers_by_hand(results: Results) -> None:
    assert results.last("source_only", "fused") == [30.0, 34.0]
    assert results.best("source_only", "fused") == [31.0, 33.0]
    assert results.best("source_only", "2d") == []
    assert results.gap_closed("clip2uda") == pytest.approx(100 * (44 - 32) / (52 - 32))
    assert results.gap_closed("source_only") == 0
    assert results.gap_closed("xmuda") is None
    assert results.class_iou("clip2uda", "road") == [49.0]
    assert results.class_iou("clip2uda", "pole") == []
    assert results.minutes("oracle") == [2.0]
    # Confidences 0.6 0.7 0.8 1.0 against 30 34 44 52: products of deviations add up to 5, squares to 0.0875 and 296.
    assert results.correlation("mean_confidence") == pytest.approx(5 / (0.0875 * 296) ** 0.5)
    assert results.correlation("mean_entropy_nats") is None
    assert results.correlation("agreement_2d_3d") is None
    assert results.same_mistakes("source_only", "independent") == [0.6, 0.7]


def test_runs_of_one_branch_or_of_an_earlier_version_have_no_same_mistakes(results: Results) -> None:
    reports = dict(results.methods["source_only"])
    reports[0].last["same_mistakes_percent"] = None
    del reports[1].last["same_mistakes_percent"]
    alone = replace(results, methods={"source_only": reports})
    assert alone.same_mistakes("source_only", "counted") == []
    provenance = Provenance("Benchmark", "", "clip2uda benchmark", "steps: 400", "figure.png")
    assert "same mistake" not in page(alone, provenance, {})


def test_the_spread_is_the_sample_deviation() -> None:
    assert spread([30.0, 34.0]) == "32.0 ± 2.8"
    assert spread([30.0]) == "30.0"
    assert spread([]) == "–"
    assert spread([0.1234], 3) == "0.123"


def test_the_json_has_what_it_should_and_no_more(results: Results) -> None:
    assert results.as_json() == {
        "scenario": "day_to_night",
        "steps": 400,
        "methods": {
            "source_only": {
                "seeds": {"0": {"2d": 28.0, "3d": 29.0, "fused": 30.0}, "1": {"2d": 32.0, "3d": 33.0, "fused": 34.0}}
            },
            "clip2uda": {"seeds": {"0": {"2d": 42.0, "3d": 43.0, "fused": 44.0}}},
            "xmuda": {"seeds": {}},
            "oracle": {"seeds": {"0": {"2d": 50.0, "3d": 51.0, "fused": 52.0}}},
        },
    }


def test_the_page_and_the_figure(results: Results, tmp_path: Path) -> None:
    provenance = Provenance("Benchmark", "by day and by night", "clip2uda benchmark", "steps: 400", "figure.png")
    text = page(results, provenance, {"xmuda, seed 0": "exit status 2"})
    assert "| source_only | 2 | 30.0 ± 2.8 | 31.0 ± 2.8 | 32.0 ± 2.8 | 0 % | 31.5 ± 2.8 | 2.0 ± 0.0 |" in text
    assert "| clip2uda | 1 | 42.0 | 43.0 | 44.0 | 60 % | 43.5 | 2.0 |" in text
    assert "| xmuda | 0 | – | – | – | – | – | – |" in text
    assert "| source_only | – | – | 32.0 ± 1.4 | 200 |" in text
    assert "| clip2uda | 49.0 | – |" in text
    assert "| source_only | 80.0 ± 0.0 | 60.0 ± 0.0 | – | – | – | – |" in text
    assert "| source_only | 2.00 ± 0.00 | 0.65 ± 0.07 |" in text
    assert "- xmuda, seed 0: exit status 2" in text
    assert "a CPU, 2 cores, 1 threads a run" in text
    draw_bars(results, "all methods", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def _settings(folder: Path, **changes: Any) -> Path:
    """Settings for tiny networks that learn fast."""
    network = {
        "decoder": {"channels": 8},
        "sparse_unet": {"channels": 4, "levels": 2},
        "adapter": {"width": 16, "heads": 2, "layers": 1},
    }
    values = {
        "steps": 4,
        "save_every": 2,
        "model": {"prepare": {"voxel_size_m": 0.5}, "network": network},
        "loader": {"batch_size": 1, "workers": 0},
        **changes,
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _plan(folder: Path, methods: list[str], seeds: int = 1, steps: int | None = None, **changes: Any) -> Plan:
    settings = read_settings([_settings(folder, **changes)], steps, None, folder / "features")
    return make_plan("tiny", methods, seeds, settings, folder / "runs")


def test_a_pupil_brings_its_teacher_of_the_same_seed(tmp_path: Path) -> None:
    plan = _plan(tmp_path, ["clip2uda_pl", "source_only", "clip2uda"], seeds=2)
    assert [run.name for run in plan.runs] == [
        "clip2uda, seed 0", "clip2uda_pl, seed 0", "source_only, seed 0",
        "clip2uda, seed 1", "clip2uda_pl, seed 1", "source_only, seed 1",
    ]  # fmt: skip
    assert plan.methods == ("clip2uda_pl", "source_only", "clip2uda")
    (first, _) = plan.of("clip2uda_pl")
    assert first.teacher is plan.of("clip2uda")[0]
    assert first.folder == tmp_path / "runs" / "clip2uda_pl" / "seed0"
    # The method's own settings, with those of the benchmark over them.
    written = yaml.safe_load(first.settings.read_text())
    assert (written["losses"]["pseudo_label"], written["steps"], written["loader"]["batch_size"]) == (1.0, 4, 1)
    assert first.config.model.prepare.voxel_size_m == 0.5


def test_methods_of_one_network_begin_with_one_source_stage(tmp_path: Path) -> None:
    """Trained on the source's labels alone, whatever the method does later; other seeds have their own."""
    of_clip = ["source_only", "clip2uda_pl", "clip2uda_pl_own", "oracle", "clip2uda_joint", "clip2uda_xmuda_weights"]
    of_unet = ["xmuda", "xmuda_pl"]
    methods = [*of_clip, *of_unet, "clip2uda_inject_one"]
    plan = _plan(tmp_path, methods, seeds=2, source_stage={"steps": 9, "optimizer": {"learning_rate": 0.5}})
    stages = {run for run in plan.runs if is_source_stage(run)}
    assert len(stages) == 3 * 2
    assert plan.steps == 4
    for run in plan.runs:
        if run in stages:
            losses = run.config.losses
            assert (run.config.steps, run.config.optimizer.learning_rate, run.config.train_on) == (9, 0.5, "source")
            assert (run.needs, losses.use_target, losses.segmentation) == ([], False, 1.0)
            assert losses.cross_modal_source == 0
        else:
            assert run.config.initial == "given"
            assert run.begins_with in stages
            assert run.begins_with.seed == run.seed
            assert plan.runs.index(run.begins_with) < plan.runs.index(run)
    begins_with = {run.config.method: run.begins_with for run in plan.runs if run.seed == 1}
    for of_network in ([*of_clip, "clip2uda"], of_unet):
        assert len({begins_with[name] for name in of_network}) == 1
    assert begins_with["xmuda"] is not None
    assert begins_with["xmuda"].config.model.image_network == "unet"


def test_without_a_source_stage_runs_begin_at_random(tmp_path: Path) -> None:
    settings = _settings(tmp_path, initial="given", source_stage={"steps": 9})
    shared = read_settings([settings], None, 0, tmp_path / "features")
    plan = make_plan("tiny", ["source_only"], 1, shared, tmp_path / "runs")
    assert [(run.config.initial, run.needs) for run in plan.runs] == [("random", [])]


def test_the_budget_is_one_for_all(tmp_path: Path) -> None:
    assert _plan(tmp_path, ["source_only"], steps=7).steps == 7
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"method": "source_only", "losses": {"prompt_target": 0, "cross_modal_target": 0}}))
    with pytest.raises(ConfigError, match="names of their own"):
        _plan(tmp_path, ["source_only", str(own)])
    with pytest.raises(ConfigError, match="no shipped config/adapt"):
        _plan(tmp_path, ["source_onyl"])
    with pytest.raises(ConfigError, match=r"loader\.batch: unknown"):
        _plan(tmp_path, ["source_only"], loader={"batch": 2})


def test_runs_of_another_budget_are_not_mixed_in(tmp_path: Path) -> None:
    begun = _plan(tmp_path, ["source_only"]).runs[0]
    begun.folder.mkdir(parents=True)
    (begun.folder / "config.yaml").write_text(yaml.safe_dump(begun.config.model_dump(mode="json")))
    _plan(tmp_path, ["source_only"], save_every=1)
    with pytest.raises(ConfigError, match=r"seed0: .*loader\.batch_size was 1, is now 2"):
        _plan(tmp_path, ["source_only"], loader={"batch_size": 2, "workers": 0})
    check_data(tmp_path / "runs", {"target": None, "max_frames": 8})
    check_data(tmp_path / "runs", {"target": None, "max_frames": 8})
    with pytest.raises(ConfigError, match="max_frames was 8, is now 9"):
        check_data(tmp_path / "runs", {"target": None, "max_frames": 9})


def _run(scenario: Path, out: Path, *options: str) -> Result:
    app = typer.Typer()
    app.command()(benchmark)
    return CliRunner().invoke(app, ["--scenario", str(scenario), "--out", str(out), *options])


@pytest.mark.parametrize("scenario", ["day_to_night", "hdl64_to_hdl32", "sim_to_kitti", "both_gaps"])
def test_the_settings_that_ship_plan_all_methods(tmp_path: Path, scenario: str) -> None:
    """A scenario's own settings, where it has some: only one LiDAR means the same by intensity in both domains."""
    settings = read_settings(settings_of(scenario), None, None, tmp_path / "features")
    plan = make_plan(scenario, METHODS, 1, settings, tmp_path / "runs")
    features = {run.config.model.prepare.point_features for run in plan.runs}
    assert features == {("constant", "intensity") if scenario == "day_to_night" else ("constant",)}
    assert {run.config.model.prepare.voxel_size_m for run in plan.runs} == {0.1}
    assert sum(map(is_source_stage, plan.runs)) == 2


def test_a_real_target_must_be_given(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, real_target=True)
    refused = _run(scenario, tmp_path / "out", "--target", "drive")
    assert isinstance(refused.exception, ConfigError)
    assert "give --test" in str(refused.exception)
    assert "test: a sequence" in str(refused.exception)


def test_a_benchmark_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One method works and one fails; then the failed one is corrected: what is finished is not trained again."""
    monkeypatch.setenv("CLIP2UDA_CACHE", str(tmp_path / "cache"))
    scenario, settings, out = write_scenario(tmp_path), _settings(tmp_path), tmp_path / "out"
    mine = tmp_path / "mine.yaml"
    options = ["--settings", str(settings), "--seeds", "1", "--jobs", "2", "--methods", f"source_only,{mine}"]
    options += ["--source-steps", "2"]

    mine.write_text(yaml.safe_dump({"method": "mine", "model": {"clip": {"precision": "fp32"}}, "labels": "nowhere"}))
    failed = _run(scenario, out, *options)
    assert isinstance(failed.exception, SystemExit), failed.output
    assert failed.exit_code == 1
    assert "mine, seed 0: failed" in failed.output
    assert "not started: it needs source_stage_" in failed.output
    text = (out / "tiny.md").read_text()
    assert "## Runs without a result\n\n- source_stage_" in text
    assert "nowhere" in text
    log = out / "runs" / "tiny" / "source_only" / "seed0" / "log.jsonl"
    written = log.stat().st_mtime_ns

    mine.write_text(yaml.safe_dump({"method": "mine", "losses": {"cross_modal_target": 1.0}}))
    done = _run(scenario, out, *options)
    assert done.exit_code == 0, done.output
    assert log.stat().st_mtime_ns == written
    content = json.loads((out / "tiny.json").read_text())
    assert (content["scenario"], content["steps"], list(content["methods"])) == ("tiny", 4, ["source_only", "mine"])
    for method, seeds in content["methods"].items():
        report = Report.read(out / "runs" / "tiny" / method / "seed0")
        assert report.last is not None
        assert report.test == f"synthetic:{scenario}:target:test"
        expected = {name: report.last["iou_percent"][name]["mean"] for name in ("2d", "3d", "fused")}
        assert seeds == {"seeds": {"0": expected}}
    text = (out / "tiny.md").read_text()
    assert "Runs without a result" not in text
    assert "## The models that the runs begin with" in text
    begun = load_checkpoint(out / "runs" / "tiny" / "mine" / "seed0" / "model.safetensors").header.training
    assert "begun with 3D and 2D of (source_stage_" in begun
    assert (out / "tiny.png").exists()
    again = _run(scenario, out, *options, "--source-steps", "3")
    assert "source_stage.steps was 2, is now 3" in str(again.exception)
    again = _run(scenario, out, *options, "--max-frames", "1")
    assert "max_frames was None, is now 1" in str(again.exception)

    (model,) = (out / "runs" / "tiny").glob("source_stage_*/seed0/model.safetensors")
    options = ["--settings", str(settings), "--methods", "source_only", "--begin-with", str(model)]
    elsewhere = _run(scenario, tmp_path / "elsewhere", *options, "--seeds", "2")
    assert elsewhere.exit_code == 0, elsewhere.output
    assert not list((tmp_path / "elsewhere" / "runs" / "tiny").glob("source_stage_*"))
    for seed in (0, 1):
        run = tmp_path / "elsewhere" / "runs" / "tiny" / "source_only" / f"seed{seed}"
        begun = load_checkpoint(run / "model.safetensors").header.training
        assert "begun with 3D and 2D of (source_stage_" in begun
    text = (tmp_path / "elsewhere" / "tiny.md").read_text()
    assert f"- `model.safetensors`, sha256 {hash_state(load_checkpoint(model).state)[:12]}: source_stage_" in text
    assert "--begin-with model.safetensors" in text


def test_a_model_to_begin_with_must_fit(tmp_path: Path) -> None:
    """One for each 2D network, of just the settings that the methods have; a benchmark never begins at random by
    accident."""
    settings = read_settings([_settings(tmp_path)], None, 0, tmp_path / "features")
    of_vit = make_plan("tiny", ["source_only"], 1, settings, tmp_path / "a").runs[0].config.model
    of_clip = of_vit.model_copy(update={"clip": ClipConfig(model="sim-clip", weights="sim-clip")})
    models = {"clip": SourceModel(tmp_path / "model.safetensors", of_clip, "source_only", "ab" * 32)}
    plan = make_plan("tiny", ["source_only", "clip2uda_pl"], 2, settings, tmp_path / "b", models)
    assert all(run.initial_model == models["clip"].path and run.config.initial == "given" for run in plan.runs)
    assert not any(is_source_stage(run) for run in plan.runs)
    with pytest.raises(ConfigError, match=r"'xmuda' has the 2D network 'unet', and no model of --begin-with has it"):
        make_plan("tiny", ["xmuda"], 1, settings, tmp_path / "c", models)
    with pytest.raises(ConfigError, match=r"'clip2uda_inject_one' and .*inject_levels"):
        make_plan("tiny", ["clip2uda_inject_one"], 1, settings, tmp_path / "d", models)
    beside_vit = {"clip": replace(models["clip"], model=of_vit)}
    with pytest.raises(ConfigError, match=r"model\.clip: .*ViT-B-16.*, not .*sim-clip"):
        make_plan("tiny", ["source_only"], 1, settings, tmp_path / "e", beside_vit)
    refused = _run(write_scenario(tmp_path), tmp_path / "out", "--begin-with", "a", "--source-steps", "3")
    assert "leave --source-steps out" in str(refused.exception)
