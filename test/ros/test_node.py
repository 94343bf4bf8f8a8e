"""The node as its own process, over DDS, in a world whose content is known."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from peer import Inbox, Peer
from processes import process
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from services import (
    assert_everything_is_accounted_for,
    report,
    set_parameter,
    state,
    transition,
    wait_for_value,
)
from std_srvs.srv import SetBool, Trigger
from world import (
    MILLISECOND_NS,
    World,
    cloud_message,
    field,
    image_message,
    intensity,
    scattered_points,
    write_calibration,
)

from clip2uda_core.data.messages import stamp_ns
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Frame, PointCloud
from clip2uda_ros.compat import LabelInfo

pytestmark = pytest.mark.ros

NODE = "/segmenter"
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def diagnostics(module_peer: Peer) -> Inbox[DiagnosticArray]:
    return module_peer.subscribe(DiagnosticArray, "/diagnostics", 10)


@pytest.fixture(scope="module")
def world(
    module_peer: Peer,
    diagnostics: Inbox[DiagnosticArray],
    module_domain: int,
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """An active node that all tests of this file talk to; it must still live at the end, and end well."""
    folder = tmp_path_factory.mktemp("node")
    calibration = write_calibration(folder / "calibration.yaml")
    parameters = {"checkpoint": checkpoint, "calibration": calibration, "sync.max_age_s": 0.0, "sync.timeout_s": 0.2}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    with process("clip2uda_ros.segment_node", ["--ros-args", *arguments], module_domain, folder / "log") as running:
        yield World(module_peer, NODE)
        assert running.running()


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter.from_checkpoint(checkpoint)


def test_the_answer_has_the_inputs_points_in_their_places(world: World) -> None:
    points = scattered_points(3000)
    points[7] = np.nan
    answer = world.answer(world.send(points))
    assert [(f.name, f.offset, f.datatype) for f in answer.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("rgb", 12, 7),
        ("label", 16, 6),
        ("confidence", 20, 7),
    ]
    assert (answer.height, answer.width, answer.point_step, answer.row_step) == (1, 3000, 24, 72_000)
    assert answer.header.frame_id == "lidar"
    for column, name in enumerate("xyz"):
        np.testing.assert_array_equal(field(answer, name), points[:, column])
    label, confidence = field(answer, "label"), field(answer, "confidence")
    segmented = np.flatnonzero(label != IGNORE)
    assert set(np.unique(label[segmented])) <= set(range(8))
    assert len(segmented) == 2999
    assert (label[7], confidence[7]) == (IGNORE, 0)
    assert ((confidence[segmented] > 1 / 8) & (confidence[segmented] <= 1)).all()
    r, g, b = LabelSpace.load("street8").colors[label].astype(np.uint32).T
    np.testing.assert_array_equal(field(answer, "rgb").view(np.uint32), r << 16 | g << 8 | b)


def test_an_organised_cloud_stays_organised(world: World) -> None:
    when_ns = world.next_stamp()
    message = cloud_message(scattered_points(1200), when_ns)
    message.height, message.width, message.row_step = 4, 300, 300 * message.point_step
    world.images.publish(image_message(when_ns))
    world.clouds.publish(message)
    answer = world.answer(when_ns)
    assert (answer.height, answer.width, answer.row_step) == (4, 300, 7200)


def test_label_info_reaches_those_who_come_later(world: World) -> None:
    inbox = world.peer.subscribe(LabelInfo, f"{NODE}/label_info", LATCHED)
    (message,) = inbox.wait_for_count(1)
    names = LabelSpace.load("street8").names
    if hasattr(message, "data"):
        assert [entry["name"] for entry in json.loads(message.data)["classes"]] == list(names)
    else:
        assert [entry.class_name for entry in message.class_map] == list(names)


def test_without_an_image_3d_answers_alone_and_its_confidence_is_that_of_3d(
    world: World, diagnostics: Inbox[DiagnosticArray], segmenter: Segmenter
) -> None:
    """The points that the camera sees are the ones whose confidence is another with it."""
    _, before = report(diagnostics)
    points = scattered_points(500)
    answer = world.answer(world.send(points, with_image=False))
    _, after = report(diagnostics)
    assert int(after["sets.partial"]) == int(before["sets.partial"]) + 1
    assert int(after["sets.complete"]) == int(before["sets.complete"])
    assert (after["output.cameras"], after["output.seen_percent"]) == ("0", "0.0")

    probabilities = segmenter.segment(Frame(PointCloud(points, 0, "lidar", intensity(points)))).probabilities_3d
    np.testing.assert_allclose(field(answer, "confidence"), probabilities.max(axis=1), atol=1e-3)
    with_camera = world.answer(world.send(points))
    changed = field(with_camera, "confidence") != field(answer, "confidence")
    _, after = report(diagnostics)
    assert after["output.cameras"] == "1"
    assert changed.mean() == pytest.approx(float(after["output.seen_percent"]) / 100, abs=0.01)


def test_a_burst_is_answered_by_its_newest_cloud_and_nothing_is_queued(
    world: World, diagnostics: Inbox[DiagnosticArray]
) -> None:
    """Twenty clouds within 20 ms by their stamps, one image for all of them, while the model needs longer for one."""
    _, before = report(diagnostics)
    count_before = len(world.outputs.messages)
    start_ns = world.next_stamp()
    world.images.publish(image_message(start_ns + 25 * MILLISECOND_NS))
    messages = [cloud_message(scattered_points(30_000, i), start_ns + i * MILLISECOND_NS) for i in range(20)]
    for message in messages:
        world.clouds.publish(message)
    world.answer(stamp_ns(messages[-1]))
    _, after = report(diagnostics)
    answered = [stamp_ns(message) for message in world.outputs.messages[count_before:]]
    assert answered == sorted(answered)
    assert len(answered) < 20
    change = {
        name: int(after[name]) - int(before[name]) for name in after if name.startswith(("sets.", "input.points.c"))
    }
    assert change["sets.dropped.replaced"] > 0
    assert change["sets.complete"] + change["sets.partial"] == len(answered)
    assert change["sets.in"] == change["input.points.count"]
    assert_everything_is_accounted_for(diagnostics)


def test_bad_messages_cost_themselves_alone(world: World, diagnostics: Inbox[DiagnosticArray]) -> None:
    _, before = report(diagnostics)
    good = cloud_message(scattered_points(10), 0)

    truncated = cloud_message(scattered_points(10), world.next_stamp())
    truncated.data = truncated.data[:-4]
    nameless = cloud_message(scattered_points(10), world.next_stamp())
    nameless.fields = [entry for entry in good.fields if entry.name != "x"]
    for number, cloud in enumerate((truncated, nameless), 1):
        world.images.publish(image_message(stamp_ns(cloud)))
        world.clouds.publish(cloud)
        wait_for_value(diagnostics, "sets.dropped.failed", int(before["sets.dropped.failed"]) + number)
        world.answer(world.send(scattered_points(10)))
    empty_ns = world.send(np.zeros((0, 3), np.float32))
    assert world.answer(empty_ns).width == 0
    nothing_ns = world.send(np.full((50, 3), np.nan, np.float32))
    assert (field(world.answer(nothing_ns), "label") == IGNORE).all()

    broken = image_message(world.next_stamp())
    broken.encoding = "purple"
    world.images.publish(broken)
    world.clouds.publish(cloud_message(scattered_points(10), stamp_ns(broken)))
    assert (field(world.answer(stamp_ns(broken)), "label") != IGNORE).all()

    status, after = report(diagnostics)
    assert int(after["input.front.skipped"]) == int(before["input.front.skipped"]) + 1
    assert status.level == DiagnosticStatus.WARN
    assert "purple" in status.message
    assert "expected a cloud with fields x, y, z" in status.message


def test_parameters_change_at_run_time_within_their_ranges(world: World) -> None:
    points = scattered_points(400)
    assert set_parameter(world.peer, NODE, "confidence_threshold", 1.0) == ""
    assert set_parameter(world.peer, NODE, "output.publish_rgb", False) == ""
    unsure = world.answer(world.send(points))
    assert "confidence_threshold" in set_parameter(world.peer, NODE, "confidence_threshold", 1.5)
    assert set_parameter(world.peer, NODE, "device", "cuda") != ""
    assert set_parameter(world.peer, NODE, "confidence_threshold", 0.0) == ""
    assert set_parameter(world.peer, NODE, "output.publish_rgb", True) == ""
    sure = world.answer(world.send(points))
    assert (field(unsure, "label") == IGNORE).all()
    assert not field(unsure, "confidence").any()
    assert not field(unsure, "rgb").view(np.uint32).any()
    assert (field(sure, "label") != IGNORE).all()
    assert field(sure, "rgb").view(np.uint32).all()


def test_disabled_it_ignores_clouds_until_it_is_enabled(world: World, diagnostics: Inbox[DiagnosticArray]) -> None:
    assert world.peer.call(SetBool, f"{NODE}/enable", SetBool.Request(data=False)).success
    ignored_ns = world.send(scattered_points(10))
    status, _ = report(diagnostics)
    assert "disabled through ~/enable" in status.message
    assert world.peer.call(SetBool, f"{NODE}/enable", SetBool.Request(data=True)).success
    world.answer(world.send(scattered_points(10)))
    assert ignored_ns not in [stamp_ns(message) for message in world.outputs.messages]


def test_a_bad_model_is_not_taken_and_a_good_one_is(
    world: World, diagnostics: Inbox[DiagnosticArray], checkpoint: Path, tmp_path: Path
) -> None:
    """Clouds are answered all the while."""
    _, before = report(diagnostics)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x80\x04pickle in disguise")
    assert set_parameter(world.peer, NODE, "checkpoint", str(bad)) == ""
    response = world.peer.call(Trigger, f"{NODE}/reload_model", Trigger.Request())
    assert not response.success
    assert str(bad) in response.message
    world.answer(world.send(scattered_points(10)))
    assert set_parameter(world.peer, NODE, "checkpoint", str(checkpoint)) == ""
    reloading = world.peer.request(Trigger, f"{NODE}/reload_model", Trigger.Request())
    answers = 0
    while not reloading.done():
        world.answer(world.send(scattered_points(10)))
        answers += 1
    response = reloading.result()
    assert response.success, response.message
    assert answers > 0
    world.answer(world.send(scattered_points(10)))
    _, after = report(diagnostics)
    change = {key: int(after[key]) - int(before[key]) for key in ("model.loads", "model.reload_failures")}
    assert change == {"model.loads": 1, "model.reload_failures": 1}
    assert int(after["sets.dropped.failed"]) == int(before["sets.dropped.failed"])


def test_overlays_are_made_for_those_who_look(world: World) -> None:
    overlays: Inbox[Image] = world.peer.subscribe(Image, f"{NODE}/output/front/overlay", QoSProfile(depth=5))
    for _ in range(20):
        when_ns = world.send(scattered_points(2000))
        world.answer(when_ns)
        if overlays.messages:
            break
    overlay = overlays.wait_for(lambda _: True, "an overlay")
    assert overlay.header.frame_id == "front_optical_frame"
    assert overlay.encoding == "rgb8"
    assert overlay.width == 160
    assert overlay.height >= 96


def test_time_may_jump_back(world: World) -> None:
    """A bag that loops without /clock: stamps a hundred seconds older are answered, not taken for stale ones."""
    old_ns = world.next_stamp() - 100 * 10**9
    world.images.publish(image_message(old_ns))
    world.clouds.publish(cloud_message(scattered_points(10), old_ns))
    world.answer(old_ns)


def test_it_can_be_cycled_through_its_states_and_its_counts_go_on(
    world: World, diagnostics: Inbox[DiagnosticArray]
) -> None:
    pause = [Transition.TRANSITION_DEACTIVATE]
    for steps in (pause, [*pause, Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE]):
        for step in steps:
            assert transition(world.peer, NODE, step)
        assert state(world.peer, NODE) == "inactive"
        assert world.peer.node.count_subscribers(f"{NODE}/input/points") == 0
        _, still = report(diagnostics)
        assert still["sets.pending"] == "0"
        assert transition(world.peer, NODE, Transition.TRANSITION_ACTIVATE)
        World(world.peer, NODE)
        _, after = report(diagnostics)
        assert int(after["sets.in"]) > int(still["sets.in"]) > 0
    assert_everything_is_accounted_for(diagnostics)
