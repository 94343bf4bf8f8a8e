"""The look at a target before training."""

from pathlib import Path

import numpy as np
import pytest
from tiny_recordings import frame_messages, write_bag

from clip2uda_core.data.readers import ReaderOptions, open_sources
from clip2uda_core.data.readers.thinning import Thinning
from clip2uda_core.survey.target import RecordingRead, recordings_read, spread
from clip2uda_core.types import Frame, PointCloud


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12, 23, 24, 25, 100, 1000])
def test_frames_are_spread_over_all_of_a_stream_of_unknown_length(count: int) -> None:
    frames = (Frame(PointCloud(np.zeros((1, 3), np.float32), stamp), ()) for stamp in range(count))
    stamps = [frame.cloud.stamp_ns for frame in spread(frames, 12)]
    assert min(count, 12) <= len(stamps) < 24
    steps = np.diff(stamps)
    assert len(set(steps.tolist())) <= 1, "at equal distances"
    assert not stamps or count - 1 - stamps[-1] < (steps[0] if len(steps) else 1), "to the end"


def test_what_was_read_of_each_recording(tmp_path: Path) -> None:
    short = write_bag(tmp_path / "short.bag", "rosbag1", frame_messages("rosbag1", 4))
    long = write_bag(tmp_path / "long", "mcap", frame_messages("mcap", 11))
    reader = open_sources([short, long], ReaderOptions(thinning=Thinning(min_interval_s=0.25)))
    assert len(list(reader)) == 6
    assert recordings_read(reader) == (
        RecordingRead("short", "rosbag", clouds=4, frames=2, duration_s=0.3),
        RecordingRead("long", "rosbag", clouds=11, frames=4, duration_s=1.0),
    )
