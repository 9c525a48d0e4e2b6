"""Streams become recordings window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.clock import LARGEST_TIME
from neuromoco.events.recording import NOTHING_ODD, Recording
from neuromoco.events.stream import Columns, EventStream, as_recording, disordered, joined

# Windows without events: in windows of 10 ms, a quarter of an hour in which a camera does not even send noise; and more
# for each event, for recordings that are sparse all along.
MOST_EMPTY, MOST_EMPTY_PER_EVENT = 100_000, 10


def windows(stream: EventStream, length: int) -> Iterator[Recording]:
    """Consecutive recordings of `length` microseconds, empty ones included; the last may be shorter.

    The stream, from a known sensor, is used up. `EventFileError` if its events are in no order of time.
    """
    held: list[Columns] = []  # joined only when a window is complete, or long ones would be joined again and again
    next_begin: int | None = None
    first = latest = count = blank = 0
    for piece in chain(stream.events(), (None,)):
        if stream.clock.disordered:
            raise disordered(stream)
        if piece is not None:
            earliest, last = int(piece.t.min()), int(piece.t.max())
            first, latest = (min(first, earliest), max(latest, last)) if held else (earliest, last)
            held.append(piece)
            count += piece.t.size
        limit = latest + length if piece is None else latest - stream.clock.late_us
        begin = first if next_begin is None else next_begin
        if limit >= begin + length:
            rest = _in_order(held)
            _check_gaps(rest.t, begin, length, MOST_EMPTY + MOST_EMPTY_PER_EVENT * count - blank)
            empty = as_recording(stream, rest.take(slice(0)), NOTHING_ODD, in_order=True)
            while limit >= begin + length:
                begin += length
                at, oddities = int(np.searchsorted(rest.t, begin)), stream.news()
                blank += not at
                some = at or oddities != NOTHING_ODD
                yield as_recording(stream, rest.take(slice(at)), oddities, in_order=True) if some else empty
                rest = rest.take(slice(at, None)) if at else rest
            held, next_begin = [rest], begin


def parts(stream: EventStream, spans: Sequence[tuple[int, int]]) -> Iterator[Recording]:
    """The recordings within spans of time: begin and excluded end, microseconds of the stream's clock.

    Spans may overlap; neither their begins nor their ends decrease. Memory holds the events of the longest,
    of a piece, and those while others may be late. The stream, from a known sensor, is used up. `EventFileError` if its
    events are in no order of time.
    """
    held: list[Columns] = []
    number, latest = 0, -LARGEST_TIME
    for piece in chain(stream.events(), (None,)):
        if stream.clock.disordered:
            raise disordered(stream)
        if number == len(spans):
            return
        if piece is not None:
            last = int(piece.t.max())
            latest = max(latest, last)
            if not held or last >= spans[number][0]:  # what ends before that is in no span that is still to come
                held.append(piece)
        complete = LARGEST_TIME if piece is None else latest - stream.clock.late_us
        if complete < spans[number][1]:
            continue
        rest = _in_order(held)
        while number < len(spans) and complete >= spans[number][1]:
            begin, end = np.searchsorted(rest.t, spans[number])
            yield as_recording(stream, rest.take(slice(begin, end)), stream.news(), in_order=True)
            number += 1
        held = [rest.take(slice(int(np.searchsorted(rest.t, spans[number][0])), None))] if number < len(spans) else []


def _check_gaps(t: NDArray[np.int64], begin: int, length: int, most: int) -> None:
    """Refuses times [E], in order, between which there are too many windows without events."""
    gaps = np.diff(t, prepend=begin) // length
    if int(gaps.sum()) > most:
        raise EventFileError(
            f"{int(gaps.sum()):,} windows of {length:,} us without events, more than {most:,}: damaged times, or take "
            "longer windows"
        )


def _in_order(pieces: list[Columns]) -> Columns:
    """The events of all pieces in order of time."""
    columns = joined(pieces)
    t = columns.t
    return columns if np.all(t[1:] >= t[:-1]) else columns.take(np.argsort(t, kind="stable"))
