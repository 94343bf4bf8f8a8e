"""What simulated frames hold, over many of them: streets of their own, every class, the points of a real HDL-64E."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from quiet_street import quiet_town, tiny_domain

from clip2uda_core.data.readers import open_source
from clip2uda_core.geometry import SE3
from clip2uda_core.labels import LabelSpace
from clip2uda_core.simulation.generate import Simulator
from clip2uda_core.simulation.scenario import (
    load_scenario,
    resolve,
)
from clip2uda_core.simulation.scene import Scene
from clip2uda_core.simulation.sensors import CameraConfig, LidarConfig
from clip2uda_core.simulation.statistics import CloudStatistics, comparison
from clip2uda_core.types import CameraView, Frame


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


def _blind_view(frame: Frame, camera: CameraConfig, lidar: LidarConfig) -> CameraView:
    """A view with a black image: its place is all that is asked for."""
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
