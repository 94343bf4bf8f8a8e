"""Two minutes of the soak: the node under every fault that this installation can have. How fast is not asked here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from domains import next_domain

MINUTES = 2
NEXT_OUTPUT_S = 30.0
"""The criterion of `make soak` is 2 s; here it only must come, on whatever else the machine does."""

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a soak, and its figures."""
    pytest.importorskip("rclpy", reason="the soak needs ROS 2")
    out = tmp_path_factory.mktemp("soak")
    result = subprocess.run(
        [sys.executable, "-m", "clip2uda_ros.soak", "--minutes", str(MINUTES), "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(next_domain())},
        timeout=590,
    )
    said = result.stdout + result.stderr
    # 1 is a criterion that was missed, and some of them ask how fast the machine is; 2 is a soak that broke off.
    assert result.returncode in (0, 1), said
    print(said)
    return out, json.loads((out / "soak.json").read_text())


def test_every_set_is_accounted_for(soak: tuple[Path, dict[str, Any]]) -> None:
    _, values = soak
    sets = values["sets"]
    assert sets["unaccounted"] == 0
    assert sets["in"] == sets["complete"] + sets["partial"] + sets["dropped"]
    assert values["clouds"]["answered"] <= sets["complete"] + sets["partial"]
    assert values["clouds"]["wrong_answers"] == 0, values["first_wrong_answers"]


def test_faults_are_felt_and_counted(soak: tuple[Path, dict[str, Any]]) -> None:
    _, values = soak
    assert values["sets"]["complete"] > 0
    assert values["sets"]["partial"] > 0
    assert values["dropped"]["failed"] > 0, "corrupted clouds"
    assert values["bad_inputs"] > values["dropped"]["failed"], "corrupted images"
    assert values["dropped"]["replaced"] > 0, "four times the input rate"


def test_nothing_raises_and_the_node_ends_in_order(soak: tuple[Path, dict[str, Any]]) -> None:
    out, values = soak
    assert values["exceptions"] == 0, (out / "node.log").read_text()
    assert values["sigint_s"] is not None, (out / "node.log").read_text()


def test_output_comes_again_after_every_fault(soak: tuple[Path, dict[str, Any]]) -> None:
    _, values = soak
    run = {name: seconds for name, seconds in values["faults"].items() if name not in values["not_run"]}
    assert len(run) >= 12
    late = {name: seconds for name, seconds in run.items() if seconds > NEXT_OUTPUT_S}
    assert not late


def test_the_page_shows_all_of_it(soak: tuple[Path, dict[str, Any]]) -> None:
    out, values = soak
    page = (out / "soak.md").read_text()
    assert f"python -m clip2uda_ros.soak --minutes {MINUTES}" in page
    for name in values["faults"]:
        assert f"| {name} |" in page
    assert (out / "soak.png").stat().st_size > 10_000
