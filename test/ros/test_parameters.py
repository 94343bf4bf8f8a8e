"""One description gives the declarations, their validation and the documentation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from clip2uda_core.errors import ConfigError
from clip2uda_ros import parameters
from clip2uda_ros.parameters import CameraParameters, SegmenterParameters

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def context(domain: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    context.try_shutdown()


def declared(context: Context, **overrides: Any) -> tuple[Node, SegmenterParameters]:
    """A node with the overrides (`__` for a dot), and what it declared."""
    values = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
    node = Node("declaring", context=context, parameter_overrides=values, start_parameter_services=False)
    return node, parameters.declare(node)


def test_defaults_are_those_of_the_description(context: Context) -> None:
    _, values = declared(context)
    assert values == SegmenterParameters(camera={"front": CameraParameters()})


def test_overrides_reach_nested_and_per_camera_settings(context: Context) -> None:
    _, values = declared(
        context,
        cameras=["left", "right"],
        sync__tolerance_s=0.2,
        camera__right__rectified=True,
        output__publish_rgb=False,
    )
    assert values.cameras == ("left", "right")
    assert values.sync.tolerance_s == 0.2
    assert values.camera == {"left": CameraParameters(), "right": CameraParameters(rectified=True)}
    assert not values.output.publish_rgb


def test_an_empty_name_is_no_camera(context: Context) -> None:
    assert declared(context, cameras=[""])[1].cameras == ()


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ({"sync__tolerance_s": -0.1}, InvalidParameterValueException, "sync.tolerance_s"),
        ({"sync__tolerance_s": 1}, InvalidParameterTypeException, "sync.tolerance_s"),
        ({"sync__policy": "guess"}, ConfigError, "sync.policy"),
        ({"cameras": ["front left"]}, ConfigError, "cameras"),
        ({"cameras": ["front", "front"]}, ConfigError, "cameras"),
    ],
)
def test_bad_values_are_refused_by_name(
    context: Context, override: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        declared(context, **override)


def test_ros_describes_range_unit_and_read_only(context: Context) -> None:
    node, _ = declared(context)
    tolerance = node.describe_parameter("sync.tolerance_s")
    assert "[s]" in tolerance.description
    assert not tolerance.read_only
    assert (tolerance.floating_point_range[0].from_value, tolerance.floating_point_range[0].to_value) == (0.0, 10.0)
    assert node.describe_parameter("device").read_only
    assert "collector" in node.describe_parameter("sync.policy").additional_constraints


def test_a_change_at_run_time_is_checked_as_a_whole() -> None:
    values = SegmenterParameters(camera={"front": CameraParameters(rectified=True)})
    assert parameters.changed(values, {"sync.max_age_s": 2.0}).sync.max_age_s == 2.0
    assert parameters.changed(values, {"sync.max_age_s": 2.0}).camera["front"].rectified
    with pytest.raises(ConfigError, match="confidence_threshold"):
        parameters.changed(values, {"confidence_threshold": 1.5})


def test_the_page_in_docs_is_the_description() -> None:
    assert (ROOT / "docs/parameters.md").read_text(encoding="utf-8") == parameters.render_page(), (
        "run: python -m clip2uda_ros.parameters > docs/parameters.md"
    )


def test_the_shipped_config_lists_every_parameter_with_its_default(context: Context) -> None:
    def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in tree.items():
            flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return flat

    shipped = flatten(yaml.safe_load((ROOT / "config/segment.yaml").read_text())["/**"]["ros__parameters"])
    _, values = declared(context)
    defaults = {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.flat(values).items()}
    assert shipped == defaults
    assert {k: type(v) for k, v in shipped.items()} == {k: type(v) for k, v in defaults.items()}
