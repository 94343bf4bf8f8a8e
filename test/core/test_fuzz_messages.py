"""Whatever a message holds, decoding it gives a value or a Clip2udaError."""

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from message_runtimes import each_runtime, header

from clip2uda_core.data.messages import (
    IMAGE_ENCODINGS,
    decode_camera_info,
    decode_compressed_image,
    decode_image,
    decode_point_cloud,
    encode_labelled_cloud,
)
from clip2uda_core.errors import Clip2udaError
from clip2uda_core.labels import IGNORE, LabelSpace
from clip2uda_core.types import Prediction

no_warnings = pytest.mark.filterwarnings("error::RuntimeWarning")
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

UINT32 = st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1), st.sampled_from([2**16, 2**31, 2**32 - 1]))
BYTES = st.binary(max_size=200)
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}
NAMES = ("x", "y", "z", "intensity", "i", "label", "t", "time", "timestamp", "rgb", "confidence", "ring", "")
LABELS = LabelSpace.from_dict(
    {"name": "two", "classes": [{"name": n, "prompt": n, "color": [1, 2, 3]} for n in ("car", "road")]}, "test"
)


@st.composite
def cloud_fields(draw):
    """A cloud that makes sense: fields packed in any order with gaps, as many bytes as its sizes say."""
    names = draw(st.permutations(["x", "y", "z", *draw(st.sets(st.sampled_from(NAMES[3:]), max_size=3))]))
    fields, end = [], 0
    for name in names:
        datatype, count = draw(st.integers(1, 8)), 1 if name in "xyz" else draw(st.integers(0, 3))
        offset = end + draw(st.integers(0, 3))
        fields.append({"name": name, "offset": offset, "datatype": datatype, "count": count})
        end = offset + SIZES[datatype] * max(count, 1)
    point_step = end + draw(st.integers(0, 4))
    height, width = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    row_step = width * point_step + (draw(st.integers(0, 4)) if height > 1 else 0)
    data = draw(st.binary(min_size=height * row_step, max_size=height * row_step))
    sizes = {"height": height, "width": width, "point_step": point_step, "row_step": row_step}
    return fields, {**sizes, "data": data, "is_bigendian": draw(st.booleans()), "is_dense": draw(st.booleans())}


POINT_FIELD = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "offset": UINT32, "datatype": st.integers(0, 255), "count": UINT32}
)


def damages(**strategies):
    """Nothing, or other values for some of a message's fields."""
    return st.fixed_dictionaries({}, optional=strategies)


def made(factory, msgtype, fields, frame="sensor"):
    fields = dict(fields)
    if "data" in fields:
        fields["data"] = factory.byte_array(np.frombuffer(fields["data"], np.uint8))
    return factory.make(msgtype, header=header(factory, frame), **fields)


@each_runtime
@no_warnings
@fuzz
@given(
    cloud=cloud_fields(),
    damage=damages(height=UINT32, width=UINT32, point_step=UINT32, row_step=UINT32, data=BYTES),
    damaged_field=st.none() | POINT_FIELD,
)
def test_point_cloud(factory, cloud, damage, damaged_field):
    fields, values = cloud
    if damaged_field is not None:
        fields = [*fields[1:], damaged_field]
    made_fields = [factory.make("sensor_msgs/msg/PointField", **field) for field in fields]
    msg = made(factory, "sensor_msgs/msg/PointCloud2", {**values, **damage, "fields": made_fields})
    try:
        cloud = decode_point_cloud(msg, "/points")
    except Clip2udaError:
        assert damage or damaged_field is not None
        return
    n = len(cloud)
    assert n == msg.height * msg.width
    assert not np.isinf(cloud.xyz_m).any()
    check_labelled_cloud(factory, msg, cloud)


def check_labelled_cloud(factory, msg, cloud):
    """What was decoded can be labelled: the same points in the same places."""
    n = len(cloud)
    none = np.zeros((n, 2), np.float32)
    prediction = Prediction(np.ones(n, np.uint8), np.ones(n, np.float32), np.zeros(n, np.bool_), none, none)
    known = all(1 <= field.datatype <= 8 for field in msg.fields)
    out = encode_labelled_cloud(msg, prediction, LABELS, factory, keep_input_fields=known and n > 0)
    labelled = decode_point_cloud(out, "/output")
    np.testing.assert_array_equal(labelled.xyz_m, cloud.xyz_m)
    lost = np.isnan(cloud.xyz_m).any(axis=1)
    np.testing.assert_array_equal(labelled.labels, np.where(lost, IGNORE, 1))


