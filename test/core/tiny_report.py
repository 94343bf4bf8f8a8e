"""A frame whose every point is known, with what a model said before and after, and a report with every part in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.report import (
    Fact,
    Recording,
    ReportContent,
    Verdict,
    class_rows,
    cloud_view,
    deploy_commands,
    flat_settings,
    overlay_pair,
    signal_rows,
    training_charts,
    validation_charts,
)
from clip2uda_core.types import CameraView, Frame, PointCloud, Prediction

LABELS = LabelSpace.load("street8")
ROAD, BUILDING, VEHICLE = (LABELS.names.index(name) for name in ("road", "building", "vehicle"))
CAR_M = (9.0, 0.0, -1.0)
"""Middle of the car, which is where the 3D view looks at first."""

WIDTH, HEIGHT = 320, 120

HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'`&amp;{{7*7}}--><!--\u2028</style>"
)
"""What a file or a class may be called, to break out of its place in a page."""


def street(labelled: bool = False) -> Frame:
    """A road, a wall on the left, a car ahead, and two points without a return at the start."""
    random = np.random.default_rng(0)
    road = np.stack([*random.uniform((-5, -8), (30, 8), (6000, 2)).T, np.full(6000, -1.8)], 1)
    wall = np.stack([random.uniform(0, 30, 3000), np.full(3000, 8.0), random.uniform(-1.8, 4, 3000)], 1)
    car = np.array(CAR_M) + random.uniform((-2, -1, -0.8), (2, 1, 0.8), (3000, 3))
    xyz_m = np.concatenate([np.full((2, 3), np.nan), road, wall, car]).astype(np.float32)
    truth = np.repeat([IGNORE, ROAD, BUILDING, VEHICLE], [2, 6000, 3000, 3000]).astype(np.uint8)
    intensity = random.uniform(0, 1, len(xyz_m)).astype(np.float32)
    cloud = PointCloud(xyz_m, 1_000, intensity=intensity, labels=truth if labelled else None)
    camera = PinholeCamera(WIDTH, HEIGHT, 160.0, 160.0, 159.5, 59.5)
    lidar_to_optical = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    pose = SE3.from_rotation_translation(lidar_to_optical, np.zeros(3), "front", "lidar")
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    return Frame(cloud, (CameraView("front", image, 1_000, camera, pose),), "street[0]")


def prediction(car_label: int, confidence: float) -> Prediction:
    """Everything right, but for the car."""
    labels = np.repeat([IGNORE, ROAD, BUILDING, car_label], [2, 6000, 3000, 3000]).astype(np.uint8)
    unknown = np.full((len(labels), len(LABELS)), np.nan, np.float32)
    sure = np.where(labels == IGNORE, 0, confidence).astype(np.float32)
    return Prediction(labels, sure, np.zeros(len(labels), bool), unknown, unknown)


BEFORE, AFTER = prediction(BUILDING, 0.4), prediction(VEHICLE, 0.8)


def random_prediction(points: int) -> Prediction:
    """Labels and confidences without a meaning."""
    random = np.random.default_rng(points)
    unknown = np.full((points, len(LABELS)), np.nan, np.float32)
    labels = random.integers(0, len(LABELS), points, dtype=np.uint8)
    return Prediction(labels, random.random(points, np.float32), np.zeros(points, bool), unknown, unknown)


def summary(share_of_road: float, agreement: float, iou: float | None = None) -> dict[str, Any]:
    """As `Evaluation.summary()`: two classes, the rest empty."""
    shares = dict.fromkeys(LABELS.names, 0.0) | {"road": share_of_road, "building": 1 - share_of_road}
    classes: dict[str, float | None] = {name: iou if name == "road" else None for name in LABELS.names}
    return {
        "label_free": {
            "agreement_2d_3d": agreement,
            "mean_confidence": 0.5,
            "mean_entropy_nats": 1.25,
            "class_shares": shares,
        },
        "iou_percent": {} if iou is None else {"all": {"mean": iou, "classes": classes}},
    }


def write_log(path: Path, steps: int = 60) -> Path:
    """A training log: one loss falls from 2, that of the target stays at 0.1."""
    lines = [
        {"step": s, "segmentation_3d": 2 / s, "prompt_target": 0.1, "time_s": 0.5, "waited_s": 0.0}
        for s in range(1, steps + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def full_report(folder: Path, text: str = "street") -> ReportContent:
    """Every part of a report; `text` stands wherever words of others go."""
    validation = [{"step": step, "val": summary(0.5, 0.5 + step / 100, 40.0 + step)} for step in (0, 10, 20)]
    labelled = street(labelled=True)
    return ReportContent(
        title=f"Report {text}",
        subtitle=text,
        command=f"clip2uda adapt --target {text}",
        created=text,
        verdict=Verdict("replace", (text, "2D and 3D agree more often")),
        warnings=(text,),
        recordings=(Recording(text, text, 37, 36, 3.7),),
        skipped={text: 4},
        findings=(Fact("LiDAR", "64 beams"), Fact(text, text, text, "warning"), Fact("clock", "+4 ms", state="good")),
        overlays=(overlay_pair(street(), BEFORE, AFTER, LABELS), overlay_pair(street(), None, AFTER, LABELS)),
        clouds=(
            cloud_view(street(), BEFORE, AFTER, LABELS),
            cloud_view(Frame(labelled.cloud, (), text), None, AFTER, LABELS),
        ),
        charts=(*training_charts(write_log(folder / "log.jsonl")), *validation_charts(validation, best_step=10)),
        classes=class_rows(LABELS, summary(0.5, 0.5, 40.0), summary(0.75, 0.6, 50.0)),
        iou_note=text,
        signals=signal_rows(summary(0.5, 0.5)["label_free"], summary(0.75, 0.6)["label_free"]),
        settings=flat_settings({"method": text, "losses": {text: 1.0}}),
        environment={"device": text},
        deploy=deploy_commands(folder / f"{text.replace('/', '_')}.safetensors", text),
    )
