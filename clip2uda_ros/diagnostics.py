"""/diagnostics: what the node does, and, when nothing or too little comes out, why.

`explain` is a pure function of two snapshots: one of now and one a few seconds older, so that it speaks of what goes
wrong now and not of what went wrong once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header


@dataclass(frozen=True)
class TopicStatus:
    """A subscribed topic. incompatible: nodes that publish it with a QoS that ours cannot receive."""

    topic: str
    publishers: int = 0
    incompatible: tuple[str, ...] = ()
    count: int = 0
    rate_hz: float = 0.0


@dataclass(frozen=True)
class CameraStatus:
    """One camera. nearest_s: distance in time from the latest cloud to its nearest image, None before both came.

    skipped: how often the camera was left out of a set that had its image, and problem: the latest reason.
    """

    name: str
    image: TopicStatus
    info: TopicStatus
    needs_info: bool = True
    nearest_s: float | None = None
    skipped: int = 0
    problem: str = ""


@dataclass(frozen=True)
class NodeStatus:
    """A snapshot of the node. Counts are since activation.

    problem: why the node could not be configured. sets: complete, partial, and dropped ones by reason. replaced: sets
    that a newer one replaced before the model was free. failed: sets whose segmentation failed, the latest with
    `failure`. stages_ms: (p50, p95) by stage.
    """

    state: str
    problem: str = ""
    enabled: bool = True
    model: str = ""
    device: str = ""
    tolerance_s: float = 0.0
    points: TopicStatus | None = None
    cameras: tuple[CameraStatus, ...] = ()
    complete: int = 0
    partial: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    replaced: int = 0
    failed: int = 0
    failure: str = ""
    published: int = 0
    output_hz: float = 0.0
    stages_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def explain(now: NodeStatus, before: NodeStatus) -> list[str]:
    """Everything that keeps labelled clouds from coming out as they should, most fundamental first."""
    if now.state != "active":
        return [f"{now.state}: {now.problem}" if now.problem else now.state]
    assert now.points is not None
    if not now.enabled:
        return ["disabled through ~/enable"]
    reasons = _topic_problems("points", now.points)
    for camera in now.cameras:
        earlier = next((c for c in before.cameras if c.name == camera.name), None)
        reasons += _camera_problems(camera, earlier, now)
    for reason, count in now.dropped.items():
        recent = count - before.dropped.get(reason, 0)
        if recent > 0:
            reasons.append(f"{recent} clouds dropped: {reason}")
    if now.failed > before.failed:
        reasons.append(f"{now.failed - before.failed} clouds failed, the latest: {now.failure}")
    replaced, published = now.replaced - before.replaced, now.published - before.published
    if replaced > 0:
        reasons.append(
            f"the model is slower than its input: {now.points.rate_hz:.1f} Hz of clouds in, {now.output_hz:.1f} Hz "
            f"out, {replaced} of {replaced + published} replaced by newer ones"
        )
    return reasons


def _topic_problems(name: str, topic: TopicStatus) -> list[str]:
    if topic.incompatible:
        return [
            f"{name}: {', '.join(topic.incompatible)} publishes {topic.topic} with an incompatible QoS; set "
            f"qos_overrides.{topic.topic}.subscription.reliability to best_effort, or change the publisher"
        ]
    if topic.rate_hz > 0:
        return []
    if topic.publishers == 0:
        return [f"{name}: nobody publishes {topic.topic}; remap it to the sensor's topic"]
    return [f"{name}: {topic.topic} has a publisher, but nothing arrives; see docs/ros.md, Transport"]


def _camera_problems(camera: CameraStatus, earlier: CameraStatus | None, node: NodeStatus) -> list[str]:
    problems = _topic_problems(camera.name, camera.image)
    if problems:
        return problems
    if camera.needs_info and camera.info.count == 0:
        return _topic_problems(f"{camera.name} camera_info", camera.info)
    if camera.skipped > (earlier.skipped if earlier else 0):
        return [f"{camera.name}: {camera.problem}"]
    if camera.nearest_s is not None and camera.nearest_s > node.tolerance_s:
        return [
            f"{camera.name}: {camera.image.rate_hz:.0f} Hz arriving, nearest stamp {camera.nearest_s * 1e3:.0f} ms "
            f"away, tolerance {node.tolerance_s * 1e3:.0f} ms"
        ]
    return []


def values(status: NodeStatus) -> dict[str, str]:
    """The key-value pairs of the diagnostic status."""
    pairs = {
        "state": status.state,
        "enabled": str(status.enabled).lower(),
        "model": status.model,
        "device": status.device,
    }
    if status.points is not None:
        pairs["input.points.hz"] = f"{status.points.rate_hz:.1f}"
        pairs["input.points.count"] = str(status.points.count)
    for camera in status.cameras:
        pairs[f"input.{camera.name}.image.hz"] = f"{camera.image.rate_hz:.1f}"
        pairs[f"input.{camera.name}.camera_info.count"] = str(camera.info.count)
        nearest = "" if camera.nearest_s is None else f"{camera.nearest_s * 1e3:.1f}"
        pairs[f"input.{camera.name}.nearest_ms"] = nearest
        pairs[f"input.{camera.name}.skipped"] = str(camera.skipped)
    pairs["output.hz"] = f"{status.output_hz:.1f}"
    pairs["output.count"] = str(status.published)
    pairs |= {"sets.complete": str(status.complete), "sets.partial": str(status.partial)}
    pairs["sets.dropped"] = str(sum(status.dropped.values()))
    pairs |= {f"sets.dropped.{reason}": str(count) for reason, count in status.dropped.items()}
    pairs |= {"sets.replaced": str(status.replaced), "sets.failed": str(status.failed)}
    for stage, (median, high) in status.stages_ms.items():
        pairs[f"stage.{stage}.p50_ms"] = f"{median:.1f}"
        pairs[f"stage.{stage}.p95_ms"] = f"{high:.1f}"
    return pairs


def to_message(name: str, now: NodeStatus, reasons: Sequence[str], stamp: Time) -> DiagnosticArray:
    """ERROR when the node could not be configured, WARN when there are `reasons` (of `explain`), else OK."""
    level = DiagnosticStatus.OK
    if reasons:
        level = DiagnosticStatus.ERROR if now.problem else DiagnosticStatus.WARN
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: segmentation",
        hardware_id="clip2uda_ros",
        message="; ".join(reasons) or f"{now.output_hz:.1f} Hz",
        values=[KeyValue(key=key, value=value) for key, value in values(now).items()],
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])
