"""Starts the node `segmenter`, and, if asked, a player for a recording and RViz.

ros2 launch clip2uda_ros segment.launch.py points:=/velodyne_points image:=/cam/image_raw camera_info:=/cam/camera_info
ros2 launch clip2uda_ros segment.launch.py cameras:=left,right image:=/l/image,/r/image camera_info:=/l/info,/r/info ...
ros2 launch clip2uda_ros segment.launch.py bag:=drive.mcap points:=/velodyne_points calibration:=robot.yaml rviz:=true
"""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from clip2uda_ros.transport import profile_variables

PACKAGE = "clip2uda_ros"
CONFIG = Path(__file__).resolve().parents[1] / "config"
ENDING_S = "30"
"""After Ctrl-C the cloud at work is finished, or the model loaded; launch would kill the node after ten seconds."""

ARGUMENTS = [
    ("config", str(CONFIG / "segment.yaml"), "Parameter file of the node"),
    ("checkpoint", "", "Model to run (.safetensors); empty: as in config"),
    ("calibration", "", "Calibration YAML in place of TF; empty: as in config"),
    ("cameras", "", "Names of the cameras, front,left,...; empty: as in config"),
    ("namespace", "", "Namespace of all nodes"),
    ("points", "", "Topic of the clouds; empty: ~/input/points"),
    ("image", "", "Image topics in the order of cameras, a,b,...; empty: ~/input/<camera>/image (or .../compressed)"),
    ("camera_info", "", "CameraInfo topics in the order of cameras; empty: ~/input/<camera>/camera_info"),
    ("use_sim_time", "", "true: time comes from /clock; empty: true if a bag is played"),
    ("bag", "", "Recording to play once the node is ready: .mcap, .db3, .bag or a folder; needs points"),
    ("rviz", "false", "true: open RViz with config/segment.rviz"),
    ("log_level", "info", "Least severe log messages to show: debug, info, warn, error, fatal"),
]


def start_nodes(context: LaunchContext) -> list[Node]:
    """The nodes; an argument that is empty leaves the decision to the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    if given["bag"] and not given["points"]:
        raise ValueError(
            f"bag:={given['bag']} needs points:=TOPIC, its topic of clouds, or nothing of it reaches the node; "
            f"`clip2uda inspect {given['bag']}` lists its topics"
        )
    cameras = listed(given["cameras"])
    use_sim_time = (given["use_sim_time"] or str(bool(given["bag"]))).lower() == "true"
    parameters = {name: given[name] for name in ("checkpoint", "calibration") if given[name]}
    parameters |= {"cameras": cameras} if cameras else {}
    inputs = {"points": given["points"]} if given["points"] else {}
    for camera, topic in per_camera(given, "image", cameras):
        inputs |= {f"{camera}/image": topic, f"{camera}/image/compressed": topic}
    inputs |= {f"{camera}/camera_info": topic for camera, topic in per_camera(given, "camera_info", cameras)}
    common = {
        "namespace": given["namespace"],
        "ros_arguments": ["--log-level", given["log_level"]],
        "output": "screen",
        "sigkill_timeout": ENDING_S,
    }
    segmenter = Node(
        package=PACKAGE,
        executable="segment_node",
        name="segmenter",
        parameters=[given["config"], {"use_sim_time": use_sim_time, **parameters}],
        remappings=[(f"~/input/{name}", topic) for name, topic in inputs.items()],
        **common,
    )
    nodes = [segmenter]
    if given["bag"]:
        play = [given["bag"], "--clock", "--wait-for", given["points"]]
        nodes.append(Node(package=PACKAGE, executable="clip2uda_play", arguments=play, **common))
    if given["rviz"].lower() == "true":
        nodes.append(rviz(given, cameras[0] if cameras else "front", use_sim_time, common))
    return nodes


def listed(text: str) -> list[str]:
    return [item for item in text.replace(" ", "").split(",") if item]


def per_camera(given: dict[str, str], argument: str, cameras: list[str]) -> list[tuple[str, str]]:
    """(camera, topic) pairs; without names for the cameras the first is config's `front`."""
    topics, names = listed(given[argument]), cameras or ["front"]
    if len(topics) > len(names):
        raise ValueError(
            f"{argument} has {len(topics)} topics for {len(names)} cameras; name them: cameras:=left,right"
        )
    return list(zip(names, topics, strict=False))


def rviz(given: dict[str, str], camera: str, use_sim_time: bool, common: dict[str, object]) -> Node:
    """RViz, with the topics of its config led to where this node's are."""
    here = "/".join(["", *given["namespace"].strip("/").split("/"), "segmenter"]).replace("//", "/")
    remappings = [
        ("/segmenter/input/points", given["points"] or f"{here}/input/points"),
        ("/segmenter/output/points", f"{here}/output/points"),
        ("/segmenter/output/front/overlay", f"{here}/output/{camera}/overlay"),
    ]
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(CONFIG / "segment.rviz")],
        parameters=[{"use_sim_time": use_sim_time}],
        remappings=remappings,
        **common,
    )


def generate_launch_description() -> LaunchDescription:
    """Arguments, the transport profile (unless the user set one), nodes."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS),
            *(SetEnvironmentVariable(name, value) for name, value in profile_variables(os.environ).items()),
            OpaqueFunction(function=start_nodes),
        ]
    )
