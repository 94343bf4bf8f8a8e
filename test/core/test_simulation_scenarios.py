"""Scenarios, the cache and the reader: what is asked for is made, the same each time, and bad input is told plainly."""

import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from clip2uda_core.cli import app
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.paths import share_dir
from clip2uda_core.simulation.appearance import AppearanceConfig
from clip2uda_core.simulation.cache import FrameCache, open_cache
from clip2uda_core.simulation.generate import Simulator, domain_key, frames
from clip2uda_core.simulation.scenario import (
    Domain,
    SimulatedDomainConfig,
    load_scenario,
    resolve,
    simulated_domain,
)
from clip2uda_core.simulation.scene import Scene
from clip2uda_core.simulation.sensors import CameraConfig, LidarConfig, MountConfig, load_camera, load_lidar
from clip2uda_core.simulation.statistics import CloudStatistics, comparison
from clip2uda_core.simulation.town import (
    BuildingConfig,
    PlantConfig,
    RoadConfig,
    StreetLifeConfig,
    TownConfig,
    load_town,
)
from clip2uda_core.types import Frame

SCENARIOS = sorted(path.stem for path in (share_dir() / "config/scenarios").glob("*.yaml"))


def quiet_town(seed: int) -> TownConfig:
    """An all but empty street, which is made quickly."""
    return TownConfig(
        seed=seed,
        road=RoadConfig(crossings=(0, 0)),
        buildings=BuildingConfig(empty_lots=0.8, gardens=0.0),
        plants=PlantConfig(street_trees=(0, 1), yard_trees=(0, 1), bushes=(0, 1), hedges=(0, 0)),
        life=StreetLifeConfig(parked=(0, 0.1), moving=(0, 1), walkers=(1, 2), clutter=(0, 1), sheds=(0, 0)),
    )


def tiny_domain(**changes: object) -> Domain:
    camera = {"width_px": 96, "height_px": 32, "fx": 56.0, "fy": 56.0, "cx": 47.5, "cy": 15.5}
    values: dict = {
        "town": quiet_town(12),
        "lidar": LidarConfig(elevations_deg=(0.0, -4.0, -10.0), azimuth_steps=256, mount=MountConfig(z_m=1.8)),
        "cameras": (CameraConfig(name="front", mount=MountConfig(z_m=1.6), **camera),),
        "appearance": AppearanceConfig(),
        "frames_per_scene": 2,
        "spacing_m": 6.0,
    }
    return Domain(**(values | changes))