@st.composite
def image_fields(draw):
    encoding = draw(st.sampled_from(IMAGE_ENCODINGS))
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    step = 8 * width + draw(st.integers(0, 5))
    data = draw(st.binary(min_size=height * step, max_size=height * step))
    sizes = {"height": height, "width": width, "step": step, "data": data}
    return {"encoding": encoding, "is_bigendian": draw(st.integers(0, 1)), **sizes}


@each_runtime
@no_warnings
@fuzz
@given(
    image=image_fields(),
    damage=damages(height=UINT32, width=UINT32, step=UINT32, data=BYTES, encoding=st.text(max_size=12)),
)
def test_image(factory, image, damage):
    msg = made(factory, "sensor_msgs/msg/Image", {**image, **damage})
    try:
        rgb = decode_image(msg, "/image")
    except Clip2udaError:
        return
    assert rgb.shape == (msg.height, msg.width, 3)
    assert rgb.dtype == np.uint8


PICTURE = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
FILES = [
    cv2.imencode(".jpg", PICTURE)[1].tobytes(),
    cv2.imencode(".jpg", PICTURE[..., 0], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    cv2.imencode(".png", PICTURE)[1].tobytes(),
    cv2.imencode(".png", PICTURE[..., 0].astype(np.uint16))[1].tobytes(),
]


@st.composite
def damaged_files(draw):
    """A JPEG or PNG with bytes overwritten, cut off, or left out; or no such thing at all."""
    data = bytearray(draw(st.sampled_from(FILES) | BYTES))
    for position, value in draw(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=6)):
        if position < len(data):
            data[position] = value
    start, length = draw(st.tuples(st.integers(0, 1500), st.integers(0, 60)))
    del data[start : start + length]
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


FORMATS = st.text(max_size=10) | st.sampled_from(
    ["jpeg", "png", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed ", "16UC1; compressedDepth"]
)


@each_runtime
@no_warnings
@fuzz
@given(data=damaged_files(), format=FORMATS)
def test_compressed_image(factory, data, format):
    msg = made(factory, "sensor_msgs/msg/CompressedImage", {"data": data, "format": format})
    try:
        rgb = decode_compressed_image(msg, "/image")
    except Clip2udaError:
        return
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    assert rgb.dtype == np.uint8


def numbers(valid, **size):
    """The valid ones, or any doubles, NaN and infinities among them."""
    return st.just(valid) | st.lists(st.floats() | st.sampled_from([0.0, 1.0]), **size)


K = (500.0, 0, 320, 0, 510, 240, 0, 0, 1)
P = (500.0, 0, 320, -50, 0, 500, 240, 0, 0, 0, 1, 0)
IDENTITY = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)


@each_runtime
@fuzz
@given(
    model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "fisheye", "", "omni"])
    | st.text(max_size=5),
    d=numbers((-0.3, 0.1, 0.001, 0.001, 0.0), max_size=15),
    k=numbers(K, min_size=9, max_size=9),
    r=numbers(IDENTITY, min_size=9, max_size=9),
    p=numbers(P, min_size=12, max_size=12),
    damage=damages(width=UINT32, height=UINT32, binning_x=UINT32, binning_y=UINT32),
    roi=damages(x_offset=UINT32, y_offset=UINT32, width=UINT32, height=UINT32),
    rectified=st.booleans(),
)
def test_camera_info(factory, model, d, k, r, p, damage, roi, rectified):
    region = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False, **roi}
    arrays = {name: np.array(values, np.float64) for name, values in (("d", d), ("k", k), ("r", r), ("p", p))}
    sizes = {"width": 640, "height": 480, "binning_x": 0, "binning_y": 0, **damage}
    region = factory.make("sensor_msgs/msg/RegionOfInterest", **region)
    fields = {"distortion_model": model, "roi": region, **arrays, **sizes}
    msg = made(factory, "sensor_msgs/msg/CameraInfo", fields)
    try:
        camera = decode_camera_info(msg, "/info", rectified, (640, 480))
    except Clip2udaError:
        return
    assert (camera.width_px, camera.height_px) == (640, 480)
    uv_px, visible = camera.project(np.array([[0.0, 0, 1], [1, 2, 3], [-1, 0, -1], [np.nan, 0, 1]]))
    assert np.isfinite(uv_px[visible]).all()
