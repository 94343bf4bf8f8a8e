"""A checkpoint at work: every point of every kind of frame gets its answer, and the right CLIP stands beside it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from tiny_model import camera_view, frame, save_clip_weights, scattered_points

from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import CheckpointError, ConfigError
from clip2uda_core.geometry import project
from clip2uda_core.inference import segmenter as segmenter_module
from clip2uda_core.inference.segmenter import ModelConfig, Segmenter, choose_device, init_checkpoint
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.models.checkpoint import load_checkpoint
from clip2uda_core.models.network import NetworkConfig
from clip2uda_core.models.sparse_unet import SparseUNetConfig
from clip2uda_core.models.unet2d import UNet2dConfig
from clip2uda_core.types import Frame, Prediction

STREET8 = LabelSpace.load("street8")
CONFIG = ModelConfig(
    prepare=PrepareConfig(voxel_size_m=0.2, max_range_m=40),
    network=NetworkConfig(sparse_unet=SparseUNetConfig(channels=8, levels=4)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint and the weights of the stand-in CLIP that it needs."""
    path = tmp_path_factory.mktemp("model")
    clip = save_clip_weights(path / "clip.safetensors")
    init_checkpoint(path / "model.safetensors", STREET8, CONFIG.model_copy(update={"clip": clip}))
    return path


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Segmenter:
    return Segmenter.from_checkpoint(folder / "model.safetensors", device="cpu")


def check(prediction: Prediction, points: int) -> None:
    """What holds for every prediction."""
    assert len(prediction) == points
    assert prediction.labels.dtype == np.uint8
    assert prediction.confidence.dtype == prediction.probabilities_3d.dtype == np.float32
    segmented = prediction.labels != IGNORE
    assert (prediction.labels[segmented] < 8).all()
    assert (prediction.confidence[~segmented] == 0).all()
    assert not prediction.seen[~segmented].any()
    assert np.array_equal(np.isfinite(prediction.probabilities_3d).all(1), segmented)
    assert np.array_equal(np.isfinite(prediction.probabilities_2d).all(1), prediction.seen)
    for probabilities, there in [
        (prediction.probabilities_3d, segmented),
        (prediction.probabilities_2d, prediction.seen),
    ]:
        assert probabilities.shape == (points, 8)
        np.testing.assert_allclose(probabilities[there].sum(1), 1, atol=1e-5)


def test_every_point_is_labelled_in_its_place(segmenter: Segmenter) -> None:
    xyz_m = scattered_points()
    xyz_m[5], xyz_m[100:110, 1], xyz_m[200] = np.nan, np.inf, (100, 0, 0)  # no return, broken, out of range
    view = camera_view()
    prediction = segmenter.segment(frame(xyz_m, view))
    check(prediction, len(xyz_m))
    assert np.flatnonzero(prediction.labels == IGNORE).tolist() == [5, *range(100, 110), 200]
    in_view = project(xyz_m, view.camera_SE3_lidar, view.camera).visible
    in_view[200] = False
    assert np.array_equal(prediction.seen, in_view)
    assert set(prediction.times_s) == {"prepare", "image_encoder", "image_decoder", "points", "fuse"}
    assert all(seconds > 0 for seconds in prediction.times_s.values())


def test_fused_is_the_product_with_some_doubt_where_seen_and_3d_elsewhere(segmenter: Segmenter) -> None:
    prediction = segmenter.segment(frame(scattered_points(), camera_view()))
    expected = prediction.probabilities_3d.copy()
    of_2d, of_3d = prediction.probabilities_2d[prediction.seen], expected[prediction.seen]
    classes = expected.shape[1]
    expected[prediction.seen] = (0.8 * of_2d + 0.2 / classes) * (0.8 * of_3d + 0.2 / classes)
    expected /= expected.sum(1, keepdims=True)
    assert np.array_equal(prediction.labels, expected.argmax(1))
    np.testing.assert_allclose(prediction.confidence, expected.max(1), rtol=1e-4)
    assert 0 < prediction.seen.sum() < len(prediction)


