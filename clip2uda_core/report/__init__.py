"""The report of an adaptation: one HTML page that opens offline, with overlays, a 3D view, curves and the verdict.

ReportContent(...) is what stands in it, write_report(content, path) writes it; the other names make its parts from
frames, predictions, logs and evaluations.
"""

from clip2uda_core.report.charts import early_stop_charts, training_charts, validation_charts
from clip2uda_core.report.clouds import cloud_view
from clip2uda_core.report.content import (
    Chart,
    ClassRow,
    CloudView,
    Command,
    Fact,
    OverlayPair,
    Recording,
    ReportContent,
    Series,
    Signal,
    Verdict,
)
from clip2uda_core.report.overlays import overlay_pair
from clip2uda_core.report.page import render_report, write_report
from clip2uda_core.report.tables import class_rows, deploy_commands, flat_settings, signal_rows

__all__ = [
    "Chart",
    "ClassRow",
    "CloudView",
    "Command",
    "Fact",
    "OverlayPair",
    "Recording",
    "ReportContent",
    "Series",
    "Signal",
    "Verdict",
    "class_rows",
    "cloud_view",
    "deploy_commands",
    "early_stop_charts",
    "flat_settings",
    "overlay_pair",
    "render_report",
    "signal_rows",
    "training_charts",
    "validation_charts",
    "write_report",
]
