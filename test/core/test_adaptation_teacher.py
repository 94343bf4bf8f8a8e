"""The second run on a teacher's pseudo-labels, runs without a source, and statistics of the target."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch
from numpy.typing import NDArray

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.pseudo_labels import ConfidenceThresholds, select_pseudo_labels
from clip2uda_core.data.augment import AugmentConfig
from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.data.loader import draw_sample
from clip2uda_core.data.sample import collate
from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.evaluation.evaluate import predicted
from clip2uda_core.inference.segmenter import Segmenter, init_checkpoint
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Prediction

Selected = tuple[NDArray[np.uint8], NDArray[np.float32]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """An untrained model of both branches."""
    path = tmp_path_factory.mktemp("teacher") / "model.safetensors"
    init_checkpoint(path, LabelSpace.load("street8"), tiny_run.config("xmuda").model)
    return Segmenter.from_checkpoint(path, "cpu")


def _student(out: Path, teacher: Segmenter | None, *settings: str) -> Adapter:
    student = Adapter(tiny_run.config("xmuda_pl", 2, *settings), out, "cpu")
    student.setup(tiny_run.SOURCE, tiny_run.TARGET, teacher)
    return student


def _fused(prediction: Prediction) -> Selected:
    return prediction.labels, prediction.confidence


def _of_2d(prediction: Prediction) -> Selected:
    return predicted(prediction.probabilities_2d)


def _of_3d(prediction: Prediction) -> Selected:
    return predicted(prediction.probabilities_3d)


@pytest.mark.parametrize(("kind", "said_to"), [("fused", (_fused, _fused)), ("own", (_of_2d, _of_3d))])
def test_pseudo_labels_are_the_teachers_selected_over_the_whole_target(
    tmp_path: Path, teacher: Segmenter, kind: str, said_to: tuple[Callable[[Prediction], Selected], ...]
) -> None:
    """Per class: where a camera sees, and elsewhere, where 3D has no one to agree with and 2D nothing to learn."""
    made = _student(tmp_path, teacher, "loader.crop=none", f"losses.pseudo_labels={kind}")._domains.pseudo_labels
    assert made is not None
    predictions = [teacher.segment(frame) for frame in tiny_run.TARGET]
    written = [np.load(made.folder / f"{index}.npy") for index in range(len(predictions))]
    for selection, column, of_seen in (("2d", 0, True), ("3d", 1, True), ("3d_alone", 1, False)):
        places = [prediction.seen == of_seen for prediction in predictions]
        said = [said_to[column](prediction) for prediction in predictions]
        by_frame = [(labels[at], confidences[at]) for (labels, confidences), at in zip(said, places, strict=True)]
        collected = ConfidenceThresholds(8)
        for labels, confidences in by_frame:
            collected.add(labels, confidences)
        kept = np.zeros(8, np.int64)
        for (labels, confidences), pseudo_labels, at in zip(by_frame, written, places, strict=True):
            expected = select_pseudo_labels(labels, confidences, collected.thresholds())
            assert np.array_equal(pseudo_labels[at, column], expected)
            kept += np.bincount(expected[expected != IGNORE], minlength=8)
        statistics = list(made.summary[selection].values())
        assert [values["kept"] for values in statistics] == kept.tolist()
        assert [values["predicted"] for values in statistics] == collected.counts().tolist()
        assert any(values["kept_share"] is not None and values["kept_share"] < 1 for values in statistics)
    for prediction, pseudo_labels in zip(predictions, written, strict=True):
        assert (pseudo_labels[~prediction.seen, 0] == IGNORE).all()
        assert (~prediction.seen).any()
    assert not list(made.folder.glob("*.npz"))
    assert not (tmp_path / "frames" / "target_pseudo_labels.unfinished").exists()


@pytest.mark.parametrize("crop", ["none", "half", "seen"])
def test_pseudo_labels_stay_with_their_points(tmp_path: Path, teacher: Segmenter, crop: str) -> None:
    """Whatever is cut off or moved: the pseudo-labels that are drawn are those of the points that are drawn."""
    store = _student(tmp_path, teacher, f"loader.crop={crop}")._domains.target
    assert store is not None
    frame = store[1]
    assert frame.pseudo_labels is not None
    assert frame.pseudo_labels.shape == (len(frame.xyz_m), 2)
    still = AugmentConfig.model_validate(
        {"points": {"noise": 0, "flip": 0, "rotation_deg": 0}, "image": {"color_jitter": 0}}
    )
    prepare = tiny_run.config("xmuda").model.prepare
    samples = [draw_sample(frame, crop, prepare, still, np.random.default_rng(seed)) for seed in (0, 1)]  # type: ignore[arg-type]
    batch = collate(samples)
    assert batch.pseudo_labels is not None
    place = {tuple(point): index for index, point in enumerate(frame.xyz_m.tolist())}
    drawn = [place[tuple(point)] for sample in samples for point in sample.xyz_m.tolist()]
    assert np.array_equal(batch.pseudo_labels.numpy(), frame.pseudo_labels[drawn])
    if crop == "half":
        assert 0 < len(samples[0].xyz_m) < len(frame.xyz_m)


def test_pseudo_labels_are_weighted_by_class_as_the_sources_labels(tmp_path: Path, teacher: Segmenter) -> None:
    student = _student(tmp_path, teacher)
    student.build()
    weights = student._iteration._class_weights
    assert len(set(weights.tolist())) > 1
    seen = student._iteration.look(next(student._batches()["target"]), "target")
    loss = student._iteration.points_losses([seen])["pseudo_label_3d"]
    labels = seen.pseudo_labels[1][seen.seen].long()
    rows = [(logits, label) for logits, label in zip(seen.logits_3d.main[seen.seen], labels, strict=True) if label < 8]
    summed = sum(weights[label] * -logits.log_softmax(0)[label] for logits, label in rows)
    expected = summed / sum(weights[label] for _, label in rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_student_learns_from_pseudo_labels_of_each_modality_and_resumes(tmp_path: Path, teacher: Segmenter) -> None:
    student = _student(tmp_path, teacher)
    student.build()
    assert not student.fit(tiny_run.until(1, student))
    first = tiny_run.log(tmp_path)[0]
    assert first["pseudo_label_2d"] > 0
    assert first["pseudo_label_3d"] > 0
    again = _student(tmp_path, None)  # the teacher is not needed a second time
    again.build()
    assert again.state.step == 1
    assert again.fit()
    assert "pseudo-labels of (untrained)" in again.segmenter().training


@pytest.mark.parametrize(("column", "silent", "taught"), [(0, "2d", "3d"), (1, "3d", "2d")])
def test_a_modality_learns_from_its_own_pseudo_labels(
    tmp_path: Path, teacher: Segmenter, column: int, silent: str, taught: str
) -> None:
    student = _student(tmp_path, teacher)
    for path in (tmp_path / "frames" / "target_pseudo_labels").glob("*.npy"):
        labels = np.load(path)
        labels[:, column] = IGNORE
        np.save(path, labels)
    student.build()
    student.fit(tiny_run.until(1, student))
    first = tiny_run.log(tmp_path)[0]
    assert first[f"pseudo_label_{silent}"] == 0
    assert first[f"pseudo_label_{taught}"] > 0


def test_a_teacher_that_is_missing_or_does_not_fit_is_refused(tmp_path: Path, teacher: Segmenter) -> None:
    with pytest.raises(ConfigError, match="give the model of a run of 'xmuda' as the teacher"):
        _student(tmp_path / "a", None)
    other = LabelSpace(teacher.labels.config.model_copy(update={"classes": teacher.labels.config.classes[::-1]}))
    turned = Segmenter(teacher.network, None, other, teacher.config, device="cpu")
    with pytest.raises(ConfigError, match="label space"):
        _student(tmp_path / "b", turned)
    with pytest.raises(ConfigError, match="at most 640 px, this run keeps them at 32 px"):
        _student(tmp_path / "c", teacher, "model.prepare.image_max_width_px=32")


def test_another_teacher_or_other_settings_of_frames_are_refused(tmp_path: Path, teacher: Segmenter) -> None:
    _student(tmp_path, teacher)
    path = tmp_path / "other.safetensors"
    init_checkpoint(path, teacher.labels, teacher.config, seed=1)
    with pytest.raises(ConfigError, match="another teacher"):
        _student(tmp_path, Segmenter.from_checkpoint(path, "cpu"))
    with pytest.raises(ConfigError, match="frames that were read with other settings"):
        _student(tmp_path, teacher, "loader.crop=none")


def test_damaged_pseudo_labels_are_named(tmp_path: Path, teacher: Segmenter) -> None:
    store = _student(tmp_path, teacher)._domains.target
    assert store is not None
    assert store.pseudo_labels is not None
    (store.pseudo_labels / "0.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"0\.npy.*remove .*target_pseudo_labels"):
        store[0]
    (store.pseudo_labels / "index.json").write_text("{")
    with pytest.raises(DataError, match="remove it"):
        _student(tmp_path, teacher)


def test_without_a_source_only_the_target_is_learned_from(tmp_path: Path, teacher: Segmenter) -> None:
    weights = [f"losses.{name}=0" for name in ("segmentation", "cross_modal_source")]
    run = Adapter(tiny_run.config("xmuda_pl", 1, *weights), tmp_path, "cpu")
    run.setup(None, tiny_run.TARGET, teacher)
    run.build()
    assert run.fit()
    assert {name.rsplit("_", 1)[0] for name in tiny_run.log(tmp_path)[0]} == {
        "step", "pseudo_label", "cross_modal_2d", "cross_modal_3d"
    }  # fmt: skip
    assert not (tmp_path / "frames" / "source").exists()


def test_frames_of_another_run_are_used_where_they_are(tmp_path: Path) -> None:
    first = tiny_run.adapter(tiny_run.config("xmuda", 1), tmp_path / "first")
    second = Adapter(tiny_run.config("xmuda", 1), tmp_path / "second", "cpu")
    second.setup(first._domains.source, first._domains.target)
    assert second._domains.source is not None
    assert second._domains.source.folder == tmp_path / "first" / "frames" / "source"
    assert not (tmp_path / "second" / "frames").exists()


def test_statistics_of_the_target_replace_the_mixed_ones_in_the_model_alone(tmp_path: Path) -> None:
    """At the first batch norm they can be worked out: its input does not depend on any statistics."""
    run = tiny_run.adapter(tiny_run.config("xmuda", 1, "loader.batch_size=3", "target_statistics=true"), tmp_path)
    run.fit()
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    network = run.segmenter().network
    assert isinstance(run._domains.target, FrameStore)
    batch = collate([frame.sample(run.config.model.prepare) for frame in run._domains.target])
    seen = []
    hook = network.sparse_unet.unet.encode.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].features))
    network.classify_voxels(batch.voxels, batch.voxel_features, 3)
    hook.remove()
    norm, trained = network.sparse_unet.unet.encode.norm, run.network.sparse_unet.unet.encode.norm
    torch.testing.assert_close(norm.running_mean, seen[0].mean(0))
    torch.testing.assert_close(norm.running_var, seen[0].var(0))
    assert not torch.allclose(trained.running_mean, seen[0].mean(0), rtol=0.1)
    assert norm.momentum == trained.momentum
    torch.testing.assert_close(run.network.state_dict(), before, rtol=0, atol=0)
    for (name, value), (_, original) in zip(network.named_parameters(), run.network.named_parameters(), strict=True):
        assert torch.equal(value, original), name
    assert network.unet2d is not None
    assert run.network.unet2d is not None
    assert not torch.equal(network.unet2d.encoder.bn1.running_mean, run.network.unet2d.encoder.bn1.running_mean)


def test_the_network_is_put_to_work_once_a_step(tmp_path: Path) -> None:
    run = tiny_run.adapter(tiny_run.config("clip2uda", 1), tmp_path)
    begun = run.segmenter()
    assert run.segmenter() is begun
    run.fit()
    assert run.segmenter() is not begun
