"""A buffer of timed transforms with tf2's semantics, the same for bags and the live node.

As in tf2: each child frame has one parent at a time; a lookup goes through the common ancestor, interpolates between
the two samples around the stamp (lerp and slerp) and never extrapolates; static transforms hold at any time; the last
kind (static or not) that was set for a child replaces the other; a leading '/' of a frame name is dropped.

Unlike tf2, stamp 0 is no request for the newest transform: an unset stamp would silently be served with whatever came
last. It is a time like any other, so it works across static transforms and is refused where something moves.
"""

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from clip2uda_core.errors import TransformError
from clip2uda_core.geometry.se3 import SE3

NS_PER_S = 1_000_000_000


@dataclass
class _History:
    """The samples of one moving child frame in order of their stamps; its parent may change between samples."""

    child: str
    stamps_ns: list[int] = field(default_factory=list)
    samples: list[SE3] = field(default_factory=list)

    def insert(self, parent_SE3_child: SE3, stamp_ns: int, cache_time_ns: int) -> None:
        """Keeps the samples sorted; a repeated stamp replaces, one older than the cache reaches back is ignored."""
        if self.stamps_ns and stamp_ns < self.stamps_ns[-1] - cache_time_ns:
            return
        at = bisect_left(self.stamps_ns, stamp_ns)
        if at < len(self.stamps_ns) and self.stamps_ns[at] == stamp_ns:
            self.samples[at] = parent_SE3_child
            return
        self.stamps_ns.insert(at, stamp_ns)
        self.samples.insert(at, parent_SE3_child)
        expired = bisect_left(self.stamps_ns, self.stamps_ns[-1] - cache_time_ns)
        del self.stamps_ns[:expired], self.samples[:expired]

    def at(self, stamp_ns: int) -> SE3:
        """The transform at a time within what was received; TransformError outside of it."""
        oldest, newest = self.stamps_ns[0], self.stamps_ns[-1]
        if not oldest <= stamp_ns <= newest:
            gap_ns, side = (oldest - stamp_ns, "before") if stamp_ns < oldest else (stamp_ns - newest, "after")
            unset = " (the message has no stamp)" if stamp_ns == 0 else ""
            raise TransformError(
                f"transform {self.samples[-1].target} <- {self.child} at {_seconds(stamp_ns)} s{unset} would need "
                f"extrapolation: it is {_seconds(gap_ns)} s {side} what was received, "
                f"{_seconds(oldest)} to {_seconds(newest)} s"
            )
        after = bisect_right(self.stamps_ns, stamp_ns)
        older, start_ns = self.samples[after - 1], self.stamps_ns[after - 1]
        if start_ns == stamp_ns or self.samples[after].target != older.target:
            return older  # exact; or re-parented in between, where tf2 too keeps the older sample
        return older.interpolate(self.samples[after], (stamp_ns - start_ns) / (self.stamps_ns[after] - start_ns))


