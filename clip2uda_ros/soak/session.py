"""One soak, start to end: node and robot meet, faults come one after the other, and the node ends on SIGINT."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip2uda_core.data.calibration import save_calibration
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.errors import DataError
from clip2uda_core.inference.segmenter import ModelConfig, init_checkpoint
from clip2uda_core.labels import LabelSpace
from clip2uda_core.models.clip_weights import ClipConfig
from clip2uda_core.models.decoder import DecoderConfig
from clip2uda_core.models.network import NetworkConfig
from clip2uda_core.models.sparse_unet import SparseUNetConfig
from clip2uda_ros.compat import TFMessage
from clip2uda_ros.soak.faults import FAULTS, Bench
from clip2uda_ros.soak.node import ACTIVATE, CLEAN_UP, NodeUnderTest, node_under_test
from clip2uda_ros.soak.plan import Plan, Slot
from clip2uda_ros.soak.record import Counts, Record
from clip2uda_ros.soak.rig import CAMERA, Rig
from clip2uda_ros.soak.robot import FIXED_FRAME, NORMAL, SILENT, Robot

START_TIMEOUT_S = 180.0
RECOVERY_TIMEOUT_S = 60.0
PACED_ANSWERS = 8
BUSY = 0.6
"""Share of the time that the model works at the normal input rate, so that four times of it is too much."""
RATES_HZ = (1.0, 10.0)
LOST_EXCEPTION = "exception was never retrieved"


@dataclass(frozen=True)
class SlotResult:
    """A fault that has happened, by the monotonic clock.

    next_output_s: from its end to the first answer to a cloud that was sent after it. complete: sets with every camera
    in the calm that followed.
    """

    slot: Slot
    began_s: float
    ended_s: float
    next_output_s: float
    complete: int


@dataclass(frozen=True)
class Soak:
    """What a soak gave. settled: the counts when the input had stopped and nothing was pending; sent, answered: clouds
    until then.

    steady_s: when the first round of faults was over. lost_exceptions: those that only the log of rclpy told of,
    before SIGINT; when it is shut down it destroys what running callbacks still use, and tells of that too. end_s: from
    SIGINT to the end of the process, None when it ended badly, as `end_problem` says.
    """

    record: Record
    slots: tuple[SlotResult, ...]
    rates_hz: dict[str, float]
    began_s: float
    steady_s: float
    ended_s: float
    settled: Counts
    sent: int
    answered: int
    lost_exceptions: int
    end_s: float | None
    end_problem: str
    log: Path


def write_models(folder: Path) -> tuple[Path, Path]:
    """A small untrained model of both branches beside sim-clip, the stand-in for CLIP; and a damaged copy of it."""
    good, bad = folder / "untrained.safetensors", folder / "damaged.safetensors"
    config = ModelConfig(
        prepare=PrepareConfig(voxel_size_m=0.3, image_max_width_px=320),
        clip=ClipConfig(model="sim-clip", weights="sim-clip"),
        network=NetworkConfig(decoder=DecoderConfig(channels=16), sparse_unet=SparseUNetConfig(channels=8, levels=3)),
    )
    init_checkpoint(good, LabelSpace.load("street8"), config)
    data = good.read_bytes()
    bad.write_bytes(data[: len(data) // 2])
    return good, bad


def run_soak(
    plan: Plan,
    rigs: Sequence[Rig],
    scratch: Path,
    log: Path,
    seed: int,
    stop: threading.Event,
    progress: Callable[[str, float], None],
) -> Soak:
    """Runs the plan. progress(what is going on, seconds of the plan that are over) is called as it goes.

    scratch: folder for models. log: where the node's output goes.
    Raises DataError when the node dies, when one of its services fails, and when `stop` is set.
    """
    good, bad = write_models(scratch)
    calibration = scratch / "calibration.yaml"
    save_calibration(rigs[0].calibration, calibration)
    parameters = {"use_sim_time": "true", "checkpoint": str(good), "torch_threads": "1", "cameras": f"[{CAMERA}]"}
    parameters |= {"tf.fixed_frame": FIXED_FRAME} if TFMessage else {"calibration": str(calibration)}
    record = Record()
    with node_under_test(parameters, log, record) as (node, peer):
        robot = Robot(peer, rigs[0], seed, record.add_sent)
        try:
            bench = Bench(robot, node, good, bad, stop)
            return _Session(bench, rigs, calibration, progress).run(plan)
        finally:
            robot.close()


class _Session:
    def __init__(
        self, bench: Bench, rigs: Sequence[Rig], calibration: Path, progress: Callable[[str, float], None]
    ) -> None:
        self._bench = bench
        self._node: NodeUnderTest = bench.node
        self._robot: Robot = bench.robot
        self._record: Record = bench.node.record
        self._rigs = rigs
        self._calibration = calibration
        self._progress = progress
        self._rates_hz: dict[str, float] = {}

    def run(self, plan: Plan) -> Soak:
        self._progress("the model loads", 0)
        self._node.wait_for(lambda: self._record.answers, "the first labelled cloud", START_TIMEOUT_S)
        for rig in self._rigs[::-1]:  # the first one last: it begins
            self._progress(f"how fast is the model with the {rig.name} sensors?", 0)
            self._take(rig)
        began_s = time.monotonic()
        over_s, slots, steady_s = 0.0, [], began_s
        for number, part in enumerate(plan.rounds):
            for slot in part:
                self._progress(slot.fault, over_s)
                slots.append(self._run_slot(slot))
                over_s += slot.fault_s + slot.calm_s
            if number == 0 and len(plan.rounds) > 1:
                steady_s = time.monotonic()
        self._progress("end", over_s)
        ended_s = time.monotonic()
        settled = self._settle()
        sent, answered = self._record.sent, len(self._record.answers)
        lost = self._node.process.log.read_text(errors="replace").count(LOST_EXCEPTION)
        end_s, problem = self._interrupt()
        return Soak(
            record=self._record,
            slots=tuple(slots),
            rates_hz=self._rates_hz,
            began_s=began_s,
            steady_s=steady_s,
            ended_s=ended_s,
            settled=settled,
            sent=sent,
            answered=answered,
            lost_exceptions=lost,
            end_s=end_s,
            end_problem=problem,
            log=self._node.process.log,
        )

    def _take(self, rig: Rig) -> None:
        """Drives the node with another rig, through its lifecycle, and at a rate that suits the model."""
        if rig is not self._robot.rig:
            self._node.transit(*CLEAN_UP)
            save_calibration(rig.calibration, self._calibration)
            self._robot.rig = rig
            self._node.transit(*ACTIVATE)
        if rig.name not in self._rates_hz:
            self._rates_hz[rig.name] = self._measure_rate()
        self._robot.rate_hz = self._rates_hz[rig.name]
        self._next_output(time.monotonic())

    def _measure_rate(self) -> float:
        self._robot.rate_hz = RATES_HZ[0]
        before = len(self._record.answers) + 1  # the first answer after a start is slow
        count = before + PACED_ANSWERS
        self._node.wait_for(lambda: len(self._record.answers) >= count, "labelled clouds", START_TIMEOUT_S)
        busy_s = float(np.median([answer.latency_s for answer in self._record.answers[before:count]]))
        return float(np.clip(BUSY / busy_s, *RATES_HZ))

    def _run_slot(self, slot: Slot) -> SlotResult:
        self._take(self._rigs[slot.rig])
        fault = FAULTS[slot.fault]
        began_s = time.monotonic()
        self._robot.conditions = fault.conditions
        fault.act(self._bench, began_s + slot.fault_s)
        self._robot.conditions = NORMAL
        ended_s = time.monotonic()
        next_output_s = self._next_output(ended_s)
        before = self._node.wait_for(lambda: self._record.report_after(time.monotonic() - 1.5), "a report")
        until_s = max(time.monotonic() + 2.0, began_s + slot.fault_s + slot.calm_s)
        while self._bench.pause(0.5, until_s):
            pass
        if self._bench.stop.is_set():
            raise DataError("interrupted: a soak that was not finished says nothing")
        after = self._node.wait_for(lambda: self._record.report_after(until_s - 1.5), "a report")
        return SlotResult(slot, began_s, ended_s, next_output_s, after.complete - before.complete)

    def _next_output(self, since_s: float) -> float:
        """Seconds to the answer to a cloud that was sent after `since_s`; the timeout when there was none."""
        while (answer := self._record.answer_sent_after(since_s)) is None:
            self._node.process.check()
            if time.monotonic() > since_s + RECOVERY_TIMEOUT_S:
                return RECOVERY_TIMEOUT_S
            with self._record.changed:
                self._record.changed.wait(0.2)
        return answer.sent_s + answer.latency_s - since_s

    def _settle(self) -> Counts:
        """Stops the input, and waits until the node has nothing left to do."""
        self._robot.conditions = SILENT
        silent_s = time.monotonic() + 1.0

        def settled() -> Counts | None:
            report = self._record.report_after(silent_s)
            return report if report is not None and report.pending == 0 else None

        return self._node.wait_for(settled, "a report without pending sets")

    def _interrupt(self) -> tuple[float | None, str]:
        """SIGINT while the node works; seconds to its end, or what was wrong with it."""
        self._robot.conditions = NORMAL
        self._next_output(time.monotonic())
        asked_s = time.monotonic()
        try:
            self._node.process.interrupt()
        except DataError as error:
            return None, str(error)
        return time.monotonic() - asked_s, ""
