"""TransformBuffer against tf2's documented semantics, with numbers worked out by hand."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from clip2uda_core.errors import TransformError
from clip2uda_core.geometry import SE3, TransformBuffer

S = 1_000_000_000
START = 1_700_000_000 * S


def shift(parent: str, child: str, x: float, y: float = 0.0, yaw_deg: float = 0.0) -> SE3:
    """parent_SE3_child: the child's origin is at (x, y) in the parent, turned left by yaw."""
    half = np.radians(yaw_deg) / 2
    return SE3.from_quaternion_xyzw([0, 0, np.sin(half), np.cos(half)], [x, y, 0], parent, child)


def robot() -> TransformBuffer:
    """odom -> base moves 1 m/s along x from 10 s to 12 s; base -> lidar and base -> camera are fixed."""
    buffer = TransformBuffer()
    buffer.set_transform(shift("base", "lidar", 0.5), 0, static=True)
    buffer.set_transform(shift("base", "camera", 1.0, 2.0, 90), 0, static=True)
    for second in (10, 11, 12):
        buffer.set_transform(shift("odom", "base", second - 10), START + second * S, static=False)
    return buffer


def test_a_chain_goes_through_the_common_ancestor():
    camera_SE3_lidar = robot().lookup("camera", "lidar", START)
    assert (camera_SE3_lidar.target, camera_SE3_lidar.source) == ("camera", "lidar")
    # the LiDAR is 0.5 m behind and 2 m right of a camera frame that is turned left by 90 degrees
    assert_allclose(camera_SE3_lidar.transform(np.zeros((1, 3))), [[-2, 0.5, 0]], atol=1e-15)


def test_a_chain_downwards_is_the_inverse_of_the_chain_upwards():
    buffer, stamp = robot(), START + 11 * S
    up, down = buffer.lookup("odom", "camera", stamp), buffer.lookup("camera", "odom", stamp)
    assert_allclose((up @ down).matrix, np.eye(4), atol=1e-15)
    assert_allclose(up.translation, [2, 2, 0])


