"""What several processes do together, for `torchrun`: `several_processes.py OUT`. A test compares with the same in a
single process."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import tiny_run
import torch

from clip2uda_core.adaptation.adapter import Adapter
from clip2uda_core.adaptation.distributed import check_same_images
from clip2uda_core.data.augment import AugmentConfig
from clip2uda_core.data.frame_store import FrameStore
from clip2uda_core.data.loader import LoaderConfig, load_batches
from clip2uda_core.data.prepare import PrepareConfig
from clip2uda_core.errors import Clip2udaError
from clip2uda_core.evaluation.evaluate import evaluate
from clip2uda_core.inference.segmenter import Segmenter
from clip2uda_core.labels import LabelSpace
from clip2uda_core.processes import process_rank

SOURCE, TARGET = tiny_run.frames(5, 0, 160, 96), tiny_run.frames(5, 100, 160, 96)
SLOWLY = "optimizer.learning_rate=1e-5"
"""Adam's first steps are of one length, whatever the gradient: what is only rounding takes a whole step too. Such steps
must not change what comes after them."""


def prepare(method: str, out: Path, *settings: str, teacher: Segmenter | None = None) -> Adapter:
    run = Adapter(tiny_run.config(method, 3, SLOWLY, *settings), out, "cpu")
    run.setup(SOURCE, TARGET, teacher)
    run.build()
    return run


def complete(run: Adapter) -> None:
    if process_rank() == 0:
        torch.save(run.network.state_dict(), run.out / "before.pt")
    assert run.fit()
    run.save_model(run.out / "model.safetensors")
    evaluation = evaluate(run.segmenter().segment, TARGET[:3], run.labels)
    if process_rank() == 0:
        (run.out / "evaluation.json").write_text(json.dumps(evaluation.summary()))


def refusals() -> list[str]:
    """What is said of a batch that cannot be shared out, and of images that only one process has."""
    said = []
    prepare_config, augment = PrepareConfig(), AugmentConfig()
    with TemporaryDirectory() as folder:
        small, large = tiny_run.frames(1, 0, 48, 32), tiny_run.frames(1, 0, 64, 32)
        store = FrameStore.write(
            small if process_rank() == 0 else large,
            Path(folder) / "source",
            "source",
            LabelSpace.load("street8"),
            prepare_config,
            "seen",
            with_images=True,
        )
        try:
            load_batches(store, "source", LoaderConfig(batch_size=3, workers=0), prepare_config, augment, seed=0)
        except Clip2udaError as error:
            said.append(str(error))
        batches = load_batches(store, "source", LoaderConfig(batch_size=2, workers=0), prepare_config, augment, seed=0)
        try:
            check_same_images({"source": next(batches)})
        except Clip2udaError as error:
            said.append(str(error))
    return said


def main(out: Path) -> None:
    """Trains CLIP2UDA, and xMUDA on pseudo-labels of the former as it was before training, with statistics of the
    target; evaluates both."""
    torch.set_num_threads(1)
    first = prepare("clip2uda", out / "clip2uda")
    first.save_model(out / "teacher.safetensors")
    settings = ("model.network.unet2d.dropout=0", "target_statistics=true")
    second = prepare("xmuda_pl", out / "xmuda_pl", *settings, teacher=first.segmenter())
    for run in (first, second):
        complete(run)
    told = refusals()
    if process_rank() == 0:
        (out / "refusals.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
