"""Whether a camera's extrinsic calibration is plainly wrong: depth edges that fall beside the image's edges.

It finds errors of two degrees and more, no finer ones: a calibration that passes need not be good.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clip2uda_core.errors import CalibrationError
from clip2uda_core.geometry import project
from clip2uda_core.survey.alignment import Alignment, Turn
from clip2uda_core.survey.beams import Beams, find_beams
from clip2uda_core.survey.depth_edges import DepthEdges, find_depth_edges
from clip2uda_core.survey.ground import find_ground
from clip2uda_core.survey.sensors import level_rotation
from clip2uda_core.types import Frame

ENOUGH_FRAMES = 12
Verdict = Literal["plausible", "doubtful", "wrong", "cannot tell"]

FITS = 2.5
"""Score, in units of chance, from which the edges fit."""

WRONG_SCORE, WRONG_GAIN, WRONG_DEG = 4.5, 2.5, 2.0
"""A calibration is wrong where a camera turned this far fits this well, and better than the given one by this much."""

DOUBTFUL_GAIN = 2.0

AROUND_SCORE, AROUND_GAIN = 6.0, 3.0
"""The same for cameras that look anywhere: of so many one fits by chance more easily."""

FEW_EDGES, FEW_FRAMES = 500, 3
"""With fewer depth edges in view, or fewer frames, a bad fit says nothing, nor does a better one: among so many turns
one fits by chance."""

FEW_POINTS = 10
NO_EDGES = DepthEdges(np.empty((0, 3), np.float32), np.empty(0, bool))


@dataclass(frozen=True)
class Fit:
    """Scores of the given calibration and of the best one found, in units of chance. Of a calibration that sees too
    few edges the score is NaN; it counts as chance."""

    given: float
    best: float

    @property
    def gain(self) -> float:
        return self.best - float(np.nan_to_num(self.given))


@dataclass(frozen=True)
class CalibrationCheck:
    """What the edges say about one camera.

    score: how well the given calibration fits, in units of chance: 0 is no better, above FITS it fits. best_score:
    of the best turn found. turn: that turn, where it is the reason of the verdict. frames, edges: looked at.
    message: the verdict's reason, and what to do.
    """

    camera: str
    verdict: Verdict
    score: float
    best_score: float
    turn: Turn | None
    frames: int
    edges: int
    message: str

    def raise_if_wrong(self) -> None:
        """CalibrationError for a calibration that is plainly wrong."""
        if self.verdict == "wrong":
            raise CalibrationError(
                f"camera '{self.camera}': {self.message}. Look at the overlay that `clip2uda inspect` draws; give the "
                "right calibration with --calibration FILE, or leave the camera out"
            )


def check_calibration(frames: Iterable[Frame], beams: Beams | None = None) -> dict[str, CalibrationCheck]:
    """Checks every camera of frames that are spread over a recording (`ENOUGH_FRAMES` will do), one frame at a time.

    beams: of the LiDAR, as `find_beams` gives them; None finds them in the first cloud.
    """
    cameras: dict[str, Alignment] = {}
    seen_points: Counter[str] = Counter()
    level: NDArray[np.float64] | None = None
    for frame in frames:
        cloud = _returns(frame.cloud.xyz_m)
        if level is None:
            ground = find_ground(cloud)
            level = np.eye(3) if ground is None else level_rotation(ground)
        beams = beams or find_beams([cloud])
        edges = NO_EDGES if beams is None else find_depth_edges(cloud, beams)
        for view in frame.views:
            cameras.setdefault(view.name, Alignment()).add(edges, view)
            seen_points[view.name] += int(project(cloud, view.camera_SE3_lidar, view.camera).visible.sum())
    upright = np.eye(3) if level is None else level
    return {name: _judge(name, alignment, seen_points[name], upright) for name, alignment in cameras.items()}


def _returns(xyz_m: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        distance_m = np.linalg.norm(xyz_m, axis=1)
        return xyz_m[(distance_m > 0.5) & (distance_m < 1e4)]


def _judge(name: str, alignment: Alignment, points: int, level: NDArray[np.float64]) -> CalibrationCheck:
    edges = alignment.edges()

    def told(verdict: Verdict, message: str, fit: Fit, turn: Turn | None = None) -> CalibrationCheck:
        return CalibrationCheck(name, verdict, fit.given, fit.best, turn, alignment.frames, edges, message)

    if points < FEW_POINTS * alignment.frames:
        nowhere = (
            "no point of the cloud falls into the image: the calibration is wrong, or the LiDAR does not look there"
        )
        return told("wrong", nowhere, Fit(np.nan, np.nan))
    mean, spread = alignment.chance()
    given = (alignment.score(Turn()) - mean) / spread
    if edges < FEW_EDGES or alignment.frames < FEW_FRAMES:
        fits = given >= FITS
        few = f"only {edges} edges of the cloud are in its {alignment.frames} images" + (
            ", but they fit" if fits else ""
        )
        return told("plausible" if fits else "cannot tell", few, Fit(given, given))
    turn, score = alignment.best_nearby()
    fit = Fit(given, (score - mean) / spread)
    if fit.best >= WRONG_SCORE and fit.gain >= WRONG_GAIN and turn.angle_deg >= WRONG_DEG:
        return told("wrong", f"the cloud's edges fit the image's only when it is turned {_words(turn)}", fit, turn)
    if fit.best >= WRONG_SCORE and fit.gain >= DOUBTFUL_GAIN:
        better = f"the cloud's edges fit better when it is turned {_words(turn)}"
        return told("doubtful", f"{better}: its angles or its place are not exact", fit, turn)
    if given >= FITS:
        return told("plausible", "the cloud's edges fall on the image's", fit)
    azimuth, pitch, score = alignment.best_around(level)
    around = Fit(given, score)
    if around.best >= AROUND_SCORE and around.gain >= AROUND_GAIN:
        shown = f"the image shows what an upright camera sees towards azimuth {azimuth:+.0f}°, {pitch:+.0f}° up"
        return told("wrong", f"{shown}; by its calibration it looks {alignment.direction(level)}", around)
    nowhere = "the cloud's edges fit the image's nowhere: night, dense plants, or a calibration far off"
    return told("cannot tell", nowhere, fit)


def _words(turn: Turn) -> str:
    parts = []
    for angle, positive, negative in (
        (turn.yaw_deg, "to the right", "to the left"),
        (turn.pitch_deg, "up", "down"),
        (turn.roll_deg, "clockwise", "anticlockwise"),
    ):
        if abs(angle) >= 0.75:
            parts.append(f"{abs(angle):.1f}° {positive if angle > 0 else negative}")
    return ", ".join(parts) or f"{turn.angle_deg:.1f}°"
