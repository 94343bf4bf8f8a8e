"""ament_python package `clip2uda_ros`: the core library, the ROS 2 node, and the `clip2uda` command.

`package.xml` is the one place where the version is written.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "clip2uda_ros"
VERSION = re.findall(r"<version>(.+?)</version>", Path("package.xml").read_text())[0]

CORE = [
    "apsw",
    "embreex; platform_machine == 'x86_64'",
    "Jinja2>=3.1",
    "lightning-fabric>=2.4",
    "lz4>=4.0",
    "matplotlib>=3.7",
    "mcap>=1.2",
    "numpy>=1.24",
    "open_clip_torch>=2.29",
    "opencv-python-headless>=4.8,<5",
    "Pillow>=10.1",
    "pydantic>=2.6",
    "PyYAML>=6.0",
    "rich>=13.0",
    "rosbags>=0.11.9,<0.12",
    "safetensors>=0.4.3",
    "spconv-cu120>=2.3.6; python_version < '3.12'",
    "spconv-cu121>=2.3.8; python_version >= '3.12'",
    "torch>=2.1",
    "torchvision>=0.16",
    "trimesh>=4.0",
    "typer>=0.19",
    "zstandard>=0.21",
]
ROS_FROM_PYPI = [
    "ros-kilted-common-interfaces",
    "ros-kilted-rclpy",
    "ros-kilted-rmw-fastrtps-cpp",
]
DEV = [
    "colcon-common-extensions",
    "hypothesis>=6.100",
    "mypy>=1.10",
    "pytest>=8.0",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.7",
    "ruff>=0.6",
    "types-PyYAML",
]


def share_files() -> list[tuple[str, list[str]]]:
    """launch/ and config/ with their folders, under share/clip2uda_ros."""
    folders: dict[str, list[str]] = {}
    for path in sorted([*Path("launch").rglob("*"), *Path("config").rglob("*")]):
        if path.is_file() and path.suffix != ".pyc":
            folders.setdefault(f"share/{PACKAGE}/{path.parent}", []).append(str(path))
    return list(folders.items())


setup(
    name=PACKAGE,
    version=VERSION,
    description="3D semantic segmentation for camera + LiDAR robots that adapts to new places without labels",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["clip2uda_core*", "clip2uda_ros*"]),
    package_data={"clip2uda_core": ["py.typed"], "clip2uda_core.report": ["assets/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *share_files(),
    ],
    python_requires=">=3.10",
    install_requires=CORE,
    extras_require={"ros-pip": ROS_FROM_PYPI, "tensorboard": ["tensorboard>=2.12"], "dev": DEV},
    entry_points={
        "console_scripts": [
            "adapt = clip2uda_ros.adapt:main",
            "clip2uda = clip2uda_core.cli:main",
            "clip2uda_play = clip2uda_ros.executables:play",
            "clip2uda_record = clip2uda_ros.executables:record",
            "segment_node = clip2uda_ros.segment_node:main",
        ],
    },
    zip_safe=False,
)
