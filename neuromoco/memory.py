"""What becomes of memory that a step has used."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's mallopt (its manual page), with what it does by itself.
TRIM_THRESHOLD, TRIM_BY_ITSELF = -1, 128 * 1024
MMAP_MAX, MMAP_BY_ITSELF = -4, 65_536


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Meanwhile the process keeps what it frees, up to its largest need, and gives it back at the end.

    glibc returns every large array to Linux at once, and the next step gets the same back page by page, each set to 0
    first: half of a step's time. Other allocators are left as they are.
    """
    c = ctypes.CDLL(None)
    if not hasattr(c, "mallopt"):  # no glibc
        yield
        return
    c.mallopt(MMAP_MAX, 0)
    c.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        c.mallopt(MMAP_MAX, MMAP_BY_ITSELF)
        c.mallopt(TRIM_THRESHOLD, TRIM_BY_ITSELF)
        c.malloc_trim(0)
