"""The sync policies: by hand, whichever message_filters is there, and in a pipeline over DDS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import Peer, wait_until
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2
from world import MILLISECOND_NS, World, cloud_message, image_message, scattered_points, write_calibration

from clip2uda_core.config import parse_config
from clip2uda_core.data.calibration import load_calibration
from clip2uda_core.data.collector import NO_STAMP, TIME_JUMP, TOO_OLD, CollectorConfig
from clip2uda_core.data.messages import stamp_ns
from clip2uda_core.errors import ConfigError
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_ros.accounts import Accounts
from clip2uda_ros.meters import ThrottledWarnings
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.pipeline import Pipeline
from clip2uda_ros.synchronizers import UNSYNCHRONIZED, SynchronizedPairing

T0 = 1_700_000_000_000 * MILLISECOND_NS


def ns(milliseconds: float) -> int:
    return T0 + round(milliseconds * MILLISECOND_NS)


class Play:
    """Feeds a pairing in milliseconds after T0, each message at its own stamp."""

    def __init__(self, policy: Any, cameras: tuple[str, ...] = ("left", "right"), **config: Any) -> None:
        self.pairing = SynchronizedPairing(policy, CollectorConfig(**config), cameras)

    def cloud(self, stamp: float, now: float | None = None) -> list[dict[str, Any]]:
        return self._seen(self.pairing.add_cloud(ns(stamp), f"cloud {stamp}", ns(stamp if now is None else now)))

    def image(self, camera: str, stamp: float, now: float | None = None) -> list[dict[str, Any]]:
        when_ns = ns(stamp if now is None else now)
        return self._seen(self.pairing.add_image(camera, ns(stamp), f"{camera} {stamp}", when_ns))

    def _seen(self, sets: list[Any]) -> list[dict[str, Any]]:
        counts = self.pairing.counts
        assert counts.clouds == counts.complete + counts.dropped.total() + self.pairing.pending
        return [{"cloud": s.cloud, **{name: payload for name, (_, payload) in s.images.items()}} for s in sets]


def test_exact_time_takes_equal_stamps_alone() -> None:
    play = Play("exact_time")
    assert play.cloud(100) == []
    assert play.image("left", 100) == []
    assert play.image("right", 101) == []
    assert play.image("right", 100, now=101) == [{"cloud": "cloud 100", "left": "left 100", "right": "right 100"}]
    assert play.pairing.counts.complete == 1


def test_approximate_time_takes_stamps_that_are_near() -> None:
    play = Play("approximate_time", tolerance_s=0.02)
    play.image("left", 95)
    play.image("left", 105)
    play.image("right", 110)
    (paired,) = play.pairing.add_cloud(ns(101), "cloud", ns(111))
    assert paired.cloud_stamp_ns == ns(101)
    assert paired.images == {"left": (ns(105), "left 105"), "right": (ns(110), "right 110")}
    assert paired.nearest_s == {"left": pytest.approx(0.004), "right": pytest.approx(0.009)}
    assert paired.arrived_ns == ns(111)


def test_an_offset_is_taken_off_before_stamps_are_compared() -> None:
    play = Play("exact_time", ("front",), stamp_offset_s={"front": 0.03})
    play.cloud(100)
    (paired,) = play.pairing.add_image("front", ns(130), "image", ns(131))
    assert paired.images == {"front": (ns(130), "image")}
    assert paired.nearest_s == {"front": 0}


def test_what_is_never_matched_is_counted_when_it_is_pushed_out() -> None:
    play = Play("exact_time", ("front",), image_queue=3)
    for stamp in range(0, 500, 100):
        play.cloud(stamp)
    assert play.pairing.pending == 3
    assert play.pairing.counts.dropped == {UNSYNCHRONIZED: 2}
    assert play.image("front", 100, now=450) == []
    assert play.image("front", 400, now=450) == [{"cloud": "cloud 400", "front": "front 400"}]


def test_old_and_unstamped_clouds_are_refused_as_the_collector_does() -> None:
    play = Play("exact_time", ("front",), max_age_s=1.0)
    play.cloud(0, now=1500)
    play.pairing.add_cloud(0, "unstamped", ns(1600))
    play.pairing.add_image("front", 0, "unstamped", ns(1600))
    assert play.pairing.counts.dropped == {TOO_OLD: 1, NO_STAMP: 1}
    assert play.pairing.counts.images_unstamped == {"front": 1}
    assert play.pairing.counts.time_jumps == 0


@pytest.mark.parametrize("policy", ["exact_time", "approximate_time"])
def test_a_bag_that_loops_is_matched_again(policy: str) -> None:
    """message_filters' own queues keep the highest stamps, and would discard every message of the second round."""
    play = Play(policy, ("front",), image_queue=2)
    for _ in range(2):
        for stamp in range(0, 3000, 100):
            play.image("front", stamp, now=stamp)
            assert play.cloud(stamp) == [{"cloud": f"cloud {stamp}", "front": f"front {stamp}"}]
        play.cloud(3000)
    assert play.pairing.counts.time_jumps == 1
    assert play.pairing.counts.dropped == {TIME_JUMP: 1}