def digest(frame: Frame) -> str:
    cloud = frame.cloud
    arrays = [cloud.xyz_m, cloud.intensity, cloud.time_offset_s, cloud.labels]
    arrays += [array for view in frame.views for array in (view.image, view.labels, view.camera_SE3_lidar.matrix)]
    stamps = [cloud.stamp_ns, *(view.stamp_ns for view in frame.views)]
    content = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays if a is not None)
    return hashlib.sha256(content + repr(stamps).encode()).hexdigest()


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_shipped_scenario_loads_with_all_its_files(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    domains = [d for d in (scenario.source, scenario.target) if isinstance(d, SimulatedDomainConfig)]
    seeds = [resolve(domain).town.seed for domain in domains]
    assert len(set(seeds)) == len(seeds)


def test_all_shipped_towns_have_seeds_of_their_own() -> None:
    seeds = [load_town(path.stem).seed for path in (share_dir() / "config/towns").glob("*.yaml")]
    assert len(set(seeds)) == len(seeds)


def test_frames_are_the_same_on_any_number_of_processes_and_from_the_cache(tmp_path: Path) -> None:
    domain = tiny_domain()
    alone = [digest(f) for f in frames(domain, "val", 4, FrameCache(None), workers=1)]
    cache = open_cache(tmp_path)
    assert [digest(f) for f in frames(domain, "val", 4, cache, workers=2)] == alone
    assert all(cache.has(domain_key(domain, "val"), index) for index in range(4))
    assert [digest(f) for f in frames(domain, "val", 4, cache, workers=1)] == alone
    assert digest(Simulator(domain, "val").frame(3)) == alone[3], "a frame depends on those before it"
    assert len(set(alone)) == 4


def test_a_script_without_a_main_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "careless.py"
    script.write_text(
        "from clip2uda_core.data.readers import ReaderOptions\n"
        "from clip2uda_core.data.readers.synthetic import SyntheticReader\n"
        "list(SyntheticReader('day_to_night', ReaderOptions(max_frames=9), workers=2))\n"
    )
    environment = os.environ | {"CLIP2UDA_CACHE": str(tmp_path), "PYTHONPATH": str(share_dir())}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "DataError: the 2 processes that simulate frames ended at once" in done.stderr
    assert "__main__" in done.stderr


def test_no_two_splits_or_domains_share_a_scene() -> None:
    streets = set()
    for town in (quiet_town(1), quiet_town(2)):
        for split in ("train", "val", "test"):
            simulator = Simulator(tiny_domain(town=town), split)
            for number in (0, 1):
                scene = Scene(town, simulator.scene_seed(number), 1.0)
                streets.add(hashlib.sha256(scene.layout.mesh.vertices.tobytes()).hexdigest())
    assert len(streets) == 12


def test_every_class_is_in_at_least_half_of_the_frames() -> None:
    """In the points that the camera sees, over scenes of the widest town."""
    config = resolve(load_scenario("sim_to_kitti").source)
    domain = config.model_copy(
        update={
            "lidar": config.lidar.model_copy(update={"azimuth_steps": 1024}),
            "frames_per_scene": 2,
            "spacing_m": 25.0,
        }
    )
    simulator, statistics = Simulator(domain.model_copy(update={"cameras": ()}), "val"), CloudStatistics(8)
    camera = domain.cameras[0]
    for index in range(8):
        frame = simulator.frame(index)
        view = _blind_view(frame, camera, domain.lidar)
        statistics.add(Frame(frame.cloud, (view,)))
    assert (statistics.with_class >= 4).all(), dict(
        zip(LabelSpace.load("street8").names, statistics.with_class, strict=True)
    )


def _blind_view(frame: Frame, camera: CameraConfig, lidar: LidarConfig):  # type: ignore[no-untyped-def]
    """A view with a black image: its place is all that is asked for."""
    from clip2uda_core.geometry import SE3
    from clip2uda_core.types import CameraView

    matrix = np.linalg.inv(camera.base_from_optical()) @ lidar.mount.base_from_sensor()
    image = np.zeros((camera.height_px, camera.width_px, 3), np.uint8)
    return CameraView(camera.name, image, frame.cloud.stamp_ns, camera.camera(), SE3(matrix, camera.name, lidar.name))


@pytest.mark.real_data
def test_the_simulated_hdl64e_measures_as_the_real_one(real_data: Path) -> None:
    """Point count, share in the image and points by elevation within 15 % of the unlabelled KITTI drive."""
    real = CloudStatistics(8)
    for i, frame in enumerate(open_source(real_data / "kitti_raw_2011_09_26_drive_0001")):
        if i % 9 == 0:
            real.add(frame)
    config = resolve(load_scenario("sim_to_kitti").source)
    simulated, camera = CloudStatistics(8), config.cameras[0]
    simulator = Simulator(config.model_copy(update={"cameras": (), "frames_per_scene": 2, "spacing_m": 30.0}), "train")
    for index in range(10):
        frame = simulator.frame(index)
        simulated.add(Frame(frame.cloud, (_blind_view(frame, camera, config.lidar),)))
    assert simulated.points / simulated.clouds == pytest.approx(real.points / real.clouds, rel=0.15)
    assert simulated.seen / simulated.points == pytest.approx(real.seen / real.points, rel=0.15)
    shares = simulated.by_elevation / simulated.points
    assert shares == pytest.approx(real.by_elevation / real.points, rel=0.15)
    table = comparison({"simulated": simulated, "real": real}, LabelSpace.load("street8").names)
    assert table.count("|") > 100


def test_the_cache_stays_within_its_limit_and_drops_the_longest_unused(tmp_path: Path) -> None:
    frame = Simulator(tiny_domain(cameras=()), "train").frame(0)
    cache = open_cache(tmp_path)
    cache.write("key", 0, frame)
    size = (tmp_path / "key" / "000000.npz").stat().st_size
    cache = FrameCache(tmp_path, limit_bytes=round(3.5 * size))
    for index in (1, 2):
        cache.write("key", index, frame)
    for age, index in enumerate((0, 2, 1)):  # 0 was used last, 1 is the oldest
        os.utime(tmp_path / "key" / f"{index:06d}.npz", (1e9 - age, 1e9 - age))
    cache.write("key", 3, frame)
    kept = [index for index in range(4) if cache.has("key", index)]
    assert kept == [0, 2, 3]
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.npz")) <= cache.limit_bytes


def test_a_damaged_cache_file_is_made_anew(tmp_path: Path) -> None:
    domain, cache = tiny_domain(cameras=()), open_cache(tmp_path)
    (first,) = frames(domain, "train", 1, cache, workers=1)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    (again,) = frames(domain, "train", 1, cache, workers=1)
    assert digest(again) == digest(first)
    assert path.stat().st_size > 1000


def test_a_cache_that_cannot_be_written_is_warned_of_once_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path("/proc/clip2uda_cache")  # not writable for anybody, root included
    with caplog.at_level(logging.WARNING):
        cache = open_cache(folder)
        made = list(frames(tiny_domain(cameras=()), "train", 2, cache, workers=1))
    assert len(made) == 2
    assert len(caplog.records) == 1
    assert "CLIP2UDA_CACHE" in caplog.text


def test_a_disk_that_fills_up_is_warned_of_and_frames_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FrameCache(Path("/dev/full/frames"))
    with caplog.at_level(logging.WARNING):
        (frame,) = frames(tiny_domain(cameras=()), "train", 1, cache, workers=1)
    assert len(frame.cloud) > 0
    assert "could not be kept" in caplog.text


def test_a_cache_path_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file is a file; set CLIP2UDA_CACHE"):
        open_cache(tmp_path / "file" / "frames")
    with pytest.raises(ConfigError, match="more than 0 GB"):
        open_cache(tmp_path, limit_gb=0.0)


def test_the_key_changes_with_everything_that_frames_depend_on() -> None:
    base = tiny_domain()
    others = [
        tiny_domain(town=quiet_town(13)),
        tiny_domain(appearance=AppearanceConfig(night=1.0)),
        tiny_domain(spacing_m=7.0),
        tiny_domain(lidar=base.lidar.model_copy(update={"range_noise_m": 0.03})),
    ]
    keys = {domain_key(base, "train"), domain_key(base, "val"), *(domain_key(d, "train") for d in others)}
    assert len(keys) == 6


@pytest.fixture
def scenario_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small scenario of the user's own, with its own files, and a cache of its own."""
    monkeypatch.setenv("CLIP2UDA_CACHE", str(tmp_path / "cache"))
    files = {
        "town_a.yaml": quiet_town(61).model_dump(mode="json"),
        "town_b.yaml": quiet_town(62).model_dump(mode="json"),
        "lidar.yaml": {
            "blocks": [{"from_deg": 2, "to_deg": -14, "beams": 8}], "azimuth_steps": 128, "mount": {"z_m": 1.8},
        },
        "camera.yaml": {
            "name": "front", "width_px": 96, "height_px": 32, "fx": 56, "fy": 56, "cx": 47.5, "cy": 15.5,
            "delay_s": 0.01, "mount": {"z_m": 1.6},
        },
    }  # fmt: skip
    for name, values in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(values))

    def domain(town: str) -> dict:
        return {
            "kind": "simulation", "town": str(tmp_path / town), "lidar": str(tmp_path / "lidar.yaml"),
            "cameras": [str(tmp_path / "camera.yaml")], "frames": {"train": 3, "val": 2}, "frames_per_scene": 2,
        }  # fmt: skip

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "source": domain("town_a.yaml"), "target": domain("town_b.yaml")}))
    return path


