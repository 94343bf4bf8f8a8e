"""Tiny networks beside a CLIP at random, on tiny frames, for the tests of the training engine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny_model
import torch

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.methods import load_method
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.models.checkpoint import Checkpoint
from clip2uda_core.types import Frame, PointCloud

TINY = [
    "model.clip={model: sim-clip, weights: null, precision: fp32}",
    "model.prepare={voxel_size_m: 1.0}",
    "model.network.decoder.channels=8",
    "model.network.unet2d={width: 8, channels: 8}",
    "model.network.sparse_unet={channels: 4, levels: 2}",
    "loader.batch_size=2",
    "loader.workers=0",
    "losses.min_confidence=0",
]


def config(method: str = "clip2uda", steps: int = 10, *settings: str) -> AdaptConfig:
    of_adapter = [] if method == "clip2uda_no_adapter" else ["model.network.adapter={width: 16, heads: 2, layers: 1}"]
    return load_method(method, {"steps": steps}, None, [*TINY, *of_adapter, *settings])


def frames(count: int, seed: int, width_px: int = 48, height_px: int = 32) -> list[Frame]:
    """Points whose class is how high they lie, seen by a small camera."""
    made = []
    for number in range(count):
        xyz_m = tiny_model.scattered_points(300, seed + number)
        labels = np.clip(xyz_m[:, 2] + 4, 0, 7).astype(np.uint8)
        view = tiny_model.camera_view("front", width_px, height_px)
        made.append(Frame(PointCloud(xyz_m, number, labels=labels), (view,), f"town{seed}[{number}]"))
    return made


SOURCE, TARGET = frames(3, 0), frames(3, 100)


def adapter(
    settings: AdaptConfig, out: Path, teacher: Segmenter | None = None, given: Checkpoint | None = None
) -> Adapter:
    """A run on SOURCE and TARGET, ready to train."""
    made = Adapter(settings, out, "cpu")
    made.setup(SOURCE, TARGET, teacher)
    made.build(given)
    return made


def until(step: int, run: Adapter) -> Callable[[], bool]:
    """Asks a run to stop when it has done so many iterations."""
    return lambda: run.state.step >= step


def log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time_s", "waited_s")} for line in lines]


def assert_same_state(first: Any, second: Any, where: str = "state") -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same_state(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same_state(a, b, f"{where}[{index}]")
    else:
        assert first == second, where
