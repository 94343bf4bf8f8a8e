"""CameraInfo messages to camera models and back.

The frame of a CameraInfo is that of the rectified camera, for a stereo pair that of its first camera, as
sensor_msgs/CameraInfo says and as RViz and image_geometry read it: a point p of it falls on pixel P [p; 1] of the
rectified image. The raw camera sees the point at Rᵀ (p + t), where t = P[:, :3]⁻¹ P[:, 3] is zero for a camera alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.messages.factory import MessageFactory
from clip2uda_core.data.messages.stamps import make_header
from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import CameraModel, FisheyeCamera, PinholeCamera
from clip2uda_core.geometry.distortion import PINHOLE_COEFFICIENTS
from clip2uda_core.geometry.se3 import checked_rotation

PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")
FISHEYE_MODELS = ("equidistant", "fisheye")

LARGEST_NUMBER = 1e9
"""No calibration reaches it; what does is an uninitialised message."""

_CALIBRATE = "calibrate the camera (ros2 run camera_calibration cameracalibrator) or give a calibration YAML"


def decode_camera_info(msg: Any, topic: str, rectified: bool, image_size_px: tuple[int, int]) -> CameraModel:
    """The camera of an image of (width, height) pixels; `topic` names the message in errors.

    rectified: the image is a rectified one, which P describes; where P is all zero, K without distortion. Otherwise the
    image is raw: K, D, R (all zero means identity) and P's offset. Coefficients that are all zero, or none, are no
    distortion, whatever the model's name; without any, `equidistant` is the plain f-theta fisheye.

    CameraInfo describes the full sensor: its ROI is cropped, then binned (0 means 1). An image of another size but the
    same aspect was resized after that. Both scale pixels about their edges, as cv2.resize does.

    ROS 1's field names (K) and ROS 2's (k) are understood. Raises CalibrationError when K (or P) is zero or has skew,
    R is not a rotation, the distortion is unknown, a number is NaN or absurd, or the image's aspect is another.
    """
    camera = _rectified_camera(msg, topic) if rectified else _raw_camera(msg, topic)
    return _at_image_size(camera, msg, topic, image_size_px)


def encode_camera_info(camera: CameraModel, stamp_ns: int, frame_id: str, factory: MessageFactory) -> Any:
    """The CameraInfo from which `decode_camera_info(rectified=False)` gives `camera` back.

    So does `rectified=True` for a camera without distortion and rotation. A missing distortion is written as plumb_bob
    with zeros, which every ROS program understands.
    """
    if isinstance(camera, FisheyeCamera):
        model, coefficients, offset_m = "equidistant", camera.distortion, np.zeros(3)
    else:
        assert isinstance(camera, PinholeCamera), type(camera)
        model = "plumb_bob" if len(camera.distortion) <= 5 else "rational_polynomial"
        coefficients = camera.distortion + (0.0,) * (5 - len(camera.distortion))
        offset_m = camera.rotation.T @ camera.offset_m
    projection = np.column_stack([camera.matrix, camera.matrix @ offset_m])
    return factory.make(
        "sensor_msgs/msg/CameraInfo",
        header=make_header(stamp_ns, frame_id, factory),
        height=camera.height_px,
        width=camera.width_px,
        distortion_model=model,
        d=np.array(coefficients, np.float64),
        k=camera.matrix.reshape(-1),
        r=np.ascontiguousarray(camera.rotation.T).reshape(-1),
        p=projection.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=factory.make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def _raw_camera(msg: Any, topic: str) -> CameraModel:
    intrinsics = _intrinsics(msg, topic, _numbers(msg, "K", topic, 9).reshape(3, 3), "K")
    r = _numbers(msg, "R", topic, 9).reshape(3, 3)
    rotation = checked_rotation(r, f"{topic}: R").T if r.any() else np.eye(3)
    offset_m = rotation @ _offset_m(_numbers(msg, "P", topic, 12).reshape(3, 4), topic)
    model, coefficients = str(msg.distortion_model), _numbers(msg, "D", topic)
    if model in FISHEYE_MODELS:
        if offset_m.any():
            raise CalibrationError(
                f"{topic}: expected a fisheye camera in a frame of its own, got a P whose fourth column is that of a "
                f"second stereo camera; give a calibration YAML"
            )
        return FisheyeCamera(**intrinsics, distortion=_fisheye_coefficients(coefficients, topic), rotation=rotation)
    return PinholeCamera(
        **intrinsics,
        distortion=_pinhole_coefficients(model, coefficients, topic),
        rotation=rotation,
        offset_m=offset_m,
    )


def _rectified_camera(msg: Any, topic: str) -> CameraModel:
    projection = _numbers(msg, "P", topic, 12).reshape(3, 4)
    if not projection.any():
        return PinholeCamera(**_intrinsics(msg, topic, _numbers(msg, "K", topic, 9).reshape(3, 3), "K"))
    intrinsics = _intrinsics(msg, topic, projection[:, :3], "P")
    return PinholeCamera(**intrinsics, offset_m=_offset_m(projection, topic))


def _intrinsics(msg: Any, topic: str, matrix: NDArray[np.float64], name: str) -> dict[str, Any]:
    """The arguments that all camera models share, from K or the left part of P."""
    if msg.width < 1 or msg.height < 1:
        raise CalibrationError(
            f"{topic}: expected the image size that was calibrated, got {msg.width}x{msg.height}; {_CALIBRATE}"
        )
    _check_matrix(matrix, name, topic)
    focal = {"fx": float(matrix[0, 0]), "fy": float(matrix[1, 1]), "cx": float(matrix[0, 2]), "cy": float(matrix[1, 2])}
    return {"width_px": int(msg.width), "height_px": int(msg.height), **focal}


def _check_matrix(matrix: NDArray[np.float64], name: str, topic: str) -> None:
    fx, fy, skew = matrix[0, 0], matrix[1, 1], matrix[0, 1]
    if fx <= 0 or fy <= 0:
        raise CalibrationError(
            f"{topic}: expected positive focal lengths in {name}, got fx={fx}, fy={fy}"
            f"{' (zero means not calibrated)' if fx == fy == 0 else ''}; {_CALIBRATE}"
        )
    if abs(skew) > 1e-6 * fx or matrix[1, 0] != 0 or not np.array_equal(matrix[2], (0, 0, 1)):
        raise CalibrationError(
            f"{topic}: expected {name} of the form [fx 0 cx; 0 fy cy; 0 0 1], got {matrix.tolist()}; {_CALIBRATE}"
        )


def _offset_m(projection: NDArray[np.float64], topic: str) -> NDArray[np.float64]:
    """t of P = K' [I | t]: where the first camera is seen from the second, zero for a camera alone."""
    if not projection[:, 3].any():
        return np.zeros(3)
    _check_matrix(projection[:, :3], "P", topic)
    return np.asarray(np.linalg.solve(projection[:, :3], projection[:, 3]), np.float64)


