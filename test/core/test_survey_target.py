"""The look at a target before training."""

import numpy as np
import pytest

from clip2uda_core.survey.target import spread
from clip2uda_core.types import Frame, PointCloud


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12, 23, 24, 25, 100, 1000])
def test_frames_are_spread_over_all_of_a_stream_of_unknown_length(count: int) -> None:
    frames = (Frame(PointCloud(np.zeros((1, 3), np.float32), stamp), ()) for stamp in range(count))
    stamps = [frame.cloud.stamp_ns for frame in spread(frames, 12)]
    assert min(count, 12) <= len(stamps) < 24
    steps = np.diff(stamps)
    assert len(set(steps.tolist())) <= 1, "at equal distances"
    assert not stamps or count - 1 - stamps[-1] < (steps[0] if len(steps) else 1), "to the end"
