"""Clock offsets that were put into recordings are found again, from stamps and from what a turning vehicle sees."""

from collections.abc import Iterator

import numpy as np
import pytest

from clip2uda_core.data.readers import ReaderOptions, Stamps, open_source
from clip2uda_core.geometry import SE3, CameraModel
from clip2uda_core.simulation.appearance import AppearanceConfig, draw_appearance
from clip2uda_core.simulation.camera import pixel_rays, render
from clip2uda_core.simulation.lidar import sweep
from clip2uda_core.simulation.scene import Scene
from clip2uda_core.simulation.sensors import load_camera, load_lidar
from clip2uda_core.simulation.town import load_town
from clip2uda_core.survey.clock_offset import (
    ClockOffset,
    ClockSurvey,
    clock_warnings,
    describe_clock,
    offset_of_turning,
    relate_stamps,
)
from clip2uda_core.types import CameraView, Frame, PointCloud

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
STEPS = 40


def stamps(times_s: np.ndarray) -> Stamps:
    return Stamps(START_NS + np.round(1e9 * times_s).astype(np.int64))


SCANS_S = 0.1 * np.arange(200)


@pytest.mark.parametrize("offset_s", [0.0, 0.02, -0.03, 0.12])
def test_a_constant_offset_is_known_within_a_period(offset_s: float) -> None:
    jitter_s = np.random.default_rng(0).normal(0, 0.001, len(SCANS_S))
    relation = relate_stamps(stamps(SCANS_S), stamps(SCANS_S + offset_s + jitter_s))
    assert relation is not None
    assert relation.phase_s == pytest.approx(offset_s - 0.1 * round(offset_s / 0.1), abs=0.001)
    assert relation.jitter_s == pytest.approx(0.00067, abs=0.0003)  # a normal's median deviation is 0.67 of its sigma
    assert relation.period_s == pytest.approx(0.1, abs=0.001)
    assert (relation.drift_ppm, relation.loose) == (0, False)
    assert clock_warnings("front", relation, None, 0.0) == []


def test_a_drift_is_told_through_late_and_missing_images() -> None:
    """200 ppm for ten minutes is 120 ms, more than the period of the images."""
    times_s = 0.1 * np.arange(6000)
    images_s = np.delete(times_s * (1 + 200e-6) + 0.02, slice(1000, 1300))
    images_s[::50] += 0.03
    relation = relate_stamps(stamps(times_s), stamps(images_s))
    assert relation is not None
    assert relation.drift_ppm == pytest.approx(200, rel=0.05)
    (warning,) = clock_warnings("front", relation, None, 0.0)
    assert "+200 ppm" in warning
    assert "720 ms an hour" in warning


def test_free_running_sensors_are_told_from_triggered_ones() -> None:
    relation = relate_stamps(stamps(SCANS_S), stamps(0.0371 * np.arange(500)))
    assert relation is not None
    assert relation.loose
    assert relation.drift_ppm == 0
    assert "taken independently" in describe_clock("front", relation, None)


def test_streams_that_do_not_overlap_are_not_compared() -> None:
    assert relate_stamps(stamps(SCANS_S), stamps(SCANS_S + 1000)) is None
    assert relate_stamps(stamps(SCANS_S[:3]), stamps(SCANS_S)) is None
    assert "cannot be compared" in describe_clock("front", None, None)


def rates(times_s: np.ndarray) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * times_s / 3.1) + 0.1 * np.sin(2 * np.pi * times_s / 1.3 + 1)


@pytest.mark.parametrize("offset_s", [0.0, 0.12, -0.33])
def test_the_lag_between_two_turning_rates(offset_s: float) -> None:
    """The cameras' rate is off in scale and offset, noisy, and has gaps."""
    rng = np.random.default_rng(0)
    images_s = np.delete(SCANS_S + 0.017, slice(80, 95))
    seen = 0.7 * rates(images_s - offset_s) + 0.05 + rng.normal(0, 0.03, len(images_s))
    found = offset_of_turning("front", SCANS_S, rates(SCANS_S), images_s, seen)
    assert found.stamp_offset_s == pytest.approx(offset_s, abs=max(0.008, 3 * found.doubt_s))
    assert found.doubt_s < 0.02


