"""Latency and memory of a soak over time, with its faults shaded."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clip2uda_ros.soak.faults import FAULTS
from clip2uda_ros.soak.session import Soak


def draw(soak: Soak, path: Path) -> None:
    """Writes a PNG."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    answers = [answer for answer in soak.record.answers if answer.sent_s >= soak.began_s]
    minutes = [(answer.sent_s - soak.began_s) / 60 for answer in answers]
    above.scatter(minutes, [1e3 * answer.latency_s for answer in answers], s=5, color="black", linewidths=0, zorder=2)
    above.set_yscale("log")
    above.set_ylabel("latency, ms")
    memory = np.array([(s, mb) for s, mb in soak.record.memory_mb if soak.began_s <= s <= soak.ended_s])
    below.plot((memory[:, 0] - soak.began_s) / 60, memory[:, 1], color="black", linewidth=1, zorder=2)
    below.set_ylabel("memory of the node, MB")
    below.set_xlabel("minutes")
    for axes in (above, below):
        _shade(axes, soak)
        axes.grid(alpha=0.3)
        axes.set_xlim(0, (soak.ended_s - soak.began_s) / 60)
    handles, names = above.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=7, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def _shade(axes: Axes, soak: Soak) -> None:
    colors = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    seen: set[str] = set()
    for result in soak.slots:
        name = result.slot.fault
        begin, end = ((when_s - soak.began_s) / 60 for when_s in (result.began_s, result.ended_s))
        color = colors[list(FAULTS).index(name)]
        axes.axvspan(begin, end, color=color, alpha=0.55, linewidth=0, label="" if name in seen else name)
        seen.add(name)
