"""A run that is killed again and again, in processes of its own: `python killed_lives.py OUT KILLS SEED`.

One process loads the libraries and then forks one life of the run after the other, so that a life costs a moment. Each
is killed after a random delay, wherever it is then: reading frames, building, in an iteration, or writing a state. A
life that got no further than the one before it gives the next one more time: the machine may have become slower. Where
a life comes to the end of the run, a new run begins, until there were KILLS kills; the last run ends in peace.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny_run
import torch

from clip2uda_core.adaptation.adapter import Adapter


def live(out: Path) -> None:
    """A life of the run, in a process of its own; never returns."""
    torch.set_num_threads(1)
    run = Adapter(tiny_run.config("clip2uda", 8, "save_every=1"), out, "cpu")
    run.setup(tiny_run.SOURCE, tiny_run.TARGET)
    run.build()
    run.fit()
    run.save_model(out / "model.safetensors")
    os._exit(0)


def begin(out: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            live(out)
        finally:
            os._exit(1)
    return child


def finish(out: Path) -> float:
    """A life that nobody ends; returns its seconds."""
    started = time.monotonic()
    _, status = os.waitpid(begin(out), 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"the run in {out} failed"
    return time.monotonic() - started


def main(out: Path, kills: int, seed: int) -> None:
    most_s = usual_s = finish(out / "whole") / 2
    delays, finished = random.Random(seed), 0
    killed: list[str | None] = []
    while len(killed) < kills:
        child = begin(out / "killed")
        time.sleep(delays.uniform(0, most_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            states = sorted((out / "killed" / "states").glob("state_*.pt"))
            newest = states[-1].name if states else None
            most_s = 1.3 * most_s if killed and newest == killed[-1] else usual_s
            killed.append(newest)
        else:
            assert code == 0, f"a life of the run failed after {len(killed)} kills"
            finished, most_s = finished + 1, usual_s
            (out / "killed").rename(out / f"finished_{finished}")
    finish(out / "killed")
    print(json.dumps({"newest_states_at_kills": killed, "finished": finished}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
