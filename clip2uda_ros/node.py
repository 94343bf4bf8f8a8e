"""The lifecycle node `segmenter`: model, services, parameters, diagnostics, and the pipeline while it is active.

Three callback groups keep it responsive: loading a model takes seconds and has its own, so have the diagnostics;
lifecycle services and parameters are in ROS' default one. The pipeline has threads of its own.
"""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from clip2uda_core.data.calibration import load_calibration
from clip2uda_core.errors import Clip2udaError
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.paths import config_file
from clip2uda_ros import diagnostics, parameters
from clip2uda_ros.accounts import Accounts
from clip2uda_ros.compat import TFMessage
from clip2uda_ros.meters import ThrottledWarnings
from clip2uda_ros.parameters import SegmenterParameters
from clip2uda_ros.pipeline import Pipeline
from clip2uda_ros.reasons import explain
from clip2uda_ros.status import NodeStatus

DEFAULT_CHECKPOINT = "default"
DIAGNOSTICS_PERIOD_S = 1.0
REPORTS_KEPT = 5
"""Diagnostics explain what went wrong within so many seconds."""


@dataclass(frozen=True)
class Model:
    """A model that has been loaded and run once."""

    segmenter: Segmenter
    path: Path


def load_model(values: SegmenterParameters) -> Model:
    """Loads the checkpoint and runs a made-up frame; Clip2udaError when it is missing or does not work."""
    path = config_file(_checkpoint(values), "checkpoints", ".safetensors")
    segmenter = Segmenter.from_checkpoint(path, device=values.device, clip_weights=values.clip_weights or None)
    segmenter.warm_up()
    return Model(segmenter, path)


def _checkpoint(values: SegmenterParameters) -> str:
    return values.checkpoint or DEFAULT_CHECKPOINT


