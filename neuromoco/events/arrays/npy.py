"""`.npy`: one numpy array of events, memory-mapped (numpy.lib.format, versions 1 to 3).

A structured array [E] with the fields of `neuromoco.events.columns` under any of their names, or a plain array [E, 4]
whose columns the user names. Nothing is ever unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.arrays.npz import ARCHIVE_DAMAGE
from neuromoco.events.columns import ROLES, column_order, no_columns, roles_of, shown, tidy
from neuromoco.events.stream import Columns, EventStream, ReadOptions, in_pieces, reason_of, starts_with

FORMAT = "npy"
MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 1 << 16


looks_like_npy = starts_with(MAGIC)


def open_npy(path: Path, options: ReadOptions) -> EventStream:
    """Opens an array; `options` may order the columns of a plain one and name time unit and sensor of any."""
    array = _mapped(path)
    if array.dtype.names is not None:
        columns = _fields(array)
    else:
        order = _order(array, options)
        columns = Columns(*(array[:, order[role]] for role in ROLES))
    return EventStream(FORMAT, tidy(in_pieces(columns), options.time_unit), *(options.sensor or ()))


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
            reason = "it holds Python objects, which are never loaded"
        raise EventFileError(f"the npy file is cut or damaged ({reason})") from error
    more = path.stat().st_size - array.offset - array.nbytes
    if more:
        raise EventFileError(f"the npy file is damaged: {more} bytes follow its array")
    if not array.size:
        raise EventFileError("the npy file holds no events")
    return array


def _fields(array: np.memmap[Any, Any]) -> Columns:
    """The fields t, x, y, p of a structured array."""
    names = array.dtype.names or ()
    roles = roles_of(names)
    if missing := [role for role in ROLES if role not in roles]:
        raise no_columns("fields", names, missing)
    if array.ndim != 1:
        raise EventFileError(f"the array has shape {array.shape}; events are [E]")
    columns = Columns(*(array[roles[role]] for role in ROLES))
    for role, column in zip(ROLES, columns, strict=True):
        if column.ndim != 1 or column.dtype.kind not in "iufb":
            raise EventFileError(f"field {roles[role]} holds {shown([str(column.dtype)])}; a column holds numbers")
    return columns


def _order(array: np.memmap[Any, Any], options: ReadOptions) -> dict[str, int]:
    """Places of t, x, y, p in a plain array."""
    if array.ndim != 2 or not 4 <= array.shape[1] <= 16 or array.dtype.kind not in "iuf":
        raise EventFileError(
            f"a plain array of {shown([str(array.dtype)])} of shape {array.shape}; "
            "events are [E, 4] numbers, or [E] with fields"
        )
    if options.columns is None:
        raise EventFileError(f"an array of shape {array.shape} does not name its columns: give, say, --columns txyp")
    return column_order(options.columns, array.shape[1])