def test_a_new_tolerance_holds_from_then_on_and_what_waited_is_counted() -> None:
    play = Play("approximate_time", ("front",), tolerance_s=0.02)
    play.cloud(100)
    play.pairing.config = CollectorConfig(tolerance_s=0.1)
    assert play.pairing.counts.dropped == {UNSYNCHRONIZED: 1}
    play.cloud(200)
    assert play.image("front", 250) == [{"cloud": "cloud 200", "front": "front 250"}]


def test_how_far_away_the_images_are_can_be_told() -> None:
    play = Play("approximate_time", ("front",), tolerance_s=0.05)
    for stamp in range(0, 2000, 200):
        play.cloud(stamp)
        play.image("front", stamp + 70)
    assert play.pairing.counts.nearest_s == {"front": pytest.approx(0.070)}


messages = st.lists(st.tuples(st.sampled_from(["cloud", "left", "right"]), st.integers(-20, 40)), max_size=60)


@given(script=messages, policy=st.sampled_from(["exact_time", "approximate_time"]))
def test_every_cloud_is_accounted_for_whatever_comes(script: list[tuple[str, int]], policy: str) -> None:
    play, now = Play(policy, image_queue=4, max_age_s=0.5, tolerance_s=0.03), 0.0
    clouds = sets = 0
    for what, step in script:
        now += step * (20 if step < 0 else 1)
        if what == "cloud":
            clouds += 1
            sets += len(play.cloud(round(now, -1), now))
        else:
            sets += len(play.image(what, round(now, -1), now))
    counts = play.pairing.counts
    assert (counts.clouds, counts.complete) == (clouds, sets)


def test_approximate_time_needs_a_slop() -> None:
    with pytest.raises(ConfigError, match="approximate_time matches nothing with tolerance_s 0"):
        parse_config(SegmenterParameters, {"sync": {"policy": "approximate_time", "tolerance_s": 0.0}}, "parameters")


class Running:
    """A pipeline in this process, whose subscriptions are served by the node /peer; reliable, to count each message."""

    def __init__(self, domain: int, folder: Path, segmenter: Segmenter, **sync: Any) -> None:
        topics = ("/peer/input/points", "/peer/input/front/image")
        self.peer = Peer(domain, **{f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in topics})
        values = {"cameras": ["front"], "camera": {"front": {}}, "sync": {"max_age_s": 0.0, **sync}}
        parameters = parse_config(SegmenterParameters, values, "parameters")
        calibration = load_calibration(write_calibration(folder / "calibration.yaml"))
        self.warnings: list[str] = []
        self.pipeline = Pipeline(
            self.peer.node,
            parameters,
            calibration,
            lambda: segmenter,
            ThrottledWarnings(self.warnings.append),
        )
        self.sensors = Peer(domain, "sensors")

    def wait_for(self, **expected: int) -> Accounts:
        def reached() -> Accounts | None:
            accounts = self.pipeline.accounts()
            return accounts if all(getattr(accounts, name) == value for name, value in expected.items()) else None

        return wait_until(reached, f"{expected} of {self.pipeline.accounts()}")


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter.from_checkpoint(checkpoint)


@contextmanager
def running(domain: int, folder: Path, segmenter: Segmenter, **sync: Any) -> Iterator[Running]:
    result = Running(domain, folder, segmenter, **sync)
    try:
        yield result
    finally:
        result.sensors.close()
        result.pipeline.close()
        result.peer.close()


