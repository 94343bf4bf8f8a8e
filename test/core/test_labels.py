"""Label spaces: every shipped one loads, raw ids map as the data set's own table says, bad files are named."""

from pathlib import Path

import numpy as np
import pytest

from clip2uda_core.errors import ConfigError, DataError
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.paths import share_dir

SHIPPED = sorted((share_dir() / "config" / "labels").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_label_space_loads(path: Path) -> None:
    labels = LabelSpace.load(path.stem)
    assert labels.name == path.stem
    assert len({tuple(c) for c in labels.colors[: len(labels)]}) == len(labels), "two classes share a colour"


def test_semantic_kitti_maps_to_street8_as_designed() -> None:
    raw = np.array([[0, 40, 44, 48], [72, 252, 259, 70]], np.uint32)
    expected = [[IGNORE, 0, IGNORE, 1], [2, 5, 5, 4]]
    assert LabelSpace.load("street8").from_raw("semantic_kitti", raw).tolist() == expected


def test_raw_ids_outside_the_table_are_ignored() -> None:
    raw = np.array([-1, 65535, 40])
    assert LabelSpace.load("street8").from_raw("semantic_kitti", raw).tolist() == [IGNORE, IGNORE, 0]


def test_unknown_dataset_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no raw ids for data set 'waymo' \(it has: semantic_kitti, synthetic\)"):
        LabelSpace.load("street8").from_raw("waymo", np.zeros(1, int))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nclasses: [{name: a, prompt: a, color: [0, 0, 0]}]", "classes"),
        ("name: x\ncolour: 1\nclasses: []", "colour: unknown setting"),
        ("- a\n- b", "expected a mapping"),
        ("{a: [", "is not YAML"),
    ],
)
def test_bad_files_name_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        LabelSpace.load(str(path))
    assert str(path) in str(caught.value)


def test_a_name_that_is_not_shipped_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="street8"):
        LabelSpace.load("street9")
