"""`.npy`: one numpy array of events, memory-mapped (numpy.lib.format, versions 1 to 3).

A structured array [E] with the fields of `neuromoco.events.columns` under any of their names, or a plain
array [E, 4] where the user says which column is which. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.arrays.npz import DAMAGE
from neuromoco.events.columns import ROLES, given_order, roles_of, shown, tidy
from neuromoco.events.stream import PIECE, Columns, EventStream, ReadOptions

FORMAT = "npy"
MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 1 << 16


def looks_like_npy(head: bytes, size: int) -> bool:
    """Whether the file begins as numpy's arrays do."""
    return head.startswith(MAGIC)


def open_npy(path: Path, options: ReadOptions) -> EventStream:
    """Opens an array.

    Args:
        path: the file.
        options: `columns` for a plain array, `time_unit` and `sensor` for any.

    Raises:
        EventFileError: damaged, of Python objects, or without one of the columns.
    """
    array = _mapped(path)
    if array.dtype.names is not None:
        columns: list[Any] = list(_fields(array, options))
        pieces = _slices(columns, len(array))
    else:
        order = _order(array, options)
        pieces = _slices([array[:, order[role]] for role in ROLES], len(array))
    width, height = options.sensor or (None, None)
    return EventStream(FORMAT, tidy(pieces, options.time_unit), width, height)


def _mapped(path: Path) -> np.memmap[Any, Any]:
    """The array, of which nothing has been read yet."""
    with path.open("rb") as file:
        head = file.read(12)
    length = int.from_bytes(head[8:10] if head[6:7] == b"\x01" else head[8:12], "little")
    if length > LARGEST_HEADER:
        raise EventFileError(f"the npy file is damaged: a header of {length} bytes")
    try:
        array = np.lib.format.open_memmap(path, mode="r", max_header_size=LARGEST_HEADER)
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "Python objects" in reason:
            reason = "it holds Python objects, which are never loaded"
        raise EventFileError(f"the npy file is cut or damaged ({reason})") from error
    except Warning as warning:  # where warnings are errors
        raise EventFileError(f"the npy file is damaged ({str(warning).splitlines()[0]})") from warning
    more = path.stat().st_size - array.offset - array.nbytes
    if more:
        raise EventFileError(f"the npy file is damaged: {more} bytes follow its array")
    if not array.size:
        raise EventFileError("the npy file holds no events")
    return array


def _fields(array: np.memmap[Any, Any], options: ReadOptions) -> Iterator[Any]:
    """The fields t, x, y, p of a structured array."""
    names = array.dtype.names or ()
    found = roles_of(names)
    if len(found) < len(ROLES):
        missing = ", ".join(role for role in ROLES if role not in found)
        raise EventFileError(f"the fields are {shown(names)}; a recording has t, x, y, p: {missing} missing")
    if array.ndim != 1:
        raise EventFileError(f"the array has shape {array.shape}; events are [E]")
    for role in ROLES:
        column = array[found[role]]
        if column.ndim != 1 or column.dtype.kind not in "iufb":
            raise EventFileError(f"field {found[role]} holds {shown([str(column.dtype)])}; a column holds numbers")
        yield column


def _order(array: np.memmap[Any, Any], options: ReadOptions) -> dict[str, int]:
    """Places of t, x, y, p in a plain array."""
    if array.ndim != 2 or not 4 <= array.shape[1] <= 16 or array.dtype.kind not in "iuf":
        raise EventFileError(
            f"a plain array of {shown([str(array.dtype)])} of shape {array.shape}; "
            "events are [E, 4] numbers, or [E] with fields"
        )
    if options.columns is None:
        raise EventFileError(
            f"a plain array of shape {array.shape} does not say which column is which; "
            "give their order, such as --columns txyp"
        )
    return given_order(options.columns, array.shape[1])


def _slices(columns: list[Any], count: int) -> Iterator[Columns]:
    for first in range(0, count, PIECE):
        yield Columns(*(np.asarray(column[first : first + PIECE]) for column in columns))
