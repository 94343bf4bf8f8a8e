"""Which topics of a bag are the LiDAR and the cameras: as asked for, or guessed from the types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clip2uda_core.data.readers.bag_file import Topic
from clip2uda_core.errors import DataError

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = "tf2_msgs/msg/TFMessage"

NO_COLOR = ("depth", "disparity", "compressedDepth", "theora", "mask", "overlay", "heatmap")
"""Parts of a topic's name that tell of images which are no pictures."""

PACKETS = ("VelodyneScan", "PacketMsg", "OusterSensor", "livox", "RslidarPacket", "RslidarScan", "HesaiScan")
"""Parts of the names of types in which LiDAR drivers record what came over the wire."""


@dataclass(frozen=True)
class CameraTopic:
    """One camera of a bag. info: its CameraInfo topic, None where a calibration file takes its place."""

    name: str
    image: str
    compressed: bool
    info: str | None

    @property
    def rectified(self) -> bool:
        """Whether the images are rectified, by image_proc's names (`image_rect`, `image_rect_color`)."""
        return "image_rect" in self.image


def choose_points_topic(topics: Sequence[Topic], asked: str | None) -> str:
    """The cloud's topic; DataError with the choices when it is missing or not the only one."""
    clouds = [topic for topic in topics if topic.msgtype == POINT_CLOUD and topic.count > 0]
    if asked is not None:
        if asked in [cloud.name for cloud in clouds]:
            return asked
        raise DataError(f"no messages of type PointCloud2 on topic {asked}; {_points_choices(clouds, topics)}")
    if len(clouds) == 1:
        return clouds[0].name
    found = f"{len(clouds)} topics of type PointCloud2" if clouds else "no topic of type PointCloud2 with messages"
    raise DataError(f"expected one point cloud topic, got {found}; {_points_choices(clouds, topics)}")


def choose_cameras(
    topics: Sequence[Topic], asked: Mapping[str, str] | None, calibrated: Mapping[str, str | None] | None
) -> tuple[CameraTopic, ...]:
    """The cameras; DataError with the choices when one is missing or ambiguous.

    asked: camera name -> image topic, None to guess. calibrated: camera name -> image topic, where it is said, of a
    calibration file; None where the bag's own CameraInfo is to be used.
    """
    images = [topic for topic in topics if topic.msgtype in (IMAGE, COMPRESSED_IMAGE) and topic.count > 0]
    pictures = [topic for topic in images if not any(part in topic.name for part in NO_COLOR)]
    if asked is None and calibrated is not None and all(calibrated.values()):
        asked = {name: topic for name, topic in calibrated.items() if topic is not None}
    if asked is not None:
        unknown = [name for name in asked.values() if name not in [image.name for image in images]]
        if unknown:
            raise DataError(f"no images on topic {', '.join(unknown)}; {_camera_choices(pictures)}")
        by_name = {image.name: image for image in images}
        chosen = {name: by_name[topic] for name, topic in asked.items()}
    else:
        chosen = _guess(pictures, topics, None if calibrated is None else list(calibrated))
    return tuple(_camera(name, image, topics, calibrated) for name, image in chosen.items())


def _guess(pictures: list[Topic], topics: Sequence[Topic], calibrated: Sequence[str] | None) -> dict[str, Topic]:
    """One camera for each namespace that holds images and a CameraInfo, or that the calibration file names."""
    by_namespace: dict[str, dict[str, Topic]] = {}
    for image in pictures:
        if calibrated is not None or _info_topic(image.name, topics) is not None:
            transports = by_namespace.setdefault(_namespace(image.name), {})
            # The same picture raw and compressed is one choice; raw is exact and needs no decoding.
            base = image.name.removesuffix("/compressed")
            if base not in transports or image.msgtype == IMAGE:
                transports[base] = image
    ambiguous = [image for transports in by_namespace.values() if len(transports) > 1 for image in transports.values()]
    if ambiguous:
        raise DataError(f"several image topics in one camera's namespace; {_camera_choices(ambiguous)}")
    if pictures and not by_namespace:
        raise DataError(
            f"images, but no CameraInfo beside them: {', '.join(image.name for image in pictures)}; give the "
            f"calibration with --calibration FILE, or take the cloud alone with --no-cameras"
        )
    chosen = {_camera_name(space, list(by_namespace)): next(iter(t.values())) for space, t in by_namespace.items()}
    if calibrated is None:
        return chosen
    if len(chosen) == len(calibrated) == 1:
        return {calibrated[0]: next(iter(chosen.values()))}
    missing = [name for name in calibrated if name not in chosen]
    if missing:
        raise DataError(
            f"no image topic in a namespace named like the calibrated camera {', '.join(missing)}; "
            f"{_camera_choices(pictures, calibrated)}"
        )
    return {name: chosen[name] for name in calibrated}


