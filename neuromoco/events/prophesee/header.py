"""What Prophesee's RAW and DAT files share: text lines of `% key value`, then clocks that start again at 0.

Layout: https://docs.prophesee.ai/stable/data/file_formats/raw.html and .../dat.html. The line `% end` may be missing;
then the data begin with the first line that does not begin with `% `. The line `% t0 MICROSECONDS` is faery's: the time
that its writer took off every event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.stream import Columns

LARGEST_HEADER = 1 << 20
LARGEST_T0 = 1 << 60
LARGEST_SIDE = 65535
# A line of text. What holds control characters is no line of the header, even where it begins with `%`.
LINE = re.compile(rb"%([^\x00-\x08\x0a-\x1f\x7f]*)\r?\n")
GEOMETRY = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


@dataclass(frozen=True)
class Header:
    """The lines of a header.

    Attributes:
        fields: values by key, the keys in lower case; `key=value` pairs of the line `% format` included.
        begin: bytes before the data.
        ended: whether the line `% end` was there.
    """

    fields: dict[str, str]
    begin: int
    ended: bool


def parse_header(head: bytes, mark: bytes) -> Header:
    """Reads the lines at the beginning of a file.

    Args:
        head: first bytes of the file.
        mark: what a line begins with: `% ` in RAW files, where the data may begin with any byte; `%` in DAT files.
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
    return Header(fields, at, ended)


def read_header(path: Path, mark: bytes) -> Header:
    """Reads the header of a file.

    Raises:
        EventFileError: the header is cut, or has no end within 1 MiB.
    """
    with path.open("rb") as file:
        head = file.read(LARGEST_HEADER)
    header = parse_header(head, mark)
    rest = head[header.begin :]
    if not header.ended and rest.startswith(mark) and b"\n" not in rest and LINE.match(rest + b"\n"):
        raise EventFileError("the header is cut: its last line does not end")
    return header


def sensor_of(fields: dict[str, str]) -> tuple[int, int] | None:
    """Width and height, where a header names both.

    Raises:
        EventFileError: what it names is no sensor.
    """
    if "width" in fields and "height" in fields:
        text = f"{fields['width']}x{fields['height']}"
    elif "geometry" in fields:
        text = fields["geometry"]
    else:
        return None
    found = GEOMETRY.fullmatch(text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise EventFileError(
            f"the header's sensor is {text[:40]!r}; it reads WIDTHxHEIGHT, each from 1 to {LARGEST_SIDE}"
        )
    return sides


def start_of(fields: dict[str, str]) -> int:
    """Microseconds to add to every time.

    Raises:
        EventFileError: the header's t0 is no time.
    """
    text = fields.get("t0", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= LARGEST_T0):
        raise EventFileError(f"the header's t0 is {text[:40]!r}; it is a whole number of microseconds")
    return int(text)


class Clock:
    """Makes one time line of a counter that starts again at 0, from piece to piece.

    A step down by more than half of the period is a new turn. A step up by nearly the whole period is a step back over
    the beginning of a turn, as cameras make them, if there was a turn before.
    """

    def __init__(self, period: int, back: int) -> None:
        self.period = period
        self.back = back  # steps back over the beginning of a turn are shorter than this
        self.turns = 0
        self.last: int | None = None

    def unwrap(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Counter readings in their order [N] to int64 [N] that keeps on counting."""
        values = values.astype(np.int64)
        if not values.size:
            return values
        steps = np.diff(values, prepend=values[0] if self.last is None else self.last)
        self.last = int(values[-1])
        down, up = steps < -(self.period // 2), steps > self.period - self.back
        if not (down.any() or up.any()):
            return values + self.turns * self.period
        turns = self.turns + np.cumsum(down.astype(np.int64) - up)
        turns -= np.minimum.accumulate(np.minimum(turns, 0))  # before the first turn there is none
        self.turns = int(turns[-1])
        return values + turns * self.period


def types_in(types: NDArray[np.uint8], known: int, encoding: str) -> int:
    """Which types of words there are, as bits of a number.

    Args:
        types: [N], below 16.
        known: the types that the documentation knows.
        encoding: for the message.

    Raises:
        EventFileError: names a type that is not known.
    """
    present = int(np.bitwise_or.reduce(np.left_shift(np.uint16(1), types), initial=np.uint16(0)))
    if present & ~known:
        kind = next(kind for kind in range(16) if present & ~known & 1 << kind)
        raise EventFileError(f"a word of the reserved type {kind:#x} in {encoding}: the file is cut or damaged")
    return present


def bits_of(*types: int) -> int:
    """Types as bits of a number."""
    return sum(1 << kind for kind in types)


def nothing() -> Columns:
    """No events."""
    return Columns(np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8))
