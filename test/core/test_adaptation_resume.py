"""A run that is stopped, killed or damaged goes on as if nothing had happened."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
import torch

from clip2uda_core.adaptation.checkpoint import check_identity, load_newest_state, save_state
from clip2uda_core.errors import CheckpointError, ConfigError


def test_ten_steps_equal_five_and_five(tmp_path: Path) -> None:
    tiny_run.adapter(tiny_run.config(), tmp_path / "whole").fit()
    first = tiny_run.adapter(tiny_run.config(), tmp_path / "parts")
    assert not first.fit(tiny_run.until(5, first))
    second = tiny_run.adapter(tiny_run.config(), tmp_path / "parts")
    assert second.state.step == 5
    assert second.fit()
    whole, parts = (load_newest_state(tmp_path / run / "states") for run in ("whole", "parts"))
    tiny_run.assert_same_state(whole, parts)
    assert tiny_run.log(tmp_path / "whole") == tiny_run.log(tmp_path / "parts")
    assert [line["step"] for line in tiny_run.log(tmp_path / "parts")] == list(range(1, 11))


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config(), tmp_path)
    adapter.fit(tiny_run.until(1, adapter))
    with pytest.raises(ConfigError, match=r"config\.optimizer\.learning_rate was 0\.001, is now 0\.1"):
        tiny_run.adapter(tiny_run.config("clip2uda", 10, "optimizer.learning_rate=0.1"), tmp_path)
    tiny_run.adapter(
        tiny_run.config("clip2uda", 10, "save_every=3", "cache.memory_gb=0.1"), tmp_path
    )  # these change no result


def test_a_state_that_does_not_know_newer_settings_is_gone_on_with(tmp_path: Path) -> None:
    adapter = tiny_run.adapter(tiny_run.config(), tmp_path)
    adapter.fit(tiny_run.until(1, adapter))
    state = load_newest_state(tmp_path / "states")
    assert state is not None
    for newer in ("patience", "initial"):
        del state["identity"]["config"][newer]
    del state["network"]["temperatures"]
    save_state(tmp_path / "states", 1, state)
    assert tiny_run.adapter(tiny_run.config(), tmp_path).state.step == 1
    with pytest.raises(ConfigError, match=r"config\.patience was 0, is now 1"):
        tiny_run.adapter(tiny_run.config("clip2uda", 10, "patience=1"), tmp_path)


def test_a_damaged_state_falls_back_on_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state_00000002.pt", "state_00000003.pt"]
    (tmp_path / "state_00000003.pt").write_bytes(b"\x80half")
    assert load_newest_state(tmp_path) == {"step": 2}
    (tmp_path / "state_00000002.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of its 2 training states"):
        load_newest_state(tmp_path)


def test_every_difference_of_a_resumed_run_is_named() -> None:
    with pytest.raises(ConfigError, match=r"a\.b was 1, is now 2; c was 'not there', is now 3"):
        check_identity({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})


@pytest.mark.parametrize("method", ["clip2uda", "xmuda"])
def test_what_is_done_after_a_saved_state_changes_nothing_in_the_training(method: str, tmp_path: Path) -> None:
    """Using, saving and drawing at random in the middle of training; xMUDA's U-Net has dropout and batch norm."""
    settings = tiny_run.config(method, 5, "save_every=2")
    undisturbed = tiny_run.adapter(settings, tmp_path / "undisturbed")
    undisturbed.fit()
    disturbed = tiny_run.adapter(settings, tmp_path / "disturbed")
    steps = []

    def after_save(step: int) -> None:
        steps.append(step)
        disturbed.segmenter().segment(tiny_run.TARGET[0])
        disturbed.save_model(tmp_path / "model.safetensors")
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002

    assert disturbed.fit(after_save=after_save)
    assert steps == [2, 4, 5]
    states = [load_newest_state(tmp_path / run / "states") for run in ("undisturbed", "disturbed")]
    tiny_run.assert_same_state(*states)
    assert tiny_run.log(tmp_path / "undisturbed") == tiny_run.log(tmp_path / "disturbed")


def test_dropout_goes_on_where_it_stopped(tmp_path: Path) -> None:
    settings = tiny_run.config("xmuda", 4)
    tiny_run.adapter(settings, tmp_path / "whole").fit()
    first = tiny_run.adapter(settings, tmp_path / "parts")
    first.fit(tiny_run.until(2, first))
    torch.rand(7)
    tiny_run.adapter(settings, tmp_path / "parts").fit()
    tiny_run.assert_same_state(*(load_newest_state(tmp_path / run / "states") for run in ("whole", "parts")))


def test_a_finished_run_that_is_called_again_stays_as_it_is(tmp_path: Path) -> None:
    settings, steps = tiny_run.config("xmuda", 1), list[int]()
    tiny_run.adapter(settings, tmp_path).fit()
    before = load_newest_state(tmp_path / "states")
    assert tiny_run.adapter(settings, tmp_path).fit(after_save=steps.append)
    assert steps == [1]  # a process that was killed right after it had saved makes up for what was to follow
    tiny_run.assert_same_state(before, load_newest_state(tmp_path / "states"))


def test_twenty_kills_at_any_moment_change_not_a_bit(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_lives.py")
    result = subprocess.run(
        [sys.executable, script, tmp_path, "20", "0"], capture_output=True, text=True, check=False, timeout=250
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert len(told["newest_states_at_kills"]) == 20
    assert len(set(told["newest_states_at_kills"])) > 1, "no kill came later than the first ones"
    ended = ["killed", *(f"finished_{number + 1}" for number in range(told["finished"]))]
    whole = tmp_path / "whole"
    for run in ended:
        assert (tmp_path / run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        states = [load_newest_state(out / "states") for out in (tmp_path / run, whole)]
        tiny_run.assert_same_state(*states)
        assert tiny_run.log(tmp_path / run) == tiny_run.log(whole)
        assert not [path for path in (tmp_path / run).rglob("*") if "unfinished" in path.name]


def test_what_a_kill_left_of_the_settings_is_removed(tmp_path: Path) -> None:
    left_over = tmp_path / ".config.yaml.unfinished-7767"
    left_over.write_text("method: xm")
    tiny_run.adapter(tiny_run.config("xmuda", 1), tmp_path)
    assert not left_over.exists()
    assert (tmp_path / "config.yaml").exists()
