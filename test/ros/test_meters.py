"""Rates, percentiles and throttled warnings, against numbers worked out by hand."""

import pytest

from clip2uda_ros.meters import RateMeter, StageTimes, ThrottledWarnings


def test_rate_over_the_window_and_silence_after_it() -> None:
    meter = RateMeter(window_s=2.0)
    assert meter.rate_hz(0.0) == 0.0
    for index in range(41):
        meter.tick(index * 0.1)
    assert meter.rate_hz(4.0) == pytest.approx(10.0)
    assert meter.rate_hz(5.0) == pytest.approx(5.0)
    assert meter.rate_hz(7.0) == 0.0
    assert meter.count == 41


def test_percentiles_by_stage_over_the_last_values() -> None:
    times = StageTimes(keep=100)
    for milliseconds in range(1000, 1101):
        times.add("segment", milliseconds / 1e3)
    times.add("encode", 0.004)
    assert list(times.percentiles_ms()) == ["segment", "encode"]
    assert times.percentiles_ms()["segment"] == pytest.approx((1050.5, 1095.05))
    assert times.percentiles_ms()["encode"] == pytest.approx((4.0, 4.0))


def test_warnings_of_one_kind_are_held_back_and_counted() -> None:
    lines: list[str] = []
    warnings = ThrottledWarnings(lines.append, period_s=10.0)
    for now_s in (0.0, 1.0, 9.0, 10.5):
        warnings.warn(f"the image at {now_s} s is truncated", now_s)
    warnings.warn("no x field", 2.0)
    assert lines == [
        "the image at 0.0 s is truncated",
        "the image at 10.5 s is truncated (2 more like this since the last warning)",
        "no x field",
    ]
