"""Recordings through the segmenter: nothing is lost, stamps and order stay, the input travels along."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import RANDOM_CLIP
from tiny_recordings import frame_messages, write_bag
from typer.testing import CliRunner

from clip2uda_core.cli import app
from clip2uda_core.data.messages import decode_point_cloud
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.data.readers.bag import Bag
from clip2uda_core.evaluation.evaluate import evaluate
from clip2uda_core.inference.recording import LABELLED_TOPIC, segment_recording
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter, init_checkpoint
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.network import NetworkConfig
from clip2uda_core.models.sparse_unet import SparseUNetConfig

STREET8 = LabelSpace.load("street8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    config = ModelConfig(
        prepare=PrepareConfig(voxel_size_m=0.2, image_max_width_px=320),
        clip=RANDOM_CLIP,
        network=NetworkConfig(sparse_unet=SparseUNetConfig(channels=8, levels=3)),
    )
    init_checkpoint(path, STREET8, config)
    return path


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter.from_checkpoint(checkpoint)


def messages(path: Path, topic: str) -> list:
    bag = Bag(path)
    return [raw.message() for raw in bag.messages({topic})]


def test_a_bag_keeps_its_own_messages_and_gains_labelled_clouds(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", "mcap", frame_messages("mcap", 3))
    summary = segment_recording(open_source(source), segmenter, tmp_path / "out", pictures=2)
    assert summary.frames == 3
    labelled = tmp_path / "out" / "labelled.mcap"
    for topic in ("/lidar/points", "/front/image_raw", "/front/camera_info", "/tf_static"):
        before = [bytes(raw.cdr()) for raw in Bag(source).messages({topic})]
        after = [bytes(raw.cdr()) for raw in Bag(labelled).messages({topic})]
        assert before == after
        assert before, topic
    inputs, outputs = messages(source, "/lidar/points"), messages(labelled, LABELLED_TOPIC)
    assert [m.header for m in outputs] == [m.header for m in inputs]
    for cloud_in, cloud_out in zip(inputs, outputs, strict=True):
        decoded = decode_point_cloud(cloud_out, LABELLED_TOPIC)
        np.testing.assert_array_equal(decoded.xyz_m, decode_point_cloud(cloud_in, "in").xyz_m)
        assert decoded.labels is not None
        assert (decoded.labels < len(STREET8)).all()
    assert len(list((tmp_path / "out").glob("overlay_*_front.png"))) == 2
    assert len(list((tmp_path / "out").glob("birds_eye_*.png"))) == 2


def test_labels_in_the_recording_are_the_segmenters(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", "sqlite3", frame_messages("sqlite3", 2))
    segment_recording(open_source(source), segmenter, tmp_path / "out", pictures=0)
    predictions = [segmenter.segment(frame).labels for frame in open_source(source)]
    recorded = messages(tmp_path / "out" / "labelled.mcap", LABELLED_TOPIC)
    for expected, message in zip(predictions, recorded, strict=True):
        np.testing.assert_array_equal(decode_point_cloud(message, "out").labels, expected)


def test_a_broken_message_of_the_input_is_left_out_and_counted(tmp_path: Path, segmenter: Segmenter) -> None:
    from clip2uda_core.data.bag_writer import BagWriter

    source = write_bag(tmp_path / "in", "mcap", frame_messages("mcap", 3))
    broken = tmp_path / "broken.mcap"
    clouds = 0
    with BagWriter(broken) as bag:
        for raw in Bag(source).messages([topic.name for topic in Bag(source).topics]):
            data = bytes(raw.cdr())
            if raw.msgtype.endswith("PointCloud2"):
                clouds += 1
                data = data[:40] if clouds == 2 else data
            bag.write_raw(raw.topic, raw.msgtype, data, raw.log_time_ns)
    reader = open_source(broken)
    assert segment_recording(reader, segmenter, tmp_path / "out", pictures=0).frames == 2
    assert any("/lidar/points" in warning for warning in reader.warnings)


def test_every_cloud_of_the_real_drive_gets_a_labelled_one(
    tmp_path: Path, real_data: Path, segmenter: Segmenter
) -> None:
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    summary = segment_recording(open_source(drive), segmenter, tmp_path, pictures=0, images="jpeg")
    scans = sorted((drive / "velodyne_points" / "data").glob("*.bin"))
    labelled = [decode_point_cloud(m, "out") for m in messages(tmp_path / "labelled.mcap", LABELLED_TOPIC)]
    assert summary.frames == len(labelled) == len(scans) == 37
    stamps = [
        int(line.split(",")[1]) for line in (drive / "timestamps_nominal.csv").read_text().split("\n")[1:] if line
    ]
    for cloud, scan, stamp_ns in zip(labelled, scans, stamps, strict=True):
        np.testing.assert_array_equal(cloud.xyz_m, np.fromfile(scan, "<f4").reshape(-1, 4)[:, :3])
        assert cloud.stamp_ns == stamp_ns
    assert 0.155 <= summary.seen / summary.points <= 0.160


def test_labelled_recordings_are_scored_against_their_own_labels(
    tmp_path: Path, real_data: Path, checkpoint: Path
) -> None:
    arguments = ["segment", str(real_data / "semantickitti_00"), "--out", str(tmp_path)]
    arguments += ["--checkpoint", str(checkpoint), "--pictures", "0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "mIoU" in result.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    counts = np.array(summary["all_points"]["confusion"])
    truth = [np.fromfile(path, "<u4") & 0xFFFF for path in (real_data / "semantickitti_00" / "labels").glob("*.label")]
    expected = np.bincount(STREET8.from_raw("semantic_kitti", np.concatenate(truth)), minlength=256)
    np.testing.assert_array_equal(counts.sum(1), expected[: len(STREET8)])  # every labelled point is counted once
    assert expected[IGNORE] > 0
    assert "there, mIoU of 2D alone" in result.output
    frames = open_source(real_data / "semantickitti_00", ReaderOptions(label_space=STREET8))
    evaluated = evaluate(Segmenter.from_checkpoint(checkpoint, "cpu").segment, frames, STREET8).summary()
    for name in ("2d", "3d", "fused", "xm"):
        assert summary["seen_points"][name]["miou"] == pytest.approx(evaluated["iou_percent"][name]["mean"], abs=0.01)


def test_the_model_must_exist(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in", "mcap", frame_messages("mcap", 1))
    arguments = ["segment", str(source), "--out", str(tmp_path), "--checkpoint", str(tmp_path / "none.safetensors")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert "none.safetensors" in str(result.exception)
