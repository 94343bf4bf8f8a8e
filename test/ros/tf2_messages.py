"""Builds tf2_msgs/TFMessage for PyPI's ROS 2, which has none, so that /tf can be tested over DDS without apt.

`python test/ros/tf2_messages.py` prints the folder to put on PYTHONPATH. The first time takes about a minute (a virtual
environment with the interface generators, cmake, g++); the result is kept in the user's cache.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import numpy as np

GENERATORS = [
    "ros-ament-cmake-gen-version-h",
    "ros-ament-cmake-include-directories",
    "ros-ament-cmake-ros-core",
    "ros-ament-package",
    "ros-kilted-ament-cmake",
    "ros-kilted-geometry-msgs",
    "ros-kilted-rosidl-default-generators",
    "ros-python-cmake-module",
    "ros-rosidl-core-generators",
    "catkin_pkg",
    "empy==3.3.4",
    "lark",
]
"""The wheels do not name all that they need of each other."""

BUILDERS_PYTHON = "/opt/python/cp311-cp311"
"""Where Python was on the machine that built the wheels; their cmake files still say so."""

TIMEOUT_S = 200

SOURCES = {
    "msg/TFMessage.msg": "geometry_msgs/TransformStamped[] transforms\n",
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.8)
project(tf2_msgs)
find_package(rosidl_default_generators REQUIRED)
find_package(geometry_msgs REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} msg/TFMessage.msg DEPENDENCIES geometry_msgs)
ament_package()
""",
    "package.xml": """
<package format="3">
  <name>tf2_msgs</name>
  <version>0.0.0</version>
  <description>The message of /tf, for tests.</description>
  <maintainer email="nobody@example.com">nobody</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
</package>
""",
}

INIT = '''"""Loads its libraries by path, so that LD_LIBRARY_PATH need not name them."""

import ctypes
from pathlib import Path

for library in sorted(Path(__file__).parents[4].joinpath("lib").glob("libtf2_msgs__*.so")):
    ctypes.CDLL(str(library))
'''


class CannotBuild(Exception):
    """What is missing."""


def tf2_messages() -> str:
    """The folder to put on PYTHONPATH for tf2_msgs; empty where it is installed. CannotBuild says what is missing."""
    if find_spec("tf2_msgs") is not None:
        return ""
    missing = [name for name in ("cmake", "g++", "make") if shutil.which(name) is None]
    if missing or sys.version_info[:2] != (3, 11):
        raise CannotBuild(f"tf2_msgs is not installed, and building it needs Python 3.11 and {', '.join(missing)}")
    installed = _installed_wheels()
    key = hashlib.sha256("".join([*installed, *GENERATORS, *SOURCES.values(), INIT]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clip2uda_ros" / f"tf2_msgs-{key}"
    packages = cache / "lib/python3.11/site-packages"
    if not (packages / "tf2_msgs/__init__.py").is_file():
        shutil.rmtree(cache, ignore_errors=True)
        _build(cache, installed)
        # Last: what has it is complete.
        (packages / "tf2_msgs/__init__.py").write_text(INIT, encoding="utf-8")
    return str(packages)


def _installed_wheels() -> list[str]:
    """The versions that the result must fit."""
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"].startswith("ros-")}
    return [f"{name}=={version}\n" for name, version in sorted(found.items())]


def _build(prefix: Path, installed: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="tf2_msgs_") as name:
        folder = Path(name)
        source, tools, log = folder / "source", folder / "tools", folder / "log"
        for path, text in SOURCES.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text.lstrip(), encoding="utf-8")
        (folder / "installed.txt").write_text("".join(installed), encoding="utf-8")
        venv.create(tools, with_pip=True)
        python = tools / "bin/python"
        environment = {**os.environ, "AMENT_PREFIX_PATH": str(tools), "LD_LIBRARY_PATH": str(tools / "lib")}
        pip = [python, "-m", "pip", "install", "-c", folder / "installed.txt", f"numpy=={np.__version__}", *GENERATORS]
        configure = [
            *("cmake", "-S", source, "-B", folder / "build", f"-DCMAKE_INSTALL_PREFIX={prefix}"),
            *(f"-DCMAKE_INSTALL_RPATH={prefix}/lib", f"-DCMAKE_PREFIX_PATH={tools}", "-DBUILD_TESTING=OFF"),
            *(f"-DPython3_EXECUTABLE={python}", f"-DPYTHON_EXECUTABLE={python}"),
        ]
        _run(pip, environment, log)
        _correct_paths(tools)
        _run(configure, environment, log)
        _run(["cmake", "--build", folder / "build", "--parallel", "2"], environment, log)
        _run(["cmake", "--install", folder / "build"], environment, log)


def _correct_paths(tools: Path) -> None:
    corrections = {
        f"{BUILDERS_PYTHON}/lib/python3.11/site-packages/numpy/_core/include": np.get_include(),
        f"{BUILDERS_PYTHON}/include/python3.11": sysconfig.get_paths()["include"],
    }
    for path in (tools / "share").rglob("*.cmake"):
        text = path.read_text(encoding="utf-8")
        if BUILDERS_PYTHON in text:
            for wrong, right in corrections.items():
                text = text.replace(wrong, right)
            path.write_text(text, encoding="utf-8")


def _run(command: list[str | Path], environment: dict[str, str], log: Path) -> None:
    words = [str(part) for part in command]
    try:
        with log.open("a", encoding="utf-8") as output:
            subprocess.run(
                words, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=True
            )
    except subprocess.SubprocessError as error:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
        raise CannotBuild(f"tf2_msgs is not installed and could not be built: {error}\n{end}") from None


if __name__ == "__main__":
    print(tf2_messages())
