"""Shared fixtures: where the real recordings are, and a visible skip where they are not."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
