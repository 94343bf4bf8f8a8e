"""Sensors estimated from simulated clouds, whose truth is known, and from real ones, whose truth is published."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.labels import LabelSpace
from clip2uda_core.simulation.lidar import sweep
from clip2uda_core.simulation.scene import Scene
from clip2uda_core.simulation.sensors import LidarConfig, MountConfig, load_lidar
from clip2uda_core.simulation.town import RoadConfig, TownConfig
from clip2uda_core.survey.beams import find_beams
from clip2uda_core.survey.ground import find_ground
from clip2uda_core.survey.sensors import SensorEstimate, estimate_sensors
from clip2uda_core.survey.source_domain import camera_configs, source_address, source_domain, write_source_scenario
from clip2uda_core.types import CameraView, Frame, PointCloud

FLAT = RoadConfig(grade=(0, 0), hills_m=(0, 0), bank_m=(0, 0), kerb_m=(0.1, 0.12), cobbled=0)
LIDARS = {
    "hdl64e": load_lidar("hdl64e_1024").model_copy(update={"azimuth_steps": 600}),
    "hdl32e": load_lidar("hdl32e").model_copy(update={"azimuth_steps": 720}),
    "vlp16 tilted": load_lidar("vlp16").model_copy(
        update={"azimuth_steps": 900, "mount": MountConfig(x_m=0.4, z_m=1.6, pitch_deg=8.0, roll_deg=-3.0)}
    ),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(TownConfig(seed=77, road=FLAT), (0, 0), 20.0)


@lru_cache
def clouds(scene: Scene, lidar: LidarConfig) -> list[Frame]:
    snapshots = [scene.at(distance) for distance in (3.0, 10.0, 17.0)]
    return [Frame(sweep(scene, s, lidar, 0, np.random.default_rng(i))) for i, s in enumerate(snapshots)]


def truth_deg(lidar: LidarConfig) -> np.ndarray:
    return np.degrees(lidar.elevations_rad())


@pytest.mark.parametrize("name", LIDARS)
def test_a_simulated_lidar_is_found_again(scene: Scene, name: str) -> None:
    lidar = LIDARS[name]
    estimate = estimate_sensors(clouds(scene, lidar))
    found, ground = estimate.lidar, estimate.ground
    assert len(found.elevations_deg) == len(truth_deg(lidar))
    np.testing.assert_allclose(found.elevations_deg, truth_deg(lidar), atol=0.02)
    assert found.azimuth_steps == pytest.approx(lidar.azimuth_steps, rel=0.01)
    assert found.noise_m == pytest.approx(lidar.range_noise_m, rel=0.35)
    assert found.intensity_scale == lidar.intensity_scale
    assert found.range_m[1] <= lidar.range_m[1]
    assert ground is not None
    assert ground.height_m == pytest.approx(lidar.mount.z_m, abs=0.05)
    assert ground.roll_deg == pytest.approx(lidar.mount.roll_deg, abs=1)
    assert ground.pitch_deg == pytest.approx(lidar.mount.pitch_deg, abs=1)
    assert [warning for warning in estimate.warnings if "camera" not in warning] == []


def test_what_the_vehicle_hides_is_found_again(scene: Scene) -> None:
    """The shipped HDL-64E looks over bonnet and boot; the HDL-32E's view is free."""
    blind = estimate_sensors(clouds(scene, LIDARS["hdl64e"])).lidar.blind
    below = {sector.middle_deg: sector.below_deg for sector in blind}
    assert below[-7.5] == pytest.approx(-20.3, abs=0.6)  # the bonnet
    assert below[-172.5] == pytest.approx(-17.9, abs=0.6)  # the boot
    assert 97.5 not in below  # beside the vehicle
    assert estimate_sensors(clouds(scene, LIDARS["hdl32e"])).lidar.blind == ()