class TransformBuffer:
    """Transforms by child frame, for lookups between any two frames of the tree. Thread-safe.

    cache_time_s: how far back the samples of a moving frame are kept, from its newest.
    """

    def __init__(self, cache_time_s: float = 10.0) -> None:
        self._cache_time_ns = round(cache_time_s * NS_PER_S)
        self._static: dict[str, SE3] = {}
        self._moving: dict[str, _History] = {}
        self._lock = threading.Lock()

    def set_transform(self, parent_SE3_child: SE3, stamp_ns: int, static: bool) -> None:
        """Adds a sample. Stamps may come in any order; one that is older than the cache time is ignored.

        Raises TransformError when a frame name is empty or a frame would be its own parent. (NaN, quaternions that are
        not unit and mirrored rotations are refused by SE3 already.)
        """
        parent, child = _frame_name(parent_SE3_child.target), _frame_name(parent_SE3_child.source)
        if parent == child:
            raise TransformError(f"frame '{child}' cannot be its own parent; check who publishes it on /tf")
        parent_SE3_child = SE3(parent_SE3_child.matrix, parent, child)
        with self._lock:
            if static:
                self._moving.pop(child, None)
                self._static[child] = parent_SE3_child
            else:
                self._static.pop(child, None)
                history = self._moving.setdefault(child, _History(child))
                history.insert(parent_SE3_child, stamp_ns, self._cache_time_ns)

    def lookup(self, target: str, source: str, stamp_ns: int) -> SE3:
        """`target_SE3_source` at a time.

        Raises TransformError, which says what was received instead, when a frame is unknown, no chain connects the
        two, the chain is a loop, or the time is outside what was received of a moving frame on the chain.
        """
        with self._lock:
            return self._lookup(_frame_name(target), _frame_name(source), stamp_ns)

    def lookup_across_time(
        self, target: str, target_stamp_ns: int, source: str, source_stamp_ns: int, fixed_frame: str
    ) -> SE3:
        """Takes points in `source` at its stamp to `target` at its own, through a frame that does not move in between.

        With an odometry frame as the fixed one this compensates the robot's motion between LiDAR and camera. Raises
        TransformError as `lookup` does.
        """
        target, source, fixed = _frame_name(target), _frame_name(source), _frame_name(fixed_frame)
        with self._lock:
            target_SE3_fixed = self._lookup(target, fixed, target_stamp_ns)
            return target_SE3_fixed @ self._lookup(fixed, source, source_stamp_ns)

    def clear_dynamic(self) -> None:
        """Forgets all moving frames, as is right when time jumps back; static transforms stay."""
        with self._lock:
            self._moving.clear()

    def frames(self) -> tuple[str, ...]:
        """Names of all frames, sorted."""
        with self._lock:
            return self._frames()

    def _frames(self) -> tuple[str, ...]:
        names = {name for child, link in self._static.items() for name in (child, link.target)}
        for child, history in self._moving.items():
            names.update((child, *(sample.target for sample in history.samples)))
        return tuple(sorted(names))

    def _lookup(self, target: str, source: str, stamp_ns: int) -> SE3:
        if target == source:
            return SE3.identity(target)
        source_links, source_stop = self._climb(source, stamp_ns)
        target_links, target_stop = self._climb(target, stamp_ns)
        above_source = [source, *(link.target for link in source_links)]
        above_target = [target, *(link.target for link in target_links)]
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            raise (
                self._unknown(target, source)
                or source_stop
                or target_stop
                or TransformError(
                    f"no chain of transforms connects '{target}' and '{source}': their roots are '{above_target[-1]}' "
                    f"and '{above_source[-1]}'"
                )
            )
        common_SE3_source = _chain(source, source_links[: above_source.index(common)])
        common_SE3_target = _chain(target, target_links[: above_target.index(common)])
        return common_SE3_target.inverse() @ common_SE3_source

    def _climb(self, frame: str, stamp_ns: int) -> tuple[list[SE3], TransformError | None]:
        """The links from a frame up to its root, and why the climb ended below it, if it did.

        Extrapolation above the common ancestor of a lookup does no harm, so it is an error only where none is found.
        """
        links: list[SE3] = []
        path = [frame]
        while True:
            try:
                link = self._static[path[-1]] if path[-1] in self._static else self._moving[path[-1]].at(stamp_ns)
            except KeyError:
                return links, None
            except TransformError as error:
                return links, error
            if link.target in path:
                raise TransformError(f"the transforms are a loop: {' -> '.join([*path, link.target])}")
            links.append(link)
            path.append(link.target)

    def _unknown(self, *frames: str) -> TransformError | None:
        known = self._frames()
        unknown = [f"'{frame}'" for frame in frames if frame not in known]
        if not unknown:
            return None
        names = ", ".join(known) or "none yet"
        return TransformError(f"no transform names frame {' or '.join(unknown)}; known frames: {names}")


def _chain(frame: str, links: list[SE3]) -> SE3:
    result = SE3.identity(frame)
    for link in links:
        result = link @ result
    return result


def _frame_name(name: str) -> str:
    stripped = name.lstrip("/")
    if not stripped:
        raise TransformError(f"expected the name of a frame, got '{name}'; set frame_id in the message's header")
    return stripped


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // NS_PER_S}.{nanoseconds % NS_PER_S:09d}"
