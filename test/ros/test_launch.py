"""The launch file: its arguments, and, where launch_ros is installed, a node started and stopped by it."""

import ast
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from peer import Peer, wait_until
from world import World, scattered_points, write_calibration

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "segment.launch.py"
ARGUMENTS = {
    "config",
    "checkpoint",
    "calibration",
    "cameras",
    "namespace",
    "points",
    "image",
    "camera_info",
    "use_sim_time",
    "bag",
    "rviz",
    "log_level",
}


def test_every_argument_has_a_default_and_a_description() -> None:
    """Without launch installed: the table that the declarations are made from."""
    for statement in ast.parse(LAUNCH_FILE.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            assert isinstance(statement.value, ast.List)
            rows = [row for row in statement.value.elts if isinstance(row, ast.Tuple)]
    texts = {ast.literal_eval(row.elts[0]): ast.literal_eval(row.elts[2]) for row in rows}
    assert set(texts) == ARGUMENTS
    assert all(len(text) > 10 for text in texts.values())


def test_rviz_shows_what_the_node_publishes() -> None:
    displays = yaml.safe_load((ROOT / "config/segment.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {"/segmenter/output/points", "/segmenter/input/points", "/segmenter/output/front/overlay"}


RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [argument.split(":=") for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A prefix as colcon makes it, whose executables run this source tree."""
    prefix = tmp_path / "install"
    index = prefix / "share/ament_index/resource_index/packages"
    executables = prefix / "lib/clip2uda_ros"
    for folder in (index, executables):
        folder.mkdir(parents=True)
    (index / "clip2uda_ros").touch()
    for name, module in (("segment_node", "segment_node"), ("clip2uda_play", "player")):
        script = executables / name
        script.write_text(f"#!{sys.executable}\nfrom clip2uda_ros.{module} import main\nmain()\n")
        script.chmod(0o755)
    return prefix


@pytest.mark.ros
@pytest.mark.skipif(find_spec("launch_ros") is None, reason="launch_ros is not installed; it comes with ROS, not PyPI")
def test_it_starts_the_node_with_the_arguments_and_ends_cleanly(
    installed: Path, checkpoint: Path, peer: Peer, domain: int, tmp_path: Path
) -> None:
    """As another launch file includes it."""
    calibration = write_calibration(tmp_path / "calibration.yaml")
    arguments = [f"checkpoint:={checkpoint}", f"calibration:={calibration}", "namespace:=robot", "cameras:=front"]
    arguments += ["points:=/velodyne_points", "image:=/front/image_rect", "log_level:=warn"]
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": str(installed),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "ROS_DOMAIN_ID": str(domain),
        "ROS_LOG_DIR": str(tmp_path / "ros_log"),
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path / "log"
    with log.open("w") as output:
        launched = subprocess.Popen(
            [sys.executable, "-c", RUN, str(LAUNCH_FILE), *arguments],
            env=environment,
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        world = World(peer, "/robot/segmenter", "/velodyne_points", "/front/image_rect")
        world.answer(world.send(scattered_points(100)))
        launched.send_signal(signal.SIGINT)
        assert launched.wait(60) == 0, log.read_text()
        wait_until(lambda: not peer.node.count_publishers("/robot/segmenter/output/points"), "the node's end")
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)
    text = log.read_text()
    assert "Traceback" not in text, text
    assert "process has finished cleanly" in text, text
