"""Figures of a run: losses and validation over its steps, and the confusion matrix of its result."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.confusion import ConfusionMatrix

SMOOTHED_SHARE = 0.05
"""Share of the steps over which a curve is averaged."""

COLORS = ("#1f6fb4", "#d9662b", "#2f9e5c", "#b3405b", "#7a5bb5", "#8a8a2a")
MODALITY_COLORS = {"2d": COLORS[1], "3d": COLORS[0], "fused": COLORS[2], "xm": COLORS[4], "all": "#777777"}
MODALITY_NAMES = {"2d": "2D", "3d": "3D", "fused": "fused", "xm": "xM", "all": "all points"}


def draw_losses(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """One panel a loss: every iteration in pale, the moving average in strong colour.

    log: the lines of log.jsonl. A loss that spans more than a factor of 30 is drawn on a logarithmic scale.
    """
    names = list(dict.fromkeys(name for line in log for name in line if name not in ("step", "time_s", "waited_s")))
    if not names:
        return
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    width, height = 4.2 * columns, 2.6 * rows
    figure = Figure(figsize=(width, height))
    # Inches turned to shares: a layout engine takes seconds for so many panels.
    figure.subplots_adjust(0.8 / width, 0.6 / height, 1 - 0.15 / width, 1 - 0.35 / height, 0.24, 0.34)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(names) :]:
        panel.remove()
    for index, (panel, name) in enumerate(zip(panels, names, strict=False)):
        lines = [line for line in log if name in line]
        steps, values = np.array([line["step"] for line in lines]), np.array([line[name] for line in lines])
        color = COLORS[index % len(COLORS)]
        panel.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        panel.plot(steps, smooth(values, max(1, round(SMOOTHED_SHARE * len(values)))), color=color, linewidth=1.8)
        panel.set_title(name.replace("_", " "), fontsize=10)
        positive = values[values > 0]
        if len(positive) == len(values) and positive.max() > 30 * positive.min():
            panel.set_yscale("log")
        else:
            panel.set_ylim(0, 1.05 * values.max() or 1)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _light(panel)
    figure.supxlabel("iteration", fontsize=10, y=0.08 / height)
    figure.supylabel("weighted loss", fontsize=10, x=0.12 / width)
    save_figure(figure, path)


def draw_validation(points: Mapping[str, Sequence[tuple[int, float]]], best_step: int | None, path: Path) -> None:
    """mIoU in percent over the steps, a line a modality; `points` are (step, mIoU) by modality."""
    if not any(points.values()):
        return
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    panel = figure.subplots()
    for name, pairs in points.items():
        if pairs:
            steps, values = zip(*pairs, strict=True)
            panel.plot(steps, values, marker="o", markersize=4, color=MODALITY_COLORS[name], label=MODALITY_NAMES[name])
    if best_step is not None:
        panel.axvline(best_step, color="#999999", linewidth=1, linestyle="--", label=f"best: {best_step}")
    panel.set_xlabel("iteration")
    panel.set_ylabel("mIoU on validation, %")
    panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    panel.legend(frameon=False, fontsize=9)
    _light(panel)
    save_figure(figure, path)


def draw_confusion(matrix: ConfusionMatrix, title: str, path: Path) -> None:
    """Each row is a true class, and says in percent what its points were labelled as; the last column holds those that
    got no label, where there are any."""
    counts = matrix.counts if matrix.counts[:, -1].any() else matrix.counts[:, :-1]
    columns = [*matrix.labels.names, "none"][: counts.shape[1]]
    total = counts.sum(1, keepdims=True)
    percent = np.divide(100 * counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    figure = Figure(figsize=(2.4 + 0.72 * len(columns), 2.0 + 0.58 * len(percent)), layout="constrained")
    panel = figure.subplots()
    panel.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(percent):
        if np.isfinite(share):
            color = "white" if share > 55 else "#20252b"
            panel.text(column, row, f"{share:.0f}", ha="center", va="center", color=color, fontsize=9)
    iou = matrix.iou()
    rows = [
        f"{name}\nIoU {100 * value:.0f} %" if np.isfinite(value) else f"{name}\nnot there"
        for name, value in zip(matrix.labels.names, iou, strict=True)
    ]
    panel.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=9)
    panel.set_yticks(range(len(rows)), rows, fontsize=9)
    panel.set_xlabel("predicted")
    panel.set_ylabel("truth")
    panel.set_title(title, fontsize=10)
    save_figure(figure, path)


def smooth(values: NDArray[np.floating], window: int) -> NDArray[np.float64]:
    """The mean over `window` neighbours, over fewer at both ends; as many values as came in."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same")[: len(values)] / np.convolve(np.ones(len(values)), kernel, "same")


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, making its folder; DataError when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise DataError(f"{path}: the figure cannot be written: {error.strerror}") from None


def _light(panel) -> None:
    """A panel without its box, with a faint grid."""
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
