"""What became of every cloud that reached the node, in numbers that add up."""

from collections import Counter
from dataclasses import dataclass, field, fields

from clip2uda_core.data.collector import NO_STAMP, OUT_OF_ORDER, TIME_JUMP, TOO_FEW_CAMERAS, TOO_OLD
from clip2uda_ros.synchronizers import UNSYNCHRONIZED

REPLACED, FAILED, DISABLED, DEACTIVATED = "replaced", "failed", "disabled", "deactivated"

REASONS = {
    "too_old": TOO_OLD,
    "no_stamp": NO_STAMP,
    "out_of_order": OUT_OF_ORDER,
    "time_jump": TIME_JUMP,
    "too_few_cameras": TOO_FEW_CAMERAS,
    "unsynchronized": UNSYNCHRONIZED,
    REPLACED: "replaced by a newer one before the model was free",
    FAILED: "malformed, or their segmentation failed",
    DISABLED: "ignored, the node is disabled",
    DEACTIVATED: "waiting when the node was deactivated",
}
"""Key of /diagnostics -> why a cloud was dropped."""

_KEYS = {text: key for key, text in REASONS.items()}


@dataclass(frozen=True)
class Accounts:
    """One consistent snapshot: received == complete + partial + dropped + pending.

    complete, partial: clouds that were labelled and published, with a view of every camera, or not. pending: clouds
    that wait for images, transforms or the model, or are at work. dropped: by the keys of REASONS.
    messages: what arrived, by input: `points`, `tf`, `<camera>.image`, `<camera>.camera_info`.
    skipped: cameras that were left out of a set that had their image, by (camera, kind of failure).
    bad_clouds: those of the failed that could not be decoded. exceptions: what is a mistake of ours, not of the input.
    """

    received: int = 0
    complete: int = 0
    partial: int = 0
    pending: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    unstamped_images: Counter[str] = field(default_factory=Counter)
    bad_clouds: int = 0
    exceptions: int = 0
    time_jumps: int = 0

    def __add__(self, other: "Accounts") -> "Accounts":
        return Accounts(*(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)))

    @property
    def published(self) -> int:
        return self.complete + self.partial

    def skipped_by(self, kind: str) -> int:
        """Over all cameras; the kinds are those of `FrameAssembler.failures`."""
        return sum(count for (_, what), count in self.skipped.items() if what == kind)


def by_key(dropped: Counter[str]) -> Counter[str]:
    """The collector's reasons, by the keys of REASONS."""
    return Counter({_KEYS[text]: count for text, count in dropped.items()})
