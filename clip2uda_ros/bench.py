"""The node's own overhead over DDS, from its diagnostics: message to worker, result to publisher."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from clip2uda_core.bench.frame import example_frame
from clip2uda_core.bench.table import print_table
from clip2uda_core.data.bag_writer import POINTS_TOPIC, BagWriter
from clip2uda_core.data.calibration import Calibration, describe_camera, save_calibration
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.data.readers.bag import Bag
from clip2uda_core.inference.segmenter import ModelConfig, init_checkpoint
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.clip_weights import ClipConfig
from clip2uda_core.models.network import NetworkConfig
from clip2uda_core.models.sparse_unet import SparseUNetConfig
from clip2uda_ros.children import child

FRAMES, PERIOD_NS = 40, 1_000_000_000
ASKED_MS = 10.0
START_TIMEOUT_S = 120.0


def measure_node() -> None:
    """Plays a cloud and an image a second to a model that is faster, so that what is measured is the node alone."""
    with tempfile.TemporaryDirectory() as name:
        diagnostics = _run(Path(name))
    stages = {key: value for key, value in diagnostics.items() if key.startswith("stage.")}
    to_worker = float(stages["stage.wait.p95_ms"])
    to_publish = float(stages["stage.encode.p95_ms"]) + float(stages["stage.publish.p95_ms"])
    rows = [
        ["submitted to worker start", f"{to_worker:.2f}", f"{ASKED_MS:.0f} ({to_worker / ASKED_MS:.2f}x)"],
        [
            "result to published (encode, publish)",
            f"{to_publish:.2f}",
            f"{ASKED_MS:.0f} ({to_publish / ASKED_MS:.2f}x)",
        ],
    ]
    names = sorted({key.removeprefix("stage.").rpartition(".")[0] for key in stages})
    rows += [[f"stage {n}", stages[f"stage.{n}.p95_ms"], f"p50 {stages[f'stage.{n}.p50_ms']}"] for n in names]
    title = f"The node over DDS, {diagnostics['output.count']} clouds published, small untrained model"
    print_table(title, ["part", "p95 ms", "asked for, ms (p95 / asked)"], rows)


def _run(folder: Path) -> dict[str, str]:
    """The values of the node's last diagnostics."""
    bag, calibration, model = folder / "in.mcap", folder / "calibration.yaml", folder / "model.safetensors"
    _write_inputs(bag, calibration)
    config = ModelConfig(
        prepare=PrepareConfig(voxel_size_m=0.5, image_max_width_px=160),  # a model much faster than its input
        clip=ClipConfig(model="sim-clip", weights=None),
        network=NetworkConfig(sparse_unet=SparseUNetConfig(channels=8, levels=2)),
    )
    init_checkpoint(model, LabelSpace.load("street8"), config)
    inputs = {
        "~/input/points": POINTS_TOPIC,
        "~/input/front/image": "/front/image_raw",
        "~/input/front/camera_info": "/front/camera_info",
    }
    node = [
        "--ros-args",
        "-p",
        f"checkpoint:={model}",
        "-p",
        f"calibration:={calibration}",
        "-p",
        "sync.max_age_s:=0.0",
    ]
    node += [part for name, topic in inputs.items() for part in ("-r", f"{name}:={topic}")]
    player = [str(bag), "--wait-for", *inputs.values(), "--wait-s", str(START_TIMEOUT_S)]
    out = folder / "diagnostics.mcap"
    with child("recorder", [str(out), "/diagnostics"], folder / "recorder.log") as recorder:
        with (
            child("segment_node", node, folder / "node.log") as running,
            child("player", player, folder / "player.log") as playing,
        ):
            while not playing.wait(0.2):
                running.check()
            running.interrupt()
        recorder.interrupt()
    last: Any = None
    for raw in Bag(out).messages({"/diagnostics"}):
        last = raw.message()
    return {pair.key: pair.value for pair in last.status[0].values}


def _write_inputs(bag: Path, calibration: Path) -> None:
    frame = example_frame()
    view = frame.views[0]
    cameras = {"front": describe_camera(view.camera, view.camera_SE3_lidar)}
    save_calibration(Calibration(lidar_frame=frame.cloud.frame_id, cameras=cameras), calibration)
    with BagWriter(bag) as writer:
        for index in range(FRAMES):
            cloud = replace(frame.cloud, stamp_ns=frame.cloud.stamp_ns + index * PERIOD_NS)
            image = replace(view, stamp_ns=view.stamp_ns + index * PERIOD_NS)
            writer.write_frame(replace(frame, cloud=cloud, views=(image,)))
