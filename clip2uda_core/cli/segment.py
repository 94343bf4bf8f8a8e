"""`clip2uda segment`: a recording in, a labelled recording, pictures and a summary out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from clip2uda_core.cli import source_options as source
from clip2uda_core.cli.console import make_console
from clip2uda_core.data.bag_writer import ImageCoding
from clip2uda_core.data.readers import open_source
from clip2uda_core.paths import config_file

if TYPE_CHECKING:
    from clip2uda_core.evaluation.confusion import ConfusionMatrix
    from clip2uda_core.inference.recording import RecordingSummary


def segment(
    src: source.Source,
    out: Annotated[Path, typer.Option(help="Folder for labelled.mcap, pictures and summary.json.")],
    checkpoint: Annotated[
        str, typer.Option(help="Model: a .safetensors file, or the name of one that ships.")
    ] = "default",
    clip_weights: Annotated[
        str | None, typer.Option(help="File or open_clip tag with CLIP's weights, if not as the checkpoint says.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")] = "auto",
    pictures: Annotated[int, typer.Option(help="How many frames to draw, spread over the recording.", min=0)] = 8,
    images: Annotated[
        ImageCoding, typer.Option(help="How images of recordings other than bags are written: raw, png or jpeg.")
    ] = "raw",
    keep_input_fields: Annotated[
        bool, typer.Option("--keep-input-fields", help="Append intensity, ring, ... to the labelled clouds.")
    ] = False,
    points_topic: source.PointsTopic = None,
    camera: source.Cameras = None,
    no_cameras: source.NoCameras = False,
    calibration: source.Calibration = None,
    tf_bag: source.TfBags = None,
    fixed_frame: source.FixedFrame = None,
    tolerance: source.Tolerance = source.DEFAULT_TOLERANCE_S,
    stamp_offset: source.StampOffsets = None,
    max_frames: source.MaxFrames = None,
) -> None:
    """Labels every point of a recording.

    Writes OUT/labelled.mcap, which carries the input topics beside /segmenter/output/points, overlays and bird's-eye
    views as PNG, and summary.json. Where the recording has labels of its own, prints the confusion matrix against them.

    **Examples**

        clip2uda segment drive.mcap --out labelled

        clip2uda segment dataset/sequences/08 --out seq08 --checkpoint runs/new_town/checkpoint.safetensors

        clip2uda segment robot_bag --out labelled --points-topic /lidar/points --camera front=/front/image_raw
    """
    from clip2uda_core.inference.recording import segment_recording
    from clip2uda_core.inference.segmenter import Segmenter

    console = make_console()
    path = config_file(checkpoint, "checkpoints", ".safetensors")
    with console.status(f"loading {path.name}"):
        segmenter = Segmenter.from_checkpoint(path, device=device, clip_weights=clip_weights)
    options = source.reader_options(
        points_topic=points_topic,
        cameras=camera,
        no_cameras=no_cameras,
        calibration=calibration,
        fixed_frame=fixed_frame,
        tolerance_s=tolerance,
        stamp_offsets=stamp_offset,
        max_frames=max_frames,
        label_space=segmenter.labels,
        tf_bags=tf_bag,
    )
    reader = open_source(src, options)
    card = segmenter.info
    image_network = {"clip": f"2D beside CLIP {card['clip']}, and 3D", "unet": "2D by a U-Net, and 3D"}
    branches = image_network.get(card["image_network"], "the 3D branch alone, without CLIP")
    console.print(f"[bold]model[/] {path.name} on {card['device']}, {branches}: {card['training']}")
    columns = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(reader))
        summary = segment_recording(
            reader, segmenter, out, pictures, images, keep_input_fields, lambda: progress.advance(task)
        )
    _print_summary(console, summary)
    for warning in reader.warnings:
        console.print(f"[bold yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)
    console.print(f"wrote {summary.files[0]}, summary.json and {len(summary.files) - 2} pictures", soft_wrap=True)


def _print_summary(console: Console, summary: "RecordingSummary") -> None:
    share = f"2D and 3D together on {100 * summary.seen / max(1, summary.points):.1f} % of them"
    console.print(
        f"{summary.frames} clouds, {summary.points:,} points, {share if summary.seen else '3D alone on all of them'}"
    )
    histogram = Table(title="labels", title_justify="left", title_style="bold", box=None, show_header=False)
    for name, count in zip((*summary.labels.names, "none"), summary.histogram, strict=True):
        histogram.add_row(name, f"{100 * count / max(1, summary.points):5.1f} %")
    console.print(histogram)
    times = Table(title="time of a cloud, ms", title_justify="left", title_style="bold", box=None)
    for column in ("stage", "median", "p95"):
        times.add_column(column, justify="left" if column == "stage" else "right")
    total = np.sum(list(summary.times_s.values()), axis=0)
    for stage, seconds in (*summary.times_s.items(), ("all", total)):
        milliseconds = 1e3 * np.asarray(seconds)
        times.add_row(stage, f"{np.median(milliseconds):.1f}", f"{np.percentile(milliseconds, 95):.1f}")
    console.print(times)
    if summary.confusion is not None:
        console.print(_confusion_table(summary.confusion, "all labelled points"))
    if summary.confusions_seen and summary.seen:
        console.print(_confusion_table(summary.confusions_seen["fused"], "labelled points that 2D took part in"))
        alone = {name: f"{100 * matrix.mean_iou():.1f} %" for name, matrix in summary.confusions_seen.items()}
        console.print(
            f"there, mIoU of 2D alone {alone['2d']}, of 3D alone {alone['3d']}, of the mean of both (xM) {alone['xm']}"
        )


def _confusion_table(matrix: "ConfusionMatrix", which: str) -> Table:
    """Rows are the true classes, columns the predicted ones, in percent of the row."""
    title = f"{which}: mIoU {100 * matrix.mean_iou():.1f} %, accuracy {100 * matrix.accuracy():.1f} %"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("truth, row in %", no_wrap=True)
    for name in (*matrix.labels.names, "none"):
        table.add_column(name if len(name) < 6 else f"{name[:4]}.", justify="right", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("IoU %", justify="right", no_wrap=True)
    for name, counts, iou in zip(matrix.labels.names, matrix.counts, matrix.iou(), strict=True):
        points = int(counts.sum())
        shares = [f"{100 * count / points:.0f}" if points else "-" for count in counts]
        table.add_row(name, *shares, f"{points:,}", "-" if np.isnan(iou) else f"{100 * iou:.1f}")
    return table
