"""Which gesture happens when: the label files beside the recordings of DVS128 Gesture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from neuromoco.errors import EventFileError

COLUMNS = ("class", "startTime_usec", "endTime_usec")
CLASSES = 11
LARGEST_FILE = 1 << 20


class Segment(NamedTuple):
    """A labelled part of a recording.

    Attributes:
        label: class, 1 to 11.
        start: microseconds, in the time of the recording's events.
        stop: microseconds, after start.
    """

    label: int
    start: int
    stop: int


def read_segments(path: Path) -> list[Segment]:
    """Reads a table with the columns class, startTime_usec, endTime_usec, in the order of the file.

    Raises:
        EventFileError: no such table, or a row of it is wrong. The message does not name the file.
        OSError: cannot be read.
    """
    with path.open("rb") as file:
        raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise EventFileError(f"is larger than {LARGEST_FILE} bytes, so no table of labels")
    try:
        rows = list(csv.reader(raw.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise EventFileError(f"is no table of labels: {error}") from error
    names = tuple(name.strip() for name in rows[0]) if rows else ()
    if names != COLUMNS:
        raise EventFileError(f"its columns are {', '.join(names)[:100]!r}; a table of labels has {', '.join(COLUMNS)}")
    return [_segment(number, row) for number, row in enumerate(rows[1:], 2) if row]


def _segment(number: int, row: list[str]) -> Segment:
    try:
        label, start, stop = (int(cell) for cell in row)
    except ValueError:
        raise EventFileError(f"line {number} is {','.join(row)[:100]!r}; it holds three whole numbers") from None
    if not 1 <= label <= CLASSES:
        raise EventFileError(f"line {number} has class {label}; classes are 1 to {CLASSES}")
    if not 0 <= start < stop < 1 << 63:
        raise EventFileError(f"line {number} runs from {start} to {stop} us; a segment ends after it starts")
    return Segment(label, start, stop)
