"""Adapts a model to a recording of a new place: `clip2uda adapt` with its options as launch arguments.

ros2 launch clip2uda_ros adapt.launch.py out:=run source:=synthetic:sim_to_kitti target:=monday.mcap,tuesday.mcap
ros2 launch clip2uda_ros adapt.launch.py out:=run scenario:=day_to_night steps:=2000 extra:="--set loader.batch_size=4"
"""

import shlex

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

SAVING_S = "120"
"""After Ctrl-C the running iteration is finished and a state saved; launch would kill it after five seconds."""

ARGUMENTS = [
    ("out", None, "Folder of the run: model.safetensors, report.json, pictures, states to resume from"),
    ("method", "", "Method of config/adapt, or a YAML file; empty: clip2uda, or source_free with source:=none"),
    ("source", "", "Labelled: rosbags, KITTI folders, synthetic:SCENARIO[:DOMAIN[:SPLIT]]; several: a,b; or none"),
    ("target", "", "Recordings of the new place; their labels are not read; several: a,b"),
    ("val", "", "Labelled recordings of the new place that choose the best state; several: a,b"),
    ("test", "", "Recordings to evaluate on at the end; several: a,b"),
    ("scenario", "", "A simulated scenario, for all recordings that are not given and the stand-in for CLIP"),
    ("teacher", "", "For methods with pseudo-labels: checkpoint or run that makes them; empty: it is trained first"),
    ("checkpoint", "", "The model in use, which the new one has to beat; empty: the one that ships"),
    ("steps", "", "Iterations; empty: the method's"),
    ("seed", "", "Seed of weights, order and augmentation; empty: the method's"),
    ("clip", "", "CLIP and its weights, ViT-B-16:laion2b_s34b_b88k or ViT-B-16:FILE; empty: the method's"),
    ("device", "", "auto, cpu, cuda or cuda:<index>; empty: auto"),
    ("time_budget", "", "End the training after 90s, 30m, 2h, 1h30m; a plain number is minutes; empty: never"),
    ("patience", "", "Saved states without a better signal from the target that end the training; empty: it goes on"),
    ("points_topic", "", "PointCloud2 topic of the target's bags, where they have several"),
    ("camera", "", "Image topics of the target's cameras, front=/front/image_raw,left=...; empty: found by themselves"),
    ("calibration", "", "Calibration YAML in place of the bags' CameraInfo and TF"),
    ("fixed_frame", "", "Frame (odom, map) through which TF corrects the motion between image and cloud"),
    ("tolerance", "", "Largest distance in time of an image from its cloud, seconds; empty: 0.05"),
    ("resume", "false", "true: go on with the run in out"),
    ("extra", "", "Any other options of clip2uda adapt, as on its command line"),
]
SEVERAL = ("source", "target", "val", "test", "camera")


def start_adaptation(context: LaunchContext) -> list[ExecuteProcess]:
    """The process; an argument that is empty is left to `clip2uda adapt`."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    options = ["--resume"] if given.pop("resume").lower() == "true" else []
    options += shlex.split(given.pop("extra"))
    for name, value in given.items():
        for part in value.split(",") if name in SEVERAL else [value]:
            options += [f"--{name.replace('_', '-')}", part.strip()] if part.strip() else []
    executable = ExecutableInPackage(package="clip2uda_ros", executable="adapt")
    return [ExecuteProcess(cmd=[executable, *options], output="screen", sigterm_timeout=SAVING_S)]


def generate_launch_description() -> LaunchDescription:
    """Arguments and the process."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS),
            OpaqueFunction(function=start_adaptation),
        ]
    )
