"""The parts of the soak that judge: a plan that fits, answers that belong to their clouds, sums, slopes."""

from pathlib import Path

import numpy as np
import pytest

from clip2uda_core.errors import ConfigError, DataError
from clip2uda_ros.soak.faults import FAULTS
from clip2uda_ros.soak.plan import Slot, make_plan
from clip2uda_ros.soak.record import FAILURE_KEYS, Record, read_counts
from clip2uda_ros.soak.session import SlotResult, Soak
from clip2uda_ros.soak.summary import memory_slope, summarise

SETS = {"sets.in": "10", "sets.complete": "4", "sets.partial": "2", "sets.dropped": "3", "sets.pending": "1"}
REPORT = {**SETS, "exceptions": "0", **dict.fromkeys(FAILURE_KEYS, "1")}


def test_a_plan_has_every_fault_once_a_round_and_lasts_as_long_as_asked() -> None:
    plan = make_plan(30, tuple(FAULTS), rigs=2, seed=0)
    assert plan.seconds == pytest.approx(1800)
    assert len(plan.rounds) == 4
    orders = [[slot.fault for slot in part] for part in plan.rounds]
    assert all(sorted(order) == sorted(FAULTS) for order in orders)
    assert orders[0] != orders[1]
    met = {name: [slot.rig for part in plan.rounds for slot in part if slot.fault == name] for name in FAULTS}
    assert all(sorted(rigs) == [0, 0, 1, 1] for rigs in met.values())
    assert make_plan(30, tuple(FAULTS), rigs=2, seed=0) == plan


def test_too_little_time_for_all_faults_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 1\.3 for 13 faults, got 1"):
        make_plan(1, tuple(FAULTS), rigs=1, seed=0)


def test_each_answer_belongs_to_one_cloud_and_has_its_points() -> None:
    record = Record()
    record.add_sent(100, points=50, when_s=1.0)
    record.add_sent(200, points=50, when_s=2.0)
    record.add_answer(100, 50, 1.25)
    assert [answer.latency_s for answer in record.answers] == [0.25]
    record.add_answer(100, 50, 1.5)
    record.add_answer(200, 49, 2.5)
    record.add_answer(300, 50, 3.5)
    assert [text.partition(":")[0] for text in record.wrong_answers] == ["100", "200", "300"]


def test_the_next_output_is_of_a_cloud_that_was_sent_after() -> None:
    record = Record()
    for stamp_ns, sent_s, received_s in ((1, 1.0, 9.0), (2, 6.0, 8.0), (3, 7.0, 7.5)):
        record.add_sent(stamp_ns, 1, sent_s)
        record.add_answer(stamp_ns, 1, received_s)
    answer = record.answer_sent_after(5.0)
    assert answer is not None
    assert (answer.sent_s, answer.latency_s) == (7.0, 0.5)
    assert record.answer_sent_after(7.1) is None


def test_what_is_in_no_account_is_told() -> None:
    assert read_counts(REPORT, 0.0).unaccounted == 0
    assert read_counts({**REPORT, "sets.in": "12"}, 0.0).unaccounted == 2
    with pytest.raises(DataError, match=r"sets\.pending"):
        read_counts({key: value for key, value in REPORT.items() if key != "sets.pending"}, 0.0)


def a_soak(tmp_path: Path, *, sets_in: str = "10", next_output_s: float = 0.5, grows_mb_per_min: float = 0.0) -> Soak:
    """Twenty minutes of which the fifth to tenth were a fault that doubled the memory."""
    record = Record()
    record.add_sent(1, 10, 1.0)
    record.add_answer(1, 10, 1.2)
    record.add_report({**REPORT, "sets.in": sets_in}, 1100.0)
    for when_s in np.arange(0.0, 1200.0, 10.0):
        held_mb = 500.0 + grows_mb_per_min * when_s / 60
        record.add_memory(float(when_s), held_mb * (2 if 300 <= when_s <= 600 else 1))
    log = tmp_path / "node.log"
    log.write_text("all well\n")
    slot = SlotResult(Slot("jitter", 0, 300, 600), 300.0, 600.0, next_output_s, complete=3)
    settled = read_counts({**REPORT, "sets.in": sets_in}, 1100.0)
    return Soak(
        record=record,
        slots=(slot,),
        rates_hz={"simulated": 5.0},
        began_s=0.0,
        steady_s=0.0,
        ended_s=1200.0,
        settled=settled,
        sent=1,
        answered=1,
        lost_exceptions=0,
        end_s=1.0,
        end_problem="",
        log=log,
    )


OTHERS = {name: "not in this test" for name in FAULTS if name != "jitter"}


def test_memory_is_judged_by_the_calm_alone(tmp_path: Path) -> None:
    slope, minutes = memory_slope(a_soak(tmp_path, grows_mb_per_min=1.5))
    assert slope == pytest.approx(1.5)
    assert minutes == pytest.approx(19.8, abs=0.2)


def failed(soak: Soak) -> list[str]:
    return [criterion.name for criterion in summarise(soak, OTHERS).criteria if criterion.passed is False]


def test_each_criterion_can_fail(tmp_path: Path) -> None:
    assert failed(a_soak(tmp_path)) == []
    assert failed(a_soak(tmp_path, sets_in="11")) == ["sets unaccounted for, in any report"]
    assert failed(a_soak(tmp_path, next_output_s=2.1)) == ["next output after a fault, worst"]
    assert failed(a_soak(tmp_path, grows_mb_per_min=1.1)) == ["memory after the first round"]
    soak = a_soak(tmp_path)
    soak.log.write_text("Traceback (most recent call last):\n")
    assert failed(soak) == ["exceptions"]
