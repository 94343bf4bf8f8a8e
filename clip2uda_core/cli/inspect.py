"""`clip2uda inspect`: what is in a recording, and whether the LiDAR falls on the right pixels."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from clip2uda_core.cli.console import make_console
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
    Tolerance,
    reader_options,
)
from clip2uda_core.data.readers import Reader, Stream, open_source
from clip2uda_core.evaluation.inspection import (
    CameraStatistics,
    CloudStatistics,
    StreamTimes,
    camera_pose,
    camera_warnings,
    cloud_warnings,
    describe_camera,
    measure_cloud,
    measure_times,
    merge_clouds,
    pairing_warnings,
    time_warnings,
)
from clip2uda_core.evaluation.pictures import draw_birds_eye, draw_depth_overlay, draw_overlay, save_png
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import Frame

MEASURED_CLOUDS = 20
"""Clouds whose points are looked at one by one; spread over the recording."""


def inspect(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures; default inspect_NAME.")] = None,
    points_topic: PointsTopic = None,
    camera: Cameras = None,
    no_cameras: NoCameras = False,
    calibration: Calibration = None,
    fixed_frame: FixedFrame = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE_S,
    stamp_offset: StampOffsets = None,
    max_frames: MaxFrames = None,
    labels: Annotated[
        str | None, typer.Option(help="Also draw the recording's labels in this label space (street8).", metavar="NAME")
    ] = None,
) -> None:
    """Shows what is in a recording, and draws the LiDAR over the images to judge the calibration by.

    Prints topics, rates, gaps, pairing, calibration and cloud statistics, and warns of what looks wrong. Draws a
    frame from the middle: a depth overlay per camera, and the cloud from above.

    **Examples**

        clip2uda inspect drive.mcap

        clip2uda inspect 2011_09_26_drive_0001_sync --out pictures

        clip2uda inspect robot_bag --points-topic /lidar/points --camera front=/front/image_raw/compressed

        clip2uda inspect robot_bag --calibration rig.yaml --stamp-offset front=0.033
    """
    label_space = LabelSpace.load(labels) if labels else None
    options = reader_options(
        points_topic, camera, no_cameras, calibration, fixed_frame, tolerance, stamp_offset, max_frames, label_space
    )
    console = make_console()
    reader = open_source(source, options)
    times = {name: measure_times(name, s.acquired_ns, s.logged_ns) for name, s in reader.stamps().items()}
    present = {name: measured for name, measured in times.items() if measured is not None}
    streams = reader.describe().streams
    console.print(_stream_table(reader, streams, present))

    cameras, cloud, drawn = _measure(reader, console)
    console.print(_pairing_table(reader))
    if cameras:
        console.print(_camera_table(cameras, cloud))
    if cloud is not None:
        console.print(_cloud_line(cloud))
    warnings = _time_warnings(streams, present, tolerance) + (cloud_warnings(cloud) if cloud else [])
    warnings += [warning for statistics in cameras.values() for warning in camera_warnings(statistics)]
    for warning in reader.warnings + warnings:
        console.print(f"[bold yellow]warning:[/] {warning}", highlight=False, soft_wrap=True)
    if drawn is not None:
        folder = out or Path(f"inspect_{reader.name}")
        for path in _draw(drawn, folder, label_space):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _measure(
    reader: Reader, console: Console
) -> tuple[dict[str, CameraStatistics], CloudStatistics | None, Frame | None]:
    """Reads all frames once: statistics by camera and of the clouds, and the frame in the middle, to be drawn."""
    stride = max(1, len(reader) // MEASURED_CLOUDS)
    cameras: dict[str, CameraStatistics] = {}
    clouds: list[CloudStatistics] = []
    drawn: Frame | None = None
    for index, frame in enumerate(track(reader, "reading", total=len(reader), console=console, transient=True)):
        if (
            drawn is None
            or _worth(frame) > _worth(drawn)
            or (index <= len(reader) // 2 and _worth(frame) == _worth(drawn))
        ):
            drawn = frame
        if index % stride == 0:
            clouds.append(measure_cloud(frame.cloud))
        for view in frame.views:
            statistics = cameras.setdefault(view.name, CameraStatistics(view))
            if index % stride == 0 or not statistics.visible_shares:
                statistics.add(project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera))
    return cameras, merge_clouds(clouds), drawn


def _worth(frame: Frame) -> tuple[bool, int]:
    """What a frame has to show: labels first, then images."""
    return frame.cloud.labels is not None, len(frame.views)


def _draw(frame: Frame, folder: Path, label_space: LabelSpace | None) -> list[Path]:
    labels = frame.cloud.labels if label_space is not None else None
    pictures = {"birds_eye": draw_birds_eye(frame.cloud.xyz_m, labels, label_space)}
    for view in frame.views:
        projection = project(frame.cloud.xyz_m, view.camera_SE3_lidar, view.camera)
        pictures[f"depth_{view.name}"] = draw_depth_overlay(view.image, projection)
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


def _stream_table(reader: Reader, streams: Sequence[Stream], times: dict[str, StreamTimes]) -> Table:
    description = reader.describe()
    start_ns = min((measured.first_ns for measured in times.values()), default=0)
    table = _table(f"{description.name}: {description.kind}")
    table.add_column("stream", overflow="fold", min_width=16)
    table.add_column("type")
    table.add_column("used as")
    for column in ("count", "Hz", "first s", "last s", "step s", "delay s"):
        table.add_column(column, justify="right", no_wrap=True)
    for stream in streams:
        cells = _time_cells(times[stream.name], start_ns) if stream.name in times else []
        table.add_row(stream.name, stream.kind.rpartition("/")[2], stream.role, str(stream.count), *cells)
    if start_ns:
        start = datetime.fromtimestamp(start_ns / 1e9, timezone.utc)
        table.caption = (
            f"first and last stamp count from {start:%Y-%m-%d %H:%M:%S}.{start.microsecond // 1000:03} UTC; "
            f"step: the longest between two; delay: from stamp to recording"
        )
    return table


def _table(title: str, show_header: bool = True) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=show_header,
    )


def _time_cells(times: StreamTimes, start_ns: int) -> list[str]:
    return [
        f"{times.rate_hz:.2f}",
        f"{(times.first_ns - start_ns) / 1e9:.2f}",
        f"{(times.last_ns - start_ns) / 1e9:.2f}",
        f"{times.longest_interval_s:.3f}",
        "" if times.log_delay_s is None else f"{times.log_delay_s:.3f}",
    ]


def _pairing_table(reader: Reader) -> Table:
    pairing = reader.pairing
    table = _table("pairing", show_header=False)
    table.add_row("clouds with all images", str(pairing.complete))
    if pairing.partial:
        table.add_row("clouds with some or none", str(pairing.partial))
    for reason, count in pairing.dropped.items():
        table.add_row(f"clouds dropped: {reason}", str(count))
    for camera in reader.cameras:
        distances_ms = 1000 * np.array(pairing.nearest_s.get(camera, []))
        if len(distances_ms):
            text = f"{np.median(distances_ms):.1f} ms, at most {distances_ms.max():.1f} ms"
            table.add_row(f"camera {camera}: nearest image", text)
        if pairing.images_unused[camera]:
            table.add_row(f"camera {camera}: images unused", str(pairing.images_unused[camera]))
    return table


def _camera_table(cameras: dict[str, CameraStatistics], cloud: CloudStatistics | None) -> Table:
    table = _table("cameras", show_header=False)
    for name, statistics in cameras.items():
        place_m, angles_deg = camera_pose(statistics.view)
        lines = [
            describe_camera(statistics.view.camera),
            "in the LiDAR frame at x {:+.3f}, y {:+.3f}, z {:+.3f} m".format(*place_m),
            "turned by roll {:+.2f}, pitch {:+.2f}, yaw {:+.2f}° from the LiDAR's axes".format(*angles_deg),
            f"{100 * statistics.visible_share:.1f} % of the points fall into its image",
        ]
        if cloud is not None and cloud.height_m is not None:
            lines.append(f"about {cloud.height_m + place_m[2]:.1f} m above the ground")
        table.add_row(name, "\n".join(lines))
    return table


def _cloud_line(cloud: CloudStatistics) -> str:
    low, middle, high = cloud.range_m
    return (
        f"[bold]cloud[/]  {cloud.points:,} points, {100 * cloud.nan_share:.1f} % NaN, about {cloud.beams} scan lines, "
        f"range {low:.1f} to {high:.1f} m (5 to 95 %), median {middle:.1f} m"
    )
