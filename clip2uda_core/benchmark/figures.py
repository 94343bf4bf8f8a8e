"""The figure of a benchmark: a group of bars a method, with a dot for every seed."""

from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from clip2uda_core.benchmark.results import MODALITIES, Results
from clip2uda_core.evaluation.curves import MODALITY_COLORS, MODALITY_NAMES, save_figure

BAR = 0.26
"""Width of a bar; groups are 1 apart."""


def draw_bars(results: Results, title: str, path: Path) -> None:
    """mIoU on the target's test split at the last iteration; bars are means over the seeds."""
    figure = Figure(figsize=(max(6.4, 1.5 * len(results.methods) + 1.2), 4.2), layout="constrained")
    panel = figure.subplots()
    for index, modality in enumerate(MODALITIES):
        labelled = False
        for place, method in enumerate(results.methods):
            values = results.last(method, modality)
            if not values:
                continue
            x = place + (index - 1) * (BAR + 0.02)
            label = None if labelled else MODALITY_NAMES[modality]
            panel.bar(x, mean(values), BAR, color=MODALITY_COLORS[modality], alpha=0.75, label=label)
            panel.plot([x] * len(values), values, "o", color="#20252b", markersize=3.5)
            panel.text(x, max(values) + 0.8, f"{mean(values):.1f}", ha="center", fontsize=8)
            labelled = True
    names = [name if len(name) < 16 else name.replace("_", "_\n", 1) for name in results.methods]
    panel.set_xticks(range(len(names)), names, fontsize=9)
    panel.set_ylabel("mIoU on the target's test split, %")
    panel.set_title(title, fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.set_ylim(top=1.12 * panel.get_ylim()[1])
    panel.legend(frameon=False, fontsize=9, ncols=3, loc="upper left")
    save_figure(figure, path)
