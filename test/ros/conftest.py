"""What every test over DDS needs: ROS itself, a domain of its own, and the transport profile for large messages."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: source it, or pip install 'clip2uda_ros[ros-pip]'")

from domains import next_domain
from peer import Peer
from tf2_messages import CannotBuild, tf2_messages

from clip2uda_core.labels import LabelSpace
from clip2uda_ros import transport

ROOT = Path(__file__).resolve().parents[2]

transport.use_profile()
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture
def domain() -> int:
    """A ROS domain for this test alone."""
    return next_domain()


@pytest.fixture
def peer(domain: int) -> Iterator[Peer]:
    """The test's own node, in the test's domain."""
    peer = Peer(domain)
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def module_domain() -> int:
    """A ROS domain for the tests of one file, which share a node."""
    return next_domain()


@pytest.fixture(scope="module")
def module_peer(module_domain: int) -> Iterator[Peer]:
    peer = Peer(module_domain)
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model beside a CLIP at random: small, and its labels mean nothing."""
    # Imported here because torch takes seconds, and most tests of the suite need none.
    from clip2uda_core.data.prepare import PrepareConfig
    from clip2uda_core.inference.segmenter import ModelConfig, init_checkpoint
    from clip2uda_core.models.clip_weights import ClipConfig
    from clip2uda_core.models.decoder import DecoderConfig
    from clip2uda_core.models.network import NetworkConfig
    from clip2uda_core.models.sparse_unet import SparseUNetConfig

    network = NetworkConfig(decoder=DecoderConfig(channels=16), sparse_unet=SparseUNetConfig(channels=8, levels=4))
    clip = ClipConfig(model="sim-clip", weights=None, precision="fp32")
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    config = ModelConfig(prepare=PrepareConfig(image_max_width_px=320), clip=clip, network=network)
    init_checkpoint(path, LabelSpace.load("street8"), config)
    return path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A prefix as colcon makes it, whose executables run this source tree."""
    prefix = tmp_path / "install"
    index = prefix / "share/ament_index/resource_index/packages"
    share = prefix / "share/clip2uda_ros"
    executables = prefix / "lib/clip2uda_ros"
    for folder in (index, share, executables):
        folder.mkdir(parents=True)
    (index / "clip2uda_ros").touch()
    shutil.copytree(ROOT / "launch", share / "launch")
    (share / "config").symlink_to(ROOT / "config")
    functions = {"segment_node": "segment_node:main", "clip2uda_play": "executables:play", "adapt": "adapt:main"}
    for name, (module, _, function) in ((name, entry.partition(":")) for name, entry in functions.items()):
        script = executables / name
        # With the guard that a script of setuptools has: processes that simulate frames import it again.
        script.write_text(
            f"#!{sys.executable}\nfrom clip2uda_ros.{module} import {function}\n"
            f"if __name__ == '__main__':\n    {function}()\n"
        )
        script.chmod(0o755)
    return prefix


@pytest.fixture(scope="session")
def tf2_msgs() -> Iterator[str]:
    """Makes tf2_msgs importable; the folder to put on a process' PYTHONPATH, empty where it is installed."""
    try:
        folder = tf2_messages()
    except CannotBuild as reason:
        pytest.skip(str(reason))
    sys.path.append(folder)
    yield folder
    sys.path.remove(folder)


@pytest.fixture(scope="session", autouse=True)
def wheels_do_not_restart_children() -> None:
    """PyPI's ROS re-executes each Python once to set its library path. Children inherit ours, so they need not."""
    if "_ROS_WHEELS_BOOTSTRAP_COMPLETE" in os.environ:
        assert os.environ["LD_LIBRARY_PATH"], sys.executable
