"""The page: the template filled with a report, styles, scripts and data inlined, so that it needs no other file."""

import base64
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2
import numpy as np

from clip2uda_core.errors import DataError
from clip2uda_core.evaluation.legends import turbo
from clip2uda_core.files import write_bytes, writing
from clip2uda_core.report.content import Chart, ClassRow, CloudView, ReportContent

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("matrix.js", "shaders.js", "renderer.js", "orbit.js", "viewer.js", "charts.js", "page.js")
"""In the order of their use: they become one module."""

LARGE_PAGE_BYTES = 15_000_000


def write_report(content: ReportContent, path: Path) -> None:
    """Writes the page, making its folder: whoever opens it finds the old page or the new one, never a half.

    Raises DataError when it cannot be written.
    """
    page = render_report(content).encode()
    if len(page) > LARGE_PAGE_BYTES:
        logger.warning(
            "%s takes %.0f MB, which browsers open slowly: show fewer clouds or images", path, len(page) / 1e6
        )
    with writing(f"the report {path}", DataError, "is the folder writable and the disk not full?"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, page)


def render_report(content: ReportContent) -> str:
    """The page as text. All of the report's values are escaped; the page's own script is the only one it can run."""
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=content,
            sections=_sections(content),
            style=(ASSETS / "style.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            data=_data(content),
            mean_iou=_mean_iou(content.classes),
        )
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"base64": _base64, "percent": _percent, "change": _change, "figure": _figure}
    return environment


def _sections(content: ReportContent) -> list[tuple[str, str]]:
    """(id, name) of the parts that are there, in the order of the page."""
    parts = [
        ("read", "What was read", content.recordings or content.skipped or content.findings),
        ("signals", "Without labels", content.signals),
        ("overlays", "Images", content.overlays),
        ("clouds", "3D view", content.clouds),
        ("classes", "Classes", content.classes),
        ("curves", "Curves", content.charts),
        ("deploy", "Deploy", content.deploy),
        ("settings", "Settings", content.settings or content.environment),
    ]
    return [(name, title) for name, title, there in parts if there]


def _mean_iou(classes: Sequence[ClassRow]) -> dict[str, float | None]:
    """Over the classes whose IoU is known."""
    known = {
        "before": [row.iou_before for row in classes if row.iou_before is not None],
        "after": [row.iou_after for row in classes if row.iou_after is not None],
    }
    return {name: fmean(values) if values else None for name, values in known.items()}


def _data(content: ReportContent) -> dict[str, Any]:
    """What the scripts read as JSON; the bytes of the clouds stand in elements of their own."""
    ramp = turbo(np.linspace(0, 1, 256))
    return {
        "ramp": _base64(ramp.tobytes()),
        "clouds": [_cloud_header(cloud) for cloud in content.clouds],
        "charts": [_chart(chart) for chart in content.charts],
    }


def _cloud_header(cloud: CloudView) -> dict[str, Any]:
    return {
        "caption": cloud.caption,
        "points": cloud.points,
        "low": cloud.low_m,
        "step": cloud.step_m,
        "layers": list(cloud.layers),
        "names": cloud.class_names,
        "colors": cloud.class_colors,
    }


def _chart(chart: Chart) -> dict[str, Any]:
    """JSON knows no NaN: gaps become null."""
    values = asdict(chart)
    for series in values["series"]:
        series["y"] = [y if math.isfinite(y) else None for y in series["y"]]
    return values


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _percent(share: float | None, digits: int = 1) -> str:
    """0.1234 as `12.3`; a dash for what is not known."""
    return "–" if share is None else f"{100 * share:.{digits}f}"


def _figure(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _change(before: float | None, after: float | None, digits: int = 1, factor: float = 1.0) -> str:
    """`+1.2` or `−1.2`, and a dash where one of both is not known."""
    if before is None or after is None:
        return "–"
    difference = round(factor * (after - before), digits)
    return f"{'−' if difference < 0 else '+'}{abs(difference):.{digits}f}" if difference else f"±{0:.{digits}f}"
