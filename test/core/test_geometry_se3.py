"""SE3 against rotations worked out by hand and cv2.Rodrigues."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from clip2uda_core.errors import TransformError
from clip2uda_core.geometry import SE3

QUARTER_TURN_LEFT = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
HALF = np.sqrt(0.5)

rotation_vectors = st.tuples(*[st.floats(-2, 2) for _ in range(3)])


def from_rotation_vector(vector: tuple[float, float, float], translation=(1.0, 2.0, 3.0)) -> SE3:
    return SE3.from_rotation_translation(cv2.Rodrigues(np.array(vector))[0], translation, "a", "b")


def test_a_camera_that_looks_forward_sees_lidar_axes_as_rep_103_says():
    # optical x is right (-y of the LiDAR), y is down (-z), z is forward (x); the camera is 0.2 m above the LiDAR
    camera_SE3_lidar = SE3.from_rotation_translation([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0, 0.2, 0], "cam", "lidar")
    assert_allclose(camera_SE3_lidar.transform(np.array([[10.0, 2.0, 1.0]])), [[-2.0, -0.8, 10.0]])


def test_composition_takes_the_inner_frame_away_and_inverse_undoes():
    a_SE3_b = SE3.from_rotation_translation(QUARTER_TURN_LEFT, [1, 0, 0], "a", "b")
    b_SE3_c = SE3.from_rotation_translation(np.eye(3), [0, 5, 0], "b", "c")
    a_SE3_c = a_SE3_b @ b_SE3_c
    assert (a_SE3_c.target, a_SE3_c.source) == ("a", "c")
    assert_allclose(a_SE3_c.transform(np.array([[1.0, 0.0, 0.0]])), [[1 - 5, 1, 0]])
    assert_allclose((a_SE3_c @ a_SE3_c.inverse()).matrix, np.eye(4), atol=1e-15)
    assert (a_SE3_c.inverse().target, a_SE3_c.inverse().source) == ("c", "a")


def test_composition_of_unrelated_frames_is_refused_with_both_names():
    with pytest.raises(TransformError, match=r"'base'.*'lidar'"):
        SE3(np.eye(4), "camera", "base") @ SE3(np.eye(4), "lidar", "map")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_keep_their_type_and_nan_points_stay_nan_without_a_warning(dtype):
    points = np.array([[np.nan, 1, 2], [np.inf, 1, 2], [1, 2, 3]], dtype)
    moved = SE3(np.eye(4), "a", "b").transform(points)
    assert moved.dtype == dtype
    assert np.isnan(moved[0]).any()
    assert not np.isfinite(moved[1]).all()
    assert_array_equal(moved[2], [1, 2, 3])


def test_empty_clouds_are_points_too():
    assert SE3.identity("a").transform(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_quaternion_of_a_quarter_turn_left():
    turn = SE3.from_quaternion_xyzw([0, 0, HALF, HALF], [0, 0, 0], "a", "b")
    assert_allclose(turn.rotation, QUARTER_TURN_LEFT, atol=1e-15)
    assert_allclose(turn.quaternion_xyzw(), [0, 0, HALF, HALF])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quaternion_of_half_turns_where_w_is_zero(axis):
    quaternion = np.eye(4)[axis]
    assert_allclose(SE3.from_quaternion_xyzw(quaternion, np.zeros(3), "a", "b").quaternion_xyzw(), quaternion)


@given(rotation_vectors)
def test_quaternions_go_to_matrices_and_back(vector):
    pose = from_rotation_vector(vector)
    again = SE3.from_quaternion_xyzw(pose.quaternion_xyzw(), pose.translation, "a", "b")
    assert_allclose(again.matrix, pose.matrix, atol=1e-12)


def test_interpolation_turns_at_constant_rate():
    start = SE3.identity("a")
    end = SE3.from_rotation_translation(QUARTER_TURN_LEFT, [4, 0, 0], "a", "a")
    quarter = start.interpolate(end, 0.25)
    angle = np.radians(90 / 4)
    assert_allclose(quarter.rotation[:2, 0], [np.cos(angle), np.sin(angle)])
    assert_allclose(quarter.translation, [1, 0, 0])


def test_interpolation_takes_the_shorter_way_round():
    def yaw(degrees):
        return SE3.from_rotation_translation(cv2.Rodrigues(np.radians([0.0, 0, degrees]))[0], np.zeros(3), "a", "b")

    assert_allclose(yaw(170).interpolate(yaw(-170), 0.5).matrix, yaw(180).matrix, atol=1e-12)


@given(rotation_vectors, rotation_vectors, st.floats(0, 1))
def test_interpolation_is_the_partial_rotation_about_the_common_axis(first, second, fraction):
    start, end = from_rotation_vector(first), from_rotation_vector(second)
    between = cv2.Rodrigues(start.rotation.T @ end.rotation)[0]
    if np.linalg.norm(between) > np.pi - 1e-3:
        return  # both ways round are equally short
    expected = start.rotation @ cv2.Rodrigues(between * fraction)[0]
    # The reference takes a rotation of less than 1e-5 rad for none.
    assert_allclose(start.interpolate(end, fraction).rotation, expected, atol=2e-5)


def test_interpolation_between_different_frames_is_refused():
    with pytest.raises(TransformError, match="frames differ"):
        SE3.identity("a").interpolate(SE3.identity("b"), 0.5)


def test_a_rotation_rounded_in_a_file_is_made_orthonormal():
    rounded = np.round(cv2.Rodrigues(np.array([0.3, -0.2, 1.0]))[0], 4)
    rotation = SE3.from_rotation_translation(rounded, np.zeros(3), "a", "b").rotation
    assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert_allclose(rotation, rounded, atol=1e-4)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.diag([1.0, 1, -1, 1]), "determinant -1"),
        (np.diag([2.0, 2, 2, 1]), "expected a rotation"),
        (np.zeros((4, 4)), "last row"),
        (np.full((4, 4), np.nan), "finite"),
        (np.eye(3), "4x4"),
    ],
)
def test_what_is_no_rigid_transform_is_refused_with_its_frames(matrix, message):
    with pytest.raises(TransformError, match=rf"cam <- lidar(.|\n)*{message}"):
        SE3(matrix, "cam", "lidar")


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [0, 0, 0, 1.1], [np.nan, 0, 0, 1], [0, 0, 1]])
def test_what_is_no_unit_quaternion_is_refused(quaternion):
    with pytest.raises(TransformError, match="quaternion"):
        SE3.from_quaternion_xyzw(quaternion, np.zeros(3), "a", "b")


def test_misshapen_rotation_and_points_are_refused():
    with pytest.raises(TransformError, match=r"\(2, 2\)"):
        SE3.from_rotation_translation(np.eye(2), np.zeros(3), "a", "b")
    with pytest.raises(TransformError, match=r"\(5, 4\)"):
        SE3.identity("a").transform(np.zeros((5, 4)))


def test_the_matrix_cannot_be_changed_afterwards():
    matrix = np.eye(4)
    pose = SE3(matrix, "a", "b")
    matrix[0, 3] = 7
    assert pose.translation[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        pose.matrix[0, 3] = 7
