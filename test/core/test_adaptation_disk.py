"""A disk that takes nothing more: one clear error, and what was saved earlier is intact.

A limit on the size of files stands in for the full disk; writing then fails in the same places.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny_run

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.checkpoint import load_newest_state
from clip2uda_core.errors import CheckpointError, Clip2udaError, ConfigError, DataError


@contextmanager
def full_disk(limit_bytes: int = 16) -> Iterator[None]:
    """No file can grow beyond the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _left_over(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if "unfinished" in path.name]


def test_frames(tmp_path: Path) -> None:
    run = Adapter(tiny_run.config("xmuda"), tmp_path, "cpu")
    with full_disk(), pytest.raises(DataError, match=r"frames/source: training frames cannot be written: .*free space"):
        run.setup(tiny_run.SOURCE, tiny_run.TARGET)
    assert not _left_over(tmp_path)
    run.setup(tiny_run.SOURCE, tiny_run.TARGET)


def test_pseudo_labels(tmp_path: Path) -> None:
    teacher = tiny_run.adapter(tiny_run.config("xmuda"), tmp_path / "teacher").segmenter()
    run = Adapter(tiny_run.config("xmuda"), tmp_path / "run", "cpu")
    run.setup(tiny_run.SOURCE, tiny_run.TARGET)
    run = Adapter(tiny_run.config("xmuda_pl"), tmp_path / "run", "cpu")
    with full_disk(), pytest.raises(DataError, match=r"pseudo-labels cannot be written: .*free space"):
        run.setup(tiny_run.SOURCE, tiny_run.TARGET, teacher)
    assert not _left_over(tmp_path)
    run.setup(tiny_run.SOURCE, tiny_run.TARGET, teacher)


def test_config(tmp_path: Path) -> None:
    run = Adapter(tiny_run.config("xmuda"), tmp_path, "cpu")
    run.setup(tiny_run.SOURCE, tiny_run.TARGET)
    with full_disk(), pytest.raises(ConfigError, match=r"config\.yaml cannot be written: .*free space"):
        run.build()
    assert not _left_over(tmp_path)


@pytest.mark.parametrize(
    ("limit_bytes", "error", "said"),
    [(0, Clip2udaError, r"log\.jsonl' cannot be written"), (2_000, CheckpointError, r"state_00000002\.pt' cannot be")],
    ids=["log", "state"],
)
def test_training(limit_bytes: int, error: type[Exception], said: str, tmp_path: Path) -> None:
    settings = tiny_run.config("xmuda", 2, "save_every=1")
    run = tiny_run.adapter(settings, tmp_path)
    run.fit(tiny_run.until(1, run))
    limit_bytes = limit_bytes or (tmp_path / "log.jsonl").stat().st_size + 30  # in the middle of the second line
    with full_disk(limit_bytes), pytest.raises(error, match=f"{said}.*free space and resume"):
        run.fit()
    assert not _left_over(tmp_path)
    again = tiny_run.adapter(settings, tmp_path)
    assert again.state.step == 1
    again.fit()
    assert [line["step"] for line in tiny_run.log(tmp_path)] == [1, 2]
    tiny_run.adapter(settings, tmp_path / "whole").fit()
    tiny_run.assert_same_state(*(load_newest_state(out / "states") for out in (tmp_path, tmp_path / "whole")))


def test_model(tmp_path: Path) -> None:
    run = tiny_run.adapter(tiny_run.config("xmuda", 1), tmp_path)
    run.save_model(tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    run.fit()
    with full_disk(), pytest.raises(CheckpointError, match=r"model\.safetensors' cannot be written: .*free space"):
        run.save_model(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not _left_over(tmp_path)