def test_the_reader_gives_labelled_frames_in_order(scenario_file: Path) -> None:
    space = LabelSpace.load("street8")
    reader = open_source(f"synthetic:{scenario_file}:target:train", ReaderOptions(label_space=space))
    read = list(reader)
    assert len(read) == len(reader) == 3
    assert reader.cameras == ("front",)
    stamps = reader.stamps()
    assert [f.cloud.stamp_ns for f in read] == stamps["lidar"].acquired_ns.tolist()
    assert [f.views[0].stamp_ns for f in read] == stamps["front"].acquired_ns.tolist()
    assert (stamps["front"].acquired_ns - stamps["lidar"].acquired_ns == 10_000_000).all()
    assert reader.pairing.complete == 3
    frame = read[0]
    assert frame.cloud.labels is not None
    assert frame.views[0].labels is not None
    assert frame.source == "mine_target_train[0]"
    assert project(frame.cloud.xyz_m, frame.views[0].camera_SE3_lidar, frame.views[0].camera).visible.sum() > 50
    assert {s.role for s in reader.describe().streams} == {"points", "camera front", "labels"}


def test_the_reader_without_a_label_space_or_cameras(scenario_file: Path) -> None:
    options = ReaderOptions(cameras={}, max_frames=1)
    (frame,) = open_source(f"synthetic:{scenario_file}", options)
    assert frame.views == ()
    assert frame.cloud.labels is None
    assert frame.source == "mine_source_train[0]"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "shipped config/scenarios of that name; shipped: .*day_to_night"),
        ("day_to_night:moon", "expected domain source or target, got 'moon'"),
        ("day_to_night:source:test", "expected one of the splits train, val, got 'test'"),
        ("day_to_night:source:train:x", r"expected synthetic:SCENARIO\[:DOMAIN\[:SPLIT\]\]"),
        ("day_to_night::train", "expected synthetic:SCENARIO"),
        ("sim_to_kitti:target", "is a real recording.*KITTI raw drive"),
    ],
)
def test_addresses_that_mean_nothing(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(f"synthetic:{address}")


def test_an_unknown_camera_is_named() -> None:
    with pytest.raises(ConfigError, match="expected cameras out of front; got rear"):
        open_source("synthetic:day_to_night", ReaderOptions(cameras={"rear": ""}))


def test_source_and_target_may_not_share_a_town(scenario_file: Path) -> None:
    values = yaml.safe_load(scenario_file.read_text())
    values["target"]["town"] = values["source"]["town"]
    scenario_file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="share the seed 61"):
        load_scenario(str(scenario_file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beems": 3}, "beems: unknown setting"),
        ({"blocks": []}, "with at least one beam"),
        ({"blocks": [{"from_deg": 1, "to_deg": -1, "beams": 0}]}, r"blocks.0.beams: .*greater than or equal to 1"),
        ({"mount": {"z_m": -1.0}}, r"mount.z_m: .*greater than 0.1, got -1.0"),
        ({"mount": {"z_m": 1.0}}, "inside the vehicle"),
        ({"mount": {"z_m": 1.8, "pitch_deg": 200}}, "mount.pitch_deg"),
        ({"azimuth_steps": 0}, "azimuth_steps"),
        ({"range_m": [10, 5]}, r"range_m is \[nearest, farthest\]"),
    ],
)
def test_lidars_that_cannot_be(tmp_path: Path, change: dict, message: str) -> None:
    values = {"blocks": [{"from_deg": 2, "to_deg": -14, "beams": 8}], "azimuth_steps": 128, "mount": {"z_m": 1.8}}
    (tmp_path / "lidar.yaml").write_text(yaml.safe_dump(values | change))
    with pytest.raises(ConfigError, match=message):
        load_lidar(str(tmp_path / "lidar.yaml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lens": 1}, "lens: unknown setting"),
        ({"model": "telescope"}, "model"),
        ({"model": "fisheye"}, r"fisheye camera has \(4,\) distortion coefficients, not 0"),
        ({"width_px": 0}, "width_px"),
        ({"fx": -1.0}, "fx"),
    ],
)
def test_cameras_that_cannot_be(tmp_path: Path, change: dict, message: str) -> None:
    values = {
        "name": "front",
        "width_px": 96,
        "height_px": 32,
        "fx": 56,
        "fy": 56,
        "cx": 47,
        "cy": 15,
        "mount": {"z_m": 1.6},
    }
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(values | change))
    with pytest.raises(ConfigError, match=message):
        load_camera(str(tmp_path / "camera.yaml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"road": {"lane_m": [4.0, 3.0]}}, r"\[least, most\]"),
        ({"buildings": {"row": 1.5}}, "buildings.row"),
        ({"sead": 1}, "sead: unknown setting"),
        ({"seed": -1}, "seed"),
    ],
)
def test_towns_that_cannot_be(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "town.yaml").write_text(yaml.safe_dump({"seed": 1} | change))
    with pytest.raises(ConfigError, match=message):
        load_town(str(tmp_path / "town.yaml"))


