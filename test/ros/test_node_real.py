"""Real KITTI frames through three real processes: player, node, and this one."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from peer import Inbox, Peer
from processes import process
from sensor_msgs.msg import PointCloud2
from services import report
from world import RELIABLE, field, stamp_ns

from clip2uda_core.data.bag_writer import POINTS_TOPIC, BagWriter
from clip2uda_core.data.calibration import Calibration, describe_camera, save_calibration
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.types import Frame, Prediction

pytestmark = [pytest.mark.ros, pytest.mark.real_data]


@pytest.fixture(scope="module")
def frames(real_data: Path) -> list[Frame]:
    """Three frames of the drive, 0.4 s apart: a HDL-64E with its colour camera."""
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    return list(open_source(drive, ReaderOptions(max_frames=9)))[::4]


def test_real_frames_come_back_labelled_as_the_segmenter_labels_them(
    frames: list[Frame], peer: Peer, domain: int, checkpoint: Path, tmp_path: Path
) -> None:
    view = frames[0].views[0]
    bag, calibration = tmp_path / "drive.mcap", tmp_path / "calibration.yaml"
    with BagWriter(bag) as writer:
        for frame in frames:
            writer.write_frame(frame)
    cameras = {view.name: describe_camera(view.camera, view.camera_SE3_lidar)}
    save_calibration(Calibration(lidar_frame=frames[0].cloud.frame_id, cameras=cameras), calibration)

    segmenter = Segmenter.from_checkpoint(checkpoint)
    predictions = [segmenter.segment(frame) for frame in frames]
    outputs: Inbox[PointCloud2] = peer.subscribe(PointCloud2, "/segmenter/output/points", RELIABLE)
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
    image_topic = f"/{view.name}/image_raw"
    arguments = [
        "-p",
        f"checkpoint:={checkpoint}",
        "-p",
        f"calibration:={calibration}",
        "-p",
        f"cameras:=[{view.name}]",
    ]
    arguments += ["-p", "use_sim_time:=true", "-r", f"~/input/points:={POINTS_TOPIC}"]
    arguments += ["-r", f"~/input/{view.name}/image:={image_topic}"]
    play = [str(bag), "--clock", "--loop", "--rate", "0.2", "--wait-for", POINTS_TOPIC, image_topic]
    with (
        process("clip2uda_ros.segment_node", ["--ros-args", *arguments], domain, tmp_path / "node.log"),
        process("clip2uda_ros.player", play, domain, tmp_path / "player.log"),
    ):
        answers = [
            outputs.wait_for(partial(_agrees, frame, prediction), "the segmenter's labels")
            for frame, prediction in zip(frames, predictions, strict=True)
        ]
        _, values = report(diagnostics)
    assert int(values["sets.complete"]) >= len(frames)
    assert values[f"input.{view.name}.skipped"] == "0"

    for frame, prediction, labelled in zip(frames, predictions, answers, strict=True):
        assert labelled.width * labelled.height == len(frame.cloud)
        assert labelled.header.frame_id == frame.cloud.frame_id
        for column, name in enumerate("xyz"):
            np.testing.assert_array_equal(field(labelled, name), frame.cloud.xyz_m[:, column])
        assert 0.15 < prediction.seen.mean() < 0.16


def _agrees(frame: Frame, prediction: Prediction, labelled: PointCloud2) -> bool:
    """Whether it is this frame's answer, of 2D and 3D. An image that the transport loses comes again with the next loop
    of the bag; until then, 3D alone answers."""
    if stamp_ns(labelled) != frame.cloud.stamp_ns:
        return False
    return bool(np.mean(field(labelled, "label") == prediction.labels) > 0.999)
