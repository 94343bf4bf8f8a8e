"""Numbers that tell whether a recording can be used: rates and stamps, calibration, what the cameras see of the cloud.

Each part has a function that measures and one that says, in the user's words, what looks wrong and what helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import CameraModel, FisheyeCamera, PinholeCamera, Projection
from clip2uda_core.types import CameraView, PointCloud

NS_PER_S = 1_000_000_000
GAP_FACTOR = 2.5
"""An interval so many times the usual one is a gap: at least one message is missing."""

CLOCK_OFFSET_S = 1.0
"""Header and log time further apart than this come from clocks that are not synchronised."""

FEW_VISIBLE = 0.02
NARROW = 0.25
"""Share of the image's width that the points of a sound calibration exceed, with a LiDAR that looks all around."""


@dataclass(frozen=True)
class StreamTimes:
    """Times of one stream of messages. log_delay_s: median of log time minus stamp, None where there is no log time."""

    name: str
    count: int
    rate_hz: float
    first_ns: int
    last_ns: int
    longest_interval_s: float
    gaps: int
    backwards: int
    repeated: int
    unset: int
    log_delay_s: float | None


@dataclass(frozen=True)
class CloudStatistics:
    """Medians over the clouds read.

    beams: how many scan lines the sensor seems to have. height_m: of the sensor over the ground, if the ground is
    where most points are; None where there are too few.
    """

    clouds: int
    points: int
    fewest_points: int
    nan_share: float
    range_m: tuple[float, float, float]
    beams: int
    height_m: float | None


@dataclass
class CameraStatistics:
    """What was seen of one camera: the view of the frame that is drawn, and per frame the share of visible points."""

    view: CameraView
    visible_shares: list[float] = field(default_factory=list)
    columns: list[tuple[float, float]] = field(default_factory=list)

    def add(self, projection: Projection) -> None:
        """columns: between which shares of the width 90 % of the visible points fall."""
        self.visible_shares.append(float(projection.visible.mean()) if len(projection.visible) else 0.0)
        if projection.visible.any():
            low, high = np.percentile(projection.uv_px[projection.visible, 0], (5, 95))
            width_px = self.view.camera.width_px
            self.columns.append((float(low) / width_px, float(high) / width_px))

    @property
    def visible_share(self) -> float:
        return float(np.median(self.visible_shares)) if self.visible_shares else 0.0


def measure_times(
    name: str, acquired_ns: NDArray[np.int64], logged_ns: NDArray[np.int64] | None = None
) -> StreamTimes | None:
    """Times of a stream from its stamps in recording order; None for a stream without messages."""
    if not len(acquired_ns):
        return None
    steps_s = np.diff(acquired_ns) / NS_PER_S
    forward_s = steps_s[steps_s > 0]
    usual_s = float(np.median(forward_s)) if len(forward_s) else 0.0
    delay_s = None if logged_ns is None else float(np.median(logged_ns - acquired_ns)) / NS_PER_S
    return StreamTimes(
        name=name,
        count=len(acquired_ns),
        rate_hz=1 / usual_s if usual_s else 0.0,
        first_ns=int(acquired_ns[0]),
        last_ns=int(acquired_ns[-1]),
        longest_interval_s=float(forward_s.max(initial=0.0)),
        gaps=int((forward_s > GAP_FACTOR * usual_s).sum()),
        backwards=int((steps_s < 0).sum()),
        repeated=int((steps_s == 0).sum()),
        unset=int((acquired_ns == 0).sum()),
        log_delay_s=delay_s,
    )


def time_warnings(times: StreamTimes) -> list[str]:
    """What looks wrong in the times of one stream."""
    found = []
    if times.unset:
        found.append(f"{times.unset} of {times.count} stamps are zero: the driver does not set header.stamp")
    if times.backwards:
        found.append(f"stamps jump back {times.backwards} times: a looped bag, or a driver that restarted")
    if times.repeated:
        found.append(f"{times.repeated} stamps repeat the one before: messages were recorded twice")
    if times.gaps:
        found.append(
            f"{times.gaps} gaps, the longest {times.longest_interval_s:.2f} s at {times.rate_hz:.1f} Hz: messages are "
            f"missing"
        )
    if times.log_delay_s is not None and abs(times.log_delay_s) > CLOCK_OFFSET_S:
        side = "before" if times.log_delay_s > 0 else "after"
        found.append(
            f"stamps lie {abs(times.log_delay_s):.1f} s {side} the recorder's clock: the sensor's clock is not "
            f"synchronised (PTP, NTP) or the bag was recorded from a replay"
        )
    return [f"{times.name}: {text}" for text in found]


