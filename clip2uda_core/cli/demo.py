"""`clip2uda demo`: the whole live path on one machine, from a recording to a labelled cloud."""

from pathlib import Path
from typing import Annotated

import typer

from clip2uda_core.errors import ConfigError


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the recordings and pictures.")] = Path("demo_out"),
    real: Annotated[
        Path | None, typer.Option(help="A recording of your own (KITTI drive, rosbag) instead of a simulated street.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="Model to run; default: the one that ships.")] = "default",
    frames: Annotated[int, typer.Option(help="Clouds to play.", min=1)] = 40,
) -> None:
    """Plays a short recording over DDS to the real node, records what it publishes, and draws it.

    Without --real the recording is a simulated street. Two processes are started, the node and a player; both are
    ended again.

    **Examples**

        clip2uda demo

        clip2uda demo --real ~/kitti/2011_09_26_drive_0001_sync --out real_out
    """
    try:
        from clip2uda_ros.demo import run_demo
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo needs ROS 2's {error.name}: source your ROS installation, or "
            f"install ROS 2 from PyPI with: pip install 'clip2uda_ros[ros-pip]'"
        ) from None
    run_demo(out, real, checkpoint, frames)
