"""ROS domains for tests: each its own, also where several workers test at once."""

import itertools
import os

LAST_DOMAIN = 101
"""Above it, the ports of a domain meet those that Linux gives to anyone."""

_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _workers
_share = range(1 + _worker, LAST_DOMAIN + 1, _workers)
_numbers = itertools.count(os.getpid())  # other sessions on this machine begin elsewhere


def next_domain() -> int:
    """A domain that no other worker of this session uses, and this one not for long."""
    return _share[next(_numbers) % len(_share)]