def pairing_warnings(cloud: StreamTimes, image: StreamTimes, camera: str, tolerance_s: float) -> list[str]:
    """What looks wrong between the times of the cloud and those of one camera."""
    found = []
    if image.rate_hz and cloud.rate_hz and image.rate_hz < 0.7 * cloud.rate_hz:
        found.append(
            f"{image.rate_hz:.1f} images a second for {cloud.rate_hz:.1f} clouds: many clouds will have no image"
        )
    apart_s = max(image.first_ns - cloud.last_ns, cloud.first_ns - image.last_ns) / NS_PER_S
    if apart_s > tolerance_s:
        found.append(f"its stamps lie {apart_s:.1f} s beside the clouds': no image can be paired")
    if cloud.log_delay_s is not None and image.log_delay_s is not None:
        offset_s = image.log_delay_s - cloud.log_delay_s
        if abs(offset_s) > max(0.1, 2 * tolerance_s):
            found.append(
                f"against the recorder's clock its stamps lie {offset_s:+.2f} s from the LiDAR's: if the sensors' "
                f"clocks differ, correct it with --stamp-offset {camera}={-offset_s:.2f}"
            )
    return [f"camera {camera}: {text}" for text in found]


def merge_clouds(clouds: Sequence[CloudStatistics]) -> CloudStatistics | None:
    """Medians over single clouds' statistics; None when there is none."""
    if not clouds:
        return None
    heights = [cloud.height_m for cloud in clouds if cloud.height_m is not None]
    low, middle, high = np.median([cloud.range_m for cloud in clouds], axis=0)
    return CloudStatistics(
        clouds=len(clouds),
        points=int(np.median([cloud.points for cloud in clouds])),
        fewest_points=min(cloud.points for cloud in clouds),
        nan_share=float(np.median([cloud.nan_share for cloud in clouds])),
        range_m=(float(low), float(middle), float(high)),
        beams=int(np.median([cloud.beams for cloud in clouds])),
        height_m=float(np.median(heights)) if heights else None,
    )


def measure_cloud(cloud: PointCloud) -> CloudStatistics:
    """One cloud's points, NaN share, range (5 %, median, 95 %), scan lines and height."""
    finite = np.isfinite(cloud.xyz_m).all(axis=1)
    xyz_m = cloud.xyz_m[finite]
    range_m = np.linalg.norm(xyz_m, axis=1)
    low, middle, high = np.percentile(range_m, (5, 50, 95)) if len(xyz_m) else (0.0, 0.0, 0.0)
    return CloudStatistics(
        clouds=1,
        points=len(cloud),
        fewest_points=len(cloud),
        nan_share=float(1 - finite.mean()) if len(cloud) else 0.0,
        range_m=(float(low), float(middle), float(high)),
        beams=_guess_beams(xyz_m),
        height_m=_guess_height_m(xyz_m),
    )


def cloud_warnings(cloud: CloudStatistics) -> list[str]:
    """What looks wrong in the clouds themselves."""
    found = []
    if cloud.fewest_points == 0:
        found.append("some clouds are empty")
    elif cloud.fewest_points < 0.2 * cloud.points:
        found.append(f"some clouds have few points: {cloud.fewest_points}, usual are {cloud.points}")
    if cloud.nan_share > 0.9:
        found.append(f"{100 * cloud.nan_share:.0f} % of the points are NaN: the sensor sees nothing")
    if cloud.points and cloud.range_m[2] > 1000:
        found.append(f"ranges up to {cloud.range_m[2]:.0f}: are the coordinates in millimetres? Metres are expected")
    return [f"cloud: {text}" for text in found]


