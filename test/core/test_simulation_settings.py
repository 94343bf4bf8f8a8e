"""Sensors, towns and domains that cannot be are told plainly."""

from pathlib import Path

import pytest
import yaml
from quiet_street import tiny_domain

from clip2uda_core.errors import ConfigError
from clip2uda_core.simulation.scenario import (
    load_scenario,
    simulated_domain,
)
from clip2uda_core.simulation.sensors import load_camera, load_lidar
from clip2uda_core.simulation.town import (
    load_town,
)


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


def test_scenarios_whose_runs_begin_with_one_model_have_its_source() -> None:
    """docs/benchmarks begin both with `any_town`, which was trained on this source."""
    assert load_scenario("both_gaps").source == load_scenario("sim_to_kitti").source


def test_a_recording_cannot_be_simulated() -> None:
    scenario = load_scenario("sim_to_kitti")
    with pytest.raises(ConfigError, match="give the recording's path instead"):
        simulated_domain(scenario, "target")
