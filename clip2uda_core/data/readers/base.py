"""What every source of frames offers, and what can be asked of it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.data.collector import CollectorConfig
from clip2uda_core.data.readers.thinning import Thinning
from clip2uda_core.labels import LabelSpace
from clip2uda_core.types import Frame


@dataclass(frozen=True)
class ReaderOptions:
    """How to read a recording. Each reader takes what applies to it: a KITTI folder has no topics.

    cameras: camera name -> image topic (bags) or image folder (KITTI); None chooses, an empty mapping takes the cloud
        alone.
    points_topic: the PointCloud2 topic of a bag; None chooses where there is only one.
    calibration: a calibration YAML in place of the recording's own CameraInfo and TF.
    fixed_frame: frame through which a bag's TF compensates the robot's motion between image and cloud; None takes
        camera and LiDAR as rigidly joined.
    sync: pairing of images with clouds. Folders pair by number and take `min_cameras` alone from it.
    label_space: maps raw labels to classes, or says what a bag's `label` field counts; None leaves the clouds
        unlabelled.
    max_frames: stop after so many frames.
    thinning: which clouds are worth a frame; simulated frames are never thinned.
    tf_from: bags whose transforms are used beside a bag's own.
    """

    cameras: Mapping[str, str] | None = None
    points_topic: str | None = None
    calibration: Path | None = None
    fixed_frame: str | None = None
    sync: CollectorConfig = field(default_factory=CollectorConfig)
    label_space: LabelSpace | None = None
    max_frames: int | None = None
    thinning: Thinning = field(default_factory=Thinning)
    tf_from: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stream:
    """One topic or folder of a recording. `role` is what the reader takes from it: `points`, `camera front`, ... or
    nothing."""

    name: str
    kind: str
    count: int
    role: str = ""


@dataclass(frozen=True)
class SourceDescription:
    """What is in a recording, known without decoding it."""

    name: str
    kind: str
    path: Path
    streams: tuple[Stream, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Stamps:
    """Times of one stream's messages, in the recording's order.

    acquired_ns: (N,) int64, from the message's header. logged_ns: (N,) int64, when it was written to the bag, or None
    where the format keeps no such time.
    """

    acquired_ns: NDArray[np.int64]
    logged_ns: NDArray[np.int64] | None = None


@dataclass
class Pairing:
    """How clouds and images came together in the frames read so far.

    dropped: clouds that gave no frame, by reason. nearest_s: per camera, the distance in time from each cloud to the
    image that it got, or to the nearest that was refused.
    """

    complete: int = 0
    partial: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    images_unused: Counter[str] = field(default_factory=Counter)
    nearest_s: dict[str, list[float]] = field(default_factory=dict)


class Reader(ABC):
    """A recording as a stream of frames, in order of time and in constant memory.

    name: short name for messages and file names. cameras: names of the views that a complete frame has.
    label_dataset: key of `LabelSpace.raw` for the recording's raw labels, None where it has none.
    warnings: what is doubtful about the recording or was lost; grows while frames are read.
    pairing: how many frames were complete; of the current or the latest iteration.
    """

    name: str
    cameras: tuple[str, ...]
    label_dataset: str | None = None
    warnings: list[str]
    pairing: Pairing

    @abstractmethod
    def __len__(self) -> int:
        """The number of clouds to read, an upper bound of the number of frames."""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Reads from the start."""

    @property
    def parts(self) -> tuple["Reader", ...]:
        """The recordings that are read, one after the other."""
        return (self,)

    @abstractmethod
    def describe(self) -> SourceDescription:
        """What the recording holds."""

    @abstractmethod
    def stamps(self) -> dict[str, Stamps]:
        """Times of every used stream's messages, by stream name; one pass that decodes no image and no cloud."""
