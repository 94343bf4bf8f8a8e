"""How fast a recording is opened: the index of an mcap, whole and cut off, from a warm cache."""

import tempfile
from pathlib import Path

from clip2uda_core.bench.memory import write_bag
from clip2uda_core.bench.table import print_table, times_ms
from clip2uda_core.data.readers import open_source
from clip2uda_core.data.readers.bag_mcap import McapFile

FRAMES = 200
ASKED_GB_S = 1.0


def measure_index() -> None:
    """Prints how long it takes until the first frame could be read, and until all stamps are known."""
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.mcap", Path(folder) / "cut.mcap"
        write_bag(whole, FRAMES)
        content = whole.read_bytes()
        cut.write_bytes(content[: len(content) * 99 // 100])
        size_gb = len(content) / 1e9
        del content
        rows = []
        for name, path in (("whole", whole), ("its end cut off", cut)):
            opened = open_source(path)
            times = {
                "index": times_ms(lambda path=path: McapFile(path), 5, 1),  # type: ignore[misc]
                "open: index, topics, calibration, static TF": times_ms(lambda path=path: open_source(path), 5, 1),  # type: ignore[misc]
                "stamps of all clouds and images (inspect)": times_ms(opened.stamps, 3, 1),
            }
            for what, milliseconds in times.items():
                rate = size_gb / (min(milliseconds) / 1e3)
                rows.append([name, what, f"{min(milliseconds):.0f}", f"{rate:.1f}", f"{rate / ASKED_GB_S:.1f}x"])
    columns = ["mcap", "what", "best ms", "GB/s of the file", f"of the {ASKED_GB_S:.0f} GB/s asked for"]
    print_table(f"Opening a recording of {size_gb:.2f} GB, warm cache", columns, rows)
