"""`.npy`: one numpy array of events, memory-mapped (numpy.lib.format, versions 1 to 3). Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.arrays.npz import ARCHIVE_DAMAGE, LARGEST_HEADER
from neuromoco.events.arrays.stored import OBJECTS, held, stream_of
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import EventStream, reason_of, starts_with

FORMAT = "npy"
MAGIC = b"\x93NUMPY"


looks_like_npy = starts_with(MAGIC)


def open_npy(path: Path, options: ReadOptions) -> EventStream:
    """Opens an array; see `neuromoco.events.arrays.stored` for what it may hold."""
    array = _mapped(path)
    return stream_of(FORMAT, [held("", array)], options)


def _mapped(path: Path) -> np.memmap[Any, Any]:
    """The array, of which nothing has been read yet."""
    with path.open("rb") as file:
        head = file.read(12)
    length = int.from_bytes(head[8:10] if head[6:7] == b"\x01" else head[8:12], "little")
    if length > LARGEST_HEADER:
        raise EventFileError(f"the npy file is damaged: a header of {length} bytes")
    try:
        array = np.lib.format.open_memmap(path, mode="r", max_header_size=LARGEST_HEADER)
    except (*ARCHIVE_DAMAGE, Warning) as error:  # warnings where they are errors
        reason = reason_of(error)
        if "Python objects" in reason:
            raise EventFileError(f"the array {OBJECTS}") from error
        raise EventFileError(f"the npy file is cut or damaged ({reason})") from error
    more = path.stat().st_size - array.offset - array.nbytes
    if more:
        raise EventFileError(f"the npy file is damaged: {more} bytes follow its array")
    if not array.size:
        raise EventFileError("the npy file holds no events")
    return array