def _fisheye_coefficients(values: NDArray[np.float64], topic: str) -> tuple[float, ...]:
    if not values.any():
        return (0.0,) * 4
    if len(values) < 4 or values[4:].any():
        raise CalibrationError(
            f"{topic}: expected 4 distortion coefficients of a fisheye model, got {values.tolist()}; {_CALIBRATE}"
        )
    return tuple(values[:4])


def _pinhole_coefficients(model: str, values: NDArray[np.float64], topic: str) -> tuple[float, ...]:
    """The number of coefficients says what they mean in OpenCV; drivers often name one of the models for the other."""
    if not values.any():
        return ()
    if model not in PINHOLE_MODELS:
        known = ", ".join(PINHOLE_MODELS + FISHEYE_MODELS)
        raise CalibrationError(f"{topic}: unknown distortion model '{model}', known are {known}; {_CALIBRATE}")
    if len(values) not in PINHOLE_COEFFICIENTS:
        raise CalibrationError(
            f"{topic}: expected {', '.join(map(str, PINHOLE_COEFFICIENTS))} distortion coefficients for {model}, got "
            f"{len(values)}: {values.tolist()}; {_CALIBRATE}"
        )
    return tuple(values)


def _numbers(msg: Any, name: str, topic: str, length: int | None = None) -> NDArray[np.float64]:
    """K, D, R or P as float64; ROS 2 names them in lower case."""
    values = np.asarray(getattr(msg, name.lower() if hasattr(msg, name.lower()) else name), np.float64)
    if length is not None and len(values) != length:
        raise CalibrationError(f"{topic}: expected {length} numbers in {name}, got {len(values)}; {_CALIBRATE}")
    if not (np.abs(values) < LARGEST_NUMBER).all():  # NaN is not below anything
        raise CalibrationError(f"{topic}: expected sane numbers in {name}, got {values.tolist()}; {_CALIBRATE}")
    return values


def _at_image_size(camera: CameraModel, msg: Any, topic: str, image_size_px: tuple[int, int]) -> CameraModel:
    roi = msg.roi
    roi_width, roi_height = int(roi.width or msg.width), int(roi.height or msg.height)
    if roi.x_offset + roi_width > msg.width or roi.y_offset + roi_height > msg.height:
        raise CalibrationError(
            f"{topic}: expected a region of interest within {msg.width}x{msg.height} pixels, got "
            f"{roi_width}x{roi_height} at {roi.x_offset}, {roi.y_offset}"
        )
    bin_x, bin_y = max(int(msg.binning_x), 1), max(int(msg.binning_y), 1)
    width, height = roi_width // bin_x, roi_height // bin_y
    image_width, image_height = image_size_px
    same_aspect = (
        width
        and height
        and (
            abs(image_height - height * image_width / width) < 1 or abs(image_width - width * image_height / height) < 1
        )
    )
    if not same_aspect:
        raise CalibrationError(
            f"{topic}: expected an image of {width}x{height} pixels (or resized at that aspect), got "
            f"{image_width}x{image_height}; the CameraInfo belongs to another camera or mode of it"
        )
    # a sensor whose size the bin does not divide leaves out its last columns and rows
    camera = camera.cropped(int(roi.x_offset), int(roi.y_offset), width * bin_x, height * bin_y)
    camera = camera.resized(width, height)
    return camera.resized(image_width, image_height)