@pytest.mark.parametrize(
    ("scans", "images", "told"),
    [
        (0.001 * rates(SCANS_S), rates(SCANS_S), "hardly turns"),
        (rates(SCANS_S), np.random.default_rng(0).normal(0, 0.2, len(SCANS_S)), "do not turn as the scans do"),
        (rates(SCANS_S), rates(SCANS_S - 0.8), "do not turn as the scans do"),
    ],
)
def test_what_cannot_be_told_is_said(scans: np.ndarray, images: np.ndarray, told: str) -> None:
    found = offset_of_turning("front", SCANS_S, scans, SCANS_S, images)
    assert found.stamp_offset_s is None
    assert told in found.reason
    assert told in describe_clock("front", None, found)
    assert clock_warnings("front", None, found, 0.0) == []


def test_few_frames_tell_nothing() -> None:
    found = offset_of_turning("front", SCANS_S[:10], rates(SCANS_S[:10]), SCANS_S, rates(SCANS_S))
    assert found.stamp_offset_s is None
    assert "fewer than 20 frames" in found.reason


def test_a_warning_gives_the_option_to_use() -> None:
    found = ClockOffset("front", 0.1204, 0.003, 0.99, "turns of 20°/s")
    (warning,) = clock_warnings("front", None, found, 0.0)
    assert "120 ms later" in warning
    assert "--stamp-offset front=0.120" in warning
    assert clock_warnings("front", None, found, 0.12) == []
    (warning,) = clock_warnings("front", None, found, 0.2)
    assert "80 ms earlier" in warning


Drive = tuple[list[np.ndarray], list[np.ndarray], CameraModel]


@pytest.fixture(scope="module")
def drive() -> Drive:
    """Clouds at 0, 0.1, ... s and images 20 ms after them of a robot that looks around while it rolls ahead, in
    simulated streets."""
    scene = Scene(load_town("market_town"), (0, 0), 10.0)
    snapshot = scene.at(3.0)
    start = snapshot.ego.copy()
    lidar, mount = load_lidar("hdl32e").model_copy(update={"azimuth_steps": 500}), load_camera("front_kitti")
    camera = mount.camera().resized(160, 48)
    rng, rays = np.random.default_rng(0), pixel_rays(camera)
    look = draw_appearance(AppearanceConfig(), rng)

    def pose(time_s: float) -> np.ndarray:
        angle = np.radians(12 * np.sin(2 * np.pi * time_s / 3.1) + 5 * np.sin(2 * np.pi * time_s / 1.3 + 1))
        turned = np.eye(4)
        turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turned[0, 3] = 0.6 * time_s
        return start @ turned

    clouds, images = [], []
    for step in range(STEPS):
        snapshot.ego = pose(0.1 * step)
        clouds.append(sweep(scene, snapshot, lidar, 0, rng).xyz_m)
        world_from_camera = pose(0.1 * step + 0.02) @ mount.base_from_optical()
        images.append(render(snapshot, camera, rays, world_from_camera, look, rng)[0])
    return clouds, images, camera


def frames(drive: Drive, offset_ns: int) -> Iterator[Frame]:
    """Each cloud with the image whose stamp is nearest, as a recording is paired; stamps are off by the offset."""
    clouds, images, camera = drive
    image_ns = START_NS + PERIOD_NS * np.arange(STEPS) + 20_000_000 + offset_ns
    for step, cloud in enumerate(clouds):
        stamp_ns = START_NS + PERIOD_NS * step
        nearest = int(np.abs(image_ns - stamp_ns).argmin())
        view = CameraView("front", images[nearest], int(image_ns[nearest]), camera, SE3(np.eye(4), "front", "lidar"))
        yield Frame(PointCloud(cloud, stamp_ns), (view,))


@pytest.mark.parametrize("offset_ms", [0, 120])
def test_an_offset_is_found_while_the_vehicle_turns(drive: Drive, offset_ms: int) -> None:
    survey = ClockSurvey()
    for frame in frames(drive, offset_ms * 1_000_000):
        survey.add(frame)
    (found,) = survey.offsets()
    assert found.stamp_offset_s == pytest.approx(offset_ms / 1e3, abs=0.01)
    warnings = clock_warnings("front", None, found, 0.0)
    assert bool(warnings) == (offset_ms != 0)


@pytest.mark.real_data
def test_a_real_drive_that_goes_straight_tells_nothing(real_data) -> None:
    drive = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions(max_frames=14))
    survey = ClockSurvey()
    for frame in drive:
        survey.add(frame)
    (found,) = survey.offsets()
    assert found.stamp_offset_s is None
    relation = relate_stamps(*drive.stamps().values())
    assert relation is not None
    assert relation.phase_s == pytest.approx(0.0166, abs=1e-3)  # README of the recording: the image 16.6 ms after
