"""Rows of the tables: classes and signals from evaluations, settings, and the commands that use a checkpoint."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from clip2uda_core.labels import LabelSpace
from clip2uda_core.report.content import ClassRow, Command, Signal

LABEL_FREE: tuple[tuple[str, str, float, Literal["higher", "neither"], Literal["%", "nats"], str], ...] = (
    (
        "agreement_2d_3d",
        "2D and 3D agree",
        100,
        "higher",
        "%",
        "Share of the points in an image to which both branches give the same class.",
    ),
    (
        "consistency",
        "Labels last from scan to scan",
        100,
        "higher",
        "%",
        "Share of the static points that keep their class in the next scan.",
    ),
    (
        "mean_confidence",
        "Mean confidence",
        100,
        "neither",
        "%",
        "Probability of the label that was given. A model can be sure and wrong.",
    ),
    (
        "mean_entropy_nats",
        "Mean entropy",
        1,
        "neither",
        "nats",
        "How evenly the probability is spread over the classes; 0 is certain.",
    ),
)
"""Key in a label-free summary, name, factor to the unit, which direction is good, unit, meaning. No direction of
confidence and entropy is good: a model that gives one class to everything is sure, too."""

MOVED = "Half the sum of the changes of all shares: 0 is the same histogram, 100 a wholly different one."

Summary = Mapping[str, Any]
"""What `Evaluation.summary()` gives, or a part of it."""


def class_rows(labels: LabelSpace, before: Summary | None, after: Summary, points: str = "all") -> tuple[ClassRow, ...]:
    """A row a class: shares of the predicted points, and IoU on the `points` (`all`, `fused`, `3d`, `2d`) where there
    are labels. before, after: `Evaluation.summary()` of the two checkpoints on the same frames."""

    def iou(summary: Summary | None, name: str) -> float | None:
        return ((summary or {}).get("iou_percent", {}).get(points) or {}).get("classes", {}).get(name)

    def share(summary: Summary | None, name: str) -> float | None:
        return ((summary or {}).get("label_free", {}).get("class_shares") or {}).get(name)

    return tuple(
        ClassRow(c.name, c.color, share(before, c.name), share(after, c.name), iou(before, c.name), iou(after, c.name))
        for c in labels.config.classes
    )


def signal_rows(before: Summary | None, after: Summary) -> tuple[Signal, ...]:
    """What two models say about themselves without labels: the signals that are known, and how far the class shares
    moved from one to the other. before, after: `Evaluation.summary()["label_free"]` or `ModelSignals.summary()`."""
    old = before or {}

    def value(values: Summary, key: str, factor: float) -> float | None:
        return None if values.get(key) is None else factor * values[key]

    rows = [
        Signal(name, value(old, key, factor), value(after, key, factor), better, unit, meaning)
        for key, name, factor, better, unit, meaning in LABEL_FREE
    ]
    shares, old_shares = after.get("class_shares") or {}, old.get("class_shares") or {}
    pairs = [(old_shares.get(name), share) for name, share in shares.items()]
    if pairs and all(None not in pair for pair in pairs):
        moved = sum(abs(share - was) for was, share in pairs) / 2
        rows.append(Signal("Class shares moved", None, 100 * moved, "neither", "%", MOVED))
    return tuple(row for row in rows if row.after is not None)


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `losses.segmentation` -> `1.0`, for the table of settings."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{name}.") or {name: "{}"}
        else:
            flat[name] = str(value)
    return flat


def deploy_commands(checkpoint: Path, recording: str = "") -> tuple[Command, ...]:
    """The commands that use a checkpoint: on the robot, in a node that runs, and on a recording."""
    path = shlex.quote(str(checkpoint.absolute()))
    return (
        Command(
            "On the robot: start the node with the new checkpoint",
            f"ros2 launch clip2uda_ros segment.launch.py checkpoint:={path} \\\n"
            "    points:=/lidar/points image:=/front/image_raw camera_info:=/front/camera_info",
        ),
        Command(
            "In a node that runs: change the model without a restart",
            f"ros2 param set /segmenter checkpoint {path}\n"
            "ros2 service call /segmenter/reload_model std_srvs/srv/Trigger",
        ),
        Command(
            "Offline: label a recording",
            f"clip2uda segment {shlex.quote(recording or 'drive.mcap')} --checkpoint {path} --out labelled",
        ),
    )
