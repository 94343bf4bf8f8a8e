"""What /diagnostics says, for each way in which nothing or too little comes out."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from clip2uda_ros.accounts import REASONS, Accounts
from clip2uda_ros.diagnostics import to_message, values
from clip2uda_ros.reasons import explain
from clip2uda_ros.status import CameraStatus, NodeStatus, TopicStatus

POINTS = TopicStatus("/points", publishers=1, count=100, rate_hz=10.0)
IMAGE = TopicStatus("/front/image", publishers=1, count=300, rate_hz=30.0)
INFO = TopicStatus("/front/camera_info", publishers=1, count=300, rate_hz=30.0)
FRONT = CameraStatus("front", IMAGE, INFO, nearest_s=0.004)
WELL = NodeStatus(
    state="active",
    model="m.safetensors",
    device="cpu",
    tolerance_s=0.05,
    points=POINTS,
    points_age_s=0.03,
    cameras=(FRONT,),
    tf=TopicStatus("/tf, /tf_static", publishers=2, count=50),
    output_hz=10.0,
    views=1,
)


def with_front(**changes: Any) -> NodeStatus:
    return replace(WELL, cameras=(replace(FRONT, **changes),))


def with_accounts(status: NodeStatus = WELL, **changes: Any) -> NodeStatus:
    return replace(status, accounts=Accounts(**changes))


def skipping(kind: str, problem: str, **changes: Any) -> NodeStatus:
    """The front camera was left out three times, for a reason of this kind."""
    return replace(with_accounts(with_front(problem=problem), skipped=Counter({("front", kind): 3})), **changes)


def test_nothing_to_say_when_all_is_well() -> None:
    assert explain(WELL, WELL) == []
    status = to_message("segmenter", WELL, explain(WELL, WELL), Time()).status[0]
    assert (status.level, status.message) == (DiagnosticStatus.OK, "10.0 Hz")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (NodeStatus("unconfigured", problem="no file 'x'"), ["unconfigured: no file 'x'"]),
        (NodeStatus("configuring", loading="/models/m.safetensors"), ["loading the model /models/m.safetensors"]),
        (NodeStatus("inactive"), ["inactive"]),
        (replace(WELL, clock_publishers=0), ["use_sim_time is set, but nobody publishes /clock"]),
        (replace(WELL, points_age_s=-2.0), ["points: stamped 2.0 s ahead of the node's clock"]),
        (replace(WELL, enabled=False), ["~/enable"]),
        (replace(WELL, points=TopicStatus("/points")), ["points: nobody publishes /points"]),
        (
            replace(WELL, points=replace(POINTS, rate_hz=0.0, incompatible=("/driver", "/replay"))),
            ["/driver, /replay", "incompatible QoS", "qos_overrides./points.subscription.reliability"],
        ),
        (replace(WELL, points=replace(POINTS, rate_hz=0.0)), ["/points has a publisher, but nothing arrives"]),
        (with_front(image=TopicStatus("/front/image")), ["front: nobody publishes /front/image"]),
        (with_front(info=TopicStatus("/front/camera_info")), ["front camera_info: nobody publishes"]),
        (skipping("calibration", "K is zero in /front/camera_info"), ["front: K is zero in /front/camera_info"]),
        (
            skipping("transform", "no transform names frame 'cam'", tf=TopicStatus("/tf, /tf_static")),
            ["front: no transform names frame 'cam'; nobody publishes /tf or /tf_static"],
        ),
        (
            skipping("transform", "no transform names frame 'cam'", tf=None, tf_missing=True),
            ["front: no transform names frame 'cam'; tf2_msgs is not installed", "calibration"],
        ),
        (
            with_accounts(unstamped_images=Counter(front=1)),
            ["front: header.stamp of /front/image is not set"],
        ),
        (with_front(nearest_s=0.112), ["front: 30 Hz arriving, nearest stamp 112 ms away, tolerance 50 ms"]),
        (
            with_accounts(replace(WELL, points_age_s=37.25), dropped=Counter(too_old=7)),
            ["7 clouds dropped: older than max_age_s on arrival (37.2 s; a recording needs use_sim_time and --clock)"],
        ),
        (with_accounts(dropped=Counter(no_stamp=2)), ["2 clouds dropped: header.stamp is not set"]),
        (
            replace(with_accounts(dropped=Counter(failed=2)), failure="no field 'x'"),
            ["2 clouds failed, the latest: no field 'x'"],
        ),
        (
            with_accounts(replace(WELL, output_hz=4.0), dropped=Counter(replaced=6), complete=3, partial=1),
            ["slower than its input: 10.0 Hz", "4.0 Hz out", "6 of 10 replaced"],
        ),
        (
            with_accounts(replace(WELL, points=replace(POINTS, publishers=2)), time_jumps=7),
            ["time jumped back 7 times", "several nodes publish /points"],
        ),
        (with_accounts(replace(WELL, views=0), partial=3), ["no camera took part", "3D alone"]),
    ],
)
def test_each_cause_is_named(status: NodeStatus, words: list[str]) -> None:
    message = to_message("segmenter", status, explain(status, WELL), Time()).status[0]
    for word in words:
        assert word in message.message
    assert message.level == (DiagnosticStatus.ERROR if status.problem else DiagnosticStatus.WARN)


def test_what_went_wrong_long_ago_is_not_a_reason_now() -> None:
    then = with_accounts(
        with_front(problem="no TF"),
        complete=10,
        dropped=Counter(too_old=7, failed=2, replaced=5),
        skipped=Counter({("front", "transform"): 3}),
        unstamped_images=Counter(front=4),
        time_jumps=9,
    )
    assert explain(then, then) == []


def test_a_bag_that_loops_once_is_no_reason_to_worry() -> None:
    assert explain(with_accounts(time_jumps=1), WELL) == []


def test_disabled_and_deactivated_clouds_are_no_fault() -> None:
    assert explain(with_accounts(dropped=Counter(disabled=5, deactivated=1)), WELL) == []


def test_a_camera_with_its_own_calibration_needs_no_camera_info() -> None:
    assert explain(with_front(info=TopicStatus("/front/camera_info"), needs_info=False), WELL) == []


def test_keys_and_values() -> None:
    status = with_accounts(
        replace(WELL, seen=0.583, stages_ms={"encode": (1.25, 3.0)}),
        received=16,
        complete=5,
        partial=2,
        pending=1,
        dropped=Counter(too_old=7, failed=1),
        messages=Counter({"points": 16, "front.image": 40, "front.camera_info": 41, "tf": 9}),
        skipped=Counter({("front", "image"): 1, ("front", "transform"): 2}),
        bad_clouds=1,
    )
    expected = {
        "state": "active",
        "model": "m.safetensors",
        "sets.in": "16",
        "sets.complete": "5",
        "sets.partial": "2",
        "sets.pending": "1",
        "sets.dropped": "8",
        "sets.dropped.too_old": "7",
        "sets.dropped.replaced": "0",
        "failures.cloud": "1",
        "failures.image": "1",
        "failures.transform": "2",
        "failures.calibration": "0",
        "exceptions": "0",
        "output.count": "7",
        "output.cameras": "1",
        "output.seen_percent": "58.3",
        "input.points.hz": "10.0",
        "input.points.count": "16",
        "input.points.age_ms": "30",
        "input.tf.count": "9",
        "input.front.image.hz": "30.0",
        "input.front.image.count": "40",
        "input.front.camera_info.count": "41",
        "input.front.nearest_ms": "4.0",
        "input.front.skipped": "3",
        "stage.encode.p50_ms": "1.2",
        "stage.encode.p95_ms": "3.0",
    }
    assert {key: values(status)[key] for key in expected} == expected


def test_the_counters_are_there_from_the_first_message_on() -> None:
    names = {"sets.in", "sets.pending", "exceptions", *(f"sets.dropped.{reason}" for reason in REASONS)}
    assert {values(NodeStatus("unconfigured"))[name] for name in names} == {"0"}


def test_accounts_of_two_activations_add_up() -> None:
    first = Accounts(received=5, complete=3, dropped=Counter(deactivated=2), messages=Counter(points=5))
    second = Accounts(received=2, complete=1, pending=1, messages=Counter(points=2))
    both = Accounts(received=7, complete=4, pending=1, dropped=Counter(deactivated=2), messages=Counter(points=7))
    assert first + second == both
