"""Adaptation without a source: it begins as the model that is given, and goes on from there."""

from pathlib import Path

import pytest
import tiny_run
import torch
from typer.testing import CliRunner

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.checkpoint import load_newest_state
from clip2uda_core.adaptation.config import AdaptConfig
from clip2uda_core.adaptation.initial_weights import check_same_model, start_from
from clip2uda_core.adaptation.methods import is_source_free, load_method, settings_of_model
from clip2uda_core.cli import app
from clip2uda_core.cli.source_free import settings_to_begin_with
from clip2uda_core.data.bag_writer import BagWriter
from clip2uda_core.errors import Clip2udaError, ConfigError
from clip2uda_core.inference.segmenter import Segmenter, begin_network, init_checkpoint
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.checkpoint import Checkpoint, hash_state, load_checkpoint
from clip2uda_core.models.clip import FrozenClip
from clip2uda_core.paths import share_dir

STREET8 = LabelSpace.load("street8")
POINTS_ALONE = ("source_only_3d", "model.branches=3d", "losses.supervise=all", "loader.crop=half")


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of both branches that was trained for a moment."""
    run = tiny_run.adapter(tiny_run.config("clip2uda", 2), tmp_path_factory.mktemp("clip"))
    run.fit()
    run.save_model(run.out / "model.safetensors")
    return run.out / "model.safetensors"


@pytest.fixture(scope="module")
def points_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the 3D branch alone."""
    path = tmp_path_factory.mktemp("points") / "points.safetensors"
    init_checkpoint(path, STREET8, tiny_run.config(POINTS_ALONE[0], 1, *POINTS_ALONE[1:]).model)
    return path


def _config(model: Path, *settings: str, steps: int = 4) -> AdaptConfig:
    of_loader = ["loader.batch_size=2", "loader.workers=0", "save_every=2"]
    of_model = settings_of_model(load_checkpoint(model))
    return load_method("source_free", {"steps": steps}, None, [*of_loader, *settings], "cpu", of_model)


def _adapter(model: Path, out: Path, *settings: str) -> Adapter:
    run = Adapter(_config(model, *settings), out, "cpu")
    run.setup(None, tiny_run.TARGET, Segmenter.from_checkpoint(model, "cpu"))
    run.build(load_checkpoint(model))
    return run


def test_the_model_brings_its_settings_along(clip_model: Path, points_model: Path) -> None:
    """Whatever a budget says; and where no camera is looked at, 2D and 3D cannot learn from each other."""
    for path, cross_modal in ((clip_model, 0.1), (points_model, 0.0)):
        config = _config(path)
        assert config.model == Segmenter.from_checkpoint(path, "cpu").config
        assert config.model.prepare.voxel_size_m == 1.0
        assert config.losses.cross_modal_target == cross_modal
        assert config.losses.supervise == "all"
        assert not config.losses.use_source
    assert is_source_free("source_free")
    assert not is_source_free("clip2uda_pl")


def test_before_the_first_iteration_it_is_the_model(tmp_path: Path, clip_model: Path, points_model: Path) -> None:
    for path in (clip_model, points_model):
        run = _adapter(path, tmp_path / path.stem)
        given = load_checkpoint(path).state
        for name in [name for name in given if ".mimic." in name]:
            given[name] = given[name.replace("mimic", "main")]
        given["temperatures"] = torch.ones(2)  # training has none
        tiny_run.assert_same_state(dict(run.network.state_dict()), given)
        begun, model = run.segmenter(), Segmenter.from_checkpoint(path, "cpu")
        model.network.temperatures.copy_(begun.network.temperatures)  # those of the target, which are other ones
        prediction, expected = begun.segment(tiny_run.TARGET[0]), model.segment(tiny_run.TARGET[0])
        torch.testing.assert_close(prediction.probabilities_3d, expected.probabilities_3d)
        torch.testing.assert_close(prediction.probabilities_2d, expected.probabilities_2d, equal_nan=True)


def test_it_learns_on_the_target_alone_and_leaves_clip_and_prompts_as_they_are(
    tmp_path: Path, clip_model: Path
) -> None:
    run = _adapter(clip_model, tmp_path)
    assert run._clip is not None
    clip_before = hash_state(run._clip.state_dict())
    assert run.fit()
    assert hash_state(run._clip.state_dict()) == clip_before
    assert {name for line in tiny_run.log(tmp_path) for name in line} == {
        "step", "pseudo_label_2d", "pseudo_label_3d", "cross_modal_2d_target", "cross_modal_3d_target"
    }  # fmt: skip
    before, after = load_checkpoint(clip_model).state, run.network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed - {"temperatures"} == {"decoder", "heads_2d", "sparse_unet", "heads_3d"}
    assert not (tmp_path / "frames" / "source").exists()


