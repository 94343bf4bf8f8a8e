"""`python -m clip2uda_ros.soak --minutes 30`: runs the real node under load and faults, and judges it."""

import argparse
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clip2uda_core.errors import Clip2udaError
from clip2uda_ros.soak.faults import runnable_faults
from clip2uda_ros.soak.node import use_own_domain
from clip2uda_ros.soak.plan import make_plan
from clip2uda_ros.soak.report import print_report, write_report
from clip2uda_ros.soak.rig import load_rig
from clip2uda_ros.soak.session import run_soak
from clip2uda_ros.soak.summary import summarise

SIMULATED = "synthetic:day_to_night:source:val"
FRAMES = 4


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("clip2uda_ros.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the faults go on (default 30)")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="folder for soak.json, soak.md, soak.png")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the faults and of everything random")
    parser.add_argument(
        "--source", help="a recording (rosbag, KITTI folder) that takes turns with the simulated frames", metavar="SRC"
    )
    return parser.parse_args(arguments)


def soak(options: argparse.Namespace, command: str, stop: threading.Event) -> bool:
    """Runs, prints and writes; whether all criteria were met."""
    console = Console(stderr=True)
    faults, not_run = runnable_faults()
    rigs = ["simulated", *(["recorded"] if options.source else [])]
    plan = make_plan(options.minutes, faults, len(rigs), options.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=console) as bar:
        task = bar.add_task("frames", total=plan.seconds)
        loaded = [
            load_rig(name, source, FRAMES) for name, source in zip(rigs, (SIMULATED, options.source), strict=False)
        ]
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="clip2uda_soak_") as folder:

            def progress(what: str, over_s: float) -> None:
                bar.update(task, description=what, completed=over_s)

            log = options.out / "node.log"
            result = run_soak(plan, loaded, Path(folder), log, options.seed, stop, progress)
    summary = summarise(result, not_run)
    print_report(summary)
    for path in write_report(summary, result, command, options.out):
        print(f"wrote {path}")
    return summary.passed


def main() -> None:
    """Ends with 0 when all criteria are met, 1 when one is not, 2 when the soak could not be run."""
    options = parse_arguments(sys.argv[1:])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    use_own_domain()
    try:
        passed = soak(options, shlex.join(["python", "-m", "clip2uda_ros.soak", *sys.argv[1:]]), stop)
    except Clip2udaError as error:
        print(f"the soak could not be run to its end: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
