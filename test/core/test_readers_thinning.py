"""Which clouds become frames where a robot stands, creeps, turns, or its odometry does not say the truth."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_recordings import PERIOD_NS, START_NS, TinyBag, frame_messages, write_bag
from tiny_street import EPOCH_NS, pose, scan

from clip2uda_core.data.readers import FOR_TRAINING, ReaderOptions, Thinning, open_source, open_sources
from clip2uda_core.data.readers.thinning import TOO_NEAR, TOO_SOON, Thinner
from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import SE3
from clip2uda_core.types import PointCloud

STANDING_SCANS = [scan(pose(0), seed, columns=480)[0] for seed in range(2)]


def cloud(place: SE3 | None, index: int) -> PointCloud:
    """The scan at a place on the street; of standing, None, one of two that are the same but for noise."""
    xyz_m = STANDING_SCANS[index % 2] if place is None else scan(place, index, columns=480)[0]
    return PointCloud(xyz_m, stamp_ns(index), "lidar")


def stamp_ns(index: int) -> int:
    return EPOCH_NS + index * 100_000_000


def taken(thinner: Thinner, places: list[SE3 | None], odometry: list[SE3] | None = None) -> list[int]:
    """Numbers of the clouds that were taken, at 10 Hz."""
    told = odometry or [None] * len(places)
    return [
        i
        for i in range(len(places))
        if thinner.takes(stamp_ns(i), partial(cloud, places[i], i), partial(told.__getitem__, i))
    ]


def test_standing_gives_one_frame_by_the_scans_alone() -> None:
    """Twelve clouds standing, then 0.2 m a cloud: the first frame after half a second at most, then each third."""
    thinner = Thinner(FOR_TRAINING)
    places = [None] * 12 + [pose(0.2 * i) for i in range(1, 10)]
    first, second, *later = taken(thinner, places)
    assert first == 0
    assert 13 < second <= 17
    assert later == list(range(second + 3, 21, 3))
    assert thinner.dropped == {TOO_NEAR: 21 - 2 - len(later)}


def test_turning_on_the_spot_gives_frames() -> None:
    assert taken(Thinner(FOR_TRAINING), [pose(0, 4.0 * i) for i in range(9)])[:2] == [0, 4]


def test_odometry_is_taken_where_it_moves() -> None:
    """No scan is looked at: they all are of standing, and empty."""
    odometry = [SE3(pose(0.3 * i).matrix, "odom", "lidar") for i in range(7)]
    thinner = Thinner(FOR_TRAINING)
    empty = PointCloud(np.empty((0, 3), np.float32), 0)
    kept = [i for i in range(7) if thinner.takes(EPOCH_NS + i, lambda: empty, lambda i=i: odometry[i])]  # type: ignore[misc]
    assert kept == [0, 2, 4, 6]


def test_odometry_that_never_moves_is_found_out_by_the_scans() -> None:
    odometry = [SE3(np.eye(4), "odom", "lidar")] * 30
    thinner = Thinner(Thinning(min_motion_m=1.0))
    kept = taken(thinner, [pose(0.1 * i) for i in range(30)], odometry)
    assert kept[0] == 0
    assert len(kept) >= 2
    assert "stands still" in str(thinner.doubt)
    standing = Thinner(Thinning(min_motion_m=1.0))
    assert taken(standing, [None] * 25, [odometry[0]] * 25) == [0]
    assert standing.doubt is None


def test_motion_that_cannot_be_told_keeps_the_cloud() -> None:
    thinner = Thinner(FOR_TRAINING)
    blind = PointCloud(np.full((100, 3), np.nan, np.float32), 0)
    assert all(thinner.takes(EPOCH_NS + i * 10**8, lambda: blind, lambda: None) for i in range(3))


def test_time_by_itself_decodes_no_cloud() -> None:
    """10 Hz with jitter to 2 Hz, and a stamp that jumps back starts anew."""

    def never() -> PointCloud:
        raise AssertionError("the cloud was decoded")

    thinner = Thinner(Thinning(min_interval_s=0.5))
    stamps_s = [0, 0.1, 0.2, 0.3, 0.4, 0.4999, 0.6, 0.8, 1.0, 0.2, 0.3, 0.7]
    kept = [s for s in stamps_s if thinner.takes(EPOCH_NS + round(1e9 * s), never, lambda: None)]
    assert kept == [0, 0.4999, 1.0, 0.2, 0.7]
    assert thinner.dropped == {TOO_SOON: 7}


@pytest.mark.parametrize("bad", [{"min_motion_m": -1}, {"min_interval_s": float("nan")}])
def test_senseless_thinning_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        Thinning(**bad)


def standing_bag(path: Path, speeds_mps: list[float]) -> Path:
    """A bag of the standard recording with an `odom` frame that moves at these speeds, one a frame."""
    tiny, x_m = TinyBag("mcap"), 0.0
    messages = frame_messages("mcap", len(speeds_mps))
    for i in range(-2, len(speeds_mps) + 2):
        stamp = START_NS + i * PERIOD_NS
        messages.append((stamp + 20_000_000, "/tf", tiny.transform(stamp, "odom", "lidar", (x_m, 0, 0), (0, 0, 0, 1))))
        x_m += 0.1 * (speeds_mps[i] if 0 <= i < len(speeds_mps) else 0)
    return write_bag(path, "mcap", sorted(messages, key=lambda m: m[0]))


def test_bag_is_thinned_by_its_odometry_and_by_time(tmp_path: Path) -> None:
    bag = standing_bag(tmp_path / "bag", [0] * 6 + [3.0] * 6)
    reader = open_source(bag, ReaderOptions(thinning=FOR_TRAINING))
    frames = list(reader)
    assert [frame.cloud.intensity[0] for frame in frames if frame.cloud.intensity is not None] == [0, 8, 10]
    assert reader.pairing.dropped == {TOO_NEAR: 9}
    assert not reader.warnings, "thinning is no loss"
    by_time = open_sources([bag], ReaderOptions(thinning=Thinning(min_interval_s=0.4)))
    assert len(list(by_time)) == 3
    assert by_time.pairing.dropped == {TOO_SOON: 9}
    assert len(list(open_sources([bag], ReaderOptions(thinning=FOR_TRAINING, max_frames=2)))) == 2


def test_cloud_without_image_does_not_take_the_place_of_one_that_has_some(tmp_path: Path) -> None:
    messages = [m for m in frame_messages("mcap", 6) if m[1] != "/front/image_raw" or m[0] > START_NS + 2 * PERIOD_NS]
    bag = write_bag(tmp_path / "bag", "mcap", messages)
    reader = open_source(bag, ReaderOptions(thinning=Thinning(min_interval_s=0.3)))
    assert [len(frame.views) for frame in reader] == [1, 1]
    assert any("2 of 6 clouds gave no frame: without any image" in warning for warning in reader.warnings)


@pytest.mark.real_data
def test_real_drive_loses_nothing_but_standing(real_data, tmp_path) -> None:
    """KITTI drive 0001 drives 1.3 m a scan; its first scan, stamped again and again, is standing."""
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    options = ReaderOptions(cameras={}, max_frames=4, thinning=FOR_TRAINING)
    frames = list(open_source(drive, options))
    assert len(frames) == 4
    thinner = Thinner(FOR_TRAINING)
    still = [replace(frames[0].cloud, stamp_ns=frames[0].cloud.stamp_ns + i * 10**8) for i in range(4)]
    assert [thinner.takes(c.stamp_ns, lambda c=c: c, lambda: None) for c in still] == [True] + [False] * 3  # type: ignore[misc]