def test_points_in_any_order_and_points_without_return(scene: Scene) -> None:
    lidar = LIDARS["hdl32e"]
    (frame, *_) = clouds(scene, lidar)
    xyz = np.concatenate([frame.cloud.xyz_m, np.full((500, 3), np.nan, np.float32), np.zeros((500, 3), np.float32)])
    shuffled = PointCloud(np.random.default_rng(0).permutation(xyz), 0)
    found = estimate_sensors([Frame(shuffled)]).lidar
    np.testing.assert_allclose(found.elevations_deg, truth_deg(lidar), atol=0.02)
    assert found.intensity_scale is None


def test_beams_after_the_ego_motion_was_corrected(scene: Scene) -> None:
    """Corrected points are seen from where the vehicle is in mid sweep: up to half a metre elsewhere."""
    lidar = LIDARS["hdl64e"]
    (frame, *_) = clouds(scene, lidar)
    turn = np.arctan2(frame.cloud.xyz_m[:, 1], frame.cloud.xyz_m[:, 0]) / (2 * np.pi)
    moved = frame.cloud.xyz_m - np.outer(turn, (1.0, 0, 0)).astype(np.float32)
    beams = find_beams([moved])
    assert beams is not None
    assert len(beams.elevations_deg) == 64
    np.testing.assert_allclose(beams.elevations_deg, truth_deg(lidar), atol=0.5)


def test_no_beams_in_points_everywhere() -> None:
    rng = np.random.default_rng(0)
    anywhere = PointCloud((rng.normal(size=(30_000, 3)) * (15, 15, 2)).astype(np.float32), 0)
    estimate = estimate_sensors([Frame(anywhere)])
    assert any("no beams can be told" in warning for warning in estimate.warnings)
    assert source_domain(estimate).lidar.azimuth_steps >= 16


def test_clouds_in_the_frame_of_the_vehicle_are_told(scene: Scene) -> None:
    """Transformed to base_link, on the ground a metre behind the LiDAR and 1.9 m below it."""
    frames = [
        Frame(PointCloud(f.cloud.xyz_m + np.array([1.0, 0, 1.9], np.float32), 0))
        for f in clouds(scene, LIDARS["hdl32e"])
    ]
    estimate = estimate_sensors(frames)
    assert any("in the vehicle's frame" in warning for warning in estimate.warnings)
    assert any("no beams can be told" in warning for warning in estimate.warnings)
    assert estimate.height_m == 1.8


def test_a_low_robot(scene: Scene) -> None:
    """Its lowest beam meets the ground 1.7 m away; in the simulation it goes before the car, not in it."""
    lidar = LIDARS["vlp16 tilted"].model_copy(update={"mount": MountConfig(x_m=2.4, z_m=0.45)})
    estimate = estimate_sensors(clouds(scene, lidar))
    np.testing.assert_allclose(estimate.lidar.elevations_deg, truth_deg(lidar), atol=0.02)
    mount = source_domain(estimate).lidar.mount
    assert mount.z_m == pytest.approx(0.45, abs=0.05)
    assert mount.x_m > 2.3


def test_no_cloud_is_refused() -> None:
    with pytest.raises(DataError, match="got none in 1 frames"):
        estimate_sensors([Frame(PointCloud(np.full((100, 3), np.nan, np.float32), 0))])
    with pytest.raises(DataError, match="in 0 frames"):
        estimate_sensors([])


def test_ground_below_a_roof_and_beside_a_wall() -> None:
    """1.5 m below the sensor, while most points are on a car's roof and a wall: the lower plane is the ground."""
    rng = np.random.default_rng(1)
    ground = np.column_stack([rng.uniform(-9, 9, (4000, 2)), np.full(4000, -1.5)])
    roof = np.column_stack([rng.uniform(2, 6, 3000), rng.uniform(2, 4, 3000), np.full(3000, -0.1)])
    wall = np.column_stack([rng.uniform(-9, 9, 3000), np.full(3000, 5.0), rng.uniform(-1.5, 3, 3000)])
    found = find_ground(np.concatenate([ground, roof, wall]) + rng.normal(0, 0.01, (10_000, 3)))
    assert found is not None
    assert found.height_m == pytest.approx(1.5, abs=0.02)
    assert (found.roll_deg, found.pitch_deg) == pytest.approx((0, 0), abs=0.3)
    assert find_ground(wall) is None


