"""Events as they come out of a file: piece by piece, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording

PIECE = 1 << 20  # events that a reader holds at once, about
# Cameras and their software let times step back a little; events are sorted. What comes later than this is damage
# to a reader that must not look further ahead.
LATEST_US = 10_000


class Columns(NamedTuple):
    """Some events: arrays of one length, of any whole-numbered types; times in microseconds."""

    t: NDArray[Any]
    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]


@dataclass
class EventStream:
    """The events of one camera in the order of the file.

    Attributes:
        source: the format.
        pieces: the events, some `PIECE` at a time. Taking the next one may raise `EventFileError`.
        width, height: of the sensor, if the file says so.
    """

    source: str
    pieces: Iterator[Columns]
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a file that does not say it.

    Attributes:
        format: short name of a format, for files that cannot be recognised.
        sensor: width and height.
        columns: order of the columns of a text or an unnamed array, such as "xytp".
        time_unit: of times in a text or an array.
    """

    format: str | None = None
    sensor: tuple[int, int] | None = None
    columns: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None


def gather(stream: EventStream, start: int | None = None, stop: int | None = None) -> Recording:
    """All events of a stream, or those of a part of its time.

    Args:
        stream: is used up.
        start, stop: microseconds from the first event; the part holds start and ends before stop.

    Raises:
        EventFileError: damaged, or without events.
    """
    parts, first = [], None
    for piece in stream.pieces:
        if not piece.t.size:
            continue
        if first is None:
            first = int(piece.t.min())
        if start is not None or stop is not None:
            t = piece.t.astype(np.int64)
            inside = np.ones(t.size, bool)
            if start is not None:
                inside &= t >= first + start
            if stop is not None:
                inside &= t < first + stop
            if inside.any():
                parts.append(Columns(*(column[inside] for column in piece)))
            if stop is not None and int(t.min()) > first + stop + LATEST_US:
                break
        else:
            parts.append(piece)
    if first is None:
        raise EventFileError(f"the {stream.source} file holds no events")
    return _recording(stream, parts)


def windows(stream: EventStream, length: int) -> Iterator[Recording]:
    """Recordings of equal duration, one after another, the last shorter; none is left out, not even an empty one.

    Args:
        stream: of a known sensor; is used up.
        length: microseconds.

    Raises:
        EventFileError: damaged, without events, or times that run back by more than 10 ms.
    """
    held: list[Columns] = []  # joined only when a window is complete, or long ones would be joined again and again
    begin = latest = None
    for piece in stream.pieces:
        if not piece.t.size:
            continue
        held.append(piece)
        begin = int(piece.t.min()) if begin is None else begin
        latest = int(piece.t.max()) if latest is None else max(latest, int(piece.t.max()))
        if latest - LATEST_US >= begin + length:
            kept = _sorted(held, begin)
            while latest - LATEST_US >= begin + length:
                part, kept = _cut(kept, begin + length)
                begin += length
                yield _recording(stream, [part])
            held = [kept]
    if begin is None or latest is None:
        raise EventFileError(f"the {stream.source} file holds no events")
    kept = _sorted(held, begin)
    while begin <= latest:
        part, kept = _cut(kept, begin + length)
        begin += length
        yield _recording(stream, [part])


def _sorted(pieces: list[Columns], begin: int) -> Columns:
    """All of them in order of time, none of them before a time."""
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    t = columns[0].astype(np.int64)
    if t.size and int(t.min()) < begin:
        raise EventFileError(f"times run back by {begin - int(t.min())} us, into a window that is done")
    if np.all(t[1:] >= t[:-1]):
        return Columns(t, *columns[1:])
    order = np.argsort(t, kind="stable")
    return Columns(t[order], *(column[order] for column in columns[1:]))


def _cut(columns: Columns, time: int) -> tuple[Columns, Columns]:
    """What comes before a time, and the rest."""
    at = int(np.searchsorted(columns.t, time))
    return Columns(*(column[:at] for column in columns)), Columns(*(column[at:] for column in columns))


def _recording(stream: EventStream, parts: list[Columns]) -> Recording:
    empty = Columns(*(np.empty(0, np.int64) for _ in Columns._fields))
    parts = parts or [empty]
    columns = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Recording.from_columns(*columns, width=stream.width, height=stream.height, source=stream.source)


def in_pieces(columns: Columns, size: int = PIECE) -> Iterator[Columns]:
    """Columns that are there already, such as memory-mapped ones, piece by piece."""
    for first in range(0, len(columns.t), size):
        yield Columns(*(column[first : first + size] for column in columns))
