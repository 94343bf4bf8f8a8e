"""How well a LiDAR's depth edges fall on an image's edges, for a camera turned this way and that.

After Levinson and Thrun, Automatic Online Calibration of Cameras and Lasers (RSS 2013): edges of range lie on edges of
the image where the calibration is right, and by chance elsewhere. Here chance is measured: by cameras that are turned
far away, whose score has a mean and a spread. A score in units of that spread says whether anything fits at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from clip2uda_core.geometry import SE3
from clip2uda_core.survey.depth_edges import COARSE_PX, FINE_PX, DepthEdges, EdgeMap, edge_map
from clip2uda_core.types import CameraView

FEWEST_EDGES = 60
CHANCES = 80
REACH_DEG, STEP_DEG = 6.0, 1.5
"""Turns up to which a camera is searched around its calibration, in pitch and yaw."""

AZIMUTHS_DEG = np.arange(-180.0, 180.0)
AZIMUTHS_RAD = np.radians(AZIMUTHS_DEG)
AROUND_PITCH_DEG = 8
AROUND_FRAMES = 8
AROUND_TOPS = 3
MOST_EDGES = 1500
"""The search all around tries upright cameras on so many frames, with so many of their edges, drawn at random."""


@dataclass(frozen=True)
class Turn:
    """A turn of the camera about its optical axes, degrees: pitch about x (positive looks further up), yaw about y
    (positive further right), roll about z (positive clockwise)."""

    pitch_deg: float = 0.0
    yaw_deg: float = 0.0
    roll_deg: float = 0.0

    @property
    def angle_deg(self) -> float:
        return float(np.degrees(np.linalg.norm(cv2.Rodrigues(self.rotation())[0])))

    def rotation(self) -> NDArray[np.float64]:
        """(3, 3): takes points of the given camera frame to that of the turned camera."""
        turned_from_given = np.eye(3)
        for axis, angle in enumerate((self.pitch_deg, self.yaw_deg, self.roll_deg)):
            vector = np.zeros(3)
            vector[axis] = -np.radians(angle)
            turned_from_given = cv2.Rodrigues(vector)[0] @ turned_from_given
        return turned_from_given


@dataclass
class _Seen:
    """A frame as one camera has it: depth edges (E, 3) in its frame, all around, and its image's edges."""

    xyz_m: NDArray[np.float32]
    upright: NDArray[np.int64]
    fine: EdgeMap
    coarse: EdgeMap


