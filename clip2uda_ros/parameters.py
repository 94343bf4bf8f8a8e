"""The node's parameters: one typed description that declares, validates and documents them.

`SegmenterParameters` is the description: a field's type, default, bounds and text become the ROS parameter, its
descriptor and a row of docs/parameters.md (`python -m clip2uda_ros.parameters` prints that page). Nested settings have
dotted names: `sync.tolerance_s`. Values that have been checked once travel on as this frozen object.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from clip2uda_core.config import Config, parse_config

CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def parameter(
    default: Any, text: str, *, unit: str = "", runtime: bool = False, bounds: tuple[float, float] | None = None
) -> Any:
    """A field of the description. `runtime` parameters may change while the node runs; all others are read-only."""
    lower, upper = bounds or (None, None)
    extra: dict[str, Any] = {"unit": unit, "runtime": runtime, "bounds": bounds}
    return Field(default=default, ge=lower, le=upper, description=text, json_schema_extra=extra)


class CameraParameters(Config):
    """What differs between the cameras of one robot; declared for each name in `cameras`."""

    rectified: bool = parameter(
        False, "The images are rectified (`image_rect`): P of the CameraInfo is used, else K, D and no rectification."
    )
    compressed: bool = parameter(
        False,
        "Subscribe to `~/input/<camera>/image/compressed` (CompressedImage), not to `…/image`.",
    )
    stamp_offset_s: float = parameter(
        0.0,
        "Image stamp minus stamp of the cloud that it belongs to, where the two clocks or triggers differ.",
        unit="s",
        bounds=(-10, 10),
    )


class SyncParameters(Config):
    """How images join a cloud."""

    policy: Literal["collector", "approximate_time", "exact_time"] = parameter(
        "collector",
        "`collector`: each cloud takes the nearest image of each camera; a missing one does not block it. The others "
        "are message_filters' synchronisers: complete sets alone.",
    )
    tolerance_s: float = parameter(
        0.05,
        "An image joins a cloud if their stamps are at most this far apart. For `approximate_time` the slop: all "
        "stamps of a set less than this apart.",
        unit="s",
        runtime=True,
        bounds=(0, 10),
    )
    timeout_s: float = parameter(
        0.15,
        "A cloud waits this long for its images (`collector`), and for its transforms with `tf.fixed_frame`, then goes "
        "on with what came.",
        unit="s",
        bounds=(0, 10),
    )
    max_age_s: float = parameter(
        1.0, "Clouds older than this on arrival are dropped; 0 keeps all.", unit="s", runtime=True, bounds=(0, 3600)
    )
    min_cameras: int = parameter(
        0,
        "A cloud with fewer images than this is dropped (`collector`); 0 lets it be segmented by 3D alone.",
        bounds=(0, 64),
    )
    queue_size: int = parameter(30, "Images of each camera that are kept for clouds to come.", bounds=(1, 1000))

    @model_validator(mode="after")
    def _slop_that_can_match(self) -> "SyncParameters":
        """Spread < slop, as message_filters compares, is never true for 0."""
        if self.policy == "approximate_time" and self.tolerance_s == 0:
            raise ValueError("approximate_time matches nothing with tolerance_s 0; use exact_time")
        return self


class TransformParameters(Config):
    """Where the cameras are seen from the LiDAR, when no calibration file says so."""

    fixed_frame: str = parameter(
        "",
        "Frame that stands still, such as `odom`: compensates motion between cloud and image. Empty: static TF.",
    )
    cache_time_s: float = parameter(10.0, "How long transforms of /tf are kept.", unit="s", bounds=(0.1, 3600))


class OutputParameters(Config):
    """What the labelled cloud carries."""

    publish_rgb: bool = parameter(True, "Fill `rgb` with the colour of the label; else it is 0.", runtime=True)
    keep_input_fields: bool = parameter(False, "Append the other fields of the input cloud to each point.")


class SegmenterParameters(Config):
    """Every parameter of the node, with values that have been checked."""

    autostart: bool = parameter(True, "Configure and activate without a lifecycle manager.")
    checkpoint: str = parameter(
        "",
        "Model to run (.safetensors). Empty: the one that ships. Read at configure and at `~/reload_model`.",
        runtime=True,
    )
    clip_weights: str = parameter(
        "", "File or open_clip tag with the weights of CLIP. Empty: as the checkpoint says.", runtime=True
    )
    device: str = parameter("auto", "`auto`, `cpu`, `cuda` or `cuda:<index>`.")
    torch_threads: int = parameter(0, "CPU threads of torch; 0 leaves its default.", bounds=(0, 1024))
    confidence_threshold: float = parameter(
        0.0, "Points whose confidence is below this become label 255 (unknown).", runtime=True, bounds=(0, 1)
    )
    cameras: tuple[str, ...] = parameter(("front",), "Names of the cameras; `['']` is none: 3D alone.")
    calibration: str = parameter("", "Calibration YAML with extrinsics (and intrinsics). Empty: TF and CameraInfo.")
    camera: dict[str, CameraParameters] = Field(default={}, description="By the names in `cameras`.")
    sync: SyncParameters = SyncParameters()
    tf: TransformParameters = TransformParameters()
    output: OutputParameters = OutputParameters()

    @field_validator("cameras", mode="before")
    @classmethod
    def _drop_empty_names(cls, names: Sequence[str] | None) -> tuple[str, ...]:
        """ROS gives `[]` as no value at all, and `['']` is how a launch file says it."""
        return tuple(name for name in names or () if name)

    @field_validator("cameras")
    @classmethod
    def _names_that_fit_a_topic(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not CAMERA_NAME.fullmatch(name)]
        if wrong or len(set(names)) != len(names):
            raise ValueError("expected different names of letters, digits and _ that begin with a letter")
        return names


@dataclass(frozen=True)
class Described:
    """One ROS parameter, flattened out of the description."""

    name: str
    default: bool | int | float | str | tuple[str, ...]
    text: str
    unit: str
    runtime: bool
    bounds: tuple[float, float] | None
    choices: tuple[str, ...]

    @property
    def kind(self) -> str:
        """ROS' name of the type."""
        return {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string_array"}[type(self.default)]

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows; ROS itself then enforces type, range and read-only."""
        text = f"{self.text} [{self.unit}]" if self.unit else self.text
        descriptor = ParameterDescriptor(description=text, read_only=not self.runtime)
        if self.bounds and self.kind == "integer":
            descriptor.integer_range = [IntegerRange(from_value=int(self.bounds[0]), to_value=int(self.bounds[1]))]
        elif self.bounds:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(self.bounds[0]), to_value=float(self.bounds[1]))
            ]
        if self.choices:
            descriptor.additional_constraints = "one of: " + ", ".join(self.choices)
        return descriptor


def _described(name: str, field: FieldInfo) -> Described:
    assert isinstance(field.json_schema_extra, dict), f"{name} is not made with parameter()"
    extra: dict[str, Any] = field.json_schema_extra
    return Described(
        name=name,
        default=field.default,
        text=field.description or "",
        unit=extra["unit"],
        runtime=extra["runtime"],
        bounds=extra["bounds"],
        choices=get_args(field.annotation) if get_origin(field.annotation) is Literal else (),
    )


def describe(kind: type[Config], prefix: str = "") -> Iterator[Described]:
    """Every parameter of `kind` in its order, nested ones with dotted names; per-camera settings come by their own."""
    for name, field in kind.model_fields.items():
        if isinstance(field.default, Config):
            yield from describe(type(field.default), f"{prefix}{name}.")
        elif name != "camera":
            yield _described(prefix + name, field)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` -> `{"a": {"b": 1}}`."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *parents, leaf = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    return tree


def flat(parameters: SegmenterParameters) -> dict[str, Any]:
    """The values by their ROS names."""
    described = [*describe(SegmenterParameters)]
    for camera in parameters.cameras:
        described += describe(CameraParameters, f"camera.{camera}.")
    values = {}
    for row in described:
        value: Any = parameters
        for part in row.name.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        values[row.name] = value
    return values


def declare(node: Node) -> SegmenterParameters:
    """Declares every parameter on `node` and returns their values, checked.

    Raises ConfigError, or rclpy's InvalidParameterTypeException and InvalidParameterValueException, which name the
    parameter.
    """
    values = {row.name: _declare(node, row) for row in describe(SegmenterParameters)}
    for camera in parse_config(SegmenterParameters, {"cameras": values["cameras"]}, "parameters").cameras:
        rows = describe(CameraParameters, f"camera.{camera}.")
        values |= {row.name: _declare(node, row) for row in rows}
    return parse_config(SegmenterParameters, nested(values), "parameters")


def _declare(node: Node, row: Described) -> Any:
    default = list(row.default) if isinstance(row.default, tuple) else row.default
    return node.declare_parameter(row.name, default, row.descriptor()).value


def changed(parameters: SegmenterParameters, changes: Mapping[str, Any]) -> SegmenterParameters:
    """The parameters after a change by ROS names; ConfigError says what is wrong with it."""
    return parse_config(SegmenterParameters, nested({**flat(parameters), **changes}), "parameters")


PAGE = """# Parameters of the node `segmenter`

Set them in `config/segment.yaml`, with `-p name:=value`, or, those marked *yes* in the last column, with
`ros2 param set` while the node runs. Doubles need their decimal point: `1.0`, not `1`. Subscriptions also have ROS' own
`qos_overrides.<topic>.subscription.{reliability,depth,history}`.

This page is generated: `python -m clip2uda_ros.parameters > docs/parameters.md`.

"""


def render_page() -> str:
    """docs/parameters.md."""
    lines = ["| Parameter | Type | Default | Range | What it does | At run time |", "|---|---|---|---|---|---|"]
    for row in [*describe(SegmenterParameters), *describe(CameraParameters, "camera.<name>.")]:
        unit = f" {row.unit}" if row.unit else ""
        span = ", ".join(f"`{choice}`" for choice in row.choices)
        if row.bounds:
            span = f"{row.bounds[0]:g} … {row.bounds[1]:g}{unit}"
        lines.append(
            f"| `{row.name}` | {row.kind} | `{_yaml(row.default)}`{unit} | {span} | {row.text} |"
            f" {'yes' if row.runtime else ''} |"
        )
    return PAGE + "\n".join(lines) + "\n"


def _yaml(value: bool | int | float | str | tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    print(render_page(), end="")