def with_camera(frames: list[Frame], camera_SE3_lidar: SE3, width: int = 96, height: int = 48) -> list[Frame]:
    camera = PinholeCamera(width, height, 60.0, 60.0, 47.5, 23.5, offset_m=np.array([0.06, 0.0, 0.0]))
    image = np.random.default_rng(0).integers(60, 255, (height, width, 3), dtype=np.uint8)
    view = CameraView("front", image, 0, camera, camera_SE3_lidar)
    return [replace(frame, views=(view,)) for frame in frames]


OPTICAL = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)


@pytest.fixture(scope="module")
def tilted(scene: Scene) -> SensorEstimate:
    """A camera 0.5 m before and 0.3 m below the tilted LiDAR, turned with it."""
    camera_SE3_lidar = SE3.from_rotation_translation(OPTICAL, OPTICAL @ (-0.5, 0, 0.3), "front", "lidar")
    return estimate_sensors(with_camera(clouds(scene, LIDARS["vlp16 tilted"]), camera_SE3_lidar))


def test_the_source_domain_has_the_same_sensors(tilted: SensorEstimate, tmp_path: Path, monkeypatch) -> None:
    """Written, opened, simulated, and estimated once more."""
    monkeypatch.setenv("CLIP2UDA_CACHE", str(tmp_path / "cache"))
    scenario = write_source_scenario(tilted, tmp_path, {"train": 2, "val": 1})
    reader = open_source(source_address(scenario), ReaderOptions(label_space=LabelSpace.load("street8"), max_frames=1))
    (frame,) = reader
    assert frame.cloud.labels is not None
    assert len(set(frame.cloud.labels)) > 3
    (view,) = frame.views
    (given,) = tilted.cameras
    # the recording's camera frame begins 6 cm beside the lens, the simulated one's in the lens
    expected = given.camera_SE3_lidar.matrix.copy()
    expected[:3, 3] += (0.06, 0, 0)
    np.testing.assert_allclose(view.camera_SE3_lidar.matrix, expected, atol=2e-3)
    assert (view.camera.width_px, view.camera.height_px, view.camera.fx) == (96, 48, 60.0)
    again = estimate_sensors([frame])
    np.testing.assert_allclose(again.lidar.elevations_deg, tilted.lidar.elevations_deg, atol=0.02)
    assert again.height_m == pytest.approx(tilted.height_m, abs=0.1)
    assert again.lidar.azimuth_steps == pytest.approx(tilted.lidar.azimuth_steps, rel=0.01)


def test_a_lidar_that_looks_sideways_is_turned_on_the_vehicle(scene: Scene) -> None:
    """nuScenes' LiDAR frame has y forward: the front camera says where the vehicle goes."""
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)  # what is ahead becomes y
    frames = [
        Frame(PointCloud((f.cloud.xyz_m @ turn.T.astype(np.float32) * (-1, -1, 1)).astype(np.float32), 0))
        for f in clouds(scene, LIDARS["hdl32e"])
    ]
    look_along_y = OPTICAL @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)
    estimate = estimate_sensors(with_camera(frames, SE3.from_rotation_translation(look_along_y, np.zeros(3), "f", "l")))
    assert estimate.forward_deg == 90
    domain = source_domain(estimate)
    assert domain.lidar.mount.yaw_deg == pytest.approx(-90)
    assert domain.cameras[0].mount.yaw_deg == pytest.approx(0, abs=1)


