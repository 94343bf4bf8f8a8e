"""Frames kept on disk, and what is drawn from them."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from clip2uda_core.data.augment import AugmentConfig, ImageAugmentConfig, PointAugmentConfig
from clip2uda_core.data.frame_store import Crop, Domain, FrameStore, TrainingFrame
from clip2uda_core.data.loader import LoaderConfig, TrainingBatch, draw_sample, load_batches
from clip2uda_core.data.prepare import PrepareConfig, prepare
from clip2uda_core.errors import DataError
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame, PointCloud

STREET8 = LabelSpace.load("street8")
PREPARE = PrepareConfig(voxel_size_m=0.5, max_range_m=25)
STILL = AugmentConfig(
    points=PointAugmentConfig(noise=0, flip=0, rotation_deg=0, translation_cells=0),
    image=ImageAugmentConfig(color_jitter=0, flip=0),
)


def _frame(number: int, labelled: bool = True, with_view: bool = True) -> Frame:
    """Labels follow the place of a point, so that a mix-up of points shows."""
    xyz_m = tiny_model.scattered_points(400, seed=number)
    labels = (np.abs(xyz_m[:, 0]) % 8).astype(np.uint8) if labelled else None
    cloud = PointCloud(xyz_m, number, intensity=np.abs(xyz_m[:, 1]), labels=labels)
    return Frame(cloud, (tiny_model.camera_view(),) if with_view else (), f"made[{number}]")


def _store(
    folder: Path, frames: list[Frame], domain: Domain = "source", crop: Crop = "none", with_images: bool = True
) -> FrameStore:
    return FrameStore.write(frames, folder / domain, domain, STREET8, PREPARE, crop, with_images)


def _take(store: FrameStore, steps: int, first_step: int = 0, workers: int = 0) -> list[TrainingBatch]:
    config = LoaderConfig(batch_size=2, workers=workers)
    return list(islice(load_batches(store, "source", config, PREPARE, AugmentConfig(), 0, first_step), steps))


def _assert_equal(first: list[TrainingBatch], second: list[TrainingBatch]) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.sources == b.sources
        assert a.batch.voxels.equal(b.batch.voxels)
        assert a.batch.labels.equal(b.batch.labels)
        assert a.batch.groups[0].images.equal(b.batch.groups[0].images)


def test_what_is_kept_is_what_inference_prepares(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(0)])
    sample = prepare(_frame(0), PREPARE)
    drawn = draw_sample(store[0], "none", PREPARE, STILL, np.random.default_rng(0))
    assert np.array_equal(drawn.xyz_m, sample.xyz_m)
    assert np.array_equal(drawn.labels, sample.labels)
    assert np.array_equal(drawn.voxels.coordinates, sample.voxels.coordinates)
    assert np.array_equal(drawn.voxels.of_point, sample.voxels.of_point)
    assert np.array_equal(drawn.views[0].image, sample.views[0].image)
    assert np.array_equal(drawn.views[0].uv_px, sample.views[0].uv_px)
    assert np.array_equal(drawn.views[0].points, sample.views[0].points)


@pytest.mark.parametrize("crop", ["seen", "half"])
def test_cropped_points_keep_their_labels_and_pixels(tmp_path: Path, crop: Crop) -> None:
    store = _store(tmp_path, [_frame(0)], crop=crop)
    whole = prepare(_frame(0), PREPARE)
    part = draw_sample(store[0], crop, PREPARE, STILL, np.random.default_rng(3))
    assert 0 < len(part.xyz_m) < len(whole.xyz_m)
    place = {tuple(point): index for index, point in enumerate(whole.xyz_m.tolist())}
    original = np.array([place[tuple(point)] for point in part.xyz_m.tolist()])
    assert np.array_equal(part.labels, whole.labels[original])
    pixels = dict(zip(whole.views[0].points.tolist(), whole.views[0].uv_px.tolist(), strict=True))
    for point, uv_px in zip(part.views[0].points, part.views[0].uv_px.tolist(), strict=True):
        assert pixels[int(original[point])] == uv_px


def test_crop_seen_keeps_exactly_what_the_camera_sees(tmp_path: Path) -> None:
    kept = _store(tmp_path, [_frame(0)], crop="seen")[0]
    assert len(kept.xyz_m) == len(prepare(_frame(0), PREPARE).views[0].points)
    assert kept.seen.all()


def test_counts_of_labels_in_range_seen_and_all(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(0), _frame(1)], crop="seen")
    frames = [TrainingFrame.of(_frame(number), PREPARE) for number in (0, 1)]
    labels = np.concatenate([frame.labels for frame in frames])
    seen = np.concatenate([frame.labels[frame.seen] for frame in frames])
    assert store.all_counts.tolist() == [int((labels == index).sum()) for index in range(8)]
    assert store.seen_counts.tolist() == [int((seen == index).sum()) for index in range(8)]


def test_labels_of_the_target_are_never_kept(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(0)], domain="target")
    assert store[0].labels is None
    assert "labels" not in np.load(store.folder / "0.npz").files


def test_frames_of_no_use_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    far = Frame(PointCloud(np.full((3, 3), 90, np.float32), 0, labels=np.zeros(3, np.uint8)), (), "far")
    frames = [_frame(0), _frame(1, labelled=False), _frame(2, with_view=False), far]
    store = _store(tmp_path, frames)
    assert store.sources == ("made[0]",)
    assert store.skipped == {"no labels": 1, "no point that a camera sees": 1, "no point in range": 1}
    assert "1 with no labels" in caplog.text


def test_without_images_frames_need_no_camera(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(0, with_view=False)], with_images=False)
    assert store[0].views == ()


def test_an_empty_domain_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source domain: no frame can be trained on: 2 with no labels"):
        _store(tmp_path, [_frame(0, labelled=False), _frame(1, labelled=False)])
    with pytest.raises(DataError, match=r"target domain.*the recording is empty"):
        _store(tmp_path, [], domain="target")


def test_an_unfinished_store_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "source.unfinished").mkdir()
    (tmp_path / "source.unfinished" / "0.npz").write_bytes(b"half a file")
    assert len(_store(tmp_path, [_frame(0)])) == 1
    assert not (tmp_path / "source.unfinished").exists()


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(0)])
    (store.folder / "0.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"0\.npz"):
        store[0]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        _store(tmp_path / "file", [_frame(0)])


def test_every_frame_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(number) for number in range(6)])
    batches = _take(store, 6)
    epochs = [[name for batch in batches[i : i + 3] for name in batch.sources] for i in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(store.sources)
    assert epochs[0] != epochs[1]


def test_resuming_and_workers_change_nothing(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(number) for number in range(5)])
    batches = _take(store, 5)
    _assert_equal(_take(store, 2, first_step=3), batches[3:])
    _assert_equal(_take(store, 5, workers=2), batches)


def test_batch_keeps_points_labels_and_pixels_together(tmp_path: Path) -> None:
    store = _store(tmp_path, [_frame(number) for number in range(2)])
    (batch,) = _take(store, 1)
    tensors = batch.batch
    assert tensors.labels is not None
    assert len(tensors.labels) == sum(tensors.point_counts) == len(tensors.voxel_of_point)
    assert (tensors.labels != IGNORE).all()
    assert len(batch.seen_points()) == sum(len(uv) for uv in tensors.groups[0].uv_px)
    of_first = batch.seen_points() < tensors.point_counts[0]
    assert int(of_first.sum()) == len(tensors.groups[0].uv_px[0])


def test_half_of_a_scan_is_never_empty(tmp_path: Path) -> None:
    """A LiDAR that looks ahead only: where no point is in the half plane that was drawn, the other half is taken."""
    xyz_m = np.array([[10, 0, 0], [11, 0.1, 0]], np.float32)
    cloud = PointCloud(xyz_m, 0, labels=np.zeros(2, np.uint8))
    store = _store(tmp_path, [Frame(cloud, (), "ahead[0]")], with_images=False)
    for seed in range(8):
        assert len(draw_sample(store[0], "half", PREPARE, STILL, np.random.default_rng(seed)).xyz_m) > 0
