"""`clip2uda train-stand-in-clip` and `clip2uda check-stand-in-clip`: make sim-clip, and show what it knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clip2uda_core.simulation.stand_in_clip.zero_shot import ZeroShotResult

Workers = Annotated[int | None, typer.Option(help="Processes that simulate streets; default: one a core.", min=1)]

CROPS_PER_CLASS = 40


def train_stand_in_clip(
    out: Annotated[
        Path, typer.Option(help="Weights to write; the log goes beside them, as .log.jsonl.", metavar="FILE")
    ] = Path("sim-clip.safetensors"),
    seed: Annotated[int, typer.Option(help="Of the first weights, the crops and the captions.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.", min=1)] = 2000,
    threads: Annotated[int, typer.Option(help="Threads; another number rounds sums differently.", min=1)] = 2,
    workers: Workers = None,
) -> None:
    """Trains sim-clip, which stands in for CLIP where no weights of one can be had. It is not CLIP.

    Simulates 480 images of streets that are in no scenario, in day, night, rain and gray (kept in the cache), trains
    both towers on crops with captions, and prints how well class names fit crops and patches of other streets.

    **Examples**

        clip2uda train-stand-in-clip --out config/clip/sim-clip.safetensors

        clip2uda train-stand-in-clip --seed 1 --out /tmp/other.safetensors
    """
    import time

    import cv2
    import torch
    from rich.progress import Progress

    from clip2uda_core.cli.console import make_console
    from clip2uda_core.simulation.cache import open_cache
    from clip2uda_core.simulation.stand_in_clip.files import TrainingLog, save_stand_in
    from clip2uda_core.simulation.stand_in_clip.training import StandInTrainingConfig, train_stand_in
    from clip2uda_core.simulation.stand_in_clip.worlds import TRAINING, street_images

    config = StandInTrainingConfig(seed=seed, steps=steps)
    with Progress(console=make_console(stderr=True)) as progress:
        made = progress.add_task("streets", total=TRAINING.images)
        images = []
        for image in street_images("train", TRAINING, open_cache(), workers):
            images.append(image)
            progress.advance(made)
        log = TrainingLog(out.with_suffix(".log.jsonl"))
        log.begin(
            f"clip2uda train-stand-in-clip --seed {seed} --steps {steps} --threads {threads}", config, images, threads
        )
        trained = progress.add_task("training", total=steps)

        def on_step(step: int, losses: dict[str, float]) -> None:
            log.step(step, losses)
            progress.advance(trained)

        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        start = time.monotonic()
        save_stand_in(train_stand_in(images, config, on_step), out)
        seconds = time.monotonic() - start
    result = _check(str(out), workers)
    log.end(out, seconds, result)
    print(result.table())
    print(f"wrote {out} and {log.path}")


def check_stand_in_clip(
    weights: Annotated[str, typer.Option(help="Weights of sim-clip: a file, or the shipped ones.")] = "sim-clip",
    workers: Workers = None,
) -> None:
    """Prints how often the right class name is the nearest, in percent, on simulated streets that were not trained on.

    By light and class, for crops and for patches of whole images, beside chance.

    **Examples**

        clip2uda check-stand-in-clip

        clip2uda check-stand-in-clip --weights /tmp/other.safetensors
    """
    print(_check(weights, workers).table())


def _check(weights: str, workers: int | None) -> "ZeroShotResult":
    from clip2uda_core.labels import LabelSpace
    from clip2uda_core.models.clip import FrozenClip
    from clip2uda_core.models.clip_weights import ClipConfig
    from clip2uda_core.simulation.cache import open_cache
    from clip2uda_core.simulation.stand_in_clip.worlds import CHECK, street_images
    from clip2uda_core.simulation.stand_in_clip.zero_shot import zero_shot

    clip = FrozenClip.load(ClipConfig(model="sim-clip", weights=weights, precision="fp32"), text=True)
    images = list(street_images("check", CHECK, open_cache(), workers))
    return zero_shot(clip, images, LabelSpace.load("street8"), CROPS_PER_CLASS, seed=0)
