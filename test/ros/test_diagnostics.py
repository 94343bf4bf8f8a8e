"""What /diagnostics says, for each way in which nothing or too little comes out."""

from dataclasses import replace
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from clip2uda_ros.diagnostics import CameraStatus, NodeStatus, TopicStatus, explain, to_message, values

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
    cameras=(FRONT,),
    output_hz=10.0,
)


def with_front(**changes: Any) -> NodeStatus:
    return replace(WELL, cameras=(replace(FRONT, **changes),))


def test_nothing_to_say_when_all_is_well() -> None:
    assert explain(WELL, WELL) == []
    status = to_message("segmenter", WELL, explain(WELL, WELL), Time()).status[0]
    assert (status.level, status.message) == (DiagnosticStatus.OK, "10.0 Hz")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (NodeStatus("unconfigured", problem="no file 'x'"), ["unconfigured: no file 'x'"]),
        (NodeStatus("configuring"), ["configuring"]),
        (replace(WELL, enabled=False), ["~/enable"]),
        (replace(WELL, points=TopicStatus("/points")), ["points: nobody publishes /points"]),
        (
            replace(WELL, points=replace(POINTS, rate_hz=0.0, incompatible=("/driver", "/replay"))),
            ["/driver, /replay", "incompatible QoS", "qos_overrides./points.subscription.reliability"],
        ),
        (replace(WELL, points=replace(POINTS, rate_hz=0.0)), ["/points has a publisher, but nothing arrives"]),
        (with_front(image=TopicStatus("/front/image")), ["front: nobody publishes /front/image"]),
        (with_front(info=TopicStatus("/front/camera_info")), ["front camera_info: nobody publishes"]),
        (with_front(skipped=3, problem="K is zero in /front/camera_info"), ["front: K is zero in /front/camera_info"]),
        (with_front(nearest_s=0.112), ["front: 30 Hz arriving, nearest stamp 112 ms away, tolerance 50 ms"]),
        (replace(WELL, dropped={"older than 1 s": 7}), ["7 clouds dropped: older than 1 s"]),
        (replace(WELL, failed=2, failure="no field 'x'"), ["2 clouds failed, the latest: no field 'x'"]),
        (
            replace(WELL, replaced=6, published=4, output_hz=4.0),
            ["slower than its input: 10.0 Hz", "4.0 Hz out", "6 of 10 replaced"],
        ),
    ],
)
def test_each_cause_is_named(status: NodeStatus, words: list[str]) -> None:
    message = to_message("segmenter", status, explain(status, WELL), Time()).status[0]
    for word in words:
        assert word in message.message
    assert message.level == (DiagnosticStatus.ERROR if status.problem else DiagnosticStatus.WARN)


def test_what_went_wrong_long_ago_is_not_a_reason_now() -> None:
    then = replace(
        WELL, dropped={"older than 1 s": 7}, failed=2, replaced=5, cameras=(replace(FRONT, skipped=3, problem="no TF"),)
    )
    assert explain(then, then) == []


def test_a_camera_with_its_own_calibration_needs_no_camera_info() -> None:
    assert explain(with_front(info=TopicStatus("/front/camera_info"), needs_info=False), WELL) == []


def test_keys_and_values() -> None:
    status = replace(
        WELL, complete=5, partial=2, dropped={"older than 1 s": 7}, published=6, stages_ms={"encode": (1.25, 3.0)}
    )
    pairs = values(status)
    assert pairs["state"] == "active"
    assert pairs["model"] == "m.safetensors"
    assert pairs["input.points.hz"] == "10.0"
    assert pairs["input.front.image.hz"] == "30.0"
    assert pairs["input.front.nearest_ms"] == "4.0"
    assert (pairs["sets.complete"], pairs["sets.partial"], pairs["sets.dropped"]) == ("5", "2", "7")
    assert pairs["sets.dropped.older than 1 s"] == "7"
    assert (pairs["stage.encode.p50_ms"], pairs["stage.encode.p95_ms"]) == ("1.2", "3.0")
