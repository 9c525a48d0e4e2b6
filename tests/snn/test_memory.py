"""Memory is kept while a process trains, and released afterwards."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
# Page faults of 20 arrays of 40 and of 4 MB that are made, filled and dropped, after the first.
SCRIPT = """
import resource
import numpy as np
from neuromoco.snn.memory import keep_freed_memory

def faults(size=5_000_000):
    np.ones(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

plain, before = faults(), resident()
with keep_freed_memory():
    kept = faults()
left = (resident() - before) >> 20
print(plain, kept, faults(), left, faults(500_000))
"""


def figures(**environment: str) -> tuple[int, ...]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={"PATH": "", **environment}
    )
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(not GLIBC, reason="another allocator")
def test_pages_are_kept_meanwhile_and_given_back() -> None:
    plain, kept, after, left, of_small_ones = figures()
    assert plain > 1000
    assert kept < plain / 100
    assert after >= plain * 0.9
    assert left < 20
    assert of_small_ones < plain / 100  # which glibc itself keeps


@pytest.mark.skipif(not GLIBC, reason="another allocator")
def test_what_somebody_has_set_stays() -> None:
    plain, kept, *_ = figures(MALLOC_ARENA_MAX="4")
    assert kept >= plain * 0.9 > 100
