"""Scenarios, their reader and their pictures: what is asked for is made, and bad input is told plainly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from quiet_street import quiet_town
from typer.testing import CliRunner

from clip2uda_core.cli import app
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import ConfigError
from clip2uda_core.geometry import project
from clip2uda_core.labels import LabelSpace
from clip2uda_core.paths import share_dir
from clip2uda_core.simulation.generate import Simulator
from clip2uda_core.simulation.scenario import (
    SimulatedDomainConfig,
    load_scenario,
    resolve,
)
from clip2uda_core.simulation.scene import Scene
from clip2uda_core.simulation.town import (
    load_town,
)

SCENARIOS = sorted(path.stem for path in (share_dir() / "config/scenarios").glob("*.yaml"))


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