def test_two_cameras_of_one_name_are_refused() -> None:
    camera = tiny_domain().cameras[0]
    with pytest.raises(ValueError, match="two cameras share a name"):
        tiny_domain(cameras=(camera, camera))


def test_a_recording_cannot_be_simulated() -> None:
    scenario = load_scenario("sim_to_kitti")
    with pytest.raises(ConfigError, match="give the recording's path instead"):
        simulated_domain(scenario, "target")


def test_simulate_writes_pictures_and_a_contact_sheet(scenario_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["simulate", "--scenario", str(scenario_file), "--frames", "2", "--out", str(out), "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for domain in ("source", "target"):
        names = sorted(path.name for path in (out / domain).iterdir())
        assert names == [
            f"train_000{i}_{kind}.png" for i in range(2) for kind in ("birds_eye", "front", "front_labels")
        ]
    assert (out / "contact_sheet.png").stat().st_size > 10_000


def test_simulate_refuses_a_split_that_a_domain_lacks(scenario_file: Path, tmp_path: Path) -> None:
    arguments = ["simulate", "--scenario", str(scenario_file), "--split", "test", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "expected a split out of train, val; got 'test'" in str(result.exception)


def test_stamps_and_poses_do_not_move_with_the_view(scenario_file: Path) -> None:
    """A camera that looks later than the LiDAR has driven on: its place in the LiDAR's frame says so."""
    domain = resolve(load_scenario(str(scenario_file)).source)
    frame = Simulator(domain, "train").frame(0)
    mounts = np.linalg.inv(domain.cameras[0].base_from_optical()) @ domain.lidar.mount.base_from_sensor()
    driven = frame.views[0].camera_SE3_lidar.matrix[:3, 3] - mounts[:3, 3]
    scene = Scene(domain.town, (0, 0), domain.travel_m)
    assert np.linalg.norm(driven) == pytest.approx(0.01 * scene.speed_mps, rel=0.05)
    still = replace(frame.views[0], stamp_ns=frame.cloud.stamp_ns)
    assert still.camera_SE3_lidar.source == domain.lidar.name
