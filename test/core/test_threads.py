"""The entry points set how threads wait before torch, which looks once, is there."""

import os
import subprocess
import sys

import pytest

ENTRY_POINTS = {
    "clip2uda": "import sys; sys.argv = ['clip2uda', '--version']; from clip2uda_core.cli import main",
    "segment_node": "import clip2uda_ros.segment_node as n; n.missing_requirements = lambda: 'stop'; main = n.main",
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_threads_that_wait_do_not_spin_unless_asked_to(entry_point: str, given: str | None, expected: str) -> None:
    code = f"{ENTRY_POINTS[entry_point]}\ntry:\n    main()\nexcept SystemExit:\n    import torch"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{expected}'" in said.stderr
