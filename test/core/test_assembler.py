"""Frames from real messages of rosbags' types: what they hold, and what a fault of one camera costs."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rosbags.typesys import Stores, get_typestore

from clip2uda_core.data.assembler import CameraSetup, FrameAssembler
from clip2uda_core.data.calibration import Calibration, describe_camera
from clip2uda_core.data.collector import CollectedSet
from clip2uda_core.data.messages import (
    RosbagsFactory,
    encode_camera_info,
    encode_compressed_image,
    encode_image,
    encode_point_cloud,
)
from clip2uda_core.errors import CalibrationError, DataError
from clip2uda_core.geometry import SE3, PinholeCamera, TransformBuffer
from clip2uda_core.types import PointCloud

FACTORY = RosbagsFactory(get_typestore(Stores.ROS2_KILTED))
S = 1_000_000_000
STAMP = 1_700_000_000 * S
CAMERA = PinholeCamera(64, 48, 40.0, 40.0, 31.5, 23.5)
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
SETUP = CameraSetup("front", image_topic="/front/image_raw", info_topic="/front/camera_info")
camera_SE3_lidar = SE3.from_rotation_translation([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0, 0.2, 0], "camera", "lidar")


def cloud_message(frame: str = "lidar") -> Any:
    cloud = PointCloud(np.array([[10, 0, 0], [10, 1, 0], [np.nan] * 3], np.float32), STAMP, frame)
    return encode_point_cloud(cloud, FACTORY)


def image_message(frame: str = "camera", rgb: np.ndarray = IMAGE) -> Any:
    return encode_image(rgb, STAMP, frame, FACTORY)


def info_message(camera: PinholeCamera = CAMERA, stamp_ns: int = STAMP) -> Any:
    return encode_camera_info(camera, stamp_ns, "camera", FACTORY)


def collected(cloud: Any = None, **images: Any) -> CollectedSet[Any]:
    """A set with images taken 10 ms after the cloud."""
    stamped = {name: (STAMP + S // 100, message) for name, message in images.items()}
    return CollectedSet(cloud or cloud_message(), STAMP, stamped, {})


def static_tf() -> TransformBuffer:
    transforms = TransformBuffer()
    transforms.set_transform(camera_SE3_lidar.inverse(), 0, static=True)
    return transforms


def assembler(transforms: TransformBuffer | None = None, setup: CameraSetup = SETUP, **options) -> FrameAssembler:
    result = FrameAssembler([setup], transforms or static_tf(), **options)
    result.set_camera_info("front", info_message())
    return result


@pytest.mark.parametrize("compressed", [False, True])
def test_a_frame_holds_what_the_messages_say(compressed):
    message = encode_compressed_image(IMAGE, STAMP, "camera", FACTORY) if compressed else image_message()
    frame = assembler(points_topic="/points").assemble(collected(front=message))
    assert frame.source == "/points at 1700000000.000000000 s"
    assert (len(frame.cloud), frame.cloud.stamp_ns, frame.cloud.frame_id) == (3, STAMP, "lidar")
    (view,) = frame.views
    assert (view.name, view.stamp_ns, view.camera) == ("front", STAMP + S // 100, CAMERA)
    assert_array_equal(view.image, IMAGE)
    assert_allclose(view.camera_SE3_lidar.matrix, camera_SE3_lidar.matrix)
    assert (view.camera_SE3_lidar.target, view.camera_SE3_lidar.source) == ("camera", "lidar")


def test_a_set_without_images_is_a_frame_for_3d_alone():
    assert assembler().assemble(collected()).views == ()


def test_a_cloud_that_cannot_be_decoded_is_an_error():
    broken = cloud_message()
    broken.fields = broken.fields[:2]
    with pytest.raises(DataError, match="/points"):
        assembler(points_topic="/points").assemble(collected(broken, front=image_message()))


def test_a_new_camera_info_holds_from_then_on():
    assembling = assembler()
    assembling.set_camera_info("front", info_message(stamp_ns=STAMP + S))
    first, second = (assembling.assemble(collected(front=image_message())).views[0].camera for _ in range(2))
    assert first is second  # the same calibration is decoded once
    zoomed = replace(CAMERA, fx=80.0, fy=80.0)
    assembling.set_camera_info("front", info_message(zoomed))
    assert assembling.assemble(collected(front=image_message())).views[0].camera == zoomed


def test_a_resized_image_has_a_resized_camera():
    frame = assembler().assemble(collected(front=image_message(rgb=IMAGE[::2, ::2])))
    assert frame.views[0].camera == CAMERA.resized(32, 24)


def test_rectified_images_are_described_by_p():
    info = info_message()
    info.p[:] = [50, 0, 30, 5, 0, 50, 20, 0, 0, 0, 1, 0]
    assembling = assembler(setup=replace(SETUP, rectified=True))
    assembling.set_camera_info("front", info)
    camera = assembling.assemble(collected(front=image_message())).views[0].camera
    assert camera == PinholeCamera(64, 48, 50.0, 50.0, 30.0, 20.0, offset_m=np.array([0.1, 0, 0]))


# --- transforms ----------------------------------------------------------------------------------------------------


def moving_tf() -> TransformBuffer:
    """odom -> base moves 1 m/s along x; base -> lidar is identity and lidar -> camera is fixed."""
    transforms = static_tf()
    transforms.set_transform(SE3(np.eye(4), "base", "lidar"), 0, static=True)
    for second in (0, 1):
        pose = SE3.from_rotation_translation(np.eye(3), [second, 0, 0], "odom", "base")
        transforms.set_transform(pose, STAMP + second * S, static=False)
    return transforms


def test_with_a_fixed_frame_the_motion_between_cloud_and_image_is_compensated():
    view = assembler(moving_tf(), fixed_frame="odom").assemble(collected(front=image_message())).views[0]
    seen = view.camera_SE3_lidar.transform(np.array([[10.0, 0, 0]]))
    assert_allclose(seen, [[0, 0.2, 10 - 0.01]], atol=1e-12)  # 10 ms at 1 m/s nearer


def test_without_a_fixed_frame_the_rig_is_rigid():
    view = assembler(moving_tf()).assemble(collected(front=image_message())).views[0]
    assert_allclose(view.camera_SE3_lidar.matrix, camera_SE3_lidar.matrix)


def test_a_rigid_transform_that_was_found_once_is_kept():
    transforms = TransformBuffer()
    transforms.set_transform(camera_SE3_lidar.inverse(), STAMP, static=False)  # rigid, but published on /tf
    assembling = assembler(transforms)
    assert len(assembling.assemble(collected(front=image_message())).views) == 1
    transforms.clear_dynamic()
    assert len(assembling.assemble(collected(front=image_message())).views) == 1


def test_a_transform_that_comes_late_is_used_once_it_is_there():
    transforms = TransformBuffer()
    assembling = assembler(transforms)
    assert assembling.assemble(collected(front=image_message())).views == ()
    assert assembling.failures == {("front", "transform"): 1}
    assert "known frames: none yet" in assembling.last_failure["front"]
    transforms.set_transform(camera_SE3_lidar.inverse(), 0, static=True)
    assert len(assembling.assemble(collected(front=image_message())).views) == 1


def test_a_rigid_transform_is_looked_up_again_when_it_was_forgotten():
    transforms = static_tf()
    assembling = assembler(transforms)
    assembling.assemble(collected(front=image_message()))
    moved = SE3.from_rotation_translation(camera_SE3_lidar.rotation, [0, 0.9, 0], "camera", "lidar")
    transforms.set_transform(moved.inverse(), 0, static=True)
    assembling.forget_rigid_transforms()
    (view,) = assembling.assemble(collected(front=image_message())).views
    assert_allclose(view.camera_SE3_lidar.matrix, moved.matrix)


def test_it_can_be_asked_whether_the_transforms_of_a_set_are_there():
    transforms = TransformBuffer()
    assembling = assembler(transforms, fixed_frame="odom")
    paired = collected(front=image_message())
    transforms.set_transform(camera_SE3_lidar.inverse(), 0, static=True)
    for when_ns, there in ((STAMP - S, False), (STAMP, False), (STAMP + S // 50, True)):
        transforms.set_transform(
            SE3.from_rotation_translation(np.eye(3), [1, 2, 0], "odom", "lidar"), when_ns, static=False
        )
        assert assembling.has_transforms(paired) == there
    assert assembling.has_transforms(collected())
    assert assembling.failures.total() == 0


def test_another_decoder_may_take_the_place_of_ours():
    purple = image_message()
    purple.encoding = "purple"
    assembling = assembler(decode=lambda message, topic: np.full((48, 64, 3), 7, np.uint8))
    (view,) = assembling.assemble(collected(front=purple)).views
    assert (view.image == 7).all()


def test_a_stamp_outside_of_tf_is_not_served_with_another():
    transforms = moving_tf()
    transforms.clear_dynamic()
    pose = SE3.from_rotation_translation(np.eye(3), [5, 0, 0], "odom", "base")
    transforms.set_transform(pose, STAMP, static=False)
    assembling = assembler(transforms, fixed_frame="odom")
    assert assembling.assemble(collected(front=image_message())).views == ()
    assert "extrapolation: it is 0.010000000 s after" in assembling.last_failure["front"]


# --- cameras that fail ---------------------------------------------------------------------------------------------


def truncated() -> Any:
    message = encode_compressed_image(IMAGE, STAMP, "camera", FACTORY)
    message.data = message.data[: len(message.data) // 2]
    return message


def unknown_encoding() -> Any:
    message = image_message()
    message.encoding = "rgb7"
    return message


@pytest.mark.parametrize(
    ("image", "kind", "text"),
    [
        (truncated(), "image", "/front/image_raw"),
        (unknown_encoding(), "image", "rgb7"),
        (image_message(frame=""), "transform", "no frame_id"),
        (image_message(frame="other"), "transform", "'other'"),
        (image_message(rgb=IMAGE[:, :30]), "calibration", "/front/camera_info.*64x48.*30x48"),
    ],
)
def test_a_camera_that_fails_is_skipped_counted_and_explained(image, kind, text, caplog):
    assembling = FrameAssembler([SETUP, replace(SETUP, name="good")], static_tf())
    for name in ("front", "good"):
        assembling.set_camera_info(name, info_message())
    for _ in range(3):
        frame = assembling.assemble(collected(front=image, good=image_message()))
        assert [view.name for view in frame.views] == ["good"]
    assert assembling.failures == {("front", kind): 3}
    assert (assembling.skipped("front"), assembling.skipped("good")) == (3, 0)
    assert re.search(text, assembling.last_failure["front"])
    assert len(caplog.records) == 1  # said once, not at each frame


def test_no_camera_info_and_a_zero_k_name_the_topic():
    assembling = FrameAssembler([SETUP], static_tf())
    assembling.assemble(collected(front=image_message()))
    assert "/front/camera_info: no CameraInfo" in assembling.last_failure["front"]
    info = info_message()
    info.k[:] = 0
    assembling.set_camera_info("front", info)
    assembling.assemble(collected(front=image_message()))
    assert "/front/camera_info" in assembling.last_failure["front"]
    assert "fx=0" in assembling.last_failure["front"]
    assert assembling.failures == {("front", "calibration"): 2}


# --- calibration files ---------------------------------------------------------------------------------------------


def calibration(lidar_frame: str | None = "lidar") -> Calibration:
    return Calibration(lidar_frame=lidar_frame, cameras={"front": describe_camera(CAMERA, camera_SE3_lidar)})


def test_a_calibration_file_needs_neither_tf_nor_camera_info_nor_frame_names():
    view = FrameAssembler([SETUP], calibration()).assemble(collected(front=image_message(frame=""))).views[0]
    assert view.camera == CAMERA
    assert_allclose(view.camera_SE3_lidar.matrix, camera_SE3_lidar.matrix)
    assert (view.camera_SE3_lidar.target, view.camera_SE3_lidar.source) == ("front", "lidar")


def test_two_cameras_in_one_frame_keep_their_own_extrinsics():
    shifted = SE3.from_rotation_translation(np.eye(3), [1, 0, 0], "camera", "camera") @ camera_SE3_lidar
    cameras = {"front": describe_camera(CAMERA, camera_SE3_lidar), "side": describe_camera(CAMERA, shifted)}
    assembling = FrameAssembler([SETUP, CameraSetup("side")], Calibration(cameras=cameras))
    front, side = assembling.assemble(collected(front=image_message(), side=image_message())).views
    assert_allclose(side.camera_SE3_lidar.translation - front.camera_SE3_lidar.translation, [1, 0, 0])


def test_clouds_in_another_frame_are_not_projected_with_the_lidars_calibration():
    assembling = FrameAssembler([SETUP], calibration())
    assert assembling.assemble(collected(cloud_message("base_link"), front=image_message())).views == ()
    assert "'lidar', got clouds in 'base_link'" in assembling.last_failure["front"]
    anywhere = FrameAssembler([SETUP], calibration(lidar_frame=None))
    assert len(anywhere.assemble(collected(cloud_message("base_link"), front=image_message())).views) == 1


def test_a_calibration_without_the_camera_is_refused_at_once():
    with pytest.raises(CalibrationError, match="lacks camera back; it has front"):
        FrameAssembler([SETUP, CameraSetup("back")], calibration())
