"""What all tests share: the real recordings (a visible skip where there are none), a cache of simulated frames, and how
tests are shared out to several workers."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import settings

from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.types import CameraView, Frame, PointCloud

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("suite", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("suite")

LIVE = ("test/ros/", "test/integration/test_demo.py", "test/integration/test_soak.py")
"""Tests of robots that run in real time: with several workers, one of them takes all, so that only one robot runs at a
time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: workers are then busy until the end."""
    items.sort(key=lambda item: "core" in item.path.parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With -n: a file's tests, which share fixtures, stay together; the live ones stay together as one file would."""
    from xdist.scheduler import LoadFileScheduling

    class OneRobotAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "live" if nodeid.startswith(LIVE) else super()._split_scope(nodeid)

    return OneRobotAtATime(config, log)


@pytest.fixture(scope="session", autouse=True)
def frame_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One cache of simulated frames for all workers of a session; the user's own stays as it is."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    os.environ.setdefault("CLIP2UDA_CACHE", str(shared / "simulated"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real KITTI, SemanticKITTI, nuScenes and A2D2 recordings."""
    path = Path(os.environ.get("CLIP2UDA_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "kitti_raw_2011_09_26_drive_0001").is_dir():
        pytest.skip(f"no real recordings at {path}; set CLIP2UDA_REAL_DATA to a folder that has them")
    return path


@pytest.fixture(scope="session")
def nuscenes_frame(real_data: Path) -> Frame:
    """A key frame of nuScenes: one HDL-32E, six cameras with their true calibrations."""
    folder = real_data / "nuscenes_scene0061_kf0"
    rig = json.loads((folder / "calib_and_boxes.json").read_text())
    points = np.fromfile(folder / rig["lidar_points"]["lidar_path"], "<f4").reshape(-1, 5)[:, :3].copy()
    views = []
    for name, camera in rig["images"].items():
        image = cv2.cvtColor(cv2.imread(str(folder / camera["img_path"])), cv2.COLOR_BGR2RGB)
        k = np.array(camera["cam2img"])
        model = PinholeCamera(image.shape[1], image.shape[0], k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        pose = SE3(np.array(camera["lidar2cam"]), name, "lidar")
        views.append(CameraView(name, np.asarray(image, np.uint8), 0, model, pose))
    return Frame(PointCloud(points, 0), tuple(views))
