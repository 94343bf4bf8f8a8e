"""A snapshot of the node, as plain values: what /diagnostics tells and explains."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clip2uda_ros.accounts import Accounts


@dataclass(frozen=True)
class TopicStatus:
    """A subscribed topic. incompatible: nodes that publish it with a QoS that ours cannot receive.

    count: messages since activation.
    """

    topic: str
    publishers: int = 0
    incompatible: tuple[str, ...] = ()
    count: int = 0
    rate_hz: float = 0.0


@dataclass(frozen=True)
class CameraStatus:
    """One camera. nearest_s: distance in time from the latest cloud to its nearest image, None before both came.

    problem: the latest reason why the camera was left out of a set that had its image.
    """

    name: str
    image: TopicStatus
    info: TopicStatus
    needs_info: bool = True
    nearest_s: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class NodeStatus:
    """A snapshot of the node. Its accounts run on through all activations.

    problem: why the last transition failed. loading: the checkpoint that is being loaded. loads, reload_failures: of
    models. clock_publishers: of /clock, None without use_sim_time. points: None where the node is not active.
    points_age_s: of the latest cloud on arrival, by the node's clock. tf: None where no transforms are subscribed to;
    tf_missing: because tf2_msgs is not installed. failure: why the latest of the failed clouds failed. views: number of
    cameras that took part in the latest cloud, seen: share of its points that one of them saw. stages_ms: (p50, p95)
    by stage.
    """

    state: str
    problem: str = ""
    enabled: bool = True
    model: str = ""
    device: str = ""
    loading: str = ""
    loads: int = 0
    reload_failures: int = 0
    clock_publishers: int | None = None
    tolerance_s: float = 0.0
    points: TopicStatus | None = None
    points_age_s: float | None = None
    cameras: tuple[CameraStatus, ...] = ()
    tf: TopicStatus | None = None
    tf_missing: bool = False
    accounts: Accounts = field(default_factory=Accounts)
    failure: str = ""
    output_hz: float = 0.0
    views: int | None = None
    seen: float | None = None
    stages_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)
