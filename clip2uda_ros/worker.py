"""One thread that always works on the newest item: a robot needs the present, not the backlog."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


FAILED = "failed"


@dataclass(frozen=True)
class WorkerCounts:
    """Every submitted item is in exactly one of the others: submitted = replaced + abandoned + outcomes + pending.

    replaced: by a newer one before its turn. abandoned: waiting when the worker was stopped. outcomes: as `process`
    named them, or FAILED. pending: waiting, or at work.
    """

    submitted: int = 0
    replaced: int = 0
    abandoned: int = 0
    pending: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


class LatestWorker(Generic[T]):
    """Runs `process(item, waited_s) -> outcome` in its own thread, on the newest item submitted and on nothing older.

    The slot holds one item. A newer one replaces it, so the age of what is worked on is bounded by one run of `process`
    and latency never grows with the input rate. An exception of `process` goes to `on_failure(item, exception)`, is
    counted, and the next item is tried.
    """

    def __init__(
        self,
        process: Callable[[T, float], str],
        on_failure: Callable[[T, Exception], None],
        name: str = "worker",
    ) -> None:
        self._process = process
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._slot: tuple[T, float] | None = None
        self._working = False
        self._stopping = False
        self._counts = WorkerCounts()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def counts(self) -> WorkerCounts:
        """A consistent snapshot."""
        with self._changed:
            pending = int(self._slot is not None) + int(self._working)
            return replace(self._counts, pending=pending, outcomes=self._counts.outcomes.copy())

    def submit(self, item: T) -> None:
        """Puts `item` into the slot; never blocks. Submitting to a stopped worker is a mistake of ours."""
        with self._changed:
            assert not self._stopping, "submitted to a stopped worker"
            replaced = int(self._slot is not None)
            self._slot = (item, time.monotonic())
            self._counts = replace(
                self._counts, submitted=self._counts.submitted + 1, replaced=self._counts.replaced + replaced
            )
            self._changed.notify()

    def stop(self) -> None:
        """Lets the running item finish, drops the waiting one (counted as abandoned) and joins the thread."""
        with self._changed:
            self._stopping = True
            if self._slot is not None:
                self._slot = None
                self._counts = replace(self._counts, abandoned=self._counts.abandoned + 1)
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._slot is not None)
                if self._slot is None:
                    return
                (item, submitted_s), self._slot = self._slot, None
                self._working = True
            outcome = self._attempt(item, time.monotonic() - submitted_s)
            with self._changed:
                self._working = False
                self._counts.outcomes[outcome] += 1

    def _attempt(self, item: T, waited_s: float) -> str:
        try:
            return self._process(item, waited_s)
        except Exception as error:
            try:
                self._on_failure(item, error)
            except Exception:  # the thread must survive its own reporting
                logger.exception("reporting a failed item failed")
            return FAILED
