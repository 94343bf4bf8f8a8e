"""The node's threads share glibc's heaps."""

import platform
import re
import subprocess
import sys

import pytest

IN_THREADS = """
import ctypes, sys, threading
from clip2uda_ros.segment_node import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)

def allocate():
    together.wait()
    for _ in range(100):
        libc.malloc(10_000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.stdout_of_c = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, libc.stdout_of_c)
libc.fflush(None)
"""


def heaps(how: str, **environment: str) -> int:
    """Heaps that 8 threads that allocate make glibc have."""
    said = subprocess.run(
        [sys.executable, "-c", IN_THREADS, how], env=environment, capture_output=True, text=True, check=True
    )
    return len(re.findall(r"<heap nr=", said.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc: it has no such heaps")
def test_threads_share_two_heaps_unless_the_user_chose() -> None:
    assert heaps("own", MALLOC_ARENA_MAX="8") > 2
    assert heaps("shared") <= 2
    assert heaps("shared", MALLOC_ARENA_MAX="8") > 2