@dataclass
class Alignment:
    """The frames of one camera, and how well a turned camera would fit them.

    Scores are means over the edges that the turned camera sees, NaN where these are fewer than FEWEST_EDGES.
    """

    seed: int = 0
    camera_SE3_lidar: SE3 | None = None
    _frames: list[_Seen] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return len(self._frames)

    def add(self, edges: DepthEdges, view: CameraView) -> None:
        self.camera_SE3_lidar = view.camera_SE3_lidar
        self._frames.append(
            _Seen(
                view.camera_SE3_lidar.transform(edges.xyz_m).astype(np.float32),
                edges.upright.astype(np.int64),
                edge_map(view.image, view.camera, FINE_PX),
                edge_map(view.image, view.camera, COARSE_PX),
            )
        )

    def edges(self) -> int:
        """Depth edges that the camera sees with the given calibration, in all frames together."""
        return sum(int(frame.fine.camera.project(frame.xyz_m)[1].sum()) for frame in self._frames)

    def direction(self, level: NDArray[np.float64]) -> str:
        """Where the given calibration has the camera look, and how it is turned, in words."""
        assert self.camera_SE3_lidar is not None
        body = level @ self.camera_SE3_lidar.rotation.T @ np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
        pitch = np.degrees(np.arcsin(np.clip(body[2, 0], -1, 1)))
        azimuth, roll = np.degrees([np.arctan2(body[1, 0], body[0, 0]), np.arctan2(body[2, 1], body[2, 2])])
        return f"towards azimuth {azimuth:+.0f}°, {pitch:+.0f}° up, rolled by {roll:+.0f}°"

    def score(self, turn: Turn, shift_m: NDArray[np.float64] | None = None, coarse: bool = False) -> float:
        """Of a camera turned, and moved by (3,) metres along its axes."""
        rotation = turn.rotation().astype(np.float32)
        total, count = 0.0, 0
        for frame in self._frames:
            points = frame.xyz_m if shift_m is None else frame.xyz_m - shift_m.astype(np.float32)
            values = _strengths(points @ rotation.T, frame.upright, frame.coarse if coarse else frame.fine)
            total, count = total + float(values.sum()), count + len(values)
        return total / count if count >= FEWEST_EDGES else float("nan")

    def chance(self, coarse: bool = False) -> tuple[float, float]:
        """Mean and spread of the scores of cameras that look elsewhere; NaN where too few of them see edges, or the
        images have none."""
        rng = np.random.default_rng(self.seed)
        sides = rng.choice((-1.0, 1.0), CHANCES)
        turns = zip(rng.uniform(-6, 6, CHANCES), sides * rng.uniform(8, 40, CHANCES), strict=True)
        scores = np.array([self.score(Turn(pitch, yaw), coarse=coarse) for pitch, yaw in turns])
        scores = scores[np.isfinite(scores)]
        if len(scores) < CHANCES / 4 or scores.std() < 1e-6:
            return float("nan"), float("nan")
        return float(scores.mean()), float(scores.std())

    def best_nearby(self) -> tuple[Turn, float]:
        """The turn within REACH_DEG that fits best, and its score; found coarsely first."""
        span = np.arange(-REACH_DEG, REACH_DEG + STEP_DEG, STEP_DEG)
        grid = [Turn(pitch, yaw, roll) for pitch in span for yaw in span for roll in (-4, 0, 4)]
        scores = np.array([self.score(turn, coarse=True) for turn in grid])
        # no turn at all competes on equal terms, so that a flat top is not left
        starts = [grid[i] for i in np.argsort(-np.nan_to_num(scores, nan=-9))[:3]] + [Turn()]
        return max((self._climbed(start) for start in starts), key=lambda found: found[1])

    def best_around(self, level: NDArray[np.float64]) -> tuple[float, float, float]:
        """(azimuth, pitch, score in units of chance) of the upright camera that fits best, looking anywhere.

        level: (3, 3), takes the LiDAR frame to one whose z axis is up. azimuth_deg in that frame; pitch_deg up. The
        score is NaN where too few edges are seen from anywhere.
        """
        frames = [self._around(frame, level) for frame in self._frames[:: max(1, len(self._frames) // AROUND_FRAMES)]]
        pitches = range(-AROUND_PITCH_DEG, AROUND_PITCH_DEG + 1)
        scores = np.array([_scores_around(frames, pitch) for pitch in pitches])
        found = [(0.0, 0.0, float("nan"))]
        for index in np.argsort(-np.nan_to_num(scores, nan=-9), axis=None)[:AROUND_TOPS]:
            row, column = np.unravel_index(index, scores.shape)
            azimuth, pitch = float(AZIMUTHS_DEG[column]), float(pitches[row])
            looking = self._looking(level, azimuth, pitch)
            mean, spread = looking.chance()
            found.append((azimuth, pitch, (looking._climbed(Turn())[1] - mean) / spread))
        return max(found, key=lambda fit: np.nan_to_num(fit[2], nan=-9))

    def _looking(self, level: NDArray[np.float64], azimuth_deg: float, pitch_deg: float) -> "Alignment":
        """The same frames with an upright camera at the same place that looks elsewhere."""
        assert self.camera_SE3_lidar is not None
        c, s = np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg))
        optical_from_level = Turn(pitch_deg).rotation() @ np.array([[s, -c, 0], [0, 0, -1], [c, s, 0]])
        rotation = (optical_from_level @ level @ self.camera_SE3_lidar.rotation.T).astype(np.float32)
        frames = [_Seen(f.xyz_m @ rotation.T, f.upright, f.fine, f.coarse) for f in self._frames]
        return Alignment(self.seed, None, frames)

    def _climbed(self, start: Turn) -> tuple[Turn, float]:
        """The top that is reached from a turn in ever smaller steps."""
        best, score = np.array([start.pitch_deg, start.yaw_deg, start.roll_deg]), self.score(start)
        for step in (1.0, 0.5, 0.25):
            for _ in range(4):
                before = score
                for axis in (0, 1, 2, 0, 1):
                    for side in (-step, step):
                        tried = best.copy()
                        tried[axis] += side * (2 if axis == 2 else 1)
                        reached = self.score(Turn(*tried))
                        if reached > score:
                            best, score = tried, reached
                if score == before:
                    break
        return Turn(*(float(angle) for angle in best)), score

    def _around(self, frame: _Seen, level: NDArray[np.float64]) -> _Seen:
        """A frame's edges as seen from the camera's place in level axes (x, y horizontal, z up), by rising azimuth."""
        assert self.camera_SE3_lidar is not None
        level_from_camera = (level @ self.camera_SE3_lidar.rotation.T).astype(np.float32)
        kept = np.random.default_rng(self.seed).permutation(len(frame.xyz_m))[:MOST_EDGES]
        xyz_m = frame.xyz_m[kept] @ level_from_camera.T
        order = np.argsort(np.arctan2(xyz_m[:, 1], xyz_m[:, 0]))
        return _Seen(xyz_m[order], frame.upright[kept][order], frame.fine, frame.coarse)


def _strengths(points: NDArray[np.float32], upright: NDArray[np.int64], edges: EdgeMap) -> NDArray[np.float32]:
    """(K,) edge strength of the image where the points (E, 3) of its camera frame fall, of those that it sees."""
    uv_px, visible = edges.camera.project(points)
    u, v = np.rint(uv_px[visible]).astype(np.int64).T
    return np.asarray(edges.strength[upright[visible], v, u])


def _scores_around(frames: Sequence[_Seen], pitch_deg: float) -> NDArray[np.float64]:
    """(A,) scores of upright cameras that look towards AZIMUTHS_DEG."""
    tilt = Turn(pitch_deg=pitch_deg).rotation().astype(np.float32)
    total, count = np.zeros((2, len(AZIMUTHS_DEG)))
    for frame in frames:
        camera = frame.coarse.camera
        half = np.arctan(max(camera.cx, camera.width_px - camera.cx) / camera.fx) + 0.1
        hypothesis, point = _within(np.arctan2(frame.xyz_m[:, 1], frame.xyz_m[:, 0]), float(half))
        c, s = np.cos(AZIMUTHS_RAD)[hypothesis], np.sin(AZIMUTHS_RAD)[hypothesis]
        x, y, z = frame.xyz_m[point].T
        optical = np.stack([s * x - c * y, -z, c * x + s * y], 1).astype(np.float32) @ tilt.T
        uv_px, visible = camera.project(optical)
        u, v = np.rint(uv_px[visible]).astype(np.int64).T
        strength = frame.coarse.strength[frame.upright[point][visible], v, u]
        total += np.bincount(hypothesis[visible], strength, len(AZIMUTHS_DEG))
        count += np.bincount(hypothesis[visible], minlength=len(AZIMUTHS_DEG))
    return np.where(count >= FEWEST_EDGES, total / np.maximum(count, 1), np.nan)


def _within(azimuth: NDArray[np.float32], half: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (hypothesis, point) of AZIMUTHS_RAD and rising azimuths (E,) that are no more than `half` apart."""
    turns = np.concatenate([azimuth - 2 * np.pi, azimuth, azimuth + 2 * np.pi])
    first, last = np.searchsorted(turns, AZIMUTHS_RAD - half), np.searchsorted(turns, AZIMUTHS_RAD + half)
    sizes = last - first
    hypothesis = np.repeat(np.arange(len(AZIMUTHS_RAD)), sizes)
    inside = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return hypothesis, (np.repeat(first, sizes) + inside) % max(len(azimuth), 1)