def test_position_is_interpolated_linearly_and_rotation_on_the_sphere():
    buffer = TransformBuffer()
    buffer.set_transform(shift("odom", "base", 0, 0, 0), START, static=False)
    buffer.set_transform(shift("odom", "base", 4, 8, 90), START + S, static=False)
    pose = buffer.lookup("odom", "base", START + S // 4)
    assert_allclose(pose.translation, [1, 2, 0])
    assert_allclose(pose.rotation[:2, 0], [np.cos(np.pi / 8), np.sin(np.pi / 8)])


def test_samples_that_arrive_out_of_order_are_put_in_order():
    buffer = TransformBuffer()
    for second in (12, 10, 11):
        buffer.set_transform(shift("odom", "base", second), START + second * S, static=False)
    assert_allclose(buffer.lookup("odom", "base", START + 10 * S + S // 2).translation, [10.5, 0, 0])


def test_a_repeated_stamp_replaces_the_sample():
    buffer = robot()
    buffer.set_transform(shift("odom", "base", 7), START + 11 * S, static=False)
    assert_allclose(buffer.lookup("odom", "base", START + 11 * S).translation, [7, 0, 0])


@pytest.mark.parametrize(
    ("second", "message"), [(12.1, r"0\.100000000 s after what was received"), (9.5, r"0\.500000000 s before")]
)
def test_extrapolation_is_refused_with_the_interval_that_there_is(second, message):
    with pytest.raises(TransformError, match=rf"odom <- base .*{message}.*1700000010\.0+ to 1700000012\.0+ s"):
        robot().lookup("odom", "lidar", START + round(second * S))


def test_one_sample_serves_its_own_stamp_only():
    buffer = TransformBuffer()
    buffer.set_transform(shift("odom", "base", 1), START, static=False)
    assert_allclose(buffer.lookup("odom", "base", START).translation, [1, 0, 0])
    with pytest.raises(TransformError, match="extrapolation"):
        buffer.lookup("odom", "base", START + 1)


def test_static_transforms_hold_at_any_time_and_are_not_hurt_by_what_moves_above_them():
    buffer = robot()
    for stamp in (0, 1, START + 999 * S):
        assert_allclose(buffer.lookup("lidar", "camera", stamp).translation, [0.5, 2, 0])


def test_stamp_zero_is_not_taken_for_the_latest():
    with pytest.raises(TransformError, match="the message has no stamp"):
        robot().lookup("odom", "lidar", 0)


def test_old_samples_leave_the_cache_and_late_ones_are_ignored():
    buffer = TransformBuffer(cache_time_s=2.0)
    for second in range(6):
        buffer.set_transform(shift("odom", "base", second), START + second * S, static=False)
    assert_allclose(buffer.lookup("odom", "base", START + 3 * S).translation, [3, 0, 0])
    buffer.set_transform(shift("odom", "base", 2), START + 2 * S, static=False)
    with pytest.raises(TransformError, match="before what was received"):
        buffer.lookup("odom", "base", START + 2 * S)


def test_a_child_that_changes_its_parent_belongs_to_each_at_its_time():
    buffer = TransformBuffer()
    buffer.set_transform(shift("table", "cup", 1), START, static=False)
    buffer.set_transform(shift("hand", "cup", 5), START + 2 * S, static=False)
    assert_allclose(buffer.lookup("table", "cup", START).translation, [1, 0, 0])
    assert_allclose(buffer.lookup("table", "cup", START + S).translation, [1, 0, 0])  # not interpolated across
    assert_allclose(buffer.lookup("hand", "cup", START + 2 * S).translation, [5, 0, 0])
    with pytest.raises(TransformError, match="no chain"):
        buffer.lookup("table", "cup", START + 2 * S)


def test_the_last_kind_that_was_set_replaces_the_other():
    buffer = robot()
    buffer.set_transform(shift("odom", "base", 42), 0, static=True)
    assert_allclose(buffer.lookup("odom", "base", 5).translation, [42, 0, 0])
    buffer.set_transform(shift("odom", "base", 43), START, static=False)
    assert_allclose(buffer.lookup("odom", "base", START).translation, [43, 0, 0])


def test_leading_slashes_of_old_bags_are_dropped():
    buffer = TransformBuffer()
    buffer.set_transform(shift("/base", "/lidar", 1), 0, static=True)
    pose = buffer.lookup("/base", "lidar", 0)
    assert (pose.target, pose.source) == ("base", "lidar")
    assert buffer.frames() == ("base", "lidar")


def test_a_frame_to_itself_needs_no_transforms():
    assert_allclose(TransformBuffer().lookup("map", "map", 3).matrix, np.eye(4))


def test_unknown_frames_are_answered_with_the_known_ones():
    with pytest.raises(TransformError, match=r"'velodyne'; known frames: base, camera, lidar, odom"):
        robot().lookup("camera", "velodyne", START)
    with pytest.raises(TransformError, match="none yet"):
        TransformBuffer().lookup("camera", "velodyne", START)


def test_two_trees_are_answered_with_their_roots():
    buffer = robot()
    buffer.set_transform(shift("rig", "camera2", 0), 0, static=True)
    with pytest.raises(TransformError, match=r"connects 'camera2' and 'lidar'.*'rig' and 'odom'"):
        buffer.lookup("camera2", "lidar", START + 11 * S)


def test_loops_are_refused():
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.set_transform(shift(parent, child, 1), 0, static=True)
    buffer.set_transform(shift("root", "other", 1), 0, static=True)
    with pytest.raises(TransformError, match="loop: a -> c -> b -> a"):
        buffer.lookup("root", "a", 0)


@pytest.mark.parametrize(("parent", "child"), [("a", "a"), ("/a", "a"), ("", "a"), ("a", "/")])
def test_impossible_frame_names_are_refused(parent, child):
    buffer = TransformBuffer()
    with pytest.raises(TransformError, match="frame"):
        buffer.set_transform(SE3(np.eye(4), parent, child), 0, static=True)
    assert buffer.frames() == ()


def test_time_jumping_back_clears_what_moves_and_keeps_what_is_fixed():
    buffer = robot()
    buffer.clear_dynamic()
    assert buffer.frames() == ("base", "camera", "lidar")
    assert_allclose(buffer.lookup("base", "lidar", 0).translation, [0.5, 0, 0])
    buffer.set_transform(shift("odom", "base", 3), START, static=False)
    assert_allclose(buffer.lookup("odom", "base", START).translation, [3, 0, 0])


def test_across_time_the_robots_own_motion_is_compensated():
    # the LiDAR measured at 10.5 s, the camera exposed at 11.5 s: meanwhile the robot went on by 1 m
    camera_SE3_lidar = robot().lookup_across_time(
        "camera", START + 11 * S + S // 2, "lidar", START + 10 * S + S // 2, "odom"
    )
    standing = robot().lookup("camera", "lidar", START)
    seen, seen_standing = (pose.transform(np.array([[10.0, 0, 0]]))[0] for pose in (camera_SE3_lidar, standing))
    assert_allclose(seen - seen_standing, [0, 1, 0], atol=1e-12)  # base's x is the turned camera's -y


def test_across_time_the_fixed_frame_may_be_the_target():
    pose = robot().lookup_across_time("odom", START, "lidar", START + 11 * S, "odom")
    assert_allclose(pose.translation, [1.5, 0, 0])


def test_across_time_neither_stamp_is_extrapolated():
    for target_s, source_s in ((13, 11), (11, 13)):
        with pytest.raises(TransformError, match="extrapolation"):
            robot().lookup_across_time("camera", START + target_s * S, "lidar", START + source_s * S, "odom")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True), st.integers(-5, 45))
def test_lookups_agree_with_numpys_interpolation(seconds, asked):
    buffer = TransformBuffer(cache_time_s=100)
    for second in seconds:
        buffer.set_transform(shift("odom", "base", second**2), START + second * S, static=False)
    if min(seconds) <= asked <= max(seconds):
        expected = np.interp(asked, sorted(seconds), [s**2 for s in sorted(seconds)])
        assert_allclose(buffer.lookup("odom", "base", START + asked * S).translation, [expected, 0, 0])
    else:
        with pytest.raises(TransformError, match="extrapolation"):
            buffer.lookup("odom", "base", START + asked * S)


def test_writers_and_readers_in_threads_never_see_a_half_made_state():
    buffer = robot()
    failures: list[Exception] = []

    def write() -> None:
        for step in range(300):
            buffer.set_transform(shift("odom", "base", step), START + (20 + step) * S, static=False)

    def read() -> None:
        for step in range(300):
            try:
                buffer.lookup("odom", "lidar", START + (20 + step) * S)
            except TransformError:
                pass  # not there yet, or gone from the cache
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=run) for run in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_allclose(buffer.lookup("odom", "base", START + 319 * S).translation, [299, 0, 0])
