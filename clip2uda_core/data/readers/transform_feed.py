"""Transforms where they are needed: ahead of the clouds and images, and from other bags."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from clip2uda_core.data.readers.raw_message import RawMessage
from clip2uda_core.data.readers.topics import TRANSFORMS

AHEAD_NS = 500_000_000
KEPT_NS = 10_000_000_000
"""As long as a transform buffer keeps its samples."""


def transforms_ahead(messages: Iterable[RawMessage], ahead_ns: int = AHEAD_NS) -> Iterator[RawMessage]:
    """The same messages, with transforms up to `ahead_ns` of log time before the others.

    A transform is interpolated between two samples, and the second is logged after the cloud or image that needs it.
    """
    waiting: deque[RawMessage] = deque()
    for message in messages:
        while waiting and waiting[0].log_time_ns < message.log_time_ns - ahead_ns:
            yield waiting.popleft()
        if message.msgtype == TRANSFORMS:
            yield message
        else:
            waiting.append(message)
    yield from waiting


def joined(own: Iterable[RawMessage], others: Sequence[Iterable[RawMessage]]) -> Iterator[RawMessage]:
    """The messages of a bag with those of other bags, in order of log time; of the others, those that lie within the
    bag or so little before or after it that its clouds and images may need them."""
    beside = heapq.merge(*others, key=lambda message: message.log_time_ns)
    waiting = next(beside, None)
    last_ns: int | None = None
    for message in own:
        last_ns = message.log_time_ns
        while waiting is not None and waiting.log_time_ns <= last_ns:
            if waiting.log_time_ns >= last_ns - KEPT_NS:
                yield waiting
            waiting = next(beside, None)
        yield message
    while waiting is not None and last_ns is not None and waiting.log_time_ns <= last_ns + AHEAD_NS:
        yield waiting
        waiting = next(beside, None)
