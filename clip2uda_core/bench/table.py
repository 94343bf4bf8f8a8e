"""Timing and Markdown tables for the measurements."""

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from clip2uda_core import __version__


def print_environment() -> None:
    """What the figures below were measured on."""
    print(f"# clip2uda_ros {__version__}: speed and memory\n")
    print(
        f"Python {sys.version.split()[0]}, numpy {np.__version__}, torch {torch.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}. Median (and best) of repeated runs on one thread.\n"
    )


def times_ms(function: Callable[[], object], repeats: int = 20, warm_up: int = 3) -> list[float]:
    """Times of repeated calls, milliseconds."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def peak_mb() -> float:
    """The most memory that this process has had, MB."""
    # Not getrusage: its peak starts with that of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"## {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)
