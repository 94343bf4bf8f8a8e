"""The options that every command with a recording as its source shares, and what they become."""

from pathlib import Path
from typing import Annotated

import typer

from clip2uda_core.data.collector import CollectorConfig
from clip2uda_core.data.readers import FOR_TRAINING, ReaderOptions, Thinning
from clip2uda_core.errors import ConfigError
from clip2uda_core.labels import LabelSpace

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A rosbag (file or folder), a KITTI raw drive, a SemanticKITTI sequence, "
        "or synthetic:SCENARIO[:DOMAIN[:SPLIT]].",
    ),
]
PointsTopic = Annotated[
    str | None, typer.Option(help="PointCloud2 topic of a bag; needed where there are several.", metavar="TOPIC")
]
Cameras = Annotated[
    list[str] | None,
    typer.Option(
        "--camera", help="Image topic (or image folder of KITTI) of a camera; repeat it.", metavar="NAME=TOPIC"
    ),
]
NoCameras = Annotated[bool, typer.Option("--no-cameras", help="Take the cloud alone.")]
Calibration = Annotated[
    Path | None, typer.Option(help="Calibration YAML instead of the bag's CameraInfo and TF.", metavar="FILE")
]
FixedFrame = Annotated[
    str | None,
    typer.Option(
        help="Frame (odom, map) through which TF corrects the motion between image and cloud.", metavar="FRAME"
    ),
]
Tolerance = Annotated[
    float, typer.Option(help="Largest distance in time of an image from its cloud, seconds.", min=0.0, metavar="S")
]
StampOffsets = Annotated[
    list[str] | None,
    typer.Option(
        "--stamp-offset", help="Seconds that a camera's stamps lie after the LiDAR's; repeat it.", metavar="NAME=S"
    ),
]
TfBags = Annotated[
    list[Path] | None,
    typer.Option("--tf-bag", help="Another bag whose /tf and /tf_static are used too; repeat it.", metavar="BAG"),
]
MinMotion = Annotated[
    float | None,
    typer.Option(
        help="Metres that the robot must have moved, or 15 degrees turned, since the last cloud taken; "
        f"in training {FOR_TRAINING.min_motion_m} where neither this nor --every is given. 0 takes all.",
        min=0.0,
        metavar="M",
    ),
]
Every = Annotated[float | None, typer.Option(help="Take a cloud every so many seconds.", min=0.0, metavar="S")]
MaxFrames = Annotated[int | None, typer.Option(help="Read the first so many clouds alone.", min=1, metavar="N")]

DEFAULT_TOLERANCE_S = CollectorConfig().tolerance_s


def reader_options(
    points_topic: str | None,
    cameras: list[str] | None,
    no_cameras: bool,
    calibration: Path | None,
    fixed_frame: str | None,
    tolerance_s: float,
    stamp_offsets: list[str] | None,
    max_frames: int | None,
    label_space: LabelSpace | None = None,
    tf_bags: list[Path] | None = None,
    thinning: Thinning | None = None,
) -> ReaderOptions:
    """The reader's options from the command's; ConfigError when two contradict each other or one is malformed."""
    if cameras and no_cameras:
        raise ConfigError("--camera and --no-cameras contradict each other; give one of them")
    asked = dict(_pair("--camera", text) for text in cameras or [])
    offsets_s = {name: _seconds(name, text) for name, text in (_pair("--stamp-offset", t) for t in stamp_offsets or [])}
    return ReaderOptions(
        cameras={} if no_cameras else asked or None,
        points_topic=points_topic,
        calibration=calibration,
        fixed_frame=fixed_frame,
        sync=CollectorConfig(tolerance_s=tolerance_s, stamp_offset_s=offsets_s),
        label_space=label_space,
        max_frames=max_frames,
        thinning=thinning or Thinning(),
        tf_from=tuple(tf_bags or ()),
    )


def thinning_for_training(min_motion_m: float | None, every_s: float | None) -> Thinning:
    """What --min-motion and --every ask for; where neither is given, what is right for training."""
    if min_motion_m is None and every_s is None:
        return FOR_TRAINING
    return Thinning(min_motion_m or 0.0, every_s or 0.0)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise ConfigError(f"{option} {text}: expected NAME=VALUE, as in {option} front=/front/image_raw")
    return name, value


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--stamp-offset {name}={text}: expected seconds, as in --stamp-offset front=0.02") from None
