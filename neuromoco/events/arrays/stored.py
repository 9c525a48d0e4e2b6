"""Arrays in a file, and the events among them: one path for .npy, .npz and MATLAB.

Events are four arrays under any of the names in `neuromoco.events.columns`, side by side; one array of records with
fields of such names; or one array [E, K] or [K, E] without names, whose order the user gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.columns import FORMS, ROLES, column_order, is_order, no_columns, roles_of, shown, title_of
from neuromoco.events.options import ReadOptions
from neuromoco.events.recording import check_lengths
from neuromoco.events.stream import Columns, EventStream
from neuromoco.events.tidy import Order, tidy

OBJECTS = "holds Python objects, which are never loaded; save arrays of numbers: numpy.savez(FILE, t=t, x=x, y=y, p=p)"
FEWEST, MOST = 4, 16  # columns of an array without names
PIECE = 1 << 16  # events that are converted at once; more do not stay in the processor's cache


class Items(Protocol):
    """The items of an array, one after the other as they are stored."""

    def read(self, count: int) -> NDArray[Any]:
        """The next items, exactly as many."""

    def end(self) -> None:
        """Refuses an array that something follows."""


@dataclass(frozen=True)
class Stored:
    """An array in a file, of which nothing but its description has been read.

    Attributes:
        name: with the place before it, such as "TD.x" or "events/x".
        dtype, shape: as in numpy.
        items: opens the array from an item on.
        by_columns: stored column by column (Fortran's order).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    items: Callable[[int], Items]
    by_columns: bool = False

    @property
    def place(self) -> str:
        """The part of the name before its last point or slash."""
        return self.name[: max(self.name.rfind("."), self.name.rfind("/"), 0)]

    @property
    def title(self) -> str:
        """The last part of the name."""
        return self.name[len(self.place) :].lstrip("./")

    @property
    def width(self) -> int:
        """Columns: 1, or those of a table; 0 if it is neither."""
        sides = [side for side in self.shape if side != 1]
        if len(sides) < 2:
            return len(self.shape) in (1, 2)
        widths = [side for side in reversed(sides) if FEWEST <= side <= MOST] if len(sides) == 2 else []
        return widths[0] if widths else 0

    @property
    def count(self) -> int:
        """Rows."""
        return int(np.prod(self.shape)) // max(self.width, 1)

    @property
    def apart(self) -> bool:
        """Whether the columns of a table are stored one after the other."""
        return self.width > 1 and self.by_columns == (self.shape[-1] == self.width)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Consecutive rows, up to `PIECE` at a time: [n], or [n, K] of a table."""
        count, width, apart = self.count, self.width, self.apart
        items = [self.items(count * column) for column in range(width if apart else 1)]
        for first in range(0, count, PIECE):
            rows = min(PIECE, count - first)
            if apart:
                yield np.stack([column.read(rows) for column in items], axis=1)
            else:
                block = items[0].read(rows * width)
                yield block.reshape(rows, width) if width > 1 else block
        items[-1].end()


def held(name: str, array: NDArray[Any]) -> Stored:
    """An array that is in memory already, or mapped."""
    by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = array.reshape(-1, order="A")
    return Stored(name, array.dtype, array.shape, lambda start: _Held(flat, start), by_columns)


class _Held:
    """The items of an array that is in memory, or mapped."""

    def __init__(self, flat: NDArray[Any], start: int) -> None:
        self._flat, self._at = flat, start

    def read(self, count: int) -> NDArray[Any]:
        """The next items."""
        self._at += count
        return self._flat[self._at - count : self._at]

    def end(self) -> None:
        """There is nothing else."""


class Found(NamedTuple):
    """Events among the arrays of a file: the arrays, and in them the field or column of each of t, x, y, p."""

    place: str
    arrays: tuple[Stored, ...]  # four, or one
    titles: tuple[str, ...]  # of t, x, y, p; empty without names
    parts: tuple[str | int | None, ...]
    order: Order

    @property
    def unit(self) -> str | None:
        """The unit of times in the title of their column."""
        return title_of(self.titles[0]).unit if self.titles else None

    @property
    def blocks(self) -> float:
        """How many pieces there are."""
        return self.arrays[0].count / PIECE

    def pieces(self) -> Iterator[Columns]:
        """The events as they are stored."""
        for blocks in zip(*(array.blocks() for array in self.arrays), strict=True):
            each = blocks if len(blocks) > 1 else blocks * len(ROLES)
            yield Columns(
                *(
                    block if part is None else block[part] if isinstance(part, str) else block[:, part]
                    for block, part in zip(each, self.parts, strict=True)
                )
            )


def stream_of(source: str, arrays: Sequence[Stored], options: ReadOptions) -> EventStream:
    """The one stream of events among the arrays of a file."""
    found = find_events(arrays, options)
    pieces = tidy(found.pieces(), options.unit(found.unit), order=found.order)
    width, height = options.sensor or (None, None)
    return EventStream(source, pieces, width, height, parts=found.blocks)


def find_events(arrays: Sequence[Stored], options: ReadOptions) -> Found:
    """The one place among the arrays of a file that holds events."""
    for array in arrays:
        if array.dtype.hasobject and (len(arrays) == 1 or roles_of([array.title], options.columns)):
            raise EventFileError(f"{shown([array.name or 'the array'])} {OBJECTS}")
    for columns in options.ways:
        if found := [*_named(arrays, columns), *_records(arrays, columns)]:
            break
    tables = [array for array in arrays if array.width > 1 and array.dtype.kind in "iuf"]
    if not found and is_order(columns):
        found = [_ordered(array, str(columns)) for array in tables]
    places = [one.place for one in found]
    if options.select is not None:
        found = [one for one in found if options.select in (one.place, one.place.rpartition("/")[2])]
    if len(found) == 1:
        return found[0]
    if places:
        what = f"events at {len(places)} places" if options.select is None else f"no events {shown([options.select])!r}"
        raise EventFileError(f"holds {what}: give --select with one of {shown(places)}")
    raise _nothing(arrays, tables, columns)


def _named(arrays: Sequence[Stored], columns: str | None) -> Iterator[Found]:
    """Four arrays at one place."""
    if is_order(columns):
        return
    vectors = [array for array in arrays if array.width == 1 and array.dtype.kind in "iufb"]
    for place in dict.fromkeys(array.place for array in vectors):
        here = {array.title: array for array in vectors if array.place == place}
        roles = roles_of(here, columns)
        if len(roles) == len(ROLES):
            titles = tuple(roles[role] for role in ROLES)
            check_lengths("columns", {title: here[title].count for title in titles})
            yield Found(place, tuple(here[title] for title in titles), titles, (None,) * 4, "named")


def _records(arrays: Sequence[Stored], columns: str | None) -> Iterator[Found]:
    """Records with fields for t, x, y, p."""
    for array in arrays:
        fields = array.dtype.names or ()
        if not fields or array.width != 1:
            continue
        if is_order(columns):
            places = column_order(str(columns), len(fields))
            roles = {role: fields[place] for role, place in places.items()}
        else:
            roles = roles_of(fields, columns)
        if len(roles) == len(ROLES):
            titles = tuple(roles[role] for role in ROLES)
            for title in titles:
                if array.dtype[title].shape or array.dtype[title].kind not in "iufb":
                    raise EventFileError(
                        f"field {title} holds {shown([str(array.dtype[title])])}; a column holds numbers"
                    )
            yield Found(array.name, (array,), titles, titles, "given" if is_order(columns) else "named")


def _ordered(array: Stored, columns: str) -> Found:
    """A table whose order the user gives."""
    order = column_order(columns, array.width)
    return Found(array.name, (array,), (), tuple(order[role] for role in ROLES), "given")


def _nothing(arrays: Sequence[Stored], tables: Sequence[Stored], columns: str | None) -> EventFileError:
    """Why no array is taken for events."""
    fields = next((array.dtype.names for array in arrays if array.dtype.names), None)
    if fields and (missing := _missing(fields, columns)):
        return no_columns("fields", fields, missing)
    holds = shown(f"{array.name or 'an array'} {array.shape} of {array.dtype}" for array in arrays)
    if tables:
        return EventFileError(f"the columns of {holds} have no names: {FORMS.partition(', or')[0]}")
    titles = [array.name for array in arrays if array.width == 1]
    if is_order(columns):
        return EventFileError(f"--columns {columns} with {holds}, no table; give names, such as --columns t=timestamp")
    if len(arrays) == 1:
        return EventFileError(f"holds {holds}; events are [E] with fields, [E, 4] numbers, or four arrays [E]")
    return no_columns("arrays", titles, _missing(titles, columns))


def _missing(titles: Sequence[str], columns: str | None) -> list[str]:
    roles = roles_of(titles, columns)
    return [role for role in ROLES if role not in roles]
