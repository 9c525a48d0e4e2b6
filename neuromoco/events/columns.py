"""Columns of events in the names and number types of others, for the formats that leave both open.

Names in any case: t, ts, time, times, timestamp, timestamps; x, xs; y, ys; p, ps, pol, polarity, on.
Times without a stated unit are seconds if they are floating-point numbers and microseconds if they are integers; both
are rounded to the nearest microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import Columns

ROLES = "txyp"
NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity", "on"),
}
# A unit is 10 to this power of microseconds.
POWER = {"s": 6, "ms": 3, "us": 0, "ns": -3}
LARGEST_US = (1 << 63) - 1


def roles_of(names: Iterable[str]) -> dict[str, str]:
    """The names of the columns of events: {"t": name, ...}; a missing column is omitted."""
    lower = {name.lower(): name for name in names}
    known = {role: [lower[name] for name in NAMES[role] if name in lower] for role in ROLES}
    return {role: names[0] for role, names in known.items() if names}


def no_columns(what: str, names: Iterable[str], missing: Iterable[str], columns: str = "t, x, y, p") -> EventFileError:
    """The error of a file without some of the columns."""
    return EventFileError(f"the {what} are {shown(names)}; a recording has {columns}: {', '.join(missing)} missing")


def shown(names: Iterable[str]) -> str:
    """The first names, for a message of one line whatever they contain."""
    text = ", ".join(islice(names, 20)) or "none"
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def column_order(columns: str, count: int | None = None) -> dict[str, int]:
    """The places of the columns that a user names, such as "xytp"; "_" stands for a column to skip.

    `count` is the number of columns, if it is known.
    """
    letters = columns.lower()
    if sorted(letters.replace("_", "")) != sorted(ROLES):
        raise EventFileError(f"--columns {columns}: name t, x, y and p once each, such as txyp; _ skips a column")
    if count is not None and len(letters) != count:
        raise EventFileError(f"--columns {columns} names {len(letters)} columns; there are {count}")
    return {role: letters.index(role) for role in ROLES}


def tidy(pieces: Iterable[Columns], unit: str | None) -> Iterator[Columns]:
    """Converts columns of any number type: t to int64 microseconds, x and y to uint16, p to uint8.

    For the `unit` None see the top of this module. Numbers that are not finite, not whole or out of range are refused.
    """
    polarities, count = Polarities(), 0
    for piece in pieces:
        # Fields of packed records are many times slower to process than contiguous columns.
        t, x, y, p = (np.ascontiguousarray(column) for column in piece)
        x, y = coordinates("x", x, count), coordinates("y", y, count)
        yield Columns(microseconds(t, unit, count), x, y, polarities.of(p, count))
        count += len(t)


def microseconds(t: NDArray[Any], unit: str | None, first: int = 0) -> NDArray[np.int64]:
    """Times [E] in whole microseconds; messages count events from `first`."""
    if t.dtype.kind == "f":
        power = POWER[unit or "s"]
        seconds = t.astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            scaled = np.rint(seconds * 10.0**power if power >= 0 else seconds / 10.0**-power)
        bad = ~(np.abs(scaled) < LARGEST_US)  # NaN compares as false
        _refuse(bad, t, first, "the time", "a time is finite and below 2^63 us")
        return np.asarray(scaled, np.int64)
    if t.dtype.kind not in "iu":
        raise EventFileError(f"times are {t.dtype}; they are whole or floating-point numbers")
    power = POWER[unit or "us"]
    if t.dtype.kind == "u" or power > 0:
        largest = LARGEST_US // 10 ** max(power, 0)
        if t.size and (int(t.max()) > largest or int(t.min()) < -largest):
            bad = t > largest if t.dtype.kind == "u" else (t > largest) | (t < -largest)
            _refuse(bad, t, first, "the time", "a time is below 2^63 us")
    whole: NDArray[np.int64] = t.astype(np.int64, copy=False)
    if power > 0:
        return whole * int(10**power)
    return whole if power == 0 else (whole - whole % 1000) // 1000 + (whole % 1000 >= 500)


def coordinates(name: str, values: NDArray[Any], first: int = 0) -> NDArray[np.uint16]:
    """A column x or y [E] of whole numbers as uint16; those below 0 or beyond every sensor become `LARGEST_SIDE`.

    Messages count events from `first`.
    """
    if values.dtype.kind not in "iufb":
        raise EventFileError(f"column {name} holds {values.dtype}; it holds whole numbers")
    if values.dtype.kind == "f":
        _refuse(values != np.rint(values), values, first, name, "coordinates are whole numbers")
    # The extremes first: a mask of every event costs more than reading them.
    if values.size and not (values.min() >= 0 and values.max() < LARGEST_SIDE):
        _refuse(~np.isfinite(values), values, first, name, "coordinates are whole numbers")
        values = np.where((values >= 0) & (values < LARGEST_SIDE), values, LARGEST_SIDE)
    return values.astype(np.uint16)


class Polarities:
    """Polarities piece by piece: all 0 and 1, or all -1 and 1."""

    def __init__(self) -> None:
        self.zero = self.minus = False

    def of(self, values: NDArray[Any], first: int = 0) -> NDArray[np.uint8]:
        """A column p [E] as 0 and 1; other values, and both 0 and -1 in one file, are refused."""
        if values.dtype.kind not in "iufb":
            raise EventFileError(f"column p holds {values.dtype}; polarities are 0 and 1, or -1 and 1")
        if values.dtype.kind != "b" and values.size:
            lowest, highest = values.min(), values.max()
            if values.dtype.kind == "f" or not (lowest >= -1 and highest <= 1):
                bad = (values != 1) & (values != 0) & (values != -1)
                _refuse(bad, values, first, "the polarity", "it is 0 or 1, or -1 or 1")
            self.minus |= bool(lowest == -1)
            self.zero |= bool(lowest == 0 or (lowest == -1 and np.any(values == 0)))
        if self.zero and self.minus:
            raise EventFileError("polarities of -1 and of 0 in one file; they are 0 and 1, or -1 and 1")
        return np.asarray(values == 1, np.uint8)


def _refuse(bad: NDArray[Any], values: NDArray[Any], first: int, what: str, allowed: str) -> None:
    if bad.any():
        at = int(bad.argmax())
        raise EventFileError(f"{what} of event {first + at} is {values[at]}; {allowed}")
