"""Reads the label files of DVS128 Gesture, which hold the time of each gesture in a recording."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from neuromoco.errors import EventFileError

COLUMNS = ("class", "startTime_usec", "endTime_usec")
CLASSES = 11
LARGEST_FILE = 1 << 20


class Segment(NamedTuple):
    """A labelled part of a recording, in microseconds of its clock."""

    label: int  # 1 to 11
    start: int
    stop: int


def read_segments(path: Path) -> list[Segment]:
    """Reads a table with the columns class, startTime_usec, endTime_usec; raises EventFileError unless it is valid."""
    with path.open("rb") as file:
        raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise EventFileError(f"{path}: is larger than {LARGEST_FILE} bytes, so no table of labels")
    try:
        rows = list(csv.reader(raw.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise EventFileError(f"{path}: is no table of labels: {error}") from error
    names = tuple(name.strip() for name in rows[0]) if rows else ()
    if names != COLUMNS:
        columns = ", ".join(names)[:100]
        raise EventFileError(f"{path}: its columns are {columns!r}; a table of labels has {', '.join(COLUMNS)}")
    return [_segment(f"{path}: line {number}", row) for number, row in enumerate(rows[1:], 2) if row]


def _segment(line: str, row: list[str]) -> Segment:
    try:
        label, start, stop = map(int, row)
    except ValueError:
        raise EventFileError(f"{line} is {','.join(row)[:100]!r}; it must hold three integers") from None
    if not 1 <= label <= CLASSES:
        raise EventFileError(f"{line} has class {label}; classes are 1 to {CLASSES}")
    if not 0 <= start < stop < 1 << 63:
        raise EventFileError(f"{line} runs from {start} to {stop} us; a segment ends after it starts")
    return Segment(label, start, stop)
