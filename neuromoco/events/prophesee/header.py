"""What Prophesee's RAW and DAT files share: header lines `% key value`, and counters of time that start again at 0.

Layout: https://docs.prophesee.ai/stable/data/file_formats/raw.html and .../dat.html. The line `% end` is optional;
without it, the data begin with the first line that does not begin with `% `. The line `% t0 MICROSECONDS` is written by
faery: the time that was subtracted from every event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import Columns, CutError

USUAL_HEADER, LARGEST_HEADER = 1 << 14, 1 << 20
LARGEST_T0 = 1 << 60
# A line with control characters is no line of the header, even if it begins with `%`.
LINE = re.compile(rb"%([^\x00-\x08\x0a-\x1f\x7f]*)\r?\n")
GEOMETRY = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


class FileHeader(NamedTuple):
    """The header of a file: values by key in lower case, bytes before the data, and whether `% end` is there."""

    fields: dict[str, str]
    begin: int
    ended: bool


def parse_header(head: bytes, mark: bytes) -> FileHeader:
    """Parses the first bytes of a file, whose header lines begin with a mark.

    The mark is `% ` in RAW files, where the data may begin with any byte, and `%` in DAT files.
    """
    fields: dict[str, str] = {}
    at, ended = 0, False
    while not ended and head.startswith(mark, at):
        line = LINE.match(head, at)
        if line is None:
            break
        key, _, value = line.group(1).decode("latin-1").strip().partition(" ")
        fields[key.lower()] = value.strip()
        at, ended = line.end(), key == "end"
    name, *pairs = fields.get("format", "").split(";")
    if pairs:
        fields["format"] = name.strip()
        fields.update((key.strip().lower(), value.strip()) for key, _, value in (pair.partition("=") for pair in pairs))
    return FileHeader(fields, at, ended)


def read_header(path: Path, mark: bytes) -> FileHeader:
    """Reads the header of a file; one that is cut is refused."""
    with path.open("rb") as file:
        head = file.read(USUAL_HEADER)
        header = parse_header(head, mark)
        if not header.ended and len(head) == USUAL_HEADER:
            head += file.read(LARGEST_HEADER - USUAL_HEADER)
            header = parse_header(head, mark)
    rest = head[header.begin :]
    if not header.ended and rest.startswith(mark) and b"\n" not in rest and LINE.match(rest + b"\n"):
        raise EventFileError("the header is cut: its last line does not end")
    return header


def sensor_of(fields: dict[str, str]) -> tuple[int, int] | None:
    """Width and height, if a header names both."""
    if "width" in fields and "height" in fields:
        text = f"{fields['width']}x{fields['height']}"
    elif "geometry" in fields:
        text = fields["geometry"]
    else:
        return None
    match = GEOMETRY.fullmatch(text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise EventFileError(
            f"the header's sensor is {text[:40]!r}; it reads WIDTHxHEIGHT, each from 1 to {LARGEST_SIDE}"
        )
    return sides


def shifted(pieces: Iterable[Columns], fields: dict[str, str]) -> Iterator[Columns]:
    """Events with the time of a header, in microseconds, added to theirs."""
    text = fields.get("t0", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LARGEST_T0):
        raise EventFileError(f"the header's t0 is {text[:40]!r}; it is a whole number of microseconds")
    t0 = int(text)
    return (piece._replace(t=piece.t + t0) if t0 else piece for piece in pieces)


class Clock:
    """Continues the times of a counter that starts again at 0, piece by piece.

    A step down by more than half of the period starts a new turn. Cameras also step back over the beginning of a turn:
    a step up by nearly the whole period, if there was a turn before.
    """

    def __init__(self, period: int, back: int) -> None:
        self.period = period
        self.back = back  # steps back over the beginning of a turn are shorter than this
        self.turns = 0
        self.last: int | None = None

    def unwrap(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Continuous times, int64 [N], of counter readings [N] in their order."""
        if not values.size:
            return values.astype(np.int64)
        first, last = int(values[0]), int(values[-1])
        before = first if self.last is None else self.last
        if before <= first and last - before < self.period // 2 and np.all(values[1:] >= values[:-1]):
            self.last = last  # as most often, there are only small steps up
            return values.astype(np.int64) + self.turns * self.period if self.turns else values.astype(np.int64)
        values = values.astype(np.int64)
        steps = np.diff(values, prepend=values[0] if self.last is None else self.last)
        self.last = int(values[-1])
        down, up = steps < -(self.period // 2), steps > self.period - self.back
        if not (down.any() or up.any()):
            return values + self.turns * self.period
        turns = self.turns + np.cumsum(down.astype(np.int64) - up)
        turns -= np.minimum.accumulate(np.minimum(turns, 0))  # before the first turn there is none
        self.turns = int(turns[-1])
        return values + turns * self.period


def check_types(types: NDArray[np.uint8], known: int, encoding: str, places: NDArray[np.intp] | None = None) -> int:
    """The types of words [N] as the bits of a number; a type that is not known is refused, after `whole` words.

    `places` are those of the words [N], if they are some of many.
    """
    present = int(np.bitwise_or.reduce(np.left_shift(np.uint16(1), types), initial=np.uint16(0)))
    if unknown := present & ~known:
        kind = (unknown & -unknown).bit_length() - 1
        reason = f"a word of the reserved type {kind:#x} in {encoding}: the file is cut or damaged"
        at = int(np.argmax(np.uint16(known) >> types & 1 == 0))
        raise CutError(reason, at if places is None else int(places[at]))
    return present


def bits_of(*types: int) -> int:
    """Types as the bits of a number."""
    return sum(1 << kind for kind in types)
