"""`ros2 run clip2uda_ros adapt` and adapt.launch.py: the options of `clip2uda adapt`, from ROS."""

import ast
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from peer import wait_until
from test_launch import WAYS, Way

from clip2uda_core.cli.adapt import adapt

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "adapt.launch.py"


def test_every_argument_is_an_option_of_the_command_and_has_a_description() -> None:
    """Without launch installed: the table that the declarations are made from."""
    for statement in ast.parse(LAUNCH_FILE.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            rows = ast.literal_eval(statement.value)
    options = set(inspect.signature(adapt).parameters)
    assert {name for name, _, _ in rows} - {"extra"} <= options
    assert all(len(text) > 10 for _, _, text in rows)


def test_the_executable_is_the_command(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "clip2uda_ros.adapt", "--out", str(tmp_path / "run"), "--method", "no_such_method"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert "no_such_method" in result.stderr


@pytest.mark.parametrize("way", WAYS)
def test_the_launch_file_adapts_and_ends_cleanly_when_interrupted(way: Way, installed: Path, tmp_path: Path) -> None:
    """A training that would take hours, ended by Ctrl-C after its first iterations."""
    out = tmp_path / "run"
    arguments = [f"out:={out}", "method:=source_only_3d", "source:=synthetic:sim_to_kitti", "steps:=100000"]
    arguments += ["extra:=--max-frames 2 --set loader.batch_size=1 --set loader.workers=0"]
    launched = subprocess.Popen(
        [*way.command(LAUNCH_FILE), *arguments],
        env={
            **os.environ,
            "AMENT_PREFIX_PATH": str(installed),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "ROS_LOG_DIR": str(tmp_path / "ros_log"),
        },
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        log = out / "log.jsonl"
        wait_until(lambda: launched.poll() is not None or (log.exists() and log.read_text()), "the first iteration")
        way.interrupt(launched)
        said, _ = launched.communicate(timeout=150)
    finally:
        if launched.poll() is None:
            os.killpg(launched.pid, signal.SIGKILL)
    assert "Traceback" not in said, said
    assert "--resume goes on" in said, said
    assert "process has finished cleanly" in said, said
