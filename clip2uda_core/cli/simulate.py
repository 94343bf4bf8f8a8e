"""`clip2uda simulate`: makes frames of a scenario's domains and draws them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track

from clip2uda_core.cli.console import make_console
from clip2uda_core.data.readers import ReaderOptions, open_source
from clip2uda_core.errors import ConfigError
from clip2uda_core.evaluation.pictures import draw_birds_eye, save_png
from clip2uda_core.evaluation.sheets import contact_sheet, frame_cell
from clip2uda_core.labels import LabelSpace
from clip2uda_core.simulation.cache import DEFAULT_LIMIT_GB, FrameCache, open_cache
from clip2uda_core.simulation.generate import frames
from clip2uda_core.simulation.scenario import (
    DOMAINS,
    RecordedDomainConfig,
    ScenarioConfig,
    load_scenario,
    resolve,
    simulated_domain,
)
from clip2uda_core.simulation.statistics import CloudStatistics, comparison
from clip2uda_core.types import Frame

SHEET_FRAMES = 8
"""Frames of each domain on the contact sheet."""


def simulate(
    scenario: Annotated[str, typer.Option(help="A shipped scenario by name, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    frame_count: Annotated[int, typer.Option("--frames", help="Frames of each domain.", min=1)] = 16,
    split: Annotated[str, typer.Option(help="Split to draw: train, val or test.")] = "train",
    recording: Annotated[
        Path | None, typer.Option(help="The recording to draw where the target is a real one.", metavar="PATH")
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Print statistics of the source beside those of this recording; repeat it.", metavar="PATH"),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
    cache_gb: Annotated[float, typer.Option(help="Most that the cache may hold, GB.")] = DEFAULT_LIMIT_GB,
) -> None:
    """Simulates labelled frames and writes, per frame, the image, its labels and the cloud from above as PNGs, and one
    contact sheet of both domains.

    Frames are kept in ~/.cache/clip2uda (or $CLIP2UDA_CACHE), so that training does not make them again. To write a
    labelled rosbag, use `clip2uda convert synthetic:SCENARIO:source:train OUT.mcap`.

    **Examples**

        clip2uda simulate --scenario day_to_night --frames 16 --out d

        clip2uda simulate --scenario sim_to_kitti --out k --recording ~/kitti/2011_09_26_drive_0001_sync

        clip2uda simulate --scenario sim_to_kitti --frames 48 --out k --compare ~/semantic_kitti/sequences/00
    """
    config = load_scenario(scenario)
    space = LabelSpace.load(config.label_space)
    cache = open_cache(limit_gb=cache_gb)
    cells: dict[str, list[NDArray[np.uint8]]] = {}
    for domain in DOMAINS:
        source, total = _frames(config, domain, split, frame_count, cache, workers, recording, space)
        if not total:
            print(f"the {domain} domain of {config.name} is a real recording: give --recording to draw it too")
            continue
        statistics, cells[domain] = CloudStatistics(len(space)), []
        for index, frame in enumerate(track(source, f"{config.name} {domain}", total, console=make_console(True))):
            birds_eye = draw_birds_eye(frame.cloud.xyz_m, frame.cloud.labels, space, range_m=45.0)
            _save(frame, birds_eye, out / domain, f"{split}_{index:04d}", space)
            statistics.add(frame)
            if index % max(total // SHEET_FRAMES, 1) == 0 and len(cells[domain]) < SHEET_FRAMES:
                cells[domain].append(frame_cell(frame, birds_eye, space))
        if domain == "source" and compare:
            print(_comparison(statistics, compare, space))
    save_png(contact_sheet(cells, config.name, space), out / "contact_sheet.png")
    print(f"wrote {out / 'contact_sheet.png'} and the pictures of its domains' frames beside it")


def _frames(
    config: ScenarioConfig,
    domain: str,
    split: str,
    count: int,
    cache: FrameCache,
    workers: int | None,
    recording: Path | None,
    space: LabelSpace,
) -> tuple[Iterable[Frame], int]:
    """Frames of a domain and their number: simulated ones, or those of the recording that stands for a real one."""
    if domain == "target" and isinstance(config.target, RecordedDomainConfig):
        if recording is None:
            return (), 0
        reader = open_source(recording, ReaderOptions(label_space=space, max_frames=count))
        return reader, len(reader)
    settings = simulated_domain(config, domain)
    if split not in settings.frames:
        known = ", ".join(settings.frames)
        raise ConfigError(f"scenario '{config.name}', {domain}: expected a split out of {known}; got '{split}'")
    return frames(resolve(settings), split, count, cache, workers), count


def _save(frame: Frame, birds_eye: NDArray[np.uint8], folder: Path, name: str, space: LabelSpace) -> None:
    for view in frame.views:
        save_png(view.image, folder / f"{name}_{view.name}.png")
        if view.labels is not None:
            save_png(space.colors[view.labels], folder / f"{name}_{view.name}_labels.png")
    save_png(birds_eye, folder / f"{name}_birds_eye.png")


def _comparison(simulated: CloudStatistics, recordings: list[Path], space: LabelSpace) -> str:
    columns = {"simulated": simulated}
    for path in recordings:
        columns[path.name] = CloudStatistics(len(space))
        for frame in open_source(path, ReaderOptions(label_space=space)):
            columns[path.name].add(frame)
    return comparison(columns, space.names)
