"""Everything of a frame but the networks: 120 000 points and a 1242x375 image, on one thread."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clip2uda_core.bench.table import print_table, times_ms
from clip2uda_core.data.collector import Collector, CollectorConfig
from clip2uda_core.data.messages import (
    RosbagsFactory,
    decode_image,
    decode_point_cloud,
    encode_image,
    encode_labelled_cloud,
    encode_point_cloud,
)
from clip2uda_core.data.prepare import PrepareConfig, prepare, voxelize
from clip2uda_core.geometry import SE3, PinholeCamera, project
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter, init_checkpoint
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.clip_weights import ClipConfig
from clip2uda_core.models.network import NetworkConfig
from clip2uda_core.models.sparse_unet import SparseUNetConfig
from clip2uda_core.types import CameraView, Frame, PointCloud

POINTS, WIDTH_PX, HEIGHT_PX = 120_000, 1242, 375
PREPARE = PrepareConfig()
ALL_PARTS_MS, DECODE_MS, ENCODE_MS = 15.0, 1.0, 5.0
"""What the project asks of a frame, of decoding a cloud, and of encoding one."""


def measure_memcpy() -> float:
    """Copying 64 MB within this process, GB/s: the machine's own limit."""
    source = np.ones(64_000_000, np.uint8)
    target = np.empty_like(source)
    return 0.064 / (min(times_ms(lambda: np.copyto(target, source))) / 1e3)


def example_frame() -> Frame:
    """A cloud like an HDL-64E's: rings on the ground and walls around, and one camera ahead that sees a sixth of it."""
    random = np.random.default_rng(0)
    elevation = np.repeat(np.deg2rad(np.linspace(-24.3, 2.0, 64)), POINTS // 64)
    azimuth = np.tile(np.linspace(-np.pi, np.pi, POINTS // 64, endpoint=False), 64)
    to_ground_m = np.where(elevation < 0, 1.73 / np.maximum(1e-3, -np.sin(elevation)), np.inf)
    range_m = np.minimum(to_ground_m, 12 + 8 * np.sin(3 * azimuth) ** 2) + random.normal(0, 0.02, len(azimuth))
    direction = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    xyz_m = (range_m * np.stack(direction)).T.astype(np.float32)
    cloud = PointCloud(np.ascontiguousarray(xyz_m), 1_000_000_000, intensity=random.random(POINTS, np.float32))
    camera = PinholeCamera(WIDTH_PX, HEIGHT_PX, 721.5, 721.5, 609.6, 172.9)
    optical = SE3.from_rotation_translation(
        np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0, -0.08, -0.27]), "front_optical_frame", "lidar"
    )
    image = random.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    return Frame(cloud, (CameraView("front", image, 1_010_000_000, camera, optical),), "bench")


def measure_frame(memcpy_gb_s: float) -> None:
    """Prints the time of each part, and of all of them together."""
    torch.set_num_threads(1)
    frame = example_frame()
    cloud, view = frame.cloud, frame.views[0]
    factory, labels = RosbagsFactory(), LabelSpace.load("street8")
    cloud_message = encode_point_cloud(cloud, factory)
    image_message = encode_image(view.image, view.stamp_ns, "front_optical_frame", factory)
    segmenter = _untrained_segmenter(labels)
    predictions = [segmenter.segment(frame) for _ in range(8)][1:]
    parts = {
        "decode the cloud": (16 * POINTS, DECODE_MS, _timed(lambda: decode_point_cloud(cloud_message, "points"))),
        "decode the image": (view.image.nbytes, None, _timed(lambda: decode_image(image_message, "image"))),
        "pair": (0, None, _timed(lambda: _pair(cloud_message, image_message, frame))),
        "prepare: select, voxelise, resize, project": (12 * POINTS, None, _timed(lambda: prepare(frame, PREPARE))),
        "fuse": (8 * len(labels) * POINTS, None, [1e3 * p.times_s["fuse"] for p in predictions]),
        "encode the labelled cloud": (
            24 * POINTS,
            ENCODE_MS,
            _timed(lambda: encode_labelled_cloud(cloud_message, predictions[0], labels, factory)),
        ),
    }
    medians_ms = [float(np.median(times)) for _, _, times in parts.values()]
    parts["**all of it**"] = (0, ALL_PARTS_MS, [sum(medians_ms)])
    xyz_m = cloud.xyz_m
    parts["of prepare: project"] = (
        12 * POINTS,
        None,
        _timed(lambda: project(xyz_m, view.camera_SE3_lidar, view.camera)),
    )
    parts["of prepare: voxelise at 5 cm"] = (12 * POINTS, None, _timed(lambda: voxelize(xyz_m, 0.05)))
    rows = []
    for name, (data_bytes, asked_ms, times) in parts.items():
        median_ms, best_ms = float(np.median(times)), min(times)
        copy_ms = data_bytes / memcpy_gb_s / 1e6
        rows.append(
            [
                name,
                f"{median_ms:.2f}",
                f"{best_ms:.2f}",
                f"{best_ms / copy_ms:.0f}x" if copy_ms else "",
                "" if asked_ms is None else f"{asked_ms:.0f} ({median_ms / asked_ms:.2f}x)",
            ]
        )
    print(f"memcpy: {memcpy_gb_s:.1f} GB/s\n")
    columns = ["part", "median ms", "best ms", "best / memcpy of its data", "asked for, ms (median / asked)"]
    print_table(f"A frame without the networks ({POINTS} points, {WIDTH_PX}x{HEIGHT_PX}), one thread", columns, rows)


def _timed(function: Callable[[], object]) -> list[float]:
    return times_ms(function, repeats=20)


def _pair(cloud_message: Any, image_message: Any, frame: Frame) -> None:
    collector: Collector[Any] = Collector(CollectorConfig(), ("front",))
    stamp_ns = frame.cloud.stamp_ns
    collector.add_cloud(stamp_ns, cloud_message, stamp_ns)
    assert collector.add_image("front", frame.views[0].stamp_ns, image_message, stamp_ns), "the pair did not fire"


def _untrained_segmenter(labels: LabelSpace) -> Segmenter:
    """Small random networks: what they say does not matter here."""
    config = ModelConfig(
        prepare=PREPARE,
        clip=ClipConfig(model="sim-clip", weights=None),
        network=NetworkConfig(sparse_unet=SparseUNetConfig(channels=8, levels=2)),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.safetensors"
        init_checkpoint(path, labels, config)
        return Segmenter.from_checkpoint(path, device="cpu")