def connected(node: Running, **of_world: Any) -> tuple[World, Accounts]:
    """A first set has been answered, so whatever was sent while connecting has come; and what is counted by then."""
    world = World(node.sensors, "/peer", **of_world)
    world.answer(world.send(scattered_points(50)))
    return world, node.wait_for(pending=0)


@pytest.mark.ros
@pytest.mark.parametrize("policy", ["exact_time", "approximate_time"])
def test_a_policy_over_dds(policy: str, domain: int, segmenter: Segmenter, tmp_path: Path) -> None:
    """Complete sets come out; a cloud without its image never does, and both are in the accounts."""
    with running(domain, tmp_path, segmenter, policy=policy, tolerance_s=0.02, queue_size=2) as node:
        world, before = connected(node, image_delay_ms=0 if policy == "exact_time" else 5)
        alone = []
        for _ in range(3):
            alone.append(world.send(scattered_points(50), with_image=False))
            world.answer(world.send(scattered_points(50)))
        for _ in range(2):  # the queue holds two clouds: these push the last of the others out
            alone.append(world.send(scattered_points(50), with_image=False))
        after = node.wait_for(received=before.received + 8, pending=2)
        assert (after.complete, after.partial) == (before.complete + 3, 0)
        assert after.dropped["unsynchronized"] == before.dropped["unsynchronized"] + 3
        assert not {stamp_ns(message) for message in world.outputs.messages} & set(alone)
    assert node.warnings == []


@pytest.mark.ros
def test_a_cloud_that_waits_when_the_node_is_deactivated_is_counted(
    domain: int, segmenter: Segmenter, tmp_path: Path
) -> None:
    with running(domain, tmp_path, segmenter, timeout_s=10.0) as node:
        clouds = node.sensors.advertise(PointCloud2, "/peer/input/points")

        def waiting() -> bool:
            clouds.publish(cloud_message(scattered_points(10), node.sensors.node.get_clock().now().nanoseconds))
            return node.pipeline.accounts().pending > 0

        wait_until(waiting, "a cloud that waits for its image", pause_s=0.2)
    accounts = node.pipeline.accounts()
    assert accounts.pending == 0
    assert accounts.received == accounts.dropped["deactivated"] > 0


@pytest.mark.ros
def test_an_image_that_comes_late_costs_itself_alone(domain: int, segmenter: Segmenter, tmp_path: Path) -> None:
    """The cloud went on without it, after the timeout; the next one has its image."""
    with running(domain, tmp_path, segmenter, timeout_s=0.05) as node:
        world, before = connected(node)
        when_ns = world.send(scattered_points(50), with_image=False)
        world.answer(when_ns)
        world.images.publish(image_message(when_ns + MILLISECOND_NS))
        world.answer(world.send(scattered_points(50)))
        node.wait_for(partial=before.partial + 1, complete=before.complete + 1, pending=0)


def test_a_stamp_before_the_epoch_is_none_that_ros_can_hold() -> None:
    play = Play("exact_time", ("front",), stamp_offset_s={"front": 5.0})
    assert play.pairing.add_image("front", 10**9, "image", 10**9) == []


@pytest.mark.ros
def test_bytes_that_are_no_message_cost_themselves_alone(domain: int, segmenter: Segmenter, tmp_path: Path) -> None:
    """Of another definition of the type, or cut off: in the header, which is read on arrival, or after it."""
    with running(domain, tmp_path, segmenter, timeout_s=0.05) as node:
        world, before = connected(node)
        for number, length in enumerate((10, 100), 1):
            when_ns = world.next_stamp()
            world.images.publish(serialize_message(image_message(when_ns))[:length])
            world.clouds.publish(serialize_message(cloud_message(scattered_points(50), when_ns))[:length])
            node.wait_for(pending=0, received=before.received + number)
        whole_ns = world.next_stamp()
        world.images.publish(serialize_message(image_message(whole_ns))[:100])
        world.clouds.publish(cloud_message(scattered_points(50), whole_ns))
        world.answer(whole_ns)
        after = node.wait_for(pending=0, received=before.received + 3)
        assert after.dropped["failed"] == before.dropped["failed"] + 2
        assert after.bad_clouds == before.bad_clouds + 2
        assert after.partial == before.partial + 1
        assert after.skipped["front", "image"] == before.skipped["front", "image"] + 2
        assert after.exceptions == 0
        world.answer(world.send(scattered_points(50)))
    assert any("/peer/input/points: expected a PointCloud2" in text for text in node.warnings)
