"""One version number, imports that point one way, and an install that ROS tools understand."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clip2uda_core

ROOT = Path(__file__).resolve().parents[1]

# A module may import from its own layer and from those before it. `cli` starts the ROS demo, so both are last.
LAYERS = [
    {"errors", "files", "processes", "paths", "config", "labels", "threads"},
    {"geometry"},
    {"types"},
    {"losses", "models"},
    {"simulation"},
    {"data"},
    {"evaluation", "survey"},
    {"report"},
    {"adaptation", "inference"},
    {"benchmark"},
    {"cli", "bench", "clip2uda_ros"},
]
NOT_BETWEEN: set[tuple[str, str]] = set()
ROS_RUNTIME = ("rclpy", "sensor_msgs", "std_msgs", "message_filters", "cv_bridge", "tf2_ros", "launch")


def layer_of(module: str) -> tuple[int, str]:
    parts = module.split(".")
    name = parts[0] if parts[0] == "clip2uda_ros" else (parts[1] if len(parts) > 1 else "errors")
    for index, names in enumerate(LAYERS):
        if name in names:
            return index, name
    raise AssertionError(f"{module} is in no layer of this test: add it where it belongs")


def imports_of(path: Path) -> list[str]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules.append(node.module or "")
    return modules


SOURCES = sorted([*ROOT.glob("clip2uda_core/**/*.py"), *ROOT.glob("clip2uda_ros/**/*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "clip2uda_core":
        return
    level, name = layer_of(module)
    for imported in imports_of(path):
        if imported.split(".")[0] in ("clip2uda_core", "clip2uda_ros") and imported != "clip2uda_core":
            other_level, other = layer_of(imported)
            assert other_level <= level, f"{module} imports {imported}, which is above it"
            assert (name, other) not in NOT_BETWEEN, f"{module} takes tensors; it may not import {imported}"
        if module.startswith("clip2uda_core"):
            assert imported.split(".")[0] not in ROS_RUNTIME, f"{module} imports {imported}: the core knows no ROS"


def test_one_version_number() -> None:
    package_xml = re.search(r"<version>(.+?)</version>", (ROOT / "package.xml").read_text())
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert package_xml is not None
    assert newest is not None
    assert clip2uda_core.__version__ == package_xml[1] == newest[1]


def test_every_python_dependency_has_its_reason_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.findall(r'^    "([A-Za-z0-9_\-]+)', (ROOT / "setup.py").read_text(), re.M)
    missing = [name for name in listed if f"`{name}`" not in text]
    assert len(listed) > 15
    assert not missing, f"CONTRIBUTING.md gives no reason for {missing}"


@pytest.fixture(scope="module")
def colcon_install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package built by colcon from a copy of the tracked and new files."""
    colcon = shutil.which("colcon", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if colcon is None:
        pytest.skip("colcon is not installed")
    workspace = tmp_path_factory.mktemp("ws")
    source = workspace / "src" / "clip2uda_ros"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run([colcon, "build"], cwd=workspace, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace / "install" / "clip2uda_ros"


def test_colcon_build_installs_what_ros_looks_for(colcon_install: Path) -> None:
    share = colcon_install / "share"
    assert (share / "ament_index/resource_index/packages/clip2uda_ros").is_file()
    names = ["package.xml", "launch/segment.launch.py", "launch/adapt.launch.py"]
    names += ["config/segment.yaml", "config/labels/street8.yaml", "config/foxglove.json"]
    for name in names:
        assert (share / "clip2uda_ros" / name).is_file(), name
    for executable in ("segment_node", "clip2uda", "adapt"):
        assert os.access(colcon_install / "lib/clip2uda_ros" / executable, os.X_OK), executable


def test_colcon_install_finds_its_own_config(colcon_install: Path, tmp_path: Path) -> None:
    site = next(colcon_install.glob("lib/python3*/site-packages"))
    assert (site / "clip2uda_core" / "report" / "assets" / "page.html").is_file()
    code = "from clip2uda_core.paths import share_dir; print(share_dir())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == str(colcon_install / "share" / "clip2uda_ros"), result.stderr


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_of_the_docs_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing, f"{page.name} links to {missing}"
