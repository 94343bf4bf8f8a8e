"""A real rig of six cameras: nuScenes' JPEG images as CompressedImage, through a node of its own process."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from peer import Peer, wait_until
from processes import process
from sensor_msgs.msg import CompressedImage, PointCloud2
from services import assert_everything_is_accounted_for, pairs
from std_msgs.msg import Header
from world import RELIABLE, answer, cloud_message, field

from clip2uda_core.data.calibration import Calibration, describe_camera, save_calibration
from clip2uda_core.geometry import SE3, PinholeCamera
from clip2uda_core.labels import IGNORE
from clip2uda_ros.conversions import time_message

pytestmark = [pytest.mark.ros, pytest.mark.real_data]

NODE = "/robot/perception/segmenter"
SIZE_PX = (1600, 900)
SEEN_PERCENT = 58.3
"""Of the scan's points, by the recording's description: those that some camera sees."""


@dataclass(frozen=True)
class Rig:
    """One key frame. Stamps are microseconds, from the files' names."""

    xyz_m: NDArray[np.float32]
    stamp_us: int
    images: dict[str, tuple[int, bytes]]
    calibration: Calibration


@pytest.fixture(scope="module")
def rig(real_data: Path) -> Rig:
    folder = real_data / "nuscenes_scene0061_kf0"
    (scan,) = folder.glob("*LIDAR_TOP*")
    described = json.loads((folder / "calib_and_boxes.json").read_text())["images"]
    images, cameras = {}, {}
    for name, camera in described.items():
        path = folder / camera["img_path"]
        images[name.lower()] = (int(path.stem.split("__")[-1]), path.read_bytes())
        k = np.array(camera["cam2img"])
        model = PinholeCamera(*SIZE_PX, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        cameras[name.lower()] = describe_camera(model, SE3(np.array(camera["lidar2cam"]), name.lower(), "lidar"))
    points = np.fromfile(scan, np.float32).reshape(-1, 5)[:, :3]
    return Rig(points, int(scan.name.split("__")[-1].split(".")[0]), images, Calibration(cameras=cameras))


class Sensors:
    """LiDAR and cameras, remapped to the names that their drivers have."""

    def __init__(self, peer: Peer, rig: Rig) -> None:
        self.rig = rig
        self.clouds = peer.advertise(PointCloud2, "/lidar_top", RELIABLE)
        self.cameras = {
            name: peer.advertise(CompressedImage, f"/{name}/image_color/compressed", RELIABLE) for name in rig.images
        }
        self.rounds = 0

    def sense(self, cameras: set[str]) -> int:
        """Publishes the frame as that of the next second; returns the cloud's stamp."""
        self.rounds += 1
        later_ns = self.rounds * 10**9
        for name in cameras:
            stamp_us, jpeg = self.rig.images[name]
            header = Header(stamp=time_message(stamp_us * 1000 + later_ns), frame_id=name)
            self.cameras[name].publish(CompressedImage(header=header, format="jpeg", data=jpeg))
        self.clouds.publish(cloud_message(self.rig.xyz_m, self.rig.stamp_us * 1000 + later_ns))
        return self.rig.stamp_us * 1000 + later_ns


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cameras")


@pytest.fixture(scope="module")
def node_arguments(rig: Rig, checkpoint: Path, log_folder: Path) -> list[str]:
    calibration = log_folder / "calibration.yaml"
    save_calibration(rig.calibration, calibration)
    parameters = {
        "checkpoint": checkpoint,
        "calibration": calibration,
        "cameras": f"[{', '.join(rig.images)}]",
        "sync.max_age_s": 0.0,
        "sync.timeout_s": 5.0,
        **{f"camera.{name}.compressed": True for name in rig.images},
    }
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    arguments += ["-r", "__ns:=/robot/perception", "-r", "~/input/points:=/lidar_top"]
    for name in rig.images:
        arguments += ["-r", f"~/input/{name}/image/compressed:=/{name}/image_color/compressed"]
    return ["--ros-args", *arguments]


def test_six_cameras_label_what_they_see_and_five_go_on_when_one_dies(
    rig: Rig, node_arguments: list[str], module_peer: Peer, module_domain: int, log_folder: Path
) -> None:
    peer = module_peer
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics", 50)
    outputs = peer.subscribe(PointCloud2, f"{NODE}/output/points", RELIABLE)
    with process("clip2uda_ros.segment_node", node_arguments, module_domain, log_folder / "log"):
        sensors = Sensors(peer, rig)
        everyone = set(rig.images)

        def all_six() -> bool:
            sensors.sense(everyone)
            return bool(diagnostics.messages) and pairs(diagnostics.messages[-1]).get("output.cameras") == "6"

        wait_until(all_six, "a cloud with six views", pause_s=0.5)
        labelled = answer(outputs, sensors.sense(everyone))
        assert (labelled.width, labelled.height) == (34_688, 1)
        np.testing.assert_array_equal(field(labelled, "y"), rig.xyz_m[:, 1])
        assert (field(labelled, "label") != IGNORE).mean() > 0.99

        last = pairs(diagnostics.wait_for_count(len(diagnostics.messages) + 2)[-1])
        assert float(last["output.seen_percent"]) == pytest.approx(SEEN_PERCENT, abs=0.5)
        assert float(last["input.cam_back.nearest_ms"]) == pytest.approx(10.4, abs=0.1)

        partial = int(last["sets.partial"])
        answer(outputs, sensors.sense(everyone - {"cam_back"}))
        last = pairs(
            diagnostics.wait_for(lambda message: pairs(message)["sets.partial"] == str(partial + 1), "a partial set")
        )
        assert last["output.cameras"] == "5"
        assert 35 < float(last["output.seen_percent"]) < SEEN_PERCENT - 5
        assert_everything_is_accounted_for(diagnostics)
