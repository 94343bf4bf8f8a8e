"""The /diagnostics message. Its keys are an interface: docs/ros.md lists them, and they keep their names.

Counters run on through deactivation and clean-up, and in each message
`sets.in == sets.complete + sets.partial + sets.dropped + sets.pending`.
"""

from collections.abc import Sequence

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from clip2uda_ros.accounts import REASONS, Accounts
from clip2uda_ros.status import CameraStatus, NodeStatus


def values(status: NodeStatus) -> dict[str, str]:
    """The key-value pairs of the diagnostic status."""
    pairs = {
        "state": status.state,
        "enabled": str(status.enabled).lower(),
        "model": status.model,
        "model.loading": status.loading,
        "model.loads": str(status.loads),
        "model.reload_failures": str(status.reload_failures),
        "device": status.device,
    }
    pairs |= _account_values(status.accounts)
    pairs |= {
        "output.count": str(status.accounts.published),
        "output.hz": f"{status.output_hz:.1f}",
        "output.cameras": "" if status.views is None else str(status.views),
        "output.seen_percent": "" if status.seen is None else f"{100 * status.seen:.1f}",
        "input.points.hz": f"{status.points.rate_hz if status.points else 0:.1f}",
        "input.points.count": str(status.accounts.messages["points"]),
        "input.points.age_ms": "" if status.points_age_s is None else f"{status.points_age_s * 1e3:.0f}",
        "input.tf.count": str(status.accounts.messages["tf"]),
    }
    for camera in status.cameras:
        pairs |= _camera_values(camera, status.accounts)
    for stage, (median, high) in status.stages_ms.items():
        pairs[f"stage.{stage}.p50_ms"] = f"{median:.1f}"
        pairs[f"stage.{stage}.p95_ms"] = f"{high:.1f}"
    return pairs


def _account_values(accounts: Accounts) -> dict[str, str]:
    counts = {
        "sets.in": accounts.received,
        "sets.complete": accounts.complete,
        "sets.partial": accounts.partial,
        "sets.pending": accounts.pending,
        "sets.dropped": accounts.dropped.total(),
        **{f"sets.dropped.{reason}": accounts.dropped[reason] for reason in REASONS},
        "exceptions": accounts.exceptions,
        "failures.cloud": accounts.bad_clouds,
        **{f"failures.{kind}": accounts.skipped_by(kind) for kind in ("image", "calibration", "transform")},
        "time.jumps": accounts.time_jumps,
    }
    return {key: str(count) for key, count in counts.items()}


def _camera_values(camera: CameraStatus, accounts: Accounts) -> dict[str, str]:
    prefix = f"input.{camera.name}"
    skipped = sum(count for (name, _), count in accounts.skipped.items() if name == camera.name)
    return {
        f"{prefix}.image.hz": f"{camera.image.rate_hz:.1f}",
        f"{prefix}.image.count": str(accounts.messages[f"{camera.name}.image"]),
        f"{prefix}.camera_info.count": str(accounts.messages[f"{camera.name}.camera_info"]),
        f"{prefix}.nearest_ms": "" if camera.nearest_s is None else f"{camera.nearest_s * 1e3:.1f}",
        f"{prefix}.skipped": str(skipped),
    }


def to_message(name: str, now: NodeStatus, reasons: Sequence[str], stamp: Time) -> DiagnosticArray:
    """ERROR when a transition failed, WARN when there are `reasons` (of `explain`), else OK."""
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
