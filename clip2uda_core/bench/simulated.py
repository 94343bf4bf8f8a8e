"""Simulating a frame of 64 x 1024 rays with a 640x192 image and its labels, on one core."""

import numpy as np

from clip2uda_core.bench.table import print_table, times_ms
from clip2uda_core.simulation.generate import Simulator
from clip2uda_core.simulation.scenario import load_scenario, resolve, simulated_domain

ASKED_MS = 500.0
FRAMES = 6


def measure_simulation() -> None:
    """Prints the time of a frame of each simulated domain of `day_to_night`; the scene is built once, apart."""
    rows = []
    for domain in ("source", "target"):
        simulator = Simulator(resolve(simulated_domain(load_scenario("day_to_night"), domain)), "val")
        (first_ms,) = times_ms(lambda s=simulator: s.frame(0), repeats=1, warm_up=0)  # type: ignore[misc]
        times = [times_ms(lambda s=simulator, i=i: s.frame(i), 1, 0)[0] for i in range(1, FRAMES)]  # type: ignore[misc]
        median_ms = float(np.median(times))
        asked = f"{ASKED_MS:.0f} ({median_ms / ASKED_MS:.2f}x)"
        rows.append([f"day_to_night, {domain}", f"{first_ms:.0f}", f"{median_ms:.0f}", asked])
    columns = ["domain", "first frame with its scene, ms", "a frame, median ms", "asked for, ms (median / asked)"]
    print_table("Simulation, one core", columns, rows)
