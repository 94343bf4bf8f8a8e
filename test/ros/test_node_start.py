"""How the node starts and ends: without its requirements, without a model, under a namespace, while it loads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from peer import DEADLINE_S, Peer
from processes import Process, process
from rclpy.client import Client
from services import report, set_parameter, state, transition
from world import World, scattered_points, write_calibration

ROOT = Path(__file__).resolve().parents[2]
NODE = "/robot/segmenter"


def test_missing_requirements_are_named_with_the_interpreter_and_the_command() -> None:
    """-S: an interpreter without site-packages."""
    result = subprocess.run(
        [sys.executable, "-S", "-m", "clip2uda_ros.segment_node"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert f"{sys.executable} -m pip install" in result.stderr
    assert "open_clip_torch" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.ros
def test_a_parameter_of_the_wrong_type_is_named(domain: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    node = Process("clip2uda_ros.segment_node", ["--ros-args", "-p", "sync.tolerance_s:=1"], domain, log)
    assert node.end() == 1
    assert "'sync.tolerance_s' to '1' of type 'INTEGER', expecting type 'DOUBLE'" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.ros
def test_a_node_without_a_model_says_so_and_can_be_given_one(
    peer: Peer, domain: int, checkpoint: Path, tmp_path: Path
) -> None:
    diagnostics = peer.subscribe(DiagnosticArray, "/diagnostics")
    missing = tmp_path / "missing.safetensors"
    arguments = ["-r", "__ns:=/robot", "-r", "~/input/points:=/velodyne_points", "-p", f"checkpoint:={missing}"]
    arguments += ["-p", f"calibration:={write_calibration(tmp_path / 'calibration.yaml')}"]
    with process("clip2uda_ros.segment_node", ["--ros-args", *arguments], domain, tmp_path / "log"):
        diagnostics.wait_for(lambda message: message.status[0].level == DiagnosticStatus.ERROR, "an error")
        status, values = report(diagnostics)
        assert str(missing) in status.message
        assert values["state"] == "unconfigured"
        assert state(peer, NODE) == "unconfigured"
        assert not transition(peer, NODE, Transition.TRANSITION_CONFIGURE)

        assert set_parameter(peer, NODE, "checkpoint", str(checkpoint)) == ""
        assert transition(peer, NODE, Transition.TRANSITION_CONFIGURE)
        assert transition(peer, NODE, Transition.TRANSITION_ACTIVATE)
        world = World(peer, NODE, points_topic="/velodyne_points")
        world.answer(world.send(scattered_points(10)))

        assert transition(peer, NODE, Transition.TRANSITION_DEACTIVATE)
        assert transition(peer, NODE, Transition.TRANSITION_CLEANUP)
        client: Client = peer.node.create_client(ChangeState, f"{NODE}/change_state")
        assert client.wait_for_service(10)
        client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        # SIGINT follows while the model loads
    assert f"configuring failed: no file '{missing}'" in (tmp_path / "log").read_text()


@pytest.mark.ros
def test_callbacks_that_run_when_it_is_stopped_end_in_order(peer: Peer, domain: int) -> None:
    """rclpy prints what callbacks raise after their executor was destroyed."""
    client: Client = peer.node.create_client(GetState, "/segmenter/get_state")
    script = str(Path(__file__).with_name("short_lives.py"))
    node = subprocess.Popen(
        [sys.executable, script, "12", "0"],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    asking = peer.node.create_timer(0.001, lambda: client.call_async(GetState.Request()))
    _, said = node.communicate(timeout=DEADLINE_S)
    peer.node.destroy_timer(asking)
    assert node.returncode == 0, said
    assert "never retrieved" not in said
    assert "Traceback" not in said
