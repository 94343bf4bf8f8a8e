"""`clip2uda inspect`: what is in a recording, and whether the LiDAR falls on the right pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from clip2uda_core.cli.console import make_console
from clip2uda_core.cli.inspection_findings import Measured, depth_edges, look_at
from clip2uda_core.cli.inspection_tables import camera_table, cloud_line, pairing_table, stream_table
from clip2uda_core.cli.source_options import (
    DEFAULT_TOLERANCE_S,
    Calibration,
    Cameras,
    FixedFrame,
    MaxFrames,
    NoCameras,
    PointsTopic,
    Source,
    StampOffsets,
    TfBags,
    Tolerance,
    reader_options,
)
from clip2uda_core.data.readers import Reader, Stream, open_source
from clip2uda_core.evaluation.inspection import (
    StreamTimes,
    camera_warnings,
    cloud_warnings,
    measure_times,
    merge_clouds,
    pairing_warnings,
    time_warnings,
)
from clip2uda_core.evaluation.pictures import draw_birds_eye, draw_depth_overlay, draw_overlay, save_png
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.survey.edge_picture import draw_edge_overlay
from clip2uda_core.types import Frame


def inspect(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures; default inspect_NAME.")] = None,
    points_topic: PointsTopic = None,
    camera: Cameras = None,
    no_cameras: NoCameras = False,
    calibration: Calibration = None,
    tf_bag: TfBags = None,
    fixed_frame: FixedFrame = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE_S,
    stamp_offset: StampOffsets = None,
    max_frames: MaxFrames = None,
    labels: Annotated[
        str | None, typer.Option(help="Also draw the recording's labels in this label space (street8).", metavar="NAME")
    ] = None,
) -> None:
    """Shows what is in a recording, and draws the LiDAR over the images to judge the calibration by.

    Prints topics, rates, gaps, pairing, calibration and cloud statistics; the sensors as they are estimated, the clock
    offset and whether the calibration is plainly wrong; and warns of what looks wrong. Draws a frame from the middle:
    depth and depth edges over each image, and the cloud from above. docs/inspecting.md says what each finding means.

    **Examples**

        clip2uda inspect drive.mcap

        clip2uda inspect 2011_09_26_drive_0001_sync --out pictures

        clip2uda inspect robot_bag --points-topic /lidar/points --camera front=/front/image_raw/compressed

        clip2uda inspect robot_bag --calibration rig.yaml --stamp-offset front=0.033
    """
    label_space = LabelSpace.load(labels) if labels else None
    options = reader_options(
        points_topic,
        camera,
        no_cameras,
        calibration,
        fixed_frame,
        tolerance,
        stamp_offset,
        max_frames,
        label_space,
        tf_bag,
    )
    console = make_console()
    reader = open_source(source, options)
    stamps = reader.stamps()
    times = {name: measure_times(name, s.acquired_ns, s.logged_ns) for name, s in stamps.items()}
    present = {name: measured for name, measured in times.items() if measured is not None}
    streams = reader.describe().streams
    console.print(stream_table(reader, streams, present))

    measured = _measure(reader, console)
    cloud = merge_clouds(measured.clouds)
    console.print(pairing_table(reader))
    if measured.cameras:
        console.print(camera_table(measured.cameras, cloud))
    if cloud is not None:
        console.print(cloud_line(cloud))
    warnings = _time_warnings(streams, present, tolerance) + (cloud_warnings(cloud) if cloud else [])
    warnings += [warning for statistics in measured.cameras.values() for warning in camera_warnings(statistics)]
    found = look_at(measured, streams, stamps, options.sync.stamp_offset_s, console)
    for line in found.lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for warning in reader.warnings + warnings + found.warnings:
        console.print("[bold yellow]warning:[/]", escape(warning), highlight=False, soft_wrap=True)
    if measured.drawn is not None:
        folder = out or Path(f"inspect_{reader.name}")
        for path in _draw(measured.drawn, folder, label_space):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _measure(reader: Reader, console: Console) -> Measured:
    """Reads all frames once."""
    measured = Measured(len(reader))
    for frame in track(reader, "reading", total=len(reader), console=console, transient=True):
        measured.add(frame)
    return measured


def _draw(frame: Frame, folder: Path, label_space: LabelSpace | None) -> list[Path]:
    labels = frame.cloud.labels if label_space is not None else None
    pictures = {"birds_eye": draw_birds_eye(frame.cloud.xyz_m, labels, label_space)}
    edges = depth_edges(frame)
    for view in frame.views:
        projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
        pictures[f"depth_{view.name}"] = draw_depth_overlay(view.image, projection)
        if edges is not None:
            pictures[f"edges_{view.name}"] = draw_edge_overlay(view, edges)
        if labels is not None and label_space is not None:
            pictures[f"labels_{view.name}"] = draw_overlay(view.image, projection, labels, label_space)
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / f"{name}.png")
        save_png(picture, paths[-1])
    return paths


def _time_warnings(streams: Sequence[Stream], times: dict[str, StreamTimes], tolerance_s: float) -> list[str]:
    used = [(stream.role, times[stream.name]) for stream in streams if stream.name in times]
    found = [warning for _, measured in used for warning in time_warnings(measured)]
    for role, cloud in used:
        if role == "points":
            for other_role, image in used:
                if other_role.startswith("camera "):
                    found += pairing_warnings(cloud, image, other_role.removeprefix("camera "), tolerance_s)
    return found