def _camera(
    name: str, image: Topic, topics: Sequence[Topic], calibrated: Mapping[str, str | None] | None
) -> CameraTopic:
    info = None if calibrated is not None else _info_topic(image.name, topics)
    if calibrated is not None and name not in calibrated:
        raise DataError(f"camera '{name}' is not in the calibration file; it describes: {', '.join(calibrated)}")
    if calibrated is None and info is None:
        raise DataError(
            f"{image.name}: no CameraInfo topic beside it (expected {_namespace(image.name)}/camera_info); "
            f"give the calibration with --calibration FILE"
        )
    return CameraTopic(name, image.name, image.msgtype == COMPRESSED_IMAGE, info)


def _namespace(image_topic: str) -> str:
    """`/front` for `/front/image_raw` and `/front/image_raw/compressed`."""
    return image_topic.removesuffix("/compressed").rpartition("/")[0]


def _info_topic(image_topic: str, topics: Sequence[Topic]) -> str | None:
    """The CameraInfo in the image's namespace or below the image, else the only one of a bag with a single camera."""
    infos = [topic.name for topic in topics if topic.msgtype == CAMERA_INFO and topic.count > 0]
    base = image_topic.removesuffix("/compressed")
    for candidate in (f"{_namespace(image_topic)}/camera_info", f"{base}/camera_info"):
        if candidate in infos:
            return candidate
    spaces = {
        _namespace(topic.name) for topic in topics if topic.msgtype in (IMAGE, COMPRESSED_IMAGE) and topic.count > 0
    }
    return infos[0] if len(infos) == len(spaces) == 1 else None


def _camera_name(namespace: str, namespaces: Sequence[str]) -> str:
    """The last part of the namespace, or all of it where that is not unique."""
    last = namespace.rpartition("/")[2]
    if sum(other.rpartition("/")[2] == last for other in namespaces) > 1:
        return namespace.strip("/").replace("/", "_") or "camera"
    return last or "camera"


def _points_choices(clouds: Sequence[Topic], topics: Sequence[Topic]) -> str:
    if clouds:
        return "choose one of:\n" + "\n".join(f"  --points-topic {c.name}    ({c.count} messages)" for c in clouds)
    listed = "\n".join(f"  {topic.name}    {topic.msgtype}, {topic.count} messages" for topic in topics)
    packets = [topic.name for topic in topics if any(part in topic.msgtype for part in PACKETS)]
    if packets:
        listed += (
            f"\n{', '.join(packets)} holds a LiDAR's own packets: play the bag through the LiDAR's driver and record "
            f"the PointCloud2 that it publishes"
        )
    return f"the bag holds:\n{listed}" if listed else "the bag holds no topics"


def _camera_choices(images: Sequence[Topic], names: Sequence[str] | None = None) -> str:
    if not images:
        return "the bag holds no images"
    spaces = [_namespace(image.name) for image in images]
    lines = []
    for image, space in zip(images, spaces, strict=True):
        name = "|".join(names) if names else _camera_name(space, sorted(set(spaces)))
        lines.append(f"  --camera {name}={image.name}    ({image.count} messages)")
    return "choose from:\n" + "\n".join(lines)
