"""Frames from the cache, from one process or several, are the same; what is wrong with the cache costs time alone."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quiet_street import digest, quiet_town, tiny_domain

from clip2uda_core.errors import ConfigError
from clip2uda_core.paths import share_dir
from clip2uda_core.simulation.appearance import AppearanceConfig
from clip2uda_core.simulation.cache import FrameCache, open_cache
from clip2uda_core.simulation.generate import Simulator, domain_key, frames


def test_frames_are_the_same_on_any_number_of_processes_and_from_the_cache(tmp_path: Path) -> None:
    domain = tiny_domain()
    alone = [digest(f) for f in frames(domain, "val", 4, FrameCache(None), workers=1)]
    cache = open_cache(tmp_path)
    assert [digest(f) for f in frames(domain, "val", 4, cache, workers=2)] == alone
    assert all(cache.has(domain_key(domain, "val"), index) for index in range(4))
    assert [digest(f) for f in frames(domain, "val", 4, cache, workers=1)] == alone
    assert digest(Simulator(domain, "val").frame(3)) == alone[3], "a frame depends on those before it"
    assert len(set(alone)) == 4


def test_a_script_without_a_main_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "careless.py"
    script.write_text(
        "from clip2uda_core.data.readers import ReaderOptions\n"
        "from clip2uda_core.data.readers.synthetic import SyntheticReader\n"
        "list(SyntheticReader('day_to_night', ReaderOptions(max_frames=9), workers=2))\n"
    )
    environment = os.environ | {"CLIP2UDA_CACHE": str(tmp_path), "PYTHONPATH": str(share_dir())}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "DataError: the 2 processes that simulate frames ended at once" in done.stderr
    assert "__main__" in done.stderr


def test_the_cache_stays_within_its_limit_and_drops_the_longest_unused(tmp_path: Path) -> None:
    frame = Simulator(tiny_domain(cameras=()), "train").frame(0)
    cache = open_cache(tmp_path)
    cache.write("key", 0, frame)
    size = (tmp_path / "key" / "000000.npz").stat().st_size
    cache = FrameCache(tmp_path, limit_bytes=round(3.5 * size))
    for index in (1, 2):
        cache.write("key", index, frame)
    for age, index in enumerate((0, 2, 1)):  # 0 was used last, 1 is the oldest
        os.utime(tmp_path / "key" / f"{index:06d}.npz", (1e9 - age, 1e9 - age))
    cache.write("key", 3, frame)
    kept = [index for index in range(4) if cache.has("key", index)]
    assert kept == [0, 2, 3]
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.npz")) <= cache.limit_bytes


def test_a_damaged_cache_file_is_made_anew(tmp_path: Path) -> None:
    domain, cache = tiny_domain(cameras=()), open_cache(tmp_path)
    (first,) = frames(domain, "train", 1, cache, workers=1)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    (again,) = frames(domain, "train", 1, cache, workers=1)
    assert digest(again) == digest(first)
    assert path.stat().st_size > 1000


def test_a_cache_that_cannot_be_written_is_warned_of_once_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path("/proc/clip2uda_cache")  # not writable for anybody, root included
    with caplog.at_level(logging.WARNING):
        cache = open_cache(folder)
        made = list(frames(tiny_domain(cameras=()), "train", 2, cache, workers=1))
    assert len(made) == 2
    assert len(caplog.records) == 1
    assert "CLIP2UDA_CACHE" in caplog.text


def test_a_disk_that_fills_up_is_warned_of_and_frames_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FrameCache(Path("/dev/full/frames"))
    with caplog.at_level(logging.WARNING):
        (frame,) = frames(tiny_domain(cameras=()), "train", 1, cache, workers=1)
    assert len(frame.cloud) > 0
    assert "could not be kept" in caplog.text


def test_a_cache_path_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file is a file; set CLIP2UDA_CACHE"):
        open_cache(tmp_path / "file" / "frames")
    with pytest.raises(ConfigError, match="more than 0 GB"):
        open_cache(tmp_path, limit_gb=0.0)


def test_the_key_changes_with_everything_that_frames_depend_on() -> None:
    base = tiny_domain()
    others = [
        tiny_domain(town=quiet_town(13)),
        tiny_domain(appearance=AppearanceConfig(night=1.0)),
        tiny_domain(spacing_m=7.0),
        tiny_domain(lidar=base.lidar.model_copy(update={"range_noise_m": 0.03})),
    ]
    keys = {domain_key(base, "train"), domain_key(base, "val"), *(domain_key(d, "train") for d in others)}
    assert len(keys) == 6