def test_temperatures_divide_the_logits_of_their_branch(folder: Path, segmenter: Segmenter) -> None:
    """Softmax of z / T is softmax(z) to the power of 1 / T, normalised."""
    scene = frame(scattered_points(), camera_view())
    at_one = segmenter.segment(scene)
    tempered = Segmenter.from_checkpoint(folder / "model.safetensors", device="cpu")
    tempered.network.temperatures.copy_(torch.tensor([2.0, 0.5]))
    for of_one, of_other, power in (
        (at_one.probabilities_2d, tempered.segment(scene).probabilities_2d, 0.5),
        (at_one.probabilities_3d, tempered.segment(scene).probabilities_3d, 2.0),
    ):
        expected = of_one**power / (of_one**power).sum(1, keepdims=True)
        np.testing.assert_allclose(of_other, expected, rtol=1e-3)
        assert not np.allclose(of_other, of_one, rtol=0.01, equal_nan=True)


def test_a_point_that_two_cameras_see_has_their_mean(segmenter: Segmenter) -> None:
    xyz_m, left, right = scattered_points(), camera_view("left"), camera_view("right", 200, 100, yaw_rad=0.5)
    from_left, from_right = segmenter.segment(frame(xyz_m, left)), segmenter.segment(frame(xyz_m, right))
    from_both = segmenter.segment(frame(xyz_m, left, right))
    assert np.array_equal(from_both.seen, from_left.seen | from_right.seen)
    twice = from_left.seen & from_right.seen
    assert 0 < twice.sum() < from_both.seen.sum()
    mean = (from_left.probabilities_2d + from_right.probabilities_2d) / 2
    np.testing.assert_allclose(from_both.probabilities_2d[twice], mean[twice], atol=1e-5)
    once = from_left.seen & ~from_right.seen
    np.testing.assert_allclose(from_both.probabilities_2d[once], from_left.probabilities_2d[once], atol=1e-5)


@pytest.mark.parametrize("views", [0, 1, 2])
@pytest.mark.parametrize(
    "xyz_m",
    [
        np.empty((0, 3), np.float32),
        np.full((7, 3), np.nan, np.float32),
        np.full((7, 3), 1e6, np.float32),
        np.zeros((1, 3), np.float32),
        np.full((9, 3), (5, 0, 0), np.float32),
    ],
    ids=["empty", "all NaN", "all too far", "one point", "one voxel"],
)
def test_frames_with_little_in_them(segmenter: Segmenter, xyz_m: NDArray[np.float32], views: int) -> None:
    prediction = segmenter.segment(frame(xyz_m, *[camera_view(), camera_view("other", 64, 48)][:views]))
    check(prediction, len(xyz_m))
    if views == 0:
        assert not prediction.seen.any()


def test_a_camera_that_sees_no_point_costs_nothing(segmenter: Segmenter) -> None:
    behind = scattered_points()
    behind[:, 0] = -np.abs(behind[:, 0]) - 0.1
    prediction = segmenter.segment(frame(behind, camera_view()))
    check(prediction, len(behind))
    assert prediction.times_s["image_encoder"] == 0


def test_the_same_frame_gives_the_same_labels(segmenter: Segmenter) -> None:
    first, second = (segmenter.segment(frame(scattered_points(), camera_view())) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.confidence, second.confidence)