def test_a_model_of_points_alone_learns_from_3d_pseudo_labels(tmp_path: Path, points_model: Path) -> None:
    run = _adapter(points_model, tmp_path)
    assert run.fit()
    assert set(tiny_run.log(tmp_path)[0]) == {"step", "pseudo_label_3d"}
    assert tiny_run.log(tmp_path)[0]["pseudo_label_3d"] > 0


@pytest.mark.parametrize("teacher_is_there", [True, False])
def test_resumed_it_ends_as_an_unbroken_run(tmp_path: Path, clip_model: Path, teacher_is_there: bool) -> None:
    """The initial weights matter before the first iteration alone."""
    _adapter(clip_model, tmp_path / "whole").fit()
    first = _adapter(clip_model, tmp_path / "parts")
    assert not first.fit(tiny_run.until(1, first))
    second = Adapter(_config(clip_model), tmp_path / "parts", "cpu")
    teacher = Segmenter.from_checkpoint(clip_model, "cpu") if teacher_is_there else None
    second.setup(None, tiny_run.TARGET, teacher)
    second.build(load_checkpoint(clip_model) if teacher_is_there else None)
    assert second.state.step == 1
    assert second.fit()
    tiny_run.assert_same_state(*(load_newest_state(tmp_path / run / "states") for run in ("whole", "parts")))
    assert tiny_run.log(tmp_path / "whole") == tiny_run.log(tmp_path / "parts")


def test_a_run_that_was_not_yet_begun_needs_its_model(tmp_path: Path, clip_model: Path) -> None:
    _adapter(clip_model, tmp_path)  # pseudo-labels are there, a state is not
    again = Adapter(_config(clip_model), tmp_path, "cpu")
    again.setup(None, tiny_run.TARGET, None)
    with pytest.raises(ConfigError, match="begins with the weights of a model"):
        again.build()


def test_a_prompt_of_the_target_that_was_never_trained_becomes_the_sources(clip_model: Path) -> None:
    """As in a model of the source alone, whose labels are those of its source's prompt."""
    given = load_checkpoint(clip_model)
    config = tiny_run.config("clip2uda").model
    clip = FrozenClip.load(config.clip, text=True)
    assert clip.text is not None
    assert not torch.equal(given.state["prompts.source"], given.state["prompts.target"])
    for labels_with, expected in (("source", "source"), ("target", "target")):
        network = begin_network(config, STREET8, clip, 7)
        network.load_state_dict(given.state)
        with torch.no_grad():
            text = network.prompts(clip.text, STREET8.prompts, labels_with)
        begun = begin_network(config, STREET8, clip, 8)
        start_from(Checkpoint(given.header, given.state | {"text_target": text}), begun, config, clip, STREET8)
        assert torch.equal(begun.prompts.target, given.state[f"prompts.{expected}"]), labels_with


def test_a_branch_with_other_settings_begins_at_random(clip_model: Path, points_model: Path) -> None:
    """With a source to learn from, a model of points alone still spares the 3D branch its beginning."""
    config = tiny_run.config("clip2uda").model
    clip = FrozenClip.load(config.clip, text=True)
    narrow = config.model_copy(update={"prepare": config.prepare.model_copy(update={"image_max_width_px": 100})})
    coarse = config.model_copy(update={"prepare": config.prepare.model_copy(update={"voxel_size_m": 2.0})})
    for path, model, branches in (
        (clip_model, config, "3D and 2D"),
        (clip_model, narrow, "3D"),
        (clip_model, coarse, "2D"),
        (points_model, config, "3D"),
        (points_model, coarse, ""),
    ):
        begun, untouched = (begin_network(model, STREET8, clip, 7) for _ in range(2))
        given = load_checkpoint(path)
        assert start_from(given, begun, model, clip, STREET8) == branches
        for name, begun_so in (("sparse_unet", "3D" in branches), ("decoder", "2D" in branches)):
            expected = given.state if begun_so else untouched.state_dict()
            of_branch = {key: value for key, value in begun.state_dict().items() if key.startswith(name)}
            tiny_run.assert_same_state(of_branch, {key: expected[key] for key in of_branch})


