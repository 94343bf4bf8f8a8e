"""TF messages <-> named transforms, and stamps."""

from types import SimpleNamespace

import numpy as np
import pytest
from message_runtimes import STAMP_NS, each_runtime

from clip2uda_core.data.messages import RosbagsFactory, decode_transforms, encode_transforms, frame_id, stamp_ns
from clip2uda_core.data.messages.stamps import make_header
from clip2uda_core.errors import DataError
from clip2uda_core.geometry import SE3

ROSBAGS = RosbagsFactory()


def stamped(factory, quaternion, translation=(1.0, 2.0, 3.0), parent="base_link", child="lidar"):
    x, y, z, w = map(float, quaternion)
    tx, ty, tz = translation
    return factory.make(
        "geometry_msgs/msg/TransformStamped",
        header=make_header(STAMP_NS, parent, factory),
        child_frame_id=child,
        transform=factory.make(
            "geometry_msgs/msg/Transform",
            translation=factory.make("geometry_msgs/msg/Vector3", x=tx, y=ty, z=tz),
            rotation=factory.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
        ),
    )


@each_runtime
def test_a_transform_takes_points_of_the_child_to_the_parent(factory):
    """A quarter turn about z: the child's x axis is the parent's y."""
    msg = SimpleNamespace(transforms=[stamped(factory, (0, 0, np.sqrt(0.5), np.sqrt(0.5)))])
    ((parent_SE3_child, stamp),) = decode_transforms(msg)
    assert (parent_SE3_child.target, parent_SE3_child.source, stamp) == ("base_link", "lidar", STAMP_NS)
    np.testing.assert_allclose(parent_SE3_child.transform(np.array([[1.0, 0, 0]])), [[1, 3, 3]], atol=1e-15)


def test_ros1_slashes_are_not_part_of_a_name():
    msg = SimpleNamespace(transforms=[stamped(ROSBAGS, (0, 0, 0, 1), parent="/base_link", child="/lidar")])
    ((transform, _),) = decode_transforms(msg)
    assert (transform.target, transform.source) == ("base_link", "lidar")


@each_runtime
@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (0, 0, 0, 2)])
def test_a_broken_transform_does_not_take_others_with_it(factory, quaternion, caplog):
    transforms = [stamped(factory, quaternion, child="broken"), stamped(factory, (0, 0, 0, 1))]
    decoded = decode_transforms(SimpleNamespace(transforms=transforms))
    assert [transform.source for transform, _ in decoded] == ["lidar"]
    assert "base_link <- broken" in caplog.text


def test_round_trip():
    rng = np.random.default_rng(4)
    quaternions = rng.normal(size=(20, 4))
    transforms = [
        (SE3.from_quaternion_xyzw(q / np.linalg.norm(q), rng.normal(size=3), "map", f"frame_{i}"), STAMP_NS + i)
        for i, q in enumerate(quaternions)
    ]
    store = ROSBAGS.typestore
    msg = encode_transforms(transforms, ROSBAGS)
    decoded = decode_transforms(store.deserialize_cdr(store.serialize_cdr(msg, msg.__msgtype__), msg.__msgtype__))
    assert len(decoded) == 20
    for (expected, expected_ns), (transform, ns) in zip(transforms, decoded, strict=True):
        assert (transform.target, transform.source, ns) == (expected.target, expected.source, expected_ns)
        np.testing.assert_allclose(transform.matrix, expected.matrix, atol=1e-14)


@each_runtime
@pytest.mark.parametrize("stamp", [0, 1, 999_999_999, 1_000_000_000, STAMP_NS, 2**31 * 10**9 - 1, -1, -(10**9)])
def test_stamps_keep_every_nanosecond(factory, stamp):
    header = make_header(stamp, "lidar", factory)
    assert stamp_ns(header) == stamp
    assert stamp_ns(SimpleNamespace(header=header)) == stamp
    assert frame_id(SimpleNamespace(header=header)) == "lidar"


@pytest.mark.parametrize("stamp", [2**31 * 10**9, -(2**31) * 10**9 - 1])
def test_stamps_that_ros_cannot_hold(stamp):
    with pytest.raises(DataError, match="stamp of 'lidar': expected nanoseconds within 32 bits of seconds"):
        make_header(stamp, "lidar", ROSBAGS)