class SegmenterNode(LifecycleNode):
    """configure loads the model; activate creates subscriptions and publishers; deactivate and cleanup undo them."""

    def __init__(self) -> None:
        super().__init__("segmenter")
        self._settings = parameters.declare(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.warnings = ThrottledWarnings(lambda text: self.get_logger().warning(text))
        self._state, self._problem = "unconfigured", ""
        self._enabled = True
        self._model_lock = threading.Lock()
        self._model: Model | None = None
        self._loading, self._loads, self._reload_failures = "", 0, 0
        self._pipeline_lock = threading.Lock()
        self._pipeline: Pipeline | None = None
        self._accounts = Accounts()
        self._reports: deque[NodeStatus] = deque(maxlen=REPORTS_KEPT)

        model_group = MutuallyExclusiveCallbackGroup()
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reload_model", self._on_reload_model, callback_group=model_group)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady, not the node's clock: with use_sim_time that one stands still until somebody publishes /clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, MutuallyExclusiveCallbackGroup(), steady)
        self._autostart = self.create_timer(0.0, self._start, model_group, steady)

    # Lifecycle

    def _start(self) -> None:
        """Walks to active once the executor spins, so that services answer while the model loads."""
        self._autostart.cancel()
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit("configuring", self._configure, success="inactive", failure="unconfigured")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit("activating", self._activate, success="active", failure="inactive")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit("deactivating", self._deactivate, success="inactive", failure="active")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit("cleaning up", self._clean_up, success="unconfigured", failure="inactive")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transit("shutting down", self._clean_up, success="finalized", failure="finalized")

    def _transit(self, state: str, action: Callable[[], None], success: str, failure: str) -> TransitionCallbackReturn:
        """Runs a transition. rclpy swallows what its callbacks raise, so nothing may leave here."""
        self._state, self._problem = state, ""
        try:
            action()
        except Clip2udaError as error:
            self._problem = str(error)
            self.get_logger().error(f"{state} failed: {error}")
        except Exception:
            self._problem = traceback.format_exc(limit=-1).strip()
            self.get_logger().error(f"{state} failed:\n{traceback.format_exc()}")
        self._state = failure if self._problem else success
        return TransitionCallbackReturn.FAILURE if self._problem else TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        if self._settings.torch_threads:
            torch.set_num_threads(self._settings.torch_threads)
        if self._settings.cameras and not self._settings.calibration and TFMessage is None:
            self.get_logger().warning(
                "no extrinsics can come: tf2_msgs is not installed and the parameter 'calibration' is empty; "
                "every point will be segmented by 3D alone"
            )
        with self._model_lock:
            self._model = self._load_model()
        info = self._model.segmenter.info
        self.get_logger().info(
            f"{self._model.path.name}: {len(info['classes'])} classes of {info['label_space']}, {info['training']}, "
            f"on {info['device']}"
        )

    def _activate(self) -> None:
        path = self._settings.calibration
        self._pipeline = Pipeline(
            self,
            self._settings,
            load_calibration(Path(path)) if path else None,
            lambda: self._loaded_model().segmenter,
            self.warnings,
        )
        self._pipeline.enable(self._enabled)

    def _deactivate(self) -> None:
        """Its counts go on in ours: at no moment are they in both, or in none."""
        if self._pipeline is not None:
            self._pipeline.close()
            with self._pipeline_lock:
                self._accounts += self._pipeline.accounts()
                self._pipeline = None

    def _clean_up(self) -> None:
        self._deactivate()
        with self._model_lock:
            self._model = None

    def _load_model(self) -> Model:
        """Loads, tries and counts; /diagnostics says what is being loaded."""
        self._loading = _checkpoint(self._settings)
        self._publish_diagnostics()  # now: who waits for the node shall not wait a second to read why
        try:
            model = load_model(self._settings)
        finally:
            self._loading = ""
        self._loads += 1
        return model

    def _loaded_model(self) -> Model:
        assert self._model is not None, "the pipeline outlived the model"
        return self._model

    def finish(self) -> None:
        """Shuts down from whatever state; called once the executor has stopped."""
        if self._state != "finalized":
            self.trigger_shutdown()

    # Services and parameters

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.enable(request.data)
        response.success = True
        response.message = "enabled" if request.data else "disabled: clouds are ignored"
        return response

    def _on_reload_model(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Loads and tries the checkpoint of the parameters; the old model works on until the new one is ready."""
        with self._model_lock:
            if self._model is None:
                response.message = f"the node is {self._state}: configure it first"
                return response
            try:
                self._model = self._load_model()
            except Exception as error:
                self._reload_failures += 1
                response.message = f"{self._model.path.name} stays: {error}"
                self.get_logger().error(f"the model was not reloaded: {error}")
                return response
            response.success, response.message = True, f"{self._model.path.name} is loaded"
            pipeline = self._pipeline
            if pipeline is not None:
                pipeline.publish_label_info(self._model.segmenter.labels)
        return response

    def _on_set_parameters(self, changes: Sequence[Parameter]) -> SetParametersResult:
        """Checks a change as a whole, then applies it; ROS itself refuses read-only ones and values out of range."""
        known = parameters.flat(self._settings)
        ours = {change.name: change.value for change in changes if change.name in known}
        try:
            self._settings = parameters.changed(self._settings, ours)
        except Clip2udaError as error:
            return SetParametersResult(successful=False, reason=str(error))
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.apply(self._settings)
        return SetParametersResult(successful=True)

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        """Once a second; what keeps an active node from giving anything is logged too."""
        now = self._status()
        self._reports.append(now)
        before = self._reports[0]
        reasons = explain(now, before)
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics.to_message(self.get_name(), now, reasons, stamp))
        settled = len(self._reports) == REPORTS_KEPT and before.state == "active"
        if settled and now.state == "active" and now.output_hz == 0:
            for reason in reasons:
                self.warnings.warn(f"no output: {reason}", time.monotonic())

    def _status(self) -> NodeStatus:
        model = self._model
        with self._pipeline_lock:
            pipeline, accounts = self._pipeline, self._accounts
        status = NodeStatus(
            state=self._state,
            problem=self._problem,
            enabled=self._enabled,
            model=model.path.name if model else "",
            device=str(model.segmenter.device) if model else "",
            loading=self._loading,
            loads=self._loads,
            reload_failures=self._reload_failures,
            clock_publishers=self._clock_publishers(),
            accounts=accounts,
        )
        if pipeline is None:
            return status
        return replace(pipeline.extend(status, time.monotonic()), accounts=accounts + pipeline.accounts())

    def _clock_publishers(self) -> int | None:
        return self.count_publishers("/clock") if self.get_parameter("use_sim_time").value else None

    def count_exception(self) -> None:
        """One that nobody caught, in a callback."""
        with self._pipeline_lock:
            self._accounts += Accounts(exceptions=1)