def test_on_a_cpu_the_model_that_ships_spares_the_3d_branch_its_beginning() -> None:
    given = load_checkpoint(share_dir() / "config" / "checkpoints" / "default.safetensors")
    config = load_method("xmuda", {}, None, [], "cpu")
    assert config.initial == "given"
    assert "3D" in start_from(given, begin_network(config.model, STREET8, None, 0), config.model, None, STREET8)


def test_with_a_source_a_model_of_other_classes_is_no_beginning(
    points_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run.config(POINTS_ALONE[0], 1, *POINTS_ALONE[1:]).model
    fewer = LabelSpace(STREET8.config.model_copy(update={"classes": STREET8.config.classes[:5], "raw": {}}))
    begun, untouched = (begin_network(config, fewer, None, 0) for _ in range(2))
    assert start_from(load_checkpoint(points_model), begun, config, None, fewer) == ""
    tiny_run.assert_same_state(begun.state_dict(), untouched.state_dict())
    assert "training begins at random: the model that was given labels the classes ['road'" in caplog.text


def test_other_settings_than_the_models_are_refused(tmp_path: Path, clip_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.prepare: .*1\.0.*not .*2\.0.*leave --set model"):
        _adapter(clip_model, tmp_path, "model.prepare.voxel_size_m=2.0")


def test_settings_of_a_network_that_the_model_does_not_have_are_none_of_its_own() -> None:
    """The model that ships has no U-Net; what a budget says of one is nothing to it."""
    with_clip = tiny_run.config("clip2uda", 1).model
    other_unet = tiny_run.config("clip2uda", 1, "model.network.unet2d={width: 8, norm: instance}").model
    check_same_model(with_clip, other_unet)
    with pytest.raises(ConfigError, match=r"model\.network\.unet2d: "):
        check_same_model(*(each.model_copy(update={"image_network": "unet"}) for each in (with_clip, other_unet)))
    with pytest.raises(ConfigError, match=r"model\.branches: 3d, not 2d\+3d"):
        check_same_model(with_clip.model_copy(update={"branches": "3d"}), with_clip)


def test_classes_that_do_not_ship_are_written_into_the_run(tmp_path: Path, points_model: Path) -> None:
    model = load_checkpoint(points_model)
    assert settings_to_begin_with("clip2uda", None, points_model, tmp_path) is None
    of_model = settings_to_begin_with("source_free", None, points_model, tmp_path)
    assert of_model is not None
    assert of_model["labels"] == "street8"
    own = LabelSpace(
        STREET8.config.model_copy(update={"classes": STREET8.config.classes[:5], "name": "own", "raw": {}})
    )
    path = tmp_path / "own.safetensors"
    init_checkpoint(path, own, tiny_run.config(POINTS_ALONE[0], 1, *POINTS_ALONE[1:]).model)
    of_model = settings_to_begin_with("source_free", None, path, tmp_path / "run")
    assert of_model is not None
    assert LabelSpace.load(of_model["labels"]) == own
    assert model.labels == STREET8


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bag") / "tiny.mcap"
    with BagWriter(path) as writer:
        for frame in tiny_run.TARGET:
            writer.write_frame(frame)
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source", "none", "--method", "clip2uda"], "leave --method out"),
        (["--source", "none", "--method", "source_only"], "leave --method out"),
        (["--source", "none", "--checkpoint", "none"], "give a trained one with --checkpoint FILE"),
        (["--source", "none", "--checkpoint", "nowhere.safetensors"], "no such file"),
        (["--source", "none", "--source", "a.mcap"], "contradicts the other --source (none, a.mcap)"),
        (["--method", "source_free", "--checkpoint", "none"], "give a trained one"),
    ],
)
def test_what_cannot_be_is_told_with_the_remedy(tmp_path: Path, bag: Path, options: list[str], said: str) -> None:
    refused = CliRunner().invoke(app, ["adapt", "--target", str(bag), "--out", str(tmp_path / "run"), *options])
    assert isinstance(refused.exception, Clip2udaError)
    assert said in str(refused.exception)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, bag: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    words = ["adapt", "--source", "none", "--target", str(bag), "--out", str(tmp_path / "run")]
    refused = CliRunner().invoke(app, [*words, "--checkpoint", str(tmp_path / "broken.safetensors")])
    assert isinstance(refused.exception, Clip2udaError)
    assert "broken.safetensors" in str(refused.exception)
