"""Shared fixtures: where the real recordings are, and a visible skip where they are not."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.types import CameraView, Frame, PointCloud

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("suite", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("suite")


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
