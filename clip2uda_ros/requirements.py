"""Names what is missing before an import fails with a traceback: pip often installed it for another Python."""

import sys
from importlib.util import find_spec

PIP_NAMES = {
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "open_clip": "open_clip_torch",
    "pydantic": "pydantic",
    "rosbags": "rosbags",
    "safetensors": "safetensors",
    "spconv": "spconv-cu120" if sys.version_info < (3, 12) else "spconv-cu121",
    "torch": "torch",
    "yaml": "PyYAML",
}
"""What the node imports that comes from PyPI, and the name that pip knows it by."""


def missing_requirements() -> str:
    """What this interpreter lacks and the command that installs it; empty when nothing is missing."""
    missing = [pip_name for module, pip_name in PIP_NAMES.items() if find_spec(module) is None]
    if not missing:
        return ""
    return (
        f"{sys.executable} (Python {sys.version_info.major}.{sys.version_info.minor}) has no {', '.join(missing)}. "
        f"Install into this interpreter: {sys.executable} -m pip install {' '.join(missing)}. If it is in a virtual "
        f"environment already, build the workspace with that environment active (docs/ros.md, Installation)."
    )
