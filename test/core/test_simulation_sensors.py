"""Simulated cameras and LiDARs against what geometry says they must see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clip2uda_core.geometry import project
from clip2uda_core.labels import IGNORE
from clip2uda_core.paths import share_dir
from clip2uda_core.simulation.appearance import AppearanceConfig, draw_appearance
from clip2uda_core.simulation.camera import pixel_rays, render
from clip2uda_core.simulation.generate import Simulator
from clip2uda_core.simulation.lidar import firing_rays, sweep
from clip2uda_core.simulation.materials import LABELS
from clip2uda_core.simulation.scenario import Domain
from clip2uda_core.simulation.scene import Scene, Snapshot
from clip2uda_core.simulation.sensors import CameraConfig, LidarConfig, MountConfig, load_camera, load_lidar
from clip2uda_core.simulation.town import RoadConfig, TownConfig

CAMERAS = sorted(path.stem for path in (share_dir() / "config/sensors/cameras").glob("*.yaml"))
LIDARS = sorted(path.stem for path in (share_dir() / "config/sensors/lidars").glob("*.yaml"))
FLAT = RoadConfig(grade=(0, 0), hills_m=(0, 0), bank_m=(0, 0), kerb_m=(0.02, 0.02), cobbled=0)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(TownConfig(seed=77, road=FLAT), (0, 0), 10.0)


@pytest.fixture(scope="module")
def snapshot(scene: Scene) -> Snapshot:
    return scene.at(3.0)


def small(name: str) -> CameraConfig:
    """A shipped camera at half its size: quicker."""
    config = load_camera(name)
    camera = config.camera().resized(config.width_px // 2, config.height_px // 2)
    return config.model_copy(
        update={key: getattr(camera, key) for key in ("width_px", "height_px", "fx", "fy", "cx", "cy")}
    )


def world_from_camera(snapshot: Snapshot, config: CameraConfig) -> np.ndarray:
    return snapshot.ego @ config.base_from_optical()


@pytest.mark.parametrize("name", CAMERAS)
def test_pixel_rays_are_the_inverse_of_project(name: str) -> None:
    camera = load_camera(name).camera()
    rays = pixel_rays(camera)
    known = np.isfinite(rays[:, 0])
    assert known.mean() > 0.7
    uv, visible = camera.project(rays[known].astype(np.float64) * 7.0)
    v, u = np.divmod(np.flatnonzero(known), camera.width_px)
    assert visible.all()
    assert np.abs(uv - np.stack([u, v], 1)).max() < 0.05


@pytest.mark.parametrize("name", ["front_kitti", "front_wide", "front_fisheye"])
def test_points_land_on_pixels_of_their_own_label(scene: Scene, snapshot: Snapshot, name: str) -> None:
    """Of the LiDAR's points that the camera sees too: the surface at the pixel is at the point's distance."""
    config, rng = load_camera(name), np.random.default_rng(0)
    camera, pose = config.camera(), world_from_camera(snapshot, config)
    rays = pixel_rays(camera)
    domain = Domain(
        town=TownConfig(seed=1), lidar=load_lidar("hdl64e"), cameras=(config,), appearance=AppearanceConfig(),
        frames_per_scene=1, spacing_m=1.0,
    )  # fmt: skip
    view = Simulator(domain, "train")._view(config, scene, snapshot, 0, rng)
    cloud = sweep(scene, snapshot, domain.lidar, 0, rng)
    seen = project(cloud.xyz_m, view.camera_SE3_lidar, camera)
    u, v = np.rint(seen.uv_px[seen.visible]).astype(int).T
    directions = rays.reshape(camera.height_px, camera.width_px, 3)[v, u] @ pose[:3, :3].T.astype(np.float32)
    hits = snapshot.cast(pose[:3, 3].astype(np.float32), directions)
    camera_m = view.camera_SE3_lidar.transform(cloud.xyz_m[seen.visible])
    distance = np.linalg.norm(camera_m, axis=1)
    unoccluded = np.abs(hits.distance_m - distance) < 0.3 + 0.01 * distance
    assert unoccluded.sum() > 5000
    assert cloud.labels is not None
    assert view.labels is not None
    own = cloud.labels[seen.visible] == view.labels[v, u]
    assert own[unoccluded].mean() > 0.98


def test_images_by_day_by_night_and_in_gray(snapshot: Snapshot) -> None:
    config = small("front_kitti")
    camera, pose = config.camera(), world_from_camera(snapshot, config)
    rays = pixel_rays(camera)

    def image(**settings: object) -> np.ndarray:
        look = draw_appearance(AppearanceConfig(exposure_ev=(0, 0), tint=(0, 0), **settings), np.random.default_rng(2))
        return render(snapshot, camera, rays, pose, look, np.random.default_rng(3))[0].astype(float)

    day, night, gray = image(), image(night=1.0), image(gray=1.0)
    assert day.mean() > 1.2 * night.mean()  # the exposure adapts, within limits
    sky = slice(0, 10)
    assert day[sky].mean() > 120
    assert np.median(night[sky]) < 0.5 * np.median(day[sky])
    assert np.ptp(gray, axis=2).max() == 0
    assert np.ptp(day, axis=2).mean() > 5
    assert np.array_equal(day, image()), "the same seed makes the same image"


def test_the_sun_throws_shadows(snapshot: Snapshot) -> None:
    """A surface point from which the sun is hidden is darker than it would be without what hides it."""
    from clip2uda_core.simulation import shading

    config = small("front_kitti")
    pose = world_from_camera(snapshot, config)
    directions = pixel_rays(config.camera()) @ pose[:3, :3].T.astype(np.float32)
    hits = snapshot.cast(pose[:3, 3].astype(np.float32), directions)
    look = draw_appearance(AppearanceConfig(clouds=(0, 0), sun_elevation_deg=(30, 30)), np.random.default_rng(5))
    sky = shading.Sky.of(look)
    light = shading.daylight(snapshot, hits, sky, look, np.ones(len(directions), np.float32))
    ground = hits.hit & (hits.normal[:, 2] > 0.99) & (hits.label < 3)
    bright, dark = light[ground].max(0), light[ground].min(0)
    assert bright == pytest.approx(sky.ambient + sky.sun * look.sun[2], rel=0.05)
    assert dark == pytest.approx(sky.ambient, rel=0.05)


def test_one_origin_for_all_rays_hits_what_single_origins_hit(snapshot: Snapshot) -> None:
    origin = (snapshot.ego @ [0.5, 0.0, 1.7, 1.0])[:3].astype(np.float32)
    rays = np.random.default_rng(1).standard_normal((60_000, 3)) * (1, 1, 0.15)
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    one, each = snapshot.cast(origin, rays), snapshot.cast(np.tile(origin, (len(rays), 1)), rays)
    assert np.array_equal(one.distance_m, each.distance_m)
    assert np.array_equal(one.instance, each.instance)
    assert (one.instance[one.hit] >= snapshot.movers_from).sum() > 50


def test_a_fisheye_has_no_sky_label_and_no_light_outside_its_circle(snapshot: Snapshot) -> None:
    config = small("front_fisheye").model_copy(update={"fx": 60.0, "fy": 60.0})
    camera = config.camera()
    rays = pixel_rays(camera)
    look = replace(draw_appearance(AppearanceConfig(), np.random.default_rng(0)), noise=0.0, blur_px=0.15)
    image, labels = render(snapshot, camera, rays, world_from_camera(snapshot, config), look, np.random.default_rng(0))
    outside = ~np.isfinite(rays[:, 0]).reshape(labels.shape)
    assert outside[0, 0]
    assert (labels[outside] == IGNORE).all()
    assert image[0, 0].max() < 10


def test_lasers_fire_clockwise_from_behind_and_time_zero_is_ahead() -> None:
    config = LidarConfig(elevations_deg=(10.0, 0.0, -10.0), azimuth_steps=360, mount=MountConfig(z_m=1.8))
    rays, times = firing_rays(config, np.random.default_rng(0))
    assert rays.shape == (360, 3, 3)
    azimuth = np.unwrap(np.arctan2(rays[:, 1, 1], rays[:, 1, 0]))
    assert (np.diff(azimuth) < 0).all()
    assert rays[np.abs(times).argmin(), 1] == pytest.approx([1, 0, 0], abs=0.02)
    assert np.degrees(np.arcsin(rays[0, :, 2])) == pytest.approx([10, 0, -10], abs=1e-4)
    assert (times[0], times[-1]) == pytest.approx((-0.05, 0.05), abs=2e-4)


def test_flat_ground_is_where_the_mount_says(scene: Scene, snapshot: Snapshot) -> None:
    config = LidarConfig(elevations_deg=(-15.0,), azimuth_steps=720, range_noise_m=0.0, mount=MountConfig(z_m=1.8))
    cloud = sweep(scene, snapshot, config, 0, np.random.default_rng(0))
    assert cloud.labels is not None
    road = cloud.xyz_m[cloud.labels == 0]
    assert len(road) > 100
    assert road[:, 2] == pytest.approx(-1.8, abs=0.02)
    assert np.linalg.norm(road, axis=1) == pytest.approx(1.8 / np.sin(np.radians(15)), abs=0.08)


def test_a_tilted_mount_tilts_the_ground(scene: Scene, snapshot: Snapshot) -> None:
    mount = MountConfig(z_m=1.8, pitch_deg=8.0)
    config = LidarConfig(elevations_deg=(-12.0,), azimuth_steps=720, mount=mount)
    cloud = sweep(scene, snapshot, config, 0, np.random.default_rng(0))
    assert cloud.labels is not None
    road = cloud.xyz_m[cloud.labels == 0].astype(np.float64)
    base = road @ mount.base_from_sensor()[:3, :3].T
    assert base[:, 2] == pytest.approx(-1.8, abs=0.1)
    assert np.ptp(road[:, 2]) > 0.5


def test_darker_farther_and_slanted_surfaces_return_less(scene: Scene, snapshot: Snapshot) -> None:
    def points(**changes: object) -> int:
        values: dict = {"elevations_deg": (-1.5, -2.5, -4.0), "azimuth_steps": 720, "mount": MountConfig(z_m=1.8)}
        return len(sweep(scene, snapshot, LidarConfig(**(values | changes)), 0, np.random.default_rng(0)))

    assert points(power_range_m=20.0) < 0.9 * points()
    assert points(lost=0.5) == pytest.approx(0.5 / 0.97 * points(), rel=0.08)
    assert points(range_m=(0.5, 15.0)) < points(range_m=(0.5, 60.0))
    blind = [{"middle_deg": 0.0, "half_width_deg": 90.0, "below_deg": 10.0}]
    assert points(blind=blind) < 0.75 * points()


def test_intensity_is_on_the_sensors_scale(scene: Scene, snapshot: Snapshot) -> None:
    for scale in (1.0, 255.0):
        config = LidarConfig(
            elevations_deg=(-2.0, -5.0), azimuth_steps=512, intensity_scale=scale, mount=MountConfig(z_m=1.8)
        )
        intensity = sweep(scene, snapshot, config, 0, np.random.default_rng(0)).intensity
        assert intensity is not None
        assert 0 <= intensity.min() < np.median(intensity) < intensity.max() <= scale
        assert 0.1 * scale < np.median(intensity) < 0.5 * scale


def test_ego_motion_shears_the_cloud_by_the_way_driven(scene: Scene, snapshot: Snapshot) -> None:
    """A point taken before time zero is seen from farther back than in a cloud taken at once."""
    mount = MountConfig(z_m=1.8)
    values: dict = {
        "elevations_deg": (0.0, 1.0),
        "azimuth_steps": 360,
        "range_noise_m": 0.0,
        "lost": 0.0,
        "mount": mount,
    }
    moving = sweep(scene, snapshot, LidarConfig(ego_motion=True, **values), 0, np.random.default_rng(0))
    assert moving.time_offset_s is not None
    assert moving.labels is not None
    walls = moving.labels == 3
    world = np.empty((walls.sum(), 3))
    for i, (xyz, offset) in enumerate(zip(moving.xyz_m[walls], moving.time_offset_s[walls], strict=True)):
        pose = scene.ego_pose(snapshot.time_s + float(offset)) @ mount.base_from_sensor()
        world[i] = pose[:3, :3] @ xyz + pose[:3, 3]
    # from where the vehicle is at time zero, the wall is at the place that the moving vehicle measured
    origin = (snapshot.ego @ mount.base_from_sensor())[:3, 3]
    toward = world - origin
    distance = np.linalg.norm(toward, axis=1)
    hits = snapshot.cast(origin.astype(np.float32), (toward / distance[:, None]).astype(np.float32))
    agreeing = np.abs(hits.distance_m - distance) < 0.1
    assert agreeing.mean() > 0.85  # the rest are edges, recesses and returns from inside the rooms


@pytest.mark.parametrize("name", LIDARS)
def test_every_shipped_lidar_sweeps(scene: Scene, snapshot: Snapshot, name: str) -> None:
    config = load_lidar(name).model_copy(update={"azimuth_steps": 64})
    cloud = sweep(scene, snapshot, config, 5, np.random.default_rng(0))
    rays = 64 * len(config.elevations_rad())
    assert 0.35 * rays < len(cloud) <= rays
    assert cloud.stamp_ns == 5
    assert cloud.labels is not None
    assert set(np.unique(cloud.labels)) <= {*np.unique(LABELS).tolist()}
    assert cloud.time_offset_s is not None
    assert (np.diff(cloud.time_offset_s) >= 0).all()


@pytest.mark.real_data
def test_the_kitti_lidar_has_the_rings_of_the_real_one(real_data: Path) -> None:
    """A scan of the raw drive is stored ring by ring, each from azimuth 0 on; elevations are medians of each."""
    elevations, most = [], 0
    for path in sorted((real_data / "kitti_raw_2011_09_26_drive_0001/velodyne_points/data").glob("*.bin"))[::4]:
        xyz = np.fromfile(path, "<f4").reshape(-1, 4)[:, :3].astype(np.float64)
        xyz = xyz[np.linalg.norm(xyz, axis=1) > 0.1]
        ahead = np.arctan2(xyz[:, 1], xyz[:, 0]) >= 0
        starts = np.flatnonzero(ahead[1:] & ~ahead[:-1]) + 1
        rings = [ring for ring in np.split(xyz, starts) if len(ring) > 300]
        if len(rings) == 64:
            slopes = [np.median(ring[:, 2] / np.hypot(ring[:, 0], ring[:, 1])) for ring in rings]
            elevations.append(np.degrees(np.arctan(slopes)))
            most = max(most, *(len(ring) for ring in rings))
    config = load_lidar("hdl64e_kitti")
    assert np.degrees(config.elevations_rad()) == pytest.approx(np.median(elevations, axis=0), abs=0.1)
    assert config.azimuth_steps == pytest.approx(most, rel=0.01)
