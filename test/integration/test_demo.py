"""`clip2uda demo` as a user runs it: three real processes over DDS, with the model that ships."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from domains import next_domain

from clip2uda_core.data.messages import decode_point_cloud
from clip2uda_core.data.readers.bag import Bag

FRAMES = 10


def run_demo(out: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "clip2uda_core.cli", "demo", "--out", str(out), "--frames", str(FRAMES), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(next_domain()), "CLIP2UDA_CACHE": str(out / "cache")},
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def clouds(bag: Path, topic: str) -> dict[int, np.ndarray]:
    """xyz by stamp."""
    decoded = [decode_point_cloud(raw.message(), topic) for raw in Bag(bag).messages({topic})]
    return {cloud.stamp_ns: cloud.xyz_m for cloud in decoded}


def check_what_was_published(out: Path) -> None:
    played = clouds(out / "recording.mcap", "/lidar/points")
    published = clouds(out / "labelled.mcap", "/segmenter/output/points")
    assert len(played) == FRAMES
    assert 1 <= len(published) <= FRAMES
    for stamp_ns, xyz_m in published.items():
        np.testing.assert_array_equal(xyz_m, played[stamp_ns])
    newest = max(published)
    assert newest >= sorted(played)[-2], "the newest clouds are those that must be answered"
    for name in ("overlay.png", "birds_eye.png"):
        picture = cv2.imread(str(out / name))
        assert picture is not None
        assert picture.std() > 10, f"{name} is empty"


@pytest.mark.ros
def test_demo_on_the_simulated_street(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="the demo needs ROS 2")
    printed = run_demo(tmp_path)
    assert "simulated" in printed
    check_what_was_published(tmp_path)


@pytest.mark.ros
def test_demo_on_the_real_drive(tmp_path: Path, real_data: Path) -> None:
    pytest.importorskip("rclpy", reason="the demo needs ROS 2")
    run_demo(tmp_path, "--real", str(real_data / "kitti_raw_2011_09_26_drive_0001"))
    check_what_was_published(tmp_path)