def test_scans_of_many_voxels_run_in_slabs(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = segmenter.segment(frame(scattered_points()))
    monkeypatch.setattr(segmenter_module, "MAX_VOXELS", 500)
    slabs = segmenter.segment(frame(scattered_points()))
    check(slabs, len(whole))
    # Scattered points are far apart, so few of them are changed by a cut.
    assert np.isclose(slabs.probabilities_3d, whole.probabilities_3d, atol=0.05).all(1).mean() > 0.5


def test_the_text_tower_is_not_there(segmenter: Segmenter) -> None:
    assert segmenter.clip is not None
    assert segmenter.clip.text is None
    assert segmenter.network.text_target.abs().sum() > 0


def test_no_clip_weight_is_in_the_checkpoint(folder: Path, segmenter: Segmenter) -> None:
    state = load_checkpoint(folder / "model.safetensors").state
    assert segmenter.clip is not None
    shapes = {tuple(value.shape) for value in segmenter.clip.state_dict().values() if value.ndim > 1}
    assert not [name for name, value in state.items() if tuple(value.shape) in shapes]


def test_the_model_card_says_what_it_is(segmenter: Segmenter) -> None:
    assert segmenter.info["training"] == "untrained"
    assert segmenter.info["classes"] == list(STREET8.names)
    assert segmenter.info["clip"] == "sim-clip"
    segmenter.warm_up()


def test_clip_weights_can_be_given_and_must_be_the_same(folder: Path, tmp_path: Path) -> None:
    checkpoint = folder / "model.safetensors"
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((folder / "clip.safetensors").read_bytes())
    prediction = Segmenter.from_checkpoint(checkpoint, clip_weights=str(moved)).segment(frame(scattered_points(50)))
    check(prediction, 50)
    save_clip_weights(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(CheckpointError, match=r"trained beside other weights of CLIP 'sim-clip' .*--clip-weights"):
        Segmenter.from_checkpoint(checkpoint, clip_weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match=r"neither a file nor a tag .*--clip-weights"):
        Segmenter.from_checkpoint(checkpoint, clip_weights=str(tmp_path / "missing.safetensors"))


def test_an_untrained_checkpoint_is_repeatable(folder: Path, tmp_path: Path) -> None:
    clip = save_clip_weights(tmp_path / "clip.safetensors")
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        init_checkpoint(tmp_path / name, STREET8, CONFIG.model_copy(update={"clip": clip}), seed)
    first, same, other = (load_checkpoint(tmp_path / name).state for name in "abc")
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["heads_2d.main.weight"], other["heads_2d.main.weight"])


def test_a_model_of_points_alone_needs_no_clip(tmp_path: Path) -> None:
    clip = save_clip_weights(tmp_path / "clip.safetensors")
    config = CONFIG.model_copy(update={"clip": clip, "branches": "3d"})
    init_checkpoint(tmp_path / "model.safetensors", STREET8, config)
    (tmp_path / "clip.safetensors").unlink()
    model = Segmenter.from_checkpoint(tmp_path / "model.safetensors")
    assert model.info["clip"] is None
    prediction = model.segment(frame(scattered_points(50), camera_view()))
    check(prediction, 50)
    assert not prediction.seen.any()
    assert (prediction.labels != IGNORE).all()


def test_a_model_with_a_u_net_needs_neither_clip_nor_the_weights_it_began_with(tmp_path: Path) -> None:
    weights = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    unet2d = UNet2dConfig(weights=str(weights))
    network = CONFIG.network.model_copy(update={"unet2d": unet2d})
    config = CONFIG.model_copy(update={"image_network": "unet", "network": network})
    init_checkpoint(tmp_path / "model.safetensors", STREET8, config)
    weights.unlink()
    model = Segmenter.from_checkpoint(tmp_path / "model.safetensors", device="cpu")
    assert model.clip is None
    assert model.info["image_network"] == "unet"
    prediction = model.segment(frame(scattered_points(50), camera_view("odd", 150, 90)))
    check(prediction, 50)
    assert prediction.seen.any()


@pytest.mark.parametrize(
    ("name", "said"), [("tpu9", "expected auto, cpu"), ("cuda:99", "CUDA devices; use auto or cpu")]
)
def test_a_device_that_is_not_there_is_an_error(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        choose_device(name)


@pytest.mark.real_data
def test_a_real_kitti_frame(segmenter: Segmenter, real_data: Path) -> None:
    recording = open_source(real_data / "kitti_raw_2011_09_26_drive_0001", ReaderOptions(max_frames=1))
    kitti: Frame = next(iter(recording))
    prediction = segmenter.segment(kitti)
    check(prediction, len(kitti.cloud))
    in_range = np.linalg.norm(kitti.cloud.xyz_m, axis=1) <= 40
    assert np.array_equal(prediction.labels != IGNORE, in_range)
    visible = project(kitti.cloud.xyz_m, kitti.views[0].camera_SE3_lidar, kitti.views[0].camera).visible
    assert 0.155 < visible.mean() < 0.16
    differs = prediction.seen != (visible & in_range)  # the image is shrunk, so pixels round at its edge
    assert differs.sum() < 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_labels_as_the_cpu_does(folder: Path, segmenter: Segmenter) -> None:
    on_cuda = Segmenter.from_checkpoint(folder / "model.safetensors", device="cuda")
    scene = frame(scattered_points(), camera_view())
    agreement = on_cuda.segment(scene).labels == segmenter.segment(scene).labels
    assert agreement.mean() > 0.99
