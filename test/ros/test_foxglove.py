"""config/foxglove.json: each panel is placed once, and shows what the node publishes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from clip2uda_ros.diagnostics import values
from clip2uda_ros.status import NodeStatus

LAYOUT = Path(__file__).resolve().parents[2] / "config" / "foxglove.json"
TOPICS = {
    "/segmenter/output/points",
    "/segmenter/input/points",
    "/segmenter/output/front/overlay",
    "/diagnostics",
}


@pytest.fixture(scope="module")
def layout() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(LAYOUT.read_text())
    return content


def panels(tree: Any) -> list[str]:
    """Ids at the leaves of the mosaic."""
    return [tree] if isinstance(tree, str) else panels(tree["first"]) + panels(tree["second"])


def strings(content: Any) -> list[str]:
    """Every key and value that is a text."""
    if isinstance(content, dict):
        return [*content, *(text for value in content.values() for text in strings(value))]
    if isinstance(content, list):
        return [text for value in content for text in strings(value)]
    return [content] if isinstance(content, str) else []


def test_each_panel_is_placed_once_and_configured(layout: dict[str, Any]) -> None:
    placed = panels(layout["layout"])
    assert sorted(placed) == sorted(layout["configById"])
    assert {panel.partition("!")[0] for panel in placed} >= {
        "3D",
        "Image",
        "DiagnosticSummary",
        "DiagnosticStatusPanel",
    }


def test_the_topics_are_those_of_the_node(layout: dict[str, Any]) -> None:
    texts = strings(layout["configById"])
    assert {text for text in texts if re.fullmatch(r"(/\w+)+", text)} == TOPICS


def test_the_plots_read_keys_that_diagnostics_have(layout: dict[str, Any]) -> None:
    plotted = {key for text in strings(layout) for key in re.findall(r'key=="([^"]+)"', text)}
    there = values(NodeStatus("active", stages_ms={"latency": (1.0, 2.0)}))
    assert plotted
    assert plotted <= set(there)
