"""`clip2uda convert`: any recording to a rosbag2 in mcap."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from clip2uda_core.cli import source_options as source
from clip2uda_core.data.bag_writer import BagWriter, ImageCoding
from clip2uda_core.data.readers import Thinning, open_source
from clip2uda_core.labels import LabelSpace


def convert(
    src: source.Source,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="OUT.mcap becomes one mcap file, any other name a rosbag2 folder.")
    ],
    images: Annotated[
        ImageCoding,
        typer.Option(help="How images are written: raw pixels, png (smaller, same pixels) or jpeg (smallest, lossy)."),
    ] = "raw",
    labels: Annotated[
        str | None,
        typer.Option(help="Also write the recording's point labels, as classes of this label space.", metavar="SPACE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    points_topic: source.PointsTopic = None,
    camera: source.Cameras = None,
    no_cameras: source.NoCameras = False,
    calibration: source.Calibration = None,
    tf_bag: source.TfBags = None,
    tolerance: source.Tolerance = source.DEFAULT_TOLERANCE_S,
    stamp_offset: source.StampOffsets = None,
    min_motion: source.MinMotion = None,
    every: source.Every = None,
    max_frames: source.MaxFrames = None,
) -> None:
    """Writes a recording as a rosbag2: clouds, images, camera calibration and the cameras' poses.

    Topics: /lidar/points, /CAMERA/image_raw (or /CAMERA/image_raw/compressed), /CAMERA/camera_info, /tf_static. Stamps
    and points keep every bit. `ros2 bag play`, RViz and every clip2uda command read the result.

    **Examples**

        clip2uda convert ~/kitti/2011_09_26_drive_0001_sync k.mcap

        clip2uda convert dataset/sequences/00 seq00.mcap --labels street8 --images png

        clip2uda convert robot.bag robot.mcap --camera front=/front/image_raw --max-frames 100

        clip2uda convert long_drive short.mcap --min-motion 2 --tf-bag transforms.mcap
    """
    label_space = LabelSpace.load(labels) if labels else None
    options = source.reader_options(
        points_topic=points_topic,
        cameras=camera,
        no_cameras=no_cameras,
        calibration=calibration,
        fixed_frame=None,
        tolerance_s=tolerance,
        stamp_offsets=stamp_offset,
        max_frames=max_frames,
        label_space=label_space,
        tf_bags=tf_bag,
        thinning=Thinning(min_motion or 0.0, every or 0.0),
    )
    reader = open_source(src, options)
    console = Console(stderr=True)
    frames = 0
    with BagWriter(out, images=images, overwrite=force) as bag:
        for frame in track(reader, f"writing {out.name}", total=len(reader), console=console):
            bag.write_frame(frame)
            frames += 1
    for warning in reader.warnings:
        console.print("[yellow]warning:[/]", escape(warning), highlight=False)
    summary = f"{out}: {frames} frames of {len(reader)} clouds, {_megabytes(out):.1f} MB"
    console.print(summary, highlight=False, markup=False, soft_wrap=True)


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
