"""The collector by hand, and against a reference that knows the whole recording."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip2uda_core.config import parse_config
from clip2uda_core.data.collector import (
    NO_STAMP,
    OUT_OF_ORDER,
    TIME_JUMP,
    TOO_FEW_CAMERAS,
    TOO_OLD,
    CollectedSet,
    Collector,
    CollectorConfig,
)
from clip2uda_core.errors import ConfigError

MS = 1_000_000
T0 = 1_700_000_000_000 * MS


class Player:
    """Feeds a collector in milliseconds after T0; by default a message arrives at its own stamp."""

    def __init__(self, cameras: Iterable[str] = ("front",), **config) -> None:
        self.collector: Collector[str] = Collector(CollectorConfig(**config), tuple(cameras))

    def cloud(self, stamp: float, now: float | None = None) -> list[dict]:
        return self._seen(self.collector.add_cloud(_ns(stamp), f"cloud {stamp}", _ns(stamp if now is None else now)))

    def image(self, stamp: float, camera: str = "front", now: float | None = None) -> list[dict]:
        sets = self.collector.add_image(camera, _ns(stamp), f"{camera} {stamp}", _ns(stamp if now is None else now))
        return self._seen(sets)

    def poll(self, now: float) -> list[dict]:
        return self._seen(self.collector.poll(_ns(now)))

    def flush(self) -> list[dict]:
        return self._seen(self.collector.flush())

    def _seen(self, sets: list[CollectedSet[str]]) -> list[dict]:
        self.check_accounts()
        return [{"cloud": s.cloud, **{camera: payload for camera, (_, payload) in s.images.items()}} for s in sets]

    def check_accounts(self) -> None:
        counts = self.collector.counts
        decided = counts.complete + counts.partial + counts.dropped.total()
        assert counts.clouds == decided + self.collector.pending


def _ns(milliseconds: float) -> int:
    return T0 + round(milliseconds * MS)


def test_a_set_waits_for_the_image_that_could_be_nearer():
    player = Player()
    assert player.image(70) == []
    assert player.cloud(100) == []
    assert player.image(103) == [{"cloud": "cloud 100", "front": "front 103"}]
    assert player.collector.counts.complete == 1


def test_the_nearest_image_may_be_the_one_before():
    player = Player()
    player.image(95)
    player.cloud(100)
    assert player.image(128) == [{"cloud": "cloud 100", "front": "front 95"}]


def test_an_image_of_the_same_stamp_completes_at_once_in_either_order():
    player = Player()
    player.image(100)
    assert player.cloud(100) == [{"cloud": "cloud 100", "front": "front 100"}]
    player.cloud(200)
    assert player.image(200) == [{"cloud": "cloud 200", "front": "front 200"}]


def test_without_cameras_each_cloud_is_complete_at_once():
    player = Player(cameras=())
    assert player.cloud(100) == [{"cloud": "cloud 100"}]
    assert player.collector.counts.complete == 1


def test_all_cameras_must_have_decided():
    player = Player(["left", "right"])
    player.cloud(100)
    assert player.image(101, "left") == []
    assert player.image(99, "right") == []
    assert player.image(132, "right") == [{"cloud": "cloud 100", "left": "left 101", "right": "right 99"}]


def test_one_image_may_serve_two_clouds():
    player = Player(tolerance_s=0.06)
    player.cloud(0)
    player.cloud(50)
    # with the image at 110 no later one can be nearer to either cloud
    assert player.image(20, now=60) == [{"cloud": "cloud 0", "front": "front 20"}]
    assert player.image(110) == [{"cloud": "cloud 50", "front": "front 20"}]
    assert player.flush() == []
    assert player.collector.counts.images_unused["front"] == 1


def test_tolerance_includes_its_bound_and_nothing_beyond():
    for stamp, joined in ((150, True), (150.001, False)):
        player = Player(tolerance_s=0.05)
        player.cloud(100)
        (fired,) = player.image(stamp)
        assert ("front" in fired) == joined
        assert player.collector.counts.complete == joined
        assert player.collector.counts.partial == (not joined)


def test_stamp_offset_says_which_image_belongs_to_a_cloud():
    player = Player(stamp_offset_s={"front": -0.03})
    for stamp in (40, 70):
        player.image(stamp)
    assert player.cloud(100) == [{"cloud": "cloud 100", "front": "front 70"}]


def test_after_the_timeout_the_set_goes_on_with_the_cameras_that_came():
    player = Player(["front", "dead"], timeout_s=0.15)
    player.cloud(100, now=120)
    player.image(110)
    assert player.poll(269) == []
    assert player.poll(270) == [{"cloud": "cloud 100", "front": "front 110"}]
    assert (player.collector.counts.complete, player.collector.counts.partial) == (0, 1)


def test_an_image_that_comes_after_the_timeout_is_too_late_even_when_nobody_polled():
    player = Player(timeout_s=0.15)
    player.cloud(100)
    assert player.image(100, now=300) == [{"cloud": "cloud 100"}]


def test_a_set_with_too_few_cameras_is_dropped_and_counted():
    player = Player(["front", "dead"], min_cameras=2)
    player.cloud(100)
    player.image(100)
    assert player.poll(300) == []
    assert player.collector.counts.dropped == {TOO_FEW_CAMERAS: 1}


def test_old_clouds_are_dropped_on_arrival_unless_age_is_no_matter():
    player = Player(max_age_s=1.0)
    player.cloud(100, now=1101)
    assert player.collector.counts.dropped == {TOO_OLD: 1}
    player.cloud(200, now=1200)
    assert player.collector.pending == 1
    player = Player(max_age_s=0)
    player.cloud(100, now=999_999)
    assert player.collector.pending == 1


def test_a_cloud_without_a_stamp_is_named_so():
    collector: Collector[str] = Collector(CollectorConfig(), ["front"])
    collector.add_cloud(0, "cloud", T0)
    assert collector.counts.dropped == {NO_STAMP: 1}


def test_messages_without_a_stamp_are_no_jump_of_time():
    """Not even where any age will do: what waits goes on, and they are counted."""
    player = Player(max_age_s=0)
    player.cloud(100)
    player.image(60)
    assert player.collector.add_image("front", 0, "unstamped", _ns(101)) == []
    assert player.collector.add_cloud(0, "unstamped", _ns(102)) == []
    assert player.image(103) == [{"cloud": "cloud 100", "front": "front 103"}]
    counts = player.collector.counts
    assert (counts.time_jumps, counts.dropped) == (0, {NO_STAMP: 1})
    assert counts.images_unstamped == {"front": 1}
    assert counts.images["front"] == 3


def test_zero_stamps_pair_with_each_other_where_time_starts_at_zero():
    collector: Collector[str] = Collector(CollectorConfig(), ["front"])
    collector.add_image("front", 0, "image", 0)
    (collected,) = collector.add_cloud(0, "cloud", 0)
    assert collected.images == {"front": (0, "image")}


def test_why_a_camera_never_joins_can_be_told():
    player = Player(tolerance_s=0.05)
    player.image(100)
    player.cloud(212)
    (collected,) = player.collector.poll(_ns(400))
    assert collected.nearest_s == {"front": pytest.approx(0.112)}
    assert player.collector.counts.nearest_s == {"front": pytest.approx(0.112)}


def test_images_of_one_camera_may_come_out_of_order():
    player = Player()
    player.cloud(100)
    player.image(60)
    player.image(40, now=61)
    player.image(95, now=96)
    player.image(80, now=97)
    assert player.image(130) == [{"cloud": "cloud 100", "front": "front 95"}]


def test_sets_leave_in_the_order_of_their_stamps():
    player = Player(timeout_s=0.5)
    player.cloud(200)
    player.cloud(100, now=201)
    assert [s["cloud"] for s in player.image(210)] == ["cloud 100", "cloud 200"]
    player.cloud(150, now=211)
    assert player.collector.counts.dropped == {OUT_OF_ORDER: 1}


def test_a_cloud_of_a_repeated_stamp_is_a_cloud_too():
    player = Player()
    player.cloud(100)
    player.cloud(100)
    assert len(player.image(100)) == 2


def test_a_cloud_that_came_late_does_not_hold_up_those_before_it():
    player = Player(timeout_s=0.15)
    player.cloud(200, now=200)
    player.cloud(180, now=300)
    assert player.poll(349) == []
    assert [s["cloud"] for s in player.poll(350)] == ["cloud 180", "cloud 200"]


@pytest.mark.parametrize("first", ["cloud", "image", "clock"])
def test_time_that_jumps_back_clears_the_buffers_and_is_reported(first):
    player = Player(timeout_s=5, max_age_s=0)
    player.image(9000)
    player.cloud(10_000)
    if first == "cloud":
        player.cloud(0)
    elif first == "image":
        player.image(0)
        player.cloud(0)
    else:
        player.poll(0)
        player.cloud(0)
    counts = player.collector.counts
    assert (counts.time_jumps, counts.dropped) == (1, {TIME_JUMP: 1})
    player.image(5)
    assert (counts.complete, player.collector.pending) == (1, 0)
    assert counts.images_unused["front"] >= 1


def test_a_recording_that_loops_while_the_clock_goes_on_gives_the_same_sets_again():
    player = Player(max_age_s=0)
    rounds = []
    for start in (0, 2000, 4000):
        seen = []
        for stamp in range(0, 1000, 100):
            seen += player.cloud(stamp, now=start + stamp)
            seen += player.image(stamp + 10, now=start + stamp + 10)
        rounds.append(seen)
    assert rounds[0] == rounds[1] == rounds[2]
    assert len(rounds[0]) == 10
    assert player.collector.counts.time_jumps == 2


def test_buffers_are_bounded():
    player = Player(["front", "dead"], timeout_s=1000, max_age_s=0, image_queue=5, cloud_queue=3)
    fired = []
    for step in range(50):
        fired += player.cloud(step * 100)
        fired += player.image(step * 100 + 1)
    counts = player.collector.counts
    assert player.collector.pending == 3
    assert len(fired) == counts.partial == 47  # the oldest goes on with what came; nothing is lost
    player.flush()
    assert counts.images["front"] == 50
    assert counts.partial == 50


def test_flush_hands_out_what_is_left_and_counts_the_images():
    player = Player()
    player.image(30)
    player.image(90)
    player.cloud(100)
    player.cloud(190)
    assert player.flush() == [{"cloud": "cloud 100", "front": "front 90"}, {"cloud": "cloud 190"}]
    assert player.collector.counts.images_unused == {"front": 1}


def test_settings_that_name_no_camera_are_refused():
    with pytest.raises(ConfigError, match=r"back.*front"):
        Collector(CollectorConfig(stamp_offset_s={"back": 0.1}), ["front"])
    with pytest.raises(ConfigError, match="min_cameras=2"):
        Collector(CollectorConfig(min_cameras=2), ["front"])
    with pytest.raises(ConfigError, match="tolerance_s"):
        parse_config(CollectorConfig, {"tolerance_s": -1}, "here")


# --- against a reference -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    stream: str
    stamp: int
    now: int


@st.composite
def in_order_recordings(draw) -> list[Message]:
    """Messages of in-order streams in the order in which they arrive, each stream with a delay of its own."""
    messages = []
    for stream in ("cloud", "left", "right"):
        delay = draw(st.integers(0, 30))
        stamps = draw(st.lists(st.integers(0, 400), max_size=15, unique=stream != "cloud"))
        messages += [Message(stream, stamp, stamp + delay) for stamp in sorted(stamps)]
    return sorted(messages, key=lambda message: message.now)


def feed(player: Player, messages: Iterable[Message]) -> list[CollectedSet[str]]:
    sets = []
    for m in messages:
        if m.stream == "cloud":
            sets += player.collector.add_cloud(_ns(m.stamp), f"cloud {m.stamp}", _ns(m.now))
        else:
            sets += player.collector.add_image(m.stream, _ns(m.stamp), f"{m.stream} {m.stamp}", _ns(m.now))
        player.check_accounts()
    return sets + player.collector.flush()


@settings(max_examples=150)
@given(in_order_recordings(), st.integers(0, 60), st.integers(-40, 40))
def test_each_camera_gives_the_nearest_image_of_the_whole_recording(messages, tolerance, offset):
    player = Player(
        ["left", "right"],
        tolerance_s=tolerance / 1e3,
        timeout_s=10,
        stamp_offset_s={"left": offset / 1e3},
        cloud_queue=99,
    )
    sets = feed(player, messages)
    clouds = [m.stamp for m in messages if m.stream == "cloud"]
    assert [s.cloud_stamp_ns for s in sets] == [_ns(stamp) for stamp in clouds]
    for collected, stamp in zip(sets, clouds, strict=True):
        for camera, shift in (("left", offset), ("right", 0)):
            distances = [(abs(m.stamp - stamp - shift), m.stamp) for m in messages if m.stream == camera]
            distance, nearest = min(distances, default=(None, None))
            if distance is not None and distance <= tolerance:
                assert collected.images[camera] == (_ns(nearest), f"{camera} {nearest}")
            else:
                assert camera not in collected.images
    for camera in ("left", "right"):
        used = {s.images[camera][0] for s in sets if camera in s.images}
        offered = sum(m.stream == camera for m in messages)
        assert player.collector.counts.images_unused[camera] == offered - len(used)


steps = st.one_of(
    st.tuples(st.just("cloud"), st.integers(0, 3000)),
    st.tuples(st.sampled_from(["left", "right"]), st.integers(0, 3000)),
    st.tuples(st.just("poll"), st.just(0)),
)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(steps, st.integers(-200, 800)), max_size=60),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_every_message_is_accounted_for_whatever_comes(script, min_cameras, max_age_s):
    player = Player(
        ["left", "right"], min_cameras=min_cameras, max_age_s=max_age_s, image_queue=4, cloud_queue=3, timeout_s=0.1
    )
    now, sets, images = 0, [], 0
    for (kind, stamp), elapsed in script:
        now += elapsed
        if kind == "poll":
            sets += player.collector.poll(_ns(now))
        elif kind == "cloud":
            sets += player.collector.add_cloud(_ns(stamp), "cloud", _ns(now))
        else:
            sets += player.collector.add_image(kind, _ns(stamp), kind, _ns(now))
            images += 1
        player.check_accounts()
        assert player.collector.pending <= 3
    sets += player.collector.flush()
    player.check_accounts()
    counts = player.collector.counts
    assert player.collector.pending == 0
    assert counts.clouds == sum(kind == "cloud" for (kind, _), _ in script)
    assert len(sets) == counts.complete + counts.partial
    assert counts.images.total() == images
    assert counts.images_unused.total() <= images
    for collected in sets:
        assert len(collected.images) >= min_cameras
        for stamp_ns, _ in collected.images.values():
            assert abs(stamp_ns - collected.cloud_stamp_ns) <= 50 * MS
