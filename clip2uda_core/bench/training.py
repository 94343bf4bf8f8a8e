"""Training throughput: iterations of clip2uda with CLIP's features from the cache, and with its image tower run each
time, on the same batches. ViT-B/16 has random weights: only its speed is asked for."""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.methods import load_method
from clip2uda_core.bench.table import peak_mb, print_table
from clip2uda_core.simulation.generate import Simulator
from clip2uda_core.simulation.scenario import load_scenario, resolve, simulated_domain
from clip2uda_core.simulation.sensors import load_camera, load_lidar
from clip2uda_core.types import Frame

SENSORS = {"lidar": load_lidar("hdl32e"), "cameras": (load_camera("front_nuscenes"),)}
FRAMES = 8
"""Of each domain, and in each batch: the first iteration fills the cache, and all others find everything there."""

MEASURED = {"from the cache": 3, "run each time": 1}
"""Iterations after the first."""

ASKED_SPEED_UP, ASKED_WAIT = 5.0, 0.05

SETTINGS = (
    "model.clip={model: ViT-B-16, weights: null}",
    f"loader.batch_size={FRAMES}",
    # Without these, an image would be another one each time, and the runs would not see the same.
    "augment.image={color_jitter: 0, flip: 0}",
)


@dataclass(frozen=True)
class Run:
    """Medians over iterations, and the peak memory of the process that trained."""

    step_s: float
    waited_s: float
    peak_mb: float


def measure_training() -> None:
    """Trains twice, each in a process of its own."""
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in MEASURED:
            command = [sys.executable, "-m", "clip2uda_core.bench.training", mode, str(Path(folder) / mode)]
            peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[mode] = _read_log(Path(folder) / mode / "log.jsonl", float(peak))
    slow = runs["run each time"].step_s
    rows = [
        [
            f"image tower {mode}",
            f"{run.step_s:.2f}",
            f"{slow / run.step_s:.1f}x",
            f"{1e3 * run.waited_s:.0f} ({run.waited_s / run.step_s:.1%})",
            f"{run.peak_mb:.0f}",
        ]
        for mode, run in runs.items()
    ]
    columns = ["iteration of clip2uda", "median s", f"faster (asked for: {ASKED_SPEED_UP:.0f}x)"]
    columns += [f"waited for data, ms (asked for: < {ASKED_WAIT:.0%})", "peak MB of the process"]
    title = (
        f"Training: {FRAMES} + {FRAMES} frames of HDL-32E and a 225x400 image, ViT-B/16 with random weights, as many "
        f"threads as PyTorch takes"
    )
    print_table(title, columns, rows)


def _read_log(path: Path, peak: float) -> Run:
    lines = [json.loads(line) for line in path.read_text().splitlines()][1:]
    step_s, waited_s = (float(np.median([line[name] for line in lines])) for name in ("time_s", "waited_s"))
    return Run(step_s, waited_s, peak)


def _train(mode: str, out: Path) -> None:
    """Leaves a log in `out`; prints this process' peak memory, MB."""
    logging.disable(logging.WARNING)  # that the weights are random is said above
    settings = [*SETTINGS] if mode == "from the cache" else [*SETTINGS, "cache.memory_gb=0"]
    adapter = Adapter(load_method("clip2uda", {"steps": 1 + MEASURED[mode]}, None, settings), out, "cpu")
    adapter.setup(list(_frames("source")), list(_frames("target")))
    adapter.build()
    adapter.fit()
    print(f"{peak_mb():.0f}")


def _frames(domain: str) -> Iterator[Frame]:
    """The first frames of day_to_night, with the sensors of the nuScenes cars: 225x400 is the size of their images in
    training."""
    simulated = resolve(simulated_domain(load_scenario("day_to_night"), domain))
    simulator = Simulator(simulated.model_copy(update=SENSORS), "train")
    yield from map(simulator.frame, range(FRAMES))


if __name__ == "__main__":
    _train(sys.argv[1], Path(sys.argv[2]))
