"""Two processes of torchrun do what one does on the whole batch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several_processes
import tiny_run
import torch
from several_processes import TARGET

from clip2uda_core.adaptation.checkpoint import load_newest_state
from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.evaluation.evaluate import evaluate
from clip2uda_core.inference.segmenter import Segmenter

METHODS = ("clip2uda", "xmuda_pl")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process and what two have left."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    several_processes.main(one)
    script = Path(several_processes.__file__)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run([*torchrun, script, two], capture_output=True, text=True, check=False, timeout=250)
    assert result.returncode == 0, result.stderr[-5000:]
    return one, two


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_the_same(method: str, runs: tuple[Path, Path]) -> None:
    one, two = (tiny_run.log(out / method) for out in runs)
    assert len(one) == len(two) == 3
    for of_one, of_two in zip(one, two, strict=True):
        assert of_two == pytest.approx(of_one, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_statistics_and_weights_are_the_same(method: str, runs: tuple[Path, Path]) -> None:
    """Gradients as Adam's moving average has them."""
    one, two = (load_newest_state(out / method / "states") for out in runs)
    assert one is not None
    assert two is not None
    for of_one, of_two in zip(one["optimizers"], two["optimizers"], strict=True):
        assert _difference(_gradients(of_one), _gradients(of_two)) < 0.01
    before = torch.load(runs[0] / method / "before.pt", weights_only=True)
    assert _difference(_moved(one, before, "running"), _moved(two, before, "running")) < 1e-3
    # What is only rounding takes whole steps in Adam, in any direction.
    assert _difference(_moved(one, before, "weight"), _moved(two, before, "weight")) < 0.15


def _difference(first: torch.Tensor, second: torch.Tensor) -> float:
    assert first.norm() > 0
    return float((second - first).norm() / first.norm())


def _gradients(optimizer: dict[str, Any]) -> torch.Tensor:
    return torch.cat([state["exp_avg"].flatten() for state in optimizer["state"].values()])


def _moved(state: dict[str, Any], before: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
    after = state["network"]
    return torch.cat([(after[name] - before[name]).flatten() for name in after if kind in name])


def test_two_processes_read_frames_once_and_leave_what_one_leaves(runs: tuple[Path, Path]) -> None:
    one, two = ({path.relative_to(out) for path in out.rglob("*")} for out in runs)
    assert one == two
    stores = [FrameStore.open(out / "clip2uda" / "frames" / "target") for out in runs]
    assert stores[0].sources == stores[1].sources


def test_what_cannot_be_shared_is_refused_by_several_alone(runs: tuple[Path, Path]) -> None:
    one, two = (json.loads((out / "refusals.json").read_text()) for out in runs)
    assert one == []
    assert "3 frames cannot be dealt out evenly to 2 processes" in two[0]
    assert "images of the same sizes" in two[1]


def test_pseudo_labels_are_those_of_one_process(runs: tuple[Path, Path]) -> None:
    """Made again, by one process, with the teacher of the two, as it was before training."""
    _, two = runs
    teacher = Segmenter.from_checkpoint(two / "teacher.safetensors", "cpu")
    run = several_processes.Adapter(tiny_run.config("xmuda_pl"), two / "again", "cpu")
    run.setup(several_processes.SOURCE, TARGET, teacher)
    made, expected = two / "xmuda_pl" / "frames" / "target_pseudo_labels", two / "again" / "frames"
    for index in range(len(TARGET)):
        path = expected / "target_pseudo_labels" / f"{index}.npy"
        assert np.array_equal(np.load(made / f"{index}.npy"), np.load(path))
    summaries = [json.loads((folder / "index.json").read_text()) for folder in (made, path.parent)]
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_by_two_is_that_of_one(method: str, runs: tuple[Path, Path]) -> None:
    """Three frames for two processes; the model is the one that the two saved."""
    folder = runs[1] / method
    segmenter = Segmenter.from_checkpoint(folder / "model.safetensors", "cpu")
    expected = evaluate(segmenter.segment, TARGET[:3], segmenter.labels).summary()
    told = json.loads((folder / "evaluation.json").read_text())
    for part in ("frames", "labelled_frames", "labelled_points", "iou_percent"):
        assert told[part] == expected[part]
    assert told["label_free"].pop("class_shares") == expected["label_free"].pop("class_shares")
    assert told["label_free"] == pytest.approx(expected["label_free"])
