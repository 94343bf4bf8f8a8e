"""What clouds look like in numbers: to compare simulated with real ones, with labels or without."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import project
from clip2uda_core.types import Frame

RANGES_M = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0)
HEIGHTS_M = (-np.inf, -2.5, -1.5, -1.0, -0.5, 0.0, 1.0, 3.0, np.inf)
"""Above the sensor."""

ELEVATIONS_DEG = (
    -90.0,
    -22.0,
    -20.0,
    -18.0,
    -16.0,
    -14.0,
    -12.0,
    -10.0,
    -8.0,
    -6.0,
    -4.0,
    -3.0,
    -2.0,
    -1.0,
    0.0,
    1.0,
    90.0,
)


class CloudStatistics:
    """Sums over clouds: points by range, height above the sensor, elevation, and class by range.

    classes: number of classes K. `by_class` (K, ranges) counts labelled points that a camera sees, as benchmarks do.
    """

    def __init__(self, classes: int) -> None:
        self.clouds = self.points = self.seen = self.labelled = 0
        self.by_range = np.zeros(len(RANGES_M) - 1, np.int64)
        self.by_height = np.zeros(len(HEIGHTS_M) - 1, np.int64)
        self.by_elevation = np.zeros(len(ELEVATIONS_DEG) - 1, np.int64)
        self.by_class = np.zeros((classes, len(RANGES_M) - 1), np.int64)
        self.with_class = np.zeros(classes, np.int64)
        """Clouds in which the class is seen."""
        self.intensities: list[NDArray[np.floating]] = []

    def add(self, frame: Frame) -> None:
        xyz_m = frame.cloud.xyz_m[np.isfinite(frame.cloud.xyz_m).all(1)]
        labels = frame.cloud.labels
        range_m = np.linalg.norm(xyz_m, axis=1)
        elevation = np.degrees(np.arcsin(xyz_m[:, 2] / np.maximum(range_m, 1e-6)))
        seen = np.zeros(len(frame.cloud), bool)
        for view in frame.views[:1]:
            seen |= project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera).visible
        self.clouds, self.points, self.seen = self.clouds + 1, self.points + len(xyz_m), self.seen + int(seen.sum())
        self.by_range += np.histogram(range_m, RANGES_M)[0]
        self.by_height += np.histogram(xyz_m[:, 2], HEIGHTS_M)[0]
        self.by_elevation += np.histogram(elevation, ELEVATIONS_DEG)[0]
        if frame.cloud.intensity is not None:
            self.intensities.append(np.percentile(frame.cloud.intensity, (5, 25, 50, 75, 95)))
        if labels is not None:
            self._add_labels(frame.cloud.xyz_m[seen], labels[seen])

    def _add_labels(self, xyz_m: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        self.labelled += 1
        range_m = np.linalg.norm(xyz_m, axis=1)
        for index, row in enumerate(self.by_class):
            row += np.histogram(range_m[labels == index], RANGES_M)[0]
            self.with_class[index] += bool(np.any(labels == index))


def comparison(columns: Mapping[str, CloudStatistics], names: Sequence[str]) -> str:
    """Markdown tables that put the statistics of several sources beside each other."""
    lines = ["| clouds | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]

    def row(title: str, values: list[str]) -> None:
        lines.append(f"| {title} | " + " | ".join(values) + " |")

    all_ = list(columns.values())
    row("clouds", [str(s.clouds) for s in all_])
    row("points a cloud", [f"{s.points / max(s.clouds, 1):,.0f}" for s in all_])
    row("seen by the camera, %", [f"{100 * s.seen / max(s.points, 1):.1f}" for s in all_])
    row("intensity 5/25/50/75/95 %", [_percentiles(s) for s in all_])
    for name, attribute, edges in (
        ("range, m", "by_range", RANGES_M),
        ("height above the sensor, m", "by_height", HEIGHTS_M),
        ("elevation, degrees", "by_elevation", ELEVATIONS_DEG),
    ):
        for i, (low, high) in enumerate(pairwise(edges)):
            shares = [100 * getattr(s, attribute)[i] / max(s.points, 1) for s in all_]
            row(f"{name} {low:g} to {high:g}, % of points", [f"{share:.1f}" for share in shares])
    labelled = {title: s for title, s in columns.items() if s.labelled}
    return "\n".join(lines + (_class_tables(labelled, names) if labelled else []))


def _class_tables(columns: Mapping[str, CloudStatistics], names: Sequence[str]) -> list[str]:
    """Share of each class by range in the labelled points that the camera sees."""
    spans = [f"{low:g}-{high:g} m" for low, high in pairwise(RANGES_M)]
    lines: list[str] = []
    for title, s in columns.items():
        lines += ["", f"| {title}: % of points in the image | all | " + " | ".join(spans) + " | clouds with it, % |"]
        lines.append("|---|" + "---:|" * (len(spans) + 2))
        total, by_range = max(s.by_class.sum(), 1), np.maximum(s.by_class.sum(0), 1)
        for name, counts, clouds in zip(names, s.by_class, s.with_class, strict=True):
            shares = " | ".join(f"{100 * c / t:.1f}" for c, t in zip(counts, by_range, strict=True))
            lines.append(f"| {name} | {100 * counts.sum() / total:.1f} | {shares} | {100 * clouds / s.labelled:.0f} |")
    return lines


def _percentiles(statistics: CloudStatistics) -> str:
    if not statistics.intensities:
        return "-"
    return " / ".join(f"{value:.2f}" for value in np.mean(statistics.intensities, axis=0))
