"""Peak memory of reading a bag of 30 and of 300 frames: it must not grow with the length."""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from clip2uda_core.bench.frame import example_frame
from clip2uda_core.bench.table import peak_mb, print_table
from clip2uda_core.data.bag_writer import BagWriter

LENGTHS = (30, 300)


def measure_reading() -> None:
    """Writes two bags, and reads each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in LENGTHS:
            path = Path(folder) / f"{frames}.mcap"
            write_bag(path, frames)
            command = [sys.executable, "-m", "clip2uda_core.bench.memory", str(path)]
            seconds, peak_mb = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            size_mb = path.stat().st_size / 1e6
            rows.append([str(frames), f"{size_mb:.0f}", peak_mb, f"{size_mb / float(seconds):.0f}"])
    growth = float(rows[1][2]) / float(rows[0][2])
    columns = ["frames", "bag MB", "peak MB of the process", "decoded MB/s"]
    print_table(f"Reading a bag (peak of {LENGTHS[1]} frames is {growth:.2f}x that of {LENGTHS[0]})", columns, rows)


def write_bag(path: Path, frames: int) -> None:
    """Clouds and images at 10 Hz, all the same."""
    frame = example_frame()
    view = frame.views[0]
    with BagWriter(path) as bag:
        for index in range(frames):
            shift_ns = index * 100_000_000
            cloud = replace(frame.cloud, stamp_ns=frame.cloud.stamp_ns + shift_ns)
            bag.write_frame(replace(frame, cloud=cloud, views=(replace(view, stamp_ns=view.stamp_ns + shift_ns),)))


def _read(path: Path) -> None:
    """Reads all frames; prints seconds and this process' peak memory, MB."""
    from clip2uda_core.data.readers import open_source

    start = time.perf_counter()
    for _ in open_source(path):
        pass
    seconds = time.perf_counter() - start
    print(f"{seconds:.3f} {peak_mb():.0f}")


if __name__ == "__main__":
    _read(Path(sys.argv[1]))
