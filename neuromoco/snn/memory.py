"""What becomes of memory that a step has used."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's mallopt (its manual page).
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
KEEP = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))
# Where glibc's own thresholds, which move, end up in a process that has used large arrays.
BY_ITSELF = ((MMAP_MAX, 65_536), (TRIM_THRESHOLD, 64 << 20), (MMAP_THRESHOLD, 32 << 20))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Meanwhile the process keeps what it frees, up to its largest need, and gives it back at the end.

    glibc returns every large array to Linux at once, and the next step gets the same back page by page, each set to 0
    first: up to half of a step's time. Other allocators are left as they are, and glibc too where somebody has set it.
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
        for name, value in BY_ITSELF:
            c.mallopt(name, value)
        c.malloc_trim(0)
