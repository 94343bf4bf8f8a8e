"""The latest-only worker: newest first, nothing queued, every item accounted for, no exception ends it."""

import threading
import time
from collections import Counter

from clip2uda_ros.worker import LatestWorker, WorkerCounts

DEADLINE_S = 10.0


class Gate:
    """A `process` that records what it got and holds until it is let through."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.entered = threading.Semaphore(0)
        self.let_through = threading.Semaphore(0)

    def __call__(self, item: int, waited_s: float) -> str:
        assert waited_s >= 0
        self.seen.append(item)
        self.entered.release()
        assert self.let_through.acquire(timeout=DEADLINE_S)
        if item < 0:
            raise ValueError(f"bad item {item}")
        return "odd" if item % 2 else "even"


def test_a_newer_item_replaces_the_waiting_one_and_counts_add_up() -> None:
    gate = Gate()
    worker = LatestWorker[int](gate, on_failure=lambda item, error: None)
    worker.submit(1)
    assert gate.entered.acquire(timeout=DEADLINE_S)
    for item in (2, 3, 4, 5):
        worker.submit(item)
    assert worker.counts == WorkerCounts(submitted=5, replaced=3, pending=2)
    gate.let_through.release(2)
    assert gate.entered.acquire(timeout=DEADLINE_S)
    worker.stop()
    assert gate.seen == [1, 5]
    assert worker.counts == WorkerCounts(submitted=5, replaced=3, outcomes=Counter(odd=2))


def test_a_failure_is_reported_and_the_next_item_is_tried() -> None:
    gate = Gate()
    failures: list[tuple[int, str]] = []
    worker = LatestWorker[int](gate, on_failure=lambda item, error: failures.append((item, str(error))))
    gate.let_through.release(2)
    worker.submit(-7)
    assert gate.entered.acquire(timeout=DEADLINE_S)
    worker.submit(8)
    assert gate.entered.acquire(timeout=DEADLINE_S)
    worker.stop()
    assert failures == [(-7, "bad item -7")]
    assert worker.counts == WorkerCounts(submitted=2, outcomes=Counter(even=1, failed=1))


def test_a_reporter_that_raises_does_not_end_the_worker() -> None:
    gate = Gate()

    def broken(item: int, error: Exception) -> None:
        raise RuntimeError("the reporter is broken too")

    worker = LatestWorker[int](gate, on_failure=broken)
    gate.let_through.release(2)
    for item in (-1, 2):
        worker.submit(item)
        assert gate.entered.acquire(timeout=DEADLINE_S)
    worker.stop()
    assert gate.seen == [-1, 2]


def test_stop_finishes_the_running_item_and_drops_the_waiting_one() -> None:
    gate = Gate()
    worker = LatestWorker[int](gate, on_failure=lambda item, error: None)
    worker.submit(1)
    assert gate.entered.acquire(timeout=DEADLINE_S)
    worker.submit(2)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    deadline = time.monotonic() + DEADLINE_S
    while worker.counts.abandoned == 0:
        assert time.monotonic() < deadline, "stop() did not drop the waiting item"
        stopper.join(0.01)
    gate.let_through.release()
    stopper.join(DEADLINE_S)
    assert not stopper.is_alive()
    assert gate.seen == [1]
    assert worker.counts == WorkerCounts(submitted=2, abandoned=1, outcomes=Counter(odd=1))
