"""The tables that `clip2uda inspect` prints."""

from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
from rich import box
from rich.table import Table

from clip2uda_core.data.readers import Reader, Stream
from clip2uda_core.evaluation.inspection import (
    CameraStatistics,
    CloudStatistics,
    StreamTimes,
    camera_pose,
    describe_camera,
)


def stream_table(reader: Reader, streams: Sequence[Stream], times: dict[str, StreamTimes]) -> Table:
    """What is in the recording, and when."""
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


def pairing_table(reader: Reader) -> Table:
    """How clouds and images came together."""
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


def camera_table(cameras: dict[str, CameraStatistics], cloud: CloudStatistics | None) -> Table:
    """The calibration of each camera, in the words of the robot."""
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


def cloud_line(cloud: CloudStatistics) -> str:
    """The clouds in a line."""
    low, middle, high = cloud.range_m
    return (
        f"[bold]cloud[/]  {cloud.points:,} points, {100 * cloud.nan_share:.1f} % NaN, about {cloud.beams} scan lines, "
        f"range {low:.1f} to {high:.1f} m (5 to 95 %), median {middle:.1f} m"
    )
