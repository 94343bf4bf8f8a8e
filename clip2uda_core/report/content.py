"""What stands in a report, as plain values. Every part but the title may be missing; the page leaves it out then."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from clip2uda_core.errors import DataError


@dataclass(frozen=True)
class Verdict:
    """Whether the adapted checkpoint should take the place of the old one.

    reasons: sentences, the weightiest first.
    """

    decision: Literal["replace", "keep"]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """One recording that was read. clouds: in it. frames: those of them that training got, with their images."""

    name: str
    kind: str = ""
    clouds: int | None = None
    frames: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True)
class Fact:
    """Something found out: `LiDAR`, `64 beams, 1.73 m above ground`. `state` says whether it is reassuring."""

    name: str
    value: str
    note: str = ""
    state: Literal["plain", "good", "warning"] = "plain"


@dataclass(frozen=True)
class OverlayPair:
    """One image with its labelled points, before and after; `before` is None where there was no model before.

    before, after: encoded JPEG of the same size in pixels.
    """

    caption: str
    after: bytes
    width_px: int
    height_px: int
    before: bytes | None = None


@dataclass(frozen=True)
class CloudView:
    """One labelled cloud of P points for the 3D view.

    xyz_u16: P x 3 little-endian uint16; metres are `low_m + value * step_m` per axis.
    layers: a byte a point each. `after` is always there; `before`, `confidence_before`, `confidence_after` (0..255 is
    0..1), `truth` and `intensity` (0..255 from its 1st to its 99th percentile) where they are known. Labels are class
    indices, 255 for none.
    points_in_cloud: how many finite points the cloud had, before some were left out to keep the page small.
    picture_png: the cloud from above, for browsers without WebGL2 and for paper.
    """

    caption: str
    points: int
    points_in_cloud: int
    xyz_u16: bytes
    low_m: tuple[float, float, float]
    step_m: tuple[float, float, float]
    layers: Mapping[str, bytes]
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    picture_png: bytes

    def __post_init__(self) -> None:
        wrong = [name for name, values in self.layers.items() if len(values) != self.points]
        if wrong or len(self.xyz_u16) != 6 * self.points or "after" not in self.layers:
            raise DataError(
                f"cloud view '{self.caption}': expected a layer `after` and {self.points} points in every layer, got "
                f"{len(self.xyz_u16) // 6} places and { ({n: len(v) for n, v in self.layers.items()}) }"
            )


@dataclass(frozen=True)
class Series:
    """One line of a chart: y over x, of the same length; a y that is not finite is a gap."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise DataError(f"series '{self.name}': {len(self.x)} x and {len(self.y)} y; expected one y for each x")


@dataclass(frozen=True)
class Chart:
    """Lines over one axis. `log_y`: values differ by powers of ten. `marked_x`: an x worth a line, and its name."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_y: bool = False
    note: str = ""
    marked_x: tuple[float, str] | None = None


@dataclass(frozen=True)
class ClassRow:
    """One class: shares of all points 0..1, IoU in percent; None where unknown."""

    name: str
    color: tuple[int, int, int]
    share_before: float | None = None
    share_after: float | None = None
    iou_before: float | None = None
    iou_after: float | None = None


@dataclass(frozen=True)
class Signal:
    """A number that needs no labels, before and after. `better` says which direction is good, if one is."""

    name: str
    before: float | None
    after: float | None
    better: Literal["higher", "lower", "neither"] = "neither"
    unit: Literal["%", "nats", ""] = ""
    meaning: str = ""


@dataclass(frozen=True)
class Command:
    """A command to copy, and what it does."""

    what: str
    command: str


@dataclass(frozen=True)
class ReportContent:
    """All of a report.

    command: the command line that made it. created: date and time in words.
    skipped: frames that were read and not used, by reason. findings: sensors, clock offset, calibration check.
    warnings: sentences that stand at the top. iou_note: on which points IoU was taken.
    settings: dotted key -> value. environment: versions, device, durations.
    """

    title: str
    subtitle: str = ""
    command: str = ""
    created: str = ""
    verdict: Verdict | None = None
    warnings: tuple[str, ...] = ()
    recordings: tuple[Recording, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Fact, ...] = ()
    overlays: tuple[OverlayPair, ...] = ()
    clouds: tuple[CloudView, ...] = ()
    charts: tuple[Chart, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    iou_note: str = ""
    signals: tuple[Signal, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    deploy: tuple[Command, ...] = ()
