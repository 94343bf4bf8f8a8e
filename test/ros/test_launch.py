"""The launch file: its arguments, and, where launch_ros is installed, a node started and stopped by it.

It is included by another launch file, and, where ros2cli and ros2launch are installed, started by `ros2 launch`.
"""

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from peer import Peer, wait_until
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2
from world import RELIABLE, World, cloud_message, image_message, scattered_points, write_calibration

from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.data.messages import stamp_ns

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


needs_launch = pytest.mark.skipif(
    find_spec("launch_ros") is None, reason="launch_ros is not installed; it comes with ROS, not from PyPI"
)

needs_ros2_launch = pytest.mark.skipif(
    not entry_points(group="ros2cli.command", name="launch"),
    reason="ros2cli and ros2launch are not installed; they come with ROS, not from PyPI",
)
ROS2 = "import sys; from ros2cli.cli import main; sys.exit(main())"


class Included:
    """Another launch file includes ours. A terminal sends Ctrl-C to all of its processes, and launch counts on that."""

    def command(self, launch_file: Path) -> list[str]:
        return [sys.executable, "-c", RUN, str(launch_file)]

    def interrupt(self, running: subprocess.Popen[Any]) -> None:
        os.killpg(running.pid, signal.SIGINT)


class ByName:
    """`ros2 launch` finds it by the name of the package. Without a terminal, launch hands the signal on itself."""

    def command(self, launch_file: Path) -> list[str]:
        return [sys.executable, "-c", ROS2, "launch", "clip2uda_ros", launch_file.name]

    def interrupt(self, running: subprocess.Popen[Any]) -> None:
        running.send_signal(signal.SIGINT)


Way = Included | ByName
WAYS = [
    pytest.param(Included(), id="included", marks=needs_launch),
    pytest.param(ByName(), id="ros2 launch", marks=needs_ros2_launch),
]


@contextmanager
def launched(
    way: Way, arguments: list[str], installed: Path, domain: int, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """It must end in order on SIGINT, and nothing may be left of it."""
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": str(installed),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "ROS_DOMAIN_ID": str(domain),
        "ROS_LOG_DIR": str(folder / "ros_log"),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log"
    with log.open("w") as output:
        running = subprocess.Popen(
            [*way.command(LAUNCH_FILE), *arguments],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield running
        way.interrupt(running)
        assert running.wait(60) == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)  # nobody of its session is there any more
        text = log.read_text()
        assert "Traceback" not in text
        assert "process has finished cleanly" in text
    except BaseException:
        print(log.read_text())
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


@pytest.mark.ros
@needs_launch
def test_show_args_teaches() -> None:
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    description = PythonLaunchDescriptionSource(str(LAUNCH_FILE)).get_launch_description(LaunchContext())
    declared = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(declared) == ARGUMENTS
    assert all(argument.description and argument.default_value is not None for argument in declared.values())


@pytest.mark.ros
@needs_launch
def test_it_starts_the_node_with_the_arguments_and_ends_cleanly(
    installed: Path, checkpoint: Path, peer: Peer, domain: int, tmp_path: Path
) -> None:
    calibration = write_calibration(tmp_path / "calibration.yaml")
    arguments = [f"checkpoint:={checkpoint}", f"calibration:={calibration}", "namespace:=robot", "cameras:=front"]
    arguments += ["points:=/velodyne_points", "image:=/front/image_rect", "log_level:=warn"]
    with launched(Included(), arguments, installed, domain, tmp_path):
        world = World(peer, "/robot/segmenter", "/velodyne_points", "/front/image_rect")
        world.answer(world.send(scattered_points(100)))
    wait_until(lambda: not peer.node.count_publishers("/robot/segmenter/output/points"), "the node's end")


@pytest.mark.ros
@pytest.mark.parametrize("way", WAYS)
def test_it_plays_a_bag_in_its_own_time(
    way: Way, installed: Path, checkpoint: Path, peer: Peer, domain: int, tmp_path: Path
) -> None:
    """Clouds of an hour ago are not too old: the node lives in the time of the bag."""
    calibration, bag = write_calibration(tmp_path / "calibration.yaml"), tmp_path / "drive.mcap"
    then_ns = time.time_ns() - 3600 * 10**9
    stamps = [then_ns + index * 10**9 for index in range(6)]
    with BagWriter(bag) as writer:
        for when_ns in stamps:
            cloud, image = cloud_message(scattered_points(100), when_ns), image_message(when_ns)
            writer.write_raw("/lidar/points", "sensor_msgs/msg/PointCloud2", serialize_message(cloud), when_ns)
            writer.write_raw("/cam/image", "sensor_msgs/msg/Image", serialize_message(image), when_ns)
    outputs = peer.subscribe(PointCloud2, "/segmenter/output/points", RELIABLE)
    arguments = [f"checkpoint:={checkpoint}", f"calibration:={calibration}", f"bag:={bag}"]
    arguments += ["points:=/lidar/points", "image:=/cam/image"]
    with launched(way, arguments, installed, domain, tmp_path):
        labelled = outputs.wait_for(lambda _: True, "a labelled cloud")
        assert stamp_ns(labelled) in stamps


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("image:=/l/image,/r/image", "image has 2 topics for 1 cameras; name them: cameras:=left,right"),
        ("bag:=drive.mcap", "bag:=drive.mcap needs points:=TOPIC, its topic of clouds"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(
    argument: str, message: str, installed: Path, domain: int, tmp_path: Path
) -> None:
    result = subprocess.run(
        [*Included().command(LAUNCH_FILE), argument],
        env={
            **os.environ,
            "AMENT_PREFIX_PATH": str(installed),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
