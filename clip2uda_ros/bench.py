"""The node over DDS: what it adds to the model, and how old its answers are under load."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip2uda_core.bench.frame import example_frame
from clip2uda_core.bench.table import print_table
from clip2uda_core.data.calibration import save_calibration
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.inference.segmenter import ModelConfig, init_checkpoint
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.clip_weights import ClipConfig
from clip2uda_core.models.network import NetworkConfig
from clip2uda_core.models.sparse_unet import SparseUNetConfig
from clip2uda_ros.soak.node import node_under_test, use_own_domain
from clip2uda_ros.soak.record import Record
from clip2uda_ros.soak.rig import CAMERA, make_rig
from clip2uda_ros.soak.robot import Robot

STAND_IN = ClipConfig(model="sim-clip", weights="sim-clip")
FAST_MODEL = ModelConfig(
    prepare=PrepareConfig(voxel_size_m=0.5, image_max_width_px=160),
    clip=STAND_IN,
    network=NetworkConfig(sparse_unet=SparseUNetConfig(channels=8, levels=2)),
)
"""Much faster than an input of 1 Hz, so that what is measured is the node alone."""
FULL_MODEL = ModelConfig(clip=STAND_IN)
"""Everything at its default size, beside the stand-in for CLIP."""

LIDAR_HZ = 10.0
WARM_UP, ANSWERS = 3, 30
START_TIMEOUT_S = 180.0
RUN_TIMEOUT_S = 600.0
ASKED_MS, ASKED_OVERHEAD_MS, ASKED_AGE = 10.0, 15.0, 2.0
AFTER_MODEL = ("encode", "publish")
OVERHEAD = ("wait", "assemble", *AFTER_MODEL)
"""Stages of a set but the model's own; `collect`, the wait for an image that is taken later, is the sensors' time."""


@dataclass(frozen=True)
class Measured:
    """ages_s: of each answer, from the publishing of its cloud until it is received here. stages_ms: (p50, p95)."""

    rate_out_hz: float
    ages_s: list[float]
    stages_ms: dict[str, tuple[float, float]]

    def age_ms(self, percentile: float) -> float:
        return 1e3 * float(np.percentile(self.ages_s, percentile))

    def sum_ms(self, stages: tuple[str, ...]) -> float:
        """Of the stages' p95, which is at least the p95 of their sum for times that rise and fall together."""
        return sum(self.stages_ms[stage][1] for stage in stages)


def measure_node() -> None:
    """Prints both tables; an HDL-64E's cloud of 120 000 points and a 1242x375 image a sweep."""
    use_own_domain()
    _print_overhead(_run(FAST_MODEL, 1.0))
    _print_load(_run(FULL_MODEL, LIDAR_HZ), _run(FULL_MODEL, 4 * LIDAR_HZ))


def _print_overhead(measured: Measured) -> None:
    asked = {
        "submitted to worker start": (("wait",), ASKED_MS),
        "result to published (encode, publish)": (AFTER_MODEL, ASKED_MS),
        "node over Segmenter.segment (wait, assemble, encode, publish)": (OVERHEAD, ASKED_OVERHEAD_MS),
    }
    rows = []
    for name, (stages, asked_ms) in asked.items():
        value_ms = measured.sum_ms(stages)
        rows.append([name, f"{value_ms:.2f}", f"{asked_ms:.0f} ({value_ms / asked_ms:.2f}x)"])
    rows += [[f"stage {n}", f"{high:.1f}", f"p50 {median:.1f}"] for n, (median, high) in measured.stages_ms.items()]
    title = f"The node over DDS at 1 Hz, {ANSWERS} clouds, small untrained model"
    print_table(title, ["part", "p95 ms", "asked for, ms (p95 / asked)"], rows)


def _print_load(once: Measured, fourfold: Measured) -> None:
    rows = []
    for factor, measured in ((1, once), (4, fourfold)):
        model_ms = measured.stages_ms["segment"]
        ratios = [measured.age_ms(p) / model for p, model in zip((50, 95), model_ms, strict=True)]
        rows.append(
            [
                f"{factor * LIDAR_HZ:.0f}",
                f"{measured.rate_out_hz:.2f}",
                f"{model_ms[0]:.0f} / {model_ms[1]:.0f}",
                f"{measured.age_ms(50):.0f} / {measured.age_ms(95):.0f}",
                f"{ratios[0]:.2f}x / {ratios[1]:.2f}x ({ASKED_AGE:.0f}x)",
                f"{measured.age_ms(50) / once.age_ms(50):.2f}x / {measured.age_ms(95) / once.age_ms(95):.2f}x",
            ]
        )
    columns = [
        "input, Hz",
        "output, Hz",
        "model, ms (p50 / p95)",
        "age of the answer, ms (p50 / p95)",
        "age / model (asked for)",
        f"age / age at {LIDAR_HZ:.0f} Hz",
    ]
    title = "The node under load: untrained model of full size beside sim-clip, a stand-in for CLIP"
    print_table(title, columns, rows)
    names = [name for name in once.stages_ms if name in fourfold.stages_ms]
    stages = [[f"stage {n}", *(f"{m.stages_ms[n][1]:.1f}" for m in (once, fourfold))] for n in names]
    print_table("The same by stage", ["stage", f"p95 ms at {LIDAR_HZ:.0f} Hz", "p95 ms at four times that"], stages)


def _run(config: ModelConfig, rate_hz: float) -> Measured:
    """Drives a node of its own until it has given `ANSWERS` after the first few."""
    rig = make_rig("bench", [example_frame()], "bench")
    record = Record()
    with tempfile.TemporaryDirectory() as name:
        model, calibration = Path(name) / "model.safetensors", Path(name) / "calibration.yaml"
        init_checkpoint(model, LabelSpace.load("street8"), config)
        save_calibration(rig.calibration, calibration)
        parameters = {"checkpoint": str(model), "calibration": str(calibration), "cameras": f"[{CAMERA}]"}
        with node_under_test(parameters, Path(name) / "node.log", record) as (node, peer):
            robot = Robot(peer, rig, 0, record.add_sent)
            try:
                robot.rate_hz = rate_hz
                node.wait_for(lambda: len(record.answers) >= WARM_UP, "the first answers", START_TIMEOUT_S)
                wanted = WARM_UP + ANSWERS
                node.wait_for(lambda: len(record.answers) >= wanted, f"{ANSWERS} answers", RUN_TIMEOUT_S)
                report_s = record.reports[-1].when_s
                node.wait_for(lambda: record.report_after(report_s), "a report")
            finally:
                robot.close()
    answers = record.answers[WARM_UP:wanted]
    received_s = [answer.sent_s + answer.latency_s for answer in answers]
    return Measured(
        rate_out_hz=(len(answers) - 1) / (received_s[-1] - received_s[0]),
        ages_s=[answer.latency_s for answer in answers],
        stages_ms=_stages(record.last_values),
    )


def _stages(values: dict[str, str]) -> dict[str, tuple[float, float]]:
    """(p50, p95) by stage, of the diagnostics' `stage.<name>.p50_ms`."""
    ending = ".p50_ms"
    names = [key.removeprefix("stage.").removesuffix(ending) for key in values if key.endswith(ending)]
    return {n: (float(values[f"stage.{n}.p50_ms"]), float(values[f"stage.{n}.p95_ms"])) for n in names}
