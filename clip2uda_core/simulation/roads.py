"""Roads as chains of straights and arcs, with exact coordinates along and across them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]

FAR_M = 2000.0
"""How far a road goes on straight beyond its ends."""


@dataclass(frozen=True)
class Segment:
    """A straight (curvature 0) or an arc that starts at `start_m` with `heading_rad`, `length_m` long.

    s0_m: distance along the road at the start. curvature_per_m: positive bends to the left.
    """

    start_m: tuple[float, float]
    heading_rad: float
    curvature_per_m: float
    length_m: float
    s0_m: float

    def point(self, s_m: Points) -> tuple[Points, Points]:
        """Points (N, 2) and headings (N,) at the distances `s_m` along the road."""
        along = np.asarray(s_m) - self.s0_m
        heading = self.heading_rad + self.curvature_per_m * along
        if self.curvature_per_m == 0.0:
            dx, dy = along * np.cos(self.heading_rad), along * np.sin(self.heading_rad)
        else:
            dx = (np.sin(heading) - np.sin(self.heading_rad)) / self.curvature_per_m
            dy = (np.cos(self.heading_rad) - np.cos(heading)) / self.curvature_per_m
        return np.stack([self.start_m[0] + dx, self.start_m[1] + dy], -1), heading

    def coordinates(self, xy_m: Points) -> tuple[Points, Points]:
        """(s, d) of points (N, 2): distance along the road, and across it, positive to the left."""
        c, s = float(np.cos(self.heading_rad)), float(np.sin(self.heading_rad))
        x, y = xy_m[:, 0] - self.start_m[0], xy_m[:, 1] - self.start_m[1]
        along, across = c * x + s * y, -s * x + c * y
        if self.curvature_per_m == 0.0:
            return self.s0_m + along, across
        radius = 1.0 / self.curvature_per_m
        side = float(np.sign(radius))
        angle = np.arctan2(along, side * (radius - across))
        return self.s0_m + angle * abs(radius), side * (abs(radius) - np.hypot(along, radius - across))


@dataclass(frozen=True)
class Strip:
    """What lies beside the road, from the kerb outwards: a green verge and a sidewalk, either may be 0 m wide."""

    verge_m: float
    sidewalk_m: float

    @property
    def width_m(self) -> float:
        return self.verge_m + self.sidewalk_m


@dataclass(frozen=True)
class Road:
    """A road of constant width that goes on straight beyond both ends of its chain of segments.

    lanes_m: (right, left) half-widths of the part that is driven on; the rest up to `half_width_m` is for parking.
    center_line: 0 none, 1 dashed, 2 solid. cobbled: surface. crossings_m: zebra crossings, distances along the road.
    """

    segments: tuple[Segment, ...]
    half_width_m: float
    lane_m: float
    left: Strip
    right: Strip
    center_line: int = 1
    edge_line: bool = True
    cobbled: bool = False
    crossings_m: tuple[float, ...] = ()

    @property
    def length_m(self) -> float:
        return self.segments[-1].s0_m + self.segments[-1].length_m

    def point(self, s_m: Points | float, d_m: Points | float = 0.0) -> tuple[Points, Points]:
        """Points (N, 2) and headings (N,) at distances `s_m` along and `d_m` across (left positive)."""
        s, d = np.broadcast_arrays(np.atleast_1d(np.asarray(s_m, float)), np.atleast_1d(np.asarray(d_m, float)))
        which = np.searchsorted([segment.s0_m for segment in self._endless[1:]], s, side="right")
        xy, heading = np.empty((len(s), 2)), np.empty(len(s))
        for i, segment in enumerate(self._endless):
            mine = which == i
            xy[mine], heading[mine] = segment.point(s[mine])
        return xy + np.stack([-np.sin(heading), np.cos(heading)], -1) * d[:, None], heading

    def coordinates(self, xy_m: Points) -> tuple[Points, Points]:
        """(s, d) of points (N, 2), each of shape (N,), by the nearest segment."""
        best_s = np.zeros_like(xy_m[:, 0])
        best_d = np.full_like(best_s, FAR_M)
        for segment in self._endless:
            s, d = segment.coordinates(xy_m)
            inside = (s > segment.s0_m - 1e-3) & (s < segment.s0_m + segment.length_m + 1e-3)
            better = inside & (np.abs(d) < np.abs(best_d))
            best_s, best_d = np.where(better, s, best_s), np.where(better, d, best_d)
        return best_s, best_d

    @cached_property
    def _endless(self) -> tuple[Segment, ...]:
        first, last = self.segments[0], self.segments[-1]
        back = (
            first.start_m[0] - FAR_M * float(np.cos(first.heading_rad)),
            first.start_m[1] - FAR_M * float(np.sin(first.heading_rad)),
        )
        before = Segment(back, first.heading_rad, 0.0, FAR_M, first.s0_m - FAR_M)
        end, heading = last.point(np.array([self.length_m]))
        after = Segment((float(end[0, 0]), float(end[0, 1])), float(heading[0]), 0.0, FAR_M, self.length_m)
        return (before, *self.segments, after)


def chain(
    start_m: tuple[float, float], heading_rad: float, pieces: list[tuple[float, float]], s0_m: float = 0.0
) -> tuple[Segment, ...]:
    """Segments from (length, curvature) pieces, each going on where the one before ends."""
    segments: list[Segment] = []
    for length, curvature in pieces:
        segments.append(Segment(start_m, heading_rad, curvature, length, s0_m))
        s0_m += length
        end, headings = segments[-1].point(np.array([s0_m]))
        start_m, heading_rad = (float(end[0, 0]), float(end[0, 1])), float(headings[0])
    return tuple(segments)
