"""Which topics are taken from a bag, and what is asked of the user where that is not clear."""

import pytest

from clip2uda_core.data.readers.bag_file import Topic
from clip2uda_core.data.readers.topics import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, POINT_CLOUD, choose_cameras
from clip2uda_core.data.readers.topics import choose_points_topic as choose_points
from clip2uda_core.errors import DataError


def topics(**types: str) -> list[Topic]:
    """Topics of ten messages; `front__image_raw=IMAGE` is /front/image_raw."""
    return [Topic("/" + name.replace("__", "/"), msgtype, 10) for name, msgtype in types.items()]


FRONT = topics(front__image_raw=IMAGE, front__camera_info=CAMERA_INFO)


def cameras(bag: list[Topic], asked=None, calibrated=None) -> dict[str, str]:
    return {camera.name: camera.image for camera in choose_cameras(bag, asked, calibrated)}


def test_the_only_cloud_is_taken() -> None:
    assert (
        choose_points([*topics(velodyne_points=POINT_CLOUD), Topic("/idle", POINT_CLOUD, 0)], None)
        == "/velodyne_points"
    )


def test_several_clouds_are_offered_as_flags() -> None:
    bag = topics(front__points=POINT_CLOUD, rear__points=POINT_CLOUD)
    with pytest.raises(DataError, match=r"\n  --points-topic /front/points .*\n  --points-topic /rear/points"):
        choose_points(bag, None)
    with pytest.raises(DataError, match=r"/top/points; choose one of:\n  --points-topic /front/points"):
        choose_points(bag, "/top/points")
    assert choose_points(bag, "/rear/points") == "/rear/points"


def test_a_bag_without_clouds_lists_what_it_has() -> None:
    with pytest.raises(DataError, match=r"no topic of type PointCloud2.*\n  /front/image_raw    sensor_msgs/msg/Image"):
        choose_points(FRONT, None)


def test_cameras_are_images_beside_a_camera_info() -> None:
    bag = [
        *FRONT,
        *topics(left__image_rect_color__compressed=COMPRESSED_IMAGE, left__camera_info=CAMERA_INFO),
        *topics(map__image=IMAGE),
    ]
    assert cameras(bag) == {"front": "/front/image_raw", "left": "/left/image_rect_color/compressed"}
    front, left = choose_cameras(bag, None, None)
    assert (front.rectified, front.compressed, front.info) == (False, False, "/front/camera_info")
    assert (left.rectified, left.compressed, left.info) == (True, True, "/left/camera_info")


def test_raw_transport_is_preferred_and_depth_is_no_camera() -> None:
    bag = [
        *topics(camera__color__image_raw__compressed=COMPRESSED_IMAGE, camera__color__image_raw=IMAGE),
        *topics(camera__color__camera_info=CAMERA_INFO),
        *topics(camera__depth__image_rect_raw=IMAGE, camera__depth__camera_info=CAMERA_INFO),
    ]
    assert cameras(bag) == {"color": "/camera/color/image_raw"}


def test_cameras_of_one_last_name_get_their_whole_name() -> None:
    bag = topics(
        a__color__image_raw=IMAGE,
        a__color__camera_info=CAMERA_INFO,
        b__color__image_raw=IMAGE,
        b__color__camera_info=CAMERA_INFO,
    )
    assert set(cameras(bag)) == {"a_color", "b_color"}


def test_single_camera_with_its_info_elsewhere() -> None:
    assert cameras(topics(image=IMAGE, camera__camera_info=CAMERA_INFO)) == {"camera": "/image"}


def test_several_images_of_one_camera_are_offered_as_flags() -> None:
    bag = [*FRONT, *topics(front__image_rect=IMAGE)]
    with pytest.raises(DataError, match=r"--camera front=/front/image_raw .*\n  --camera front=/front/image_rect"):
        cameras(bag)
    assert cameras(bag, {"eye": "/front/image_rect"}) == {"eye": "/front/image_rect"}


def test_asked_cameras_must_be_there_and_calibrated() -> None:
    with pytest.raises(
        DataError, match="no images on topic /rear/image_raw; choose from:\n  --camera front=/front/image_raw"
    ):
        cameras(FRONT, {"rear": "/rear/image_raw"})
    with pytest.raises(DataError, match=r"/map/image: no CameraInfo topic beside it.*--calibration"):
        cameras([*FRONT, *topics(map__image=IMAGE, map__image2=IMAGE)], {"map": "/map/image"})
    assert cameras(FRONT, {}) == {}


def test_images_without_any_camera_info_need_a_calibration() -> None:
    bag = topics(left__image=IMAGE, right__image=IMAGE)
    with pytest.raises(DataError, match=r"no CameraInfo beside them: /left/image, /right/image.*--calibration FILE"):
        cameras(bag)
    assert cameras(bag, calibrated={"left": None, "right": None}) == {"left": "/left/image", "right": "/right/image"}
    assert cameras(bag, calibrated={"left": None}) == {"left": "/left/image"}
    assert cameras(bag, calibrated={"a": "/right/image"}) == {"a": "/right/image"}
    assert cameras(bag[:1], calibrated={"cam0": None}) == {"cam0": "/left/image"}
    with pytest.raises(DataError, match="calibrated camera rear"):
        cameras(bag, calibrated={"left": None, "rear": None})
    with pytest.raises(DataError, match="'middle' is not in the calibration file; it describes: left"):
        cameras(bag, {"middle": "/left/image"}, {"left": None})


def test_a_bag_without_images_has_no_cameras() -> None:
    assert cameras(topics(points=POINT_CLOUD)) == {}
