"""`clip2uda convert`: a recording goes through and comes back bit for bit."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import typer
from tiny_recordings import frame_messages, write_bag
from typer.testing import CliRunner

from clip2uda_core.cli.convert import convert
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import DataError
from clip2uda_core.labels import LabelSpace

app = typer.Typer()
app.command()(convert)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def assert_same_frames(source: Path, converted: Path, options: ReaderOptions) -> None:
    reader = open_source(converted, ReaderOptions(label_space=options.label_space))
    expected = list(islice(open_source(source, options), len(reader)))
    for a, b in zip(expected, reader, strict=True):
        assert b.cloud.stamp_ns == a.cloud.stamp_ns
        for name in ("xyz_m", "intensity", "labels"):
            values = getattr(a.cloud, name), getattr(b.cloud, name)
            np.testing.assert_array_equal(*values, err_msg=name)
        assert len(a.views) == len(b.views) == 1
        for x, y in zip(a.views, b.views, strict=True):
            assert (y.name, y.stamp_ns) == (x.name, x.stamp_ns)
            np.testing.assert_array_equal(y.image, x.image)
            np.testing.assert_array_equal(y.camera.matrix, x.camera.matrix)
            np.testing.assert_allclose(y.camera.offset_m, x.camera.offset_m, atol=1e-12)
            np.testing.assert_allclose(y.camera_SE3_lidar.matrix, x.camera_SE3_lidar.matrix, atol=1e-12)


@pytest.mark.parametrize("kind", ["rosbag1", "sqlite3", "mcap"])
def test_another_bag(tmp_path, kind):
    source = write_bag(tmp_path / ("in.bag" if kind == "rosbag1" else "in"), kind, frame_messages(kind, 4))
    result = run(source, tmp_path / "out.mcap")
    assert result.exit_code == 0
    assert "4 frames of 4 clouds" in " ".join(result.stderr.split())
    assert_same_frames(source, tmp_path / "out.mcap", ReaderOptions())


def test_a_folder_as_rosbag2_makes_it(tmp_path):
    source = write_bag(tmp_path / "in", "mcap", frame_messages("mcap", 3))
    run(source, tmp_path / "out", "--images", "png", "--max-frames", 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metadata.yaml", "out.mcap"]
    assert_same_frames(source, tmp_path / "out", ReaderOptions())
    assert len(open_source(tmp_path / "out")) == 2


@pytest.mark.real_data
@pytest.mark.parametrize("images", ["raw", "png"])
def test_kitti_drive(real_data, tmp_path, images):
    drive = real_data / "kitti_raw_2011_09_26_drive_0001"
    result = run(drive, tmp_path / "k.mcap", "--images", images, "--max-frames", 5)
    assert result.exit_code == 0
    assert "5 frames of 5 clouds" in " ".join(result.stderr.split())
    assert_same_frames(drive, tmp_path / "k.mcap", ReaderOptions())


@pytest.mark.real_data
def test_semantic_kitti_with_its_labels(real_data, tmp_path):
    sequence = real_data / "semantickitti_00"
    run(sequence, tmp_path / "s.mcap", "--labels", "street8", "--images", "png", "--max-frames", 4)
    space = LabelSpace.load("street8")
    assert_same_frames(sequence, tmp_path / "s.mcap", ReaderOptions(label_space=space))


def test_an_existing_file_needs_force(tmp_path):
    source, out = write_bag(tmp_path / "in", "mcap", frame_messages("mcap", 3)), tmp_path / "k.mcap"
    run(source, out, "--max-frames", 1)
    with pytest.raises(DataError, match="exists already"):
        run(source, out, "--max-frames", 2)
    run(source, out, "--max-frames", 2, "--force")
    assert len(open_source(out)) == 2


def test_an_unknown_way_to_write_images(tmp_path):
    result = run(tmp_path, tmp_path / "k.mcap", "--images", "gif")
    assert result.exit_code == 2
    assert "jpeg" in result.stderr
    assert not (tmp_path / "k.mcap").exists()
