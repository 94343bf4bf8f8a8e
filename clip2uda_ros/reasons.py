"""Why nothing, or too little, comes out of the node.

`explain` is a pure function of two snapshots: one of now and one a few seconds older, so that it speaks of what goes
wrong now and not of what went wrong once.
"""

from clip2uda_core.data.collector import TOO_OLD
from clip2uda_ros.accounts import DEACTIVATED, DISABLED, FAILED, REASONS, REPLACED, Accounts
from clip2uda_ros.status import CameraStatus, NodeStatus, TopicStatus

TOLD_ELSEWHERE = (REPLACED, FAILED, DISABLED, DEACTIVATED)
CLOCK_AHEAD_S = 0.5


def explain(now: NodeStatus, before: NodeStatus) -> list[str]:
    """Everything that keeps labelled clouds from coming out as they should, most fundamental first."""
    if now.loading and now.state != "active":
        return [f"{now.state}: loading the model {now.loading}"]
    if now.state != "active":
        return [f"{now.state}: {now.problem}" if now.problem else now.state]
    if now.points is None:
        return ["activating"]
    if not now.enabled:
        return ["disabled through ~/enable"]
    reasons = _clock_problems(now)
    reasons += _topic_problems("points", now.points)
    for camera in now.cameras:
        reasons += _camera_problems(camera, now, before.accounts)
    reasons += _drop_problems(now, before)
    reasons += _jump_problems(now, before)
    reasons += _work_problems(now, before)
    return reasons


def _clock_problems(now: NodeStatus) -> list[str]:
    if now.clock_publishers == 0:
        return ["use_sim_time is set, but nobody publishes /clock: play the bag with --clock, or unset use_sim_time"]
    if now.points_age_s is not None and now.points_age_s < -CLOCK_AHEAD_S:
        return [f"points: stamped {-now.points_age_s:.1f} s ahead of the node's clock; synchronise the clocks"]
    return []


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
    return [f"{name}: {topic.topic} has a publisher, but nothing arrives; see docs/transport.md"]


def _camera_problems(camera: CameraStatus, node: NodeStatus, before: Accounts) -> list[str]:
    problems = _topic_problems(camera.name, camera.image)
    if problems:
        return problems
    if node.accounts.unstamped_images[camera.name] > before.unstamped_images[camera.name]:
        return [f"{camera.name}: header.stamp of {camera.image.topic} is not set; its driver must stamp the images"]
    if camera.needs_info and camera.info.count == 0:
        return _topic_problems(f"{camera.name} camera_info", camera.info)
    if _skipped(node.accounts, camera.name) > _skipped(before, camera.name):
        return [f"{camera.name}: {camera.problem}{_tf_hint(camera, node, before)}"]
    if camera.nearest_s is not None and camera.nearest_s > node.tolerance_s:
        return [
            f"{camera.name}: {camera.image.rate_hz:.0f} Hz arriving, nearest stamp {camera.nearest_s * 1e3:.0f} ms "
            f"away, tolerance {node.tolerance_s * 1e3:.0f} ms"
        ]
    return []


def _skipped(accounts: Accounts, camera: str) -> int:
    return sum(count for (name, _), count in accounts.skipped.items() if name == camera)


def _tf_hint(camera: CameraStatus, node: NodeStatus, before: Accounts) -> str:
    """What else is to be said where a transform was missing."""
    key = (camera.name, "transform")
    if node.accounts.skipped[key] == before.skipped[key]:
        return ""
    if node.tf_missing:
        return "; tf2_msgs is not installed, so TF cannot be received: set the parameter calibration"
    if node.tf is not None and node.tf.publishers == 0:
        return "; nobody publishes /tf or /tf_static"
    return ""


def _drop_problems(now: NodeStatus, before: NodeStatus) -> list[str]:
    problems = []
    for key, count in now.accounts.dropped.items():
        recent = count - before.accounts.dropped[key]
        if recent > 0 and key not in TOLD_ELSEWHERE:
            text = REASONS[key]
            if text == TOO_OLD and now.points_age_s is not None:
                text += f" ({now.points_age_s:.1f} s; a recording needs use_sim_time and --clock)"
            problems.append(f"{recent} clouds dropped: {text}")
    return problems


def _jump_problems(now: NodeStatus, before: NodeStatus) -> list[str]:
    """Once is a bag that loops; more often is two clocks on one topic."""
    jumps = now.accounts.time_jumps - before.accounts.time_jumps
    if jumps < 2 or now.points is None:
        return []
    shared = [t.topic for t in (now.points, *(camera.image for camera in now.cameras)) if t.publishers > 1]
    where = f"; several nodes publish {', '.join(shared)}" if shared else ""
    return [f"time jumped back {jumps} times within seconds, and each time what waits is lost{where}"]


def _work_problems(now: NodeStatus, before: NodeStatus) -> list[str]:
    def grown(key: str) -> int:
        return now.accounts.dropped[key] - before.accounts.dropped[key]

    assert now.points is not None
    problems = []
    if grown(FAILED) > 0:
        problems.append(f"{grown(FAILED)} clouds failed, the latest: {now.failure}")
    published = now.accounts.published - before.accounts.published
    if grown(REPLACED) > 0:
        problems.append(
            f"the model is slower than its input: {now.points.rate_hz:.1f} Hz of clouds in, {now.output_hz:.1f} Hz "
            f"out, {grown(REPLACED)} of {grown(REPLACED) + published} replaced by newer ones"
        )
    if published and now.cameras and now.views == 0:
        problems.append("no camera took part in the latest cloud: its labels are those of 3D alone")
    return problems
