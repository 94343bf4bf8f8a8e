"""The demo: a player, the real node and a recorder as three processes over DDS, then pictures of what was published."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from clip2uda_core.cli.console import make_console
from clip2uda_core.data.bag_writer import POINTS_TOPIC, BagWriter
from clip2uda_core.data.calibration import Calibration, describe_camera, save_calibration
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import Clip2udaError, DataError
from clip2uda_core.evaluation.pictures import draw_birds_eye, draw_overlay, save_png
from clip2uda_core.geometry import project
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.checkpoint import load_checkpoint
from clip2uda_core.paths import config_file
from clip2uda_core.types import Frame
from clip2uda_ros.children import child

SIMULATED_TARGET = "synthetic:both_gaps:target:val"
"""Of the domain that the model which ships was adapted to, without its labels: streets that it never saw."""

OUTPUT_TOPIC = "/segmenter/output/points"
START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class DemoFiles:
    """What the demo leaves in its folder."""

    folder: Path

    @property
    def recording(self) -> Path:
        return self.folder / "recording.mcap"

    @property
    def calibration(self) -> Path:
        return self.folder / "calibration.yaml"

    @property
    def labelled(self) -> Path:
        return self.folder / "labelled.mcap"

    def log(self, process: str) -> Path:
        return self.folder / f"{process}.log"


def run_demo(out: Path, real: Path | None, checkpoint: str, frames: int) -> None:
    """Makes or takes a recording of `frames` clouds, plays it to the node, records, draws and summarises.

    Raises Clip2udaError when a part fails; every process that was started has ended then.
    """
    console = make_console()
    files = DemoFiles(out)
    out.mkdir(parents=True, exist_ok=True)
    model = config_file(checkpoint, "checkpoints", ".safetensors")
    header = load_checkpoint(model).header
    labels = LabelSpace(header.labels)
    source = str(real) if real is not None else SIMULATED_TARGET
    console.print(f"[bold]1[/] recording: {source}" + ("" if real is not None else "  (simulated)"))
    cameras = _write_recording(source, frames, files, labels, console)
    console.print(f"[bold]2[/] model: {model.name}, {header.training.partition(':')[0]}")
    console.print("[bold]3[/] node, recorder and player over DDS, at the recording's own rate")
    _play_to_node(files, model, cameras, console)
    console.print("[bold]4[/] pictures of what was published")
    _summarise(files, labels, console)


def _write_recording(source: str, frames: int, files: DemoFiles, labels: LabelSpace, console: Console) -> list[str]:
    """The recording as mcap with the cameras' calibration beside it; returns the names of the cameras."""
    reader = open_source(source, ReaderOptions(max_frames=frames, label_space=None))
    first: Frame | None = None
    with BagWriter(files.recording, overwrite=True) as bag:
        for frame in track(reader, "  writing", total=len(reader), console=console, transient=True):
            bag.write_frame(frame)
            first = frame if first is None or len(frame.views) > len(first.views) else first
    assert first is not None, "BagWriter refuses a recording without frames"
    if not first.views:
        raise DataError(f"{source}: expected at least one camera image, got clouds alone; the demo shows both")
    cameras = {view.name: describe_camera(view.camera, view.camera_SE3_lidar) for view in first.views}
    save_calibration(Calibration(lidar_frame=first.cloud.frame_id, cameras=cameras), files.calibration)
    return list(cameras)


def _play_to_node(files: DemoFiles, model: Path, cameras: list[str], console: Console) -> None:
    """Returns when the recording was played, the node has answered, and all three processes have ended."""
    inputs = {"~/input/points": POINTS_TOPIC}
    for name in cameras:
        inputs |= {
            f"~/input/{name}/image": f"/{name}/image_raw",
            f"~/input/{name}/camera_info": f"/{name}/camera_info",
        }
    node_arguments = ["--ros-args", "-p", f"checkpoint:={model}", "-p", f"calibration:={files.calibration}"]
    node_arguments += ["-p", f"cameras:=[{', '.join(cameras)}]", "-p", "sync.max_age_s:=0.0"]
    node_arguments += [part for name, topic in inputs.items() for part in ("-r", f"{name}:={topic}")]
    recorded = [*inputs.values(), OUTPUT_TOPIC, "/segmenter/label_info"]
    player_arguments = [str(files.recording), "--wait-for", *inputs.values(), "--wait-s", str(START_TIMEOUT_S)]
    player_arguments += ["--subscribers", "2"]  # recorder and node
    with (
        child("recorder", [str(files.labelled), *recorded, "--force"], files.log("recorder")) as recorder,
        child("segment_node", node_arguments, files.log("segment_node")) as node,
    ):
        with (
            console.status("  the model loads, then the recording plays"),
            child("player", player_arguments, files.log("player")) as player,
        ):
            while not player.wait(0.2):
                node.check()
                recorder.check()
        node.interrupt()  # it finishes and publishes the cloud that it works on
        recorder.interrupt()


def _summarise(files: DemoFiles, labels: LabelSpace, console: Console) -> None:
    """Draws a labelled frame of the recording that was made, and prints what came out."""
    clouds_in = len(open_source(files.recording))
    options = ReaderOptions(points_topic=OUTPUT_TOPIC, calibration=files.calibration, label_space=labels)
    try:
        reader = open_source(files.labelled, options)
    except Clip2udaError as error:
        raise DataError(
            f"the node published no labelled cloud ({error}); its log is {files.log('segment_node')}"
        ) from None
    histogram = np.zeros(256, np.int64)
    drawn: Frame | None = None
    for index, frame in enumerate(reader):
        assert frame.cloud.labels is not None, "the labelled cloud has no labels"
        histogram += np.bincount(frame.cloud.labels, minlength=256)
        if frame.views and (drawn is None or index <= len(reader) // 2):
            drawn = frame
    pictures = [] if drawn is None else _draw(drawn, files.folder, labels)
    table = Table(title="labels published", title_justify="left", box=None, show_header=False)
    for name, count in zip((*labels.names, "none"), (*histogram[: len(labels)], histogram[IGNORE]), strict=True):
        table.add_row(name, f"{100 * count / max(1, histogram.sum()):5.1f} %")
    console.print(table)
    console.print(
        f"{clouds_in} clouds played, {len(reader)} labelled: "
        f"the node takes the newest, and leaves out what it has no time for"
    )
    for path in (files.labelled, *pictures):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _draw(frame: Frame, folder: Path, labels: LabelSpace) -> list[Path]:
    assert frame.cloud.labels is not None
    view = frame.views[0]
    projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
    overlay, birds_eye = folder / "overlay.png", folder / "birds_eye.png"
    save_png(draw_overlay(view.image, projection, frame.cloud.labels, labels), overlay)
    save_png(draw_birds_eye(frame.cloud.xyz_m, frame.cloud.labels, labels), birds_eye)
    return [overlay, birds_eye]
