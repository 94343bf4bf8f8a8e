"""Rows and curves of a report: what is read from logs, validations and evaluations."""

from pathlib import Path

import numpy as np
import pytest
from tiny_report import LABELS, summary, write_log

from clip2uda_core.errors import DataError
from clip2uda_core.report import (
    Series,
    class_rows,
    deploy_commands,
    flat_settings,
    signal_rows,
    training_charts,
    validation_charts,
)


def test_training_charts_average_neighbours_and_part_the_domains(tmp_path: Path) -> None:
    source, target = training_charts(write_log(tmp_path / "log.jsonl", steps=300))
    assert [series.name for series in source.series] == ["segmentation 3d"]
    assert [series.name for series in target.series] == ["prompt"]
    line = source.series[0]
    assert len(line.x) == 150
    assert (line.x[0], line.y[0]) == (1.5, pytest.approx((2 / 1 + 2 / 2) / 2))
    assert (line.x[-1], line.y[-1]) == (299.5, pytest.approx((2 / 299 + 2 / 300) / 2))
    assert source.note == "mean of 2 iterations a point"


def test_log_of_a_killed_run_is_read_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", steps=3)
    whole = log.read_text()
    log.write_text(whole + '{"step": 4, "segm')
    assert training_charts(log)[0].series[0].x == (1, 2, 3)
    log.write_text('{"step": 1, "segm\n' + whole)
    with pytest.raises(DataError, match="line 1"):
        training_charts(log)
    log.write_text("")
    with pytest.raises(DataError, match="no line has a step"):
        training_charts(log)
    with pytest.raises(DataError, match="cannot be read"):
        training_charts(tmp_path / "missing.jsonl")


def test_validation_charts_leave_gaps_where_nothing_is_known() -> None:
    first, second = summary(0.5, 0.5, 40.0), summary(0.5, 0.75, 44.0)
    first["label_free"]["agreement_2d_3d"] = None
    validation = [{"step": 0, "val": first}, {"step": 10, "val": second}]
    iou, signals = validation_charts(validation, best_step=10)
    assert iou.series == (Series("all points", (0, 10), (40.0, 44.0)),)
    assert iou.marked_x == (10.0, "best")
    agreement = signals.series[0]
    assert agreement.name == "2D and 3D agree"
    assert np.isnan(agreement.y[0])
    assert agreement.y[1] == 75.0
    assert validation_charts([]) == ()


def test_class_and_signal_rows_come_from_evaluations() -> None:
    rows = class_rows(LABELS, summary(0.5, 0.5, 40.0), summary(0.75, 0.6, 50.0))
    assert (rows[0].name, rows[0].share_before, rows[0].share_after) == ("road", 0.5, 0.75)
    assert (rows[0].iou_before, rows[0].iou_after) == (40, 50)
    assert rows[3].iou_after is None
    signals = {row.name: row for row in signal_rows(summary(0.5, 0.5)["label_free"], summary(0.75, 0.6)["label_free"])}
    assert (signals["2D and 3D agree"].before, signals["2D and 3D agree"].after) == (50.0, 60.0)
    assert signals["Class shares moved"].after == 25.0  # road gained 25 points, building lost them
    only_3d = summary(0.5, 0.5)["label_free"] | {"agreement_2d_3d": None}
    assert "2D and 3D agree" not in {row.name for row in signal_rows(None, only_3d)}


def test_commands_survive_odd_paths() -> None:
    launch, reload, segment = deploy_commands(Path("/runs/new town/model.safetensors"), "my drive.mcap")
    assert "ros2 launch clip2uda_ros segment.launch.py checkpoint:='/runs/new town/model.safetensors'" in launch.command
    assert "ros2 service call /segmenter/reload_model std_srvs/srv/Trigger" in reload.command
    assert segment.command.startswith("clip2uda segment 'my drive.mcap' --checkpoint '/runs/new town/model")


def test_settings_are_flattened() -> None:
    assert flat_settings({"a": 1, "b": {"c": {"d": None}, "e": []}, "f": {}}) == {
        "a": "1",
        "b.c.d": "None",
        "b.e": "[]",
        "f": "{}",
    }
