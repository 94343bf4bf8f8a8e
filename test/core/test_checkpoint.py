"""The checkpoint file: what goes in comes out, and nothing else gets in."""

import errno
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from clip2uda_core.errors import CheckpointError
from clip2uda_core.labels import LabelClass, LabelSpace, LabelSpaceConfig
from clip2uda_core.models.checkpoint import (
    FORMAT,
    Checkpoint,
    CheckpointHeader,
    load_checkpoint,
    load_state,
    save_checkpoint,
)

STREET8 = LabelSpace.load("street8")
HEADER = CheckpointHeader(
    labels=STREET8.config, config={"prepare": {"voxel_size_m": 0.1}}, clip_hash="ab" * 32, training="one night in Delft"
)


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(7), "half": torch.ones(3).bfloat16()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, Checkpoint(HEADER, state()))
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    loaded = load_checkpoint(saved, STREET8)
    assert loaded.header == HEADER
    assert loaded.labels.names == STREET8.names
    assert loaded.state.keys() == state().keys()
    for name, value in state().items():
        assert torch.equal(loaded.state[name], value)
        assert loaded.state[name].dtype == value.dtype


def test_tensors_that_are_views_are_saved_whole(tmp_path: Path) -> None:
    values = torch.arange(12.0).view(3, 4)
    save_checkpoint(tmp_path / "m", Checkpoint(HEADER, {"column": values.T, "row": values[1]}))
    loaded = load_checkpoint(tmp_path / "m")
    assert torch.equal(loaded.state["column"], values.T)
    assert torch.equal(loaded.state["row"], values[1])


def test_other_classes_are_refused_when_some_are_demanded(saved: Path) -> None:
    classes = (
        LabelClass(name="road", prompt="road", color=(0, 0, 0)),
        LabelClass(name="sky", prompt="sky", color=(1, 1, 1)),
    )
    other = LabelSpace(LabelSpaceConfig(name="two", classes=classes))
    with pytest.raises(
        CheckpointError, match=r"label space 'street8'.*'pole'\]; expected 'two' with \['road', 'sky'\]"
    ):
        load_checkpoint(saved, other)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint '.*nothing.safetensors': no such file"):
        load_checkpoint(tmp_path / "nothing.safetensors")


def test_truncated_files_are_refused_at_any_length(saved: Path) -> None:
    content = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated, damaged"):
            load_checkpoint(saved)


class Dangerous:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran-code"),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, None])
def test_a_pickle_in_disguise_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("model.safetensors")
    if protocol is None:
        torch.save({"weight": Dangerous()}, path)
    else:
        path.write_bytes(pickle.dumps(Dangerous(), protocol))
    with pytest.raises(CheckpointError, match="got a pickle"):
        load_checkpoint(path)
    assert not Path("ran-code").exists()


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file({"visual.proj": torch.zeros(3)}, tmp_path / "clip.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError, match="not of clip2uda"):
            load_checkpoint(tmp_path / "clip.safetensors")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{", "its header is damaged"),
        ("[]", "its header is damaged: .*expected a mapping"),
        (json.dumps({"format": FORMAT}), "labels: field required"),
        (json.dumps({"format": FORMAT + 1, "package_version": "9.9"}), r"written by version 9\.9.*update clip2uda_ros"),
        (HEADER.model_copy(update={"training": 3}).model_dump_json(warnings=False), "training: .*got 3"),
    ],
)
def test_damaged_and_newer_headers_are_refused(tmp_path: Path, header: str, said: str) -> None:
    safetensors.torch.save_file(state(), tmp_path / "m.safetensors", metadata={"clip2uda": header})
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(tmp_path / "m.safetensors")


def test_a_checkpoint_from_before_temperatures_has_those_of_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", Checkpoint(HEADER.model_copy(update={"format": 1}), state()))
    assert torch.equal(load_checkpoint(tmp_path / "m").state["temperatures"], torch.ones(2))


def test_tensors_of_another_model_are_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"do not fit the model in its header: .*size mismatch for weight"):
        load_state(torch.nn.Linear(5, 2, bias=False), Checkpoint(HEADER, {"weight": torch.zeros(2, 3)}), saved)


def test_no_code_is_in_the_file(saved: Path) -> None:
    """A length, a JSON header, and numbers up to the end."""
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    described = json.loads(content[8 : 8 + length])
    assert max(entry["data_offsets"][1] for name, entry in described.items() if name != "__metadata__") == (
        len(content) - 8 - length
    )


def test_a_full_disk_leaves_the_old_file_and_no_other(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left"):
        save_checkpoint(saved, Checkpoint(HEADER, {"weight": torch.zeros(1000)}))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written: No such file"):
        save_checkpoint(tmp_path / "no" / "m", Checkpoint(HEADER, state()))
