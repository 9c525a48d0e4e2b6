"""Streams become recordings window by window."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording
from neuromoco.events.stream import LATEST_US, Columns, EventStream, as_recording, joined

# Windows in a row without events: in windows of 10 ms, a quarter of an hour in which a camera does not even send noise.
MOST_EMPTY = 100_000


def windows(stream: EventStream, length: int) -> Iterator[Recording]:
    """Consecutive recordings of `length` microseconds, empty ones included; the last may be shorter.

    The stream, from a known sensor, is used up. `EventFileError` if times step back by more than 10 ms.
    """
    held: list[Columns] = []  # joined only when a window is complete, or long ones would be joined again and again
    begin = latest = dropped = 0
    for piece in chain(stream.events(), (None,)):
        if piece is not None:
            last = int(piece.t.max())
            begin, latest = (begin, max(latest, last)) if held else (int(piece.t.min()), last)
            held.append(piece)
        limit = latest + length if piece is None else latest - LATEST_US
        if limit >= begin + length:
            rest = _in_order(held, begin)
            _check_gaps(rest.t, begin, length)
            empty = as_recording(stream, [rest.take(slice(0))], 0)
            while limit >= begin + length:
                begin += length
                at = int(np.searchsorted(rest.t, begin))
                some = at or stream.outside > dropped
                yield as_recording(stream, [rest.take(slice(at))], stream.outside - dropped) if some else empty
                dropped = stream.outside
                rest = rest.take(slice(at, None)) if at else rest
            held = [rest]


def _check_gaps(t: NDArray[np.int64], begin: int, length: int) -> None:
    """Refuses times [E], in order, between which there are too many windows without events."""
    gap = int(np.diff(t, prepend=begin).max(initial=0)) // length
    if gap > MOST_EMPTY:
        raise EventFileError(
            f"a gap of {gap:,} windows of {length:,} us without events, more than {MOST_EMPTY:,}: damaged times, or "
            "take longer windows"
        )


def _in_order(pieces: list[Columns], begin: int) -> Columns:
    """The events of all pieces in order of time; none may be earlier than `begin`."""
    columns = joined(pieces)
    t = columns.t.astype(np.int64)
    if t.size and int(t.min()) < begin:
        raise EventFileError(f"times run back by {begin - int(t.min())} us, into a window that is done")
    columns = columns._replace(t=t)
    return columns if np.all(t[1:] >= t[:-1]) else columns.take(np.argsort(t, kind="stable"))