def camera_warnings(camera: CameraStatistics) -> list[str]:
    """What looks wrong in a camera's calibration, by where the points fall."""
    name, found = camera.view.name, []
    axis = camera.view.camera_SE3_lidar.inverse().rotation[:, 2]
    if camera.visible_share < FEW_VISIBLE:
        found.append(
            f"only {100 * camera.visible_share:.1f} % of the points fall into the image: check that the transform is "
            f"that of the optical frame (x right, y down, z forward), and that it is not inverted"
        )
    elif camera.columns:
        low, high = np.median(camera.columns, axis=0)
        if high - low < NARROW:
            found.append(
                f"the points fall into a narrow strip, {100 * low:.0f} to {100 * high:.0f} % of the width: check the "
                f"transform and the focal length"
            )
    if abs(axis[2]) > 0.9:
        direction = "up" if axis[2] > 0 else "down"
        found.append(
            f"it looks straight {direction} as seen from the LiDAR: its transform may be that of the camera's body "
            f"frame instead of the optical frame (REP 103)"
        )
    return [f"camera {name}: {text}" for text in found]


def describe_camera(camera: CameraModel) -> str:
    """Model, size, focal length and field of view, in a line."""
    field_deg = np.degrees(2 * np.arctan(camera.width_px / (2 * camera.fx)))
    if isinstance(camera, FisheyeCamera):
        model, field_deg = "fisheye", np.degrees(camera.width_px / camera.fx)
    elif isinstance(camera, PinholeCamera) and any(camera.distortion):
        model = f"pinhole, {len(camera.distortion)} distortion coefficients"
    else:
        model = "pinhole, no distortion"
    return (
        f"{model}, {camera.width_px}x{camera.height_px}, f {camera.fx:.1f} {camera.fy:.1f}, "
        f"c {camera.cx:.1f} {camera.cy:.1f}, {field_deg:.0f}° wide"
    )


def camera_pose(view: CameraView) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the camera is in the LiDAR frame, (3,) in metres, and how it is turned, (3,) roll, pitch, yaw in degrees.

    The angles are those of the camera's body (REP 103: x forward, y left, z up): a camera that looks where the LiDAR's
    x axis points has three zeros.
    """
    lidar_SE3_camera = view.camera_SE3_lidar.inverse()
    offset_m = view.camera.offset_m if isinstance(view.camera, PinholeCamera) else np.zeros(3)
    place_m = lidar_SE3_camera.transform(-offset_m[None])[0]
    optical_from_body = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
    r = lidar_SE3_camera.rotation @ optical_from_body
    pitch = -np.arcsin(np.clip(r[2, 0], -1, 1))
    return place_m, np.degrees([np.arctan2(r[2, 1], r[2, 2]), pitch, np.arctan2(r[1, 0], r[0, 0])])


def _guess_beams(xyz_m: NDArray[np.float32]) -> int:
    """Scan lines: distinct elevations within narrow sectors, where each line has but a point or two."""
    distance_m = np.hypot(xyz_m[:, 0], xyz_m[:, 1])
    sector = np.floor(np.degrees(np.arctan2(xyz_m[:, 1], xyz_m[:, 0])) * 2).astype(np.int64)
    elevation_deg = np.degrees(np.arctan2(xyz_m[:, 2], distance_m))
    order = np.lexsort((elevation_deg, sector))
    sector, elevation_deg = sector[order], elevation_deg[order]
    new_line = (np.diff(elevation_deg) > 0.15) | (np.diff(sector) != 0)
    lines = np.bincount(sector[1:][new_line] + 361) if len(new_line) else np.zeros(1, np.int64)
    return int(np.percentile(lines[lines > 0], 95)) if lines.any() else 0


def _guess_height_m(xyz_m: NDArray[np.float32]) -> float | None:
    """Height of the sensor over the ground, which is the fullest layer of 10 cm among the points 3 to 20 m away."""
    distance_m = np.hypot(xyz_m[:, 0], xyz_m[:, 1])
    z_m = xyz_m[(distance_m > 3) & (distance_m < 20), 2]
    z_m = z_m[(z_m > -5) & (z_m < 0)]
    if len(z_m) < 100:
        return None
    counts, edges = np.histogram(z_m, np.arange(-5, 0.05, 0.1))
    fullest = int(np.argmax(counts))
    return -float(edges[fullest] + edges[fullest + 1]) / 2
