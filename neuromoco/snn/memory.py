"""Keeps glibc from returning a training step's memory to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt, see its manual page.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
KEEP = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))
# The values that glibc's dynamic thresholds reach in a process that has used large arrays.
DEFAULTS = ((MMAP_MAX, 65_536), (TRIM_THRESHOLD, 64 << 20), (MMAP_THRESHOLD, 32 << 20))


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Within this context the process keeps the memory that it frees, for reuse; it is released at the end.

    Otherwise glibc returns large arrays to Linux, and the next step gets them back in zeroed pages: up to half of its
    time. Does nothing with other allocators, or where `MALLOC_...` or `GLIBC_TUNABLES` configure glibc already.
    """
    c = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(c, "mallopt") or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        yield
        return
    assert c is not None
    for name, value in KEEP:
        c.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in DEFAULTS:
            c.mallopt(name, value)
        c.malloc_trim(0)
