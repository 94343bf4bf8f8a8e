"""A recording through the segmenter: a labelled recording that carries its input along, pictures, and a summary."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.bag_writer import BagWriter, ImageCoding
from clip2uda_core.data.messages import encode_labelled_cloud, encode_point_cloud
from clip2uda_core.data.readers import RawMessage, Reader, RosbagReader
from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.confusion import ConfusionMatrix
from clip2uda_core.evaluation.evaluate import said_by_modality
from clip2uda_core.evaluation.pictures import draw_birds_eye, draw_overlay, save_png
from clip2uda_core.geometry import project
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import Frame, Prediction

LABELLED_TOPIC = "/segmenter/output/points"
"""The labelled clouds in the output; the same name as the live node's."""


@dataclass
class RecordingSummary:
    """What came out of a recording.

    frames, points: how many were labelled. seen: points that a camera saw, so that 2D took part; 0 with a model of the
    3D branch alone. histogram: (K + 1,) points by label, those without one last. times_s: stage -> seconds, one a
    frame. confusion, confusions_seen: against the recording's own labels, of all points, and by modality of those seen;
    None and empty where it has no labels. files: what was written.
    """

    labels: LabelSpace
    frames: int = 0
    points: int = 0
    seen: int = 0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    times_s: dict[str, list[float]] = field(default_factory=dict)
    confusion: ConfusionMatrix | None = None
    confusions_seen: dict[str, ConfusionMatrix] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Counts one frame."""
        classes = len(self.labels)
        self.frames += 1
        self.points += len(prediction)
        self.seen += int(prediction.seen.sum())
        counts = np.bincount(np.minimum(prediction.labels, classes), minlength=classes + 1)
        self.histogram = counts if self.histogram.size == 0 else self.histogram + counts
        for stage, seconds in prediction.times_s.items():
            self.times_s.setdefault(stage, []).append(seconds)
        truth = frame.cloud.labels
        if truth is not None:
            self.confusion = self.confusion or ConfusionMatrix.empty(self.labels)
            self.confusion.add(truth, prediction.labels)
            for name, (said, _) in said_by_modality(prediction, prediction.seen).items():
                matrix = self.confusions_seen.setdefault(name, ConfusionMatrix.empty(self.labels))
                matrix.add(truth[prediction.seen], said)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values; IoU and mIoU in percent."""
        values: dict[str, Any] = {
            "frames": self.frames,
            "points": self.points,
            "points_seen_by_a_camera": self.seen,
            "histogram": dict(zip((*self.labels.names, "none"), self.histogram.tolist(), strict=False)),
            "median_ms": {stage: 1e3 * float(np.median(times)) for stage, times in self.times_s.items()},
        }
        if self.confusion is not None:
            values["all_points"] = _percent(self.confusion)
            values["seen_points"] = {name: _percent(matrix) for name, matrix in self.confusions_seen.items()}
        return values


def _percent(matrix: ConfusionMatrix) -> dict[str, Any]:
    iou = dict(zip(matrix.labels.names, (100 * matrix.iou()).tolist(), strict=True))
    return {"miou": 100 * matrix.mean_iou(), "iou": iou, "confusion": matrix.counts.tolist()}


def segment_recording(
    reader: Reader,
    segmenter: Segmenter,
    out: Path,
    pictures: int,
    images: ImageCoding = "raw",
    keep_input_fields: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> RecordingSummary:
    """Labels every cloud of a recording. Writes into the folder `out`, over what an earlier run left there:

    labelled.mcap: the labelled clouds on LABELLED_TOPIC, each with the stamp, size and order of its input, and all that
        they were made of: a bag's own messages, as recorded, or what `convert` writes for other recordings.
    overlay_*.png, birds_eye_*.png: of `pictures` frames, spread evenly.
    summary.json: RecordingSummary.

    progress: called after each frame.
    Raises Clip2udaError when the recording gives no frame or `out` cannot be written.
    """
    summary = RecordingSummary(segmenter.labels)
    drawn = set(np.linspace(0, len(reader) - 1, pictures).round().astype(int).tolist())
    labelled = out / "labelled.mcap"
    with BagWriter(labelled, images=images, overwrite=True) as bag:
        for frame, cloud_message in _frames_into(bag, reader):
            prediction = segmenter.segment(frame)
            message = encode_labelled_cloud(
                cloud_message, prediction, segmenter.labels, bag.factory, keep_input_fields=keep_input_fields
            )
            bag.write_message(LABELLED_TOPIC, message, frame.cloud.stamp_ns)
            if summary.frames in drawn:
                summary.files += _draw(frame, prediction, segmenter.labels, out, summary.frames)
            summary.add(frame, prediction)
            progress()
    path = out / "summary.json"
    path.write_text(json.dumps({"model": segmenter.info, **summary.to_json()}, indent=1), encoding="utf-8")
    summary.files = [labelled, path, *summary.files]
    return summary


def _frames_into(bag: BagWriter, reader: Reader) -> Iterator[tuple[Frame, Any]]:
    """The frames of a recording, each with its cloud's message; their input is written to `bag` on the way."""
    if not isinstance(reader, RosbagReader):
        for frame in reader:
            bag.write_frame(frame)
            yield frame, encode_point_cloud(frame.cloud, bag.factory)
        return
    waiting: dict[int, RawMessage] = {}  # clouds whose frame is still to come, by stamp
    for item in reader.frames_and_messages():
        if isinstance(item, Frame):
            message = waiting[item.cloud.stamp_ns].message()
            waiting = {stamp_ns: raw for stamp_ns, raw in waiting.items() if stamp_ns > item.cloud.stamp_ns}
            yield item, message
        else:
            try:
                data, stamp_ns = item.cdr(), item.header_stamp_ns()
            except DataError:
                continue  # a damaged message, which the reader counts and reports
            bag.write_raw(item.topic, item.msgtype, data, item.log_time_ns, latched=item.topic == "/tf_static")
            if item.topic == reader.points_topic:
                waiting[stamp_ns] = item


def _draw(frame: Frame, prediction: Prediction, labels: LabelSpace, out: Path, index: int) -> list[Path]:
    paths = [out / f"birds_eye_{index:04d}.png"]
    save_png(draw_birds_eye(frame.cloud.xyz_m, prediction.labels, labels), paths[0])
    for view in frame.views:
        projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
        paths.append(out / f"overlay_{index:04d}_{view.name}.png")
        save_png(draw_overlay(view.image, projection, prediction.labels, labels), paths[-1])
    return paths
