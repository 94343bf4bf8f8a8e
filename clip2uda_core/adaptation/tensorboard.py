"""TensorBoard as a mirror of the run's own logs; the package `tensorboard` is an extra."""

import json
import shutil
from pathlib import Path
from typing import Any

from clip2uda_core.errors import ConfigError

NOT_A_LOSS = ("step", "time_s", "waited_s")


class TensorBoard:
    """Writes what is new in `log.jsonl` and among the validations to event files in `out/tensorboard`.

    A run that goes on writes them anew from its first step, so that steps which are trained again have one value.
    Raises ConfigError when the package is missing.
    """

    def __init__(self, out: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "--tensorboard needs the package tensorboard: pip install 'clip2uda_ros[tensorboard]' (or pip install "
                "tensorboard)"
            ) from None
        shutil.rmtree(out / "tensorboard", ignore_errors=True)
        self._writer = SummaryWriter(str(out / "tensorboard"))
        self._log = out / "log.jsonl"
        self._step = 0
        self._validated = 0

    def update(self, validations: list[dict[str, Any]]) -> None:
        """Adds the iterations and validations since the last call."""
        for text in self._log.read_text(encoding="utf-8").splitlines()[self._step :]:
            line = json.loads(text)
            self._step = line["step"]
            for name, value in line.items():
                if name not in NOT_A_LOSS:
                    self._writer.add_scalar(f"loss/{name}", value, self._step)
            self._writer.add_scalar("time/step_s", line["time_s"], self._step)
        for validation in validations[self._validated :]:
            for name, iou in validation["val"]["iou_percent"].items():
                if iou["mean"] is not None:
                    self._writer.add_scalar(f"val_mIoU/{name}", iou["mean"], validation["step"])
        self._validated = len(validations)
        self._writer.flush()