@pytest.mark.parametrize(("gray", "dark"), [(True, False), (False, True)])
def test_the_source_domain_is_as_gray_and_as_dark_as_the_recording(scene: Scene, gray: bool, dark: bool) -> None:
    frames = with_camera(clouds(scene, LIDARS["hdl32e"]), SE3.from_rotation_translation(OPTICAL, np.zeros(3), "f", "l"))
    image = frames[0].views[0].image
    image = np.repeat(image[..., :1], 3, axis=2) if gray else image
    image = (image // 8 if dark else image).astype(np.uint8)
    seen = [replace(frame, views=(replace(frame.views[0], image=image),)) for frame in frames]
    look = source_domain(estimate_sensors(seen)).appearance
    assert (look.gray == 1.0, look.night == 1.0) == (gray, dark)


def test_a_camera_off_the_vehicle_is_refused(tilted: SensorEstimate) -> None:
    (camera,) = tilted.cameras
    far = SE3.from_rotation_translation(OPTICAL, (0, 50, 0), "front", "lidar")
    with pytest.raises(ConfigError, match=r"camera 'front'.*check the extrinsic calibration"):
        camera_configs(replace(tilted, cameras=(replace(camera, camera_SE3_lidar=far),)))


def test_large_images_are_scaled_down_together(tilted: SensorEstimate) -> None:
    (camera,) = tilted.cameras
    large = PinholeCamera(1600, 900, 1200.0, 1200.0, 799.5, 449.5, distortion=(0.1,) * 12)
    six = tuple(replace(camera, name=f"camera_{i}", camera=large) for i in range(6))
    configs = camera_configs(replace(tilted, cameras=six))
    assert sum(c.width_px * c.height_px for c in configs) <= 1.01 * 400_000
    assert configs[0].fx / configs[0].width_px == pytest.approx(1200 / 1600, rel=1e-3)
    assert len(configs[0].distortion) == 8


def nuscenes_cloud(real_data: Path) -> np.ndarray:
    file = next((real_data / "nuscenes_scene0061_kf0").glob("*LIDAR_TOP*.pcd.bin"))
    return np.fromfile(file, "<f4").reshape(-1, 5)


@pytest.mark.real_data
def test_the_hdl64e_of_kitti(real_data: Path) -> None:
    """Geiger 2013, figure 3: 1.73 m above the ground. Beams: config/sensors/lidars/hdl64e_kitti.yaml."""
    drive = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions())
    estimate = estimate_sensors([frame for i, frame in enumerate(drive) if i % 6 == 0])
    np.testing.assert_allclose(estimate.lidar.elevations_deg, truth_deg(load_lidar("hdl64e_kitti")), atol=0.35)
    assert estimate.lidar.azimuth_steps == pytest.approx(2083, rel=0.05)
    assert estimate.height_m == pytest.approx(1.73, abs=0.05)
    assert estimate.ground is not None
    assert (estimate.ground.roll_deg, estimate.ground.pitch_deg) == pytest.approx((0, 0), abs=1)
    assert estimate.lidar.intensity_scale == 1
    (config,) = camera_configs(estimate)
    assert (config.mount.x_m, config.mount.y_m, config.mount.z_m) == pytest.approx((0.27, 0.06, 1.65), abs=0.05)
    assert (config.width_px, config.height_px) == (640, 193)


@pytest.mark.real_data
def test_the_hdl32e_of_nuscenes(real_data: Path) -> None:
    """Mounted 1.84 m above the ground; beams from 10.67 to -30.67 degrees by its manual, ring by ring in the file."""
    points = nuscenes_cloud(real_data)
    rig = json.loads((real_data / "nuscenes_scene0061_kf0" / "calib_and_boxes.json").read_text())
    estimate = estimate_sensors([Frame(PointCloud(points[:, :3].copy(), 0, "lidar", points[:, 3].copy()))])
    np.testing.assert_allclose(estimate.lidar.elevations_deg, np.linspace(10.67, -30.67, 32), atol=0.2)
    assert estimate.lidar.azimuth_steps == pytest.approx(1084, rel=0.02)
    assert estimate.height_m == pytest.approx(rig["lidar_points"]["lidar2ego"][2][3], abs=0.05)
    assert estimate.lidar.intensity_scale == 255
