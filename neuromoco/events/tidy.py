"""Columns of events in the number types of others, for the formats that leave them open.

Times without a stated unit are seconds if they are floating-point numbers and microseconds if they are integers; both
are rounded to the nearest microsecond. What would be a guess is refused: floating-point times that are all whole, and
times or an order of columns that no camera makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.clock import LARGEST_TIME
from neuromoco.events.columns import FORMS
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import Columns

# A unit is 10 to this power of microseconds.
POWER = {"s": 6, "ms": 3, "us": 0, "ns": -3}
LARGEST_US = (1 << 63) - 1
LOOKED_AT = 10_000  # events that show whether times and order are those of a camera
FEW = 1000  # events that show nothing
LATEST_US = 4_100_000_000_000_000  # the year 2099, if times count from 1970 as most clocks do
LONG_US, SLOWEST = 100_000_000, 10  # a recording longer than this has more events a second
FASTEST = 1000  # events in a microsecond; the fastest cameras have 1
Order = Literal["named", "given", "guessed"]  # how the order of the columns is known
GIVE_UNIT = "give --time-unit s, ms, us or ns"


def tidy(
    pieces: Iterable[Columns], unit: str | None, *, whole: str | None = None, order: Order = "named"
) -> Iterator[Columns]:
    """Converts columns of any number type: t to int64 microseconds, x and y to uint16, p to uint8.

    For the `unit` None see the top of this module; `whole` is the unit of floating-point times that are all whole, if
    it is known. Numbers that are not finite, not whole or out of range are refused.
    """
    polarities, count, given = Polarities(), 0, unit
    for piece in pieces:
        # Fields of packed records are many times slower to process than contiguous columns.
        t, x, y, p = (np.ascontiguousarray(column) for column in piece)
        if unit is None and t.size:
            unit = _unit_of(t, whole)
        elif given is None and unit == "us" and t.dtype.kind == "f" and whole is None:
            # The first times were whole numbers, so all are.
            _refuse(t != np.rint(t), t, count, "the time", f"those before it were whole: {GIVE_UNIT}")
        tidied = Columns(
            microseconds(t, unit or "us", count),
            coordinates("x", x, count),
            coordinates("y", y, count),
            polarities.of(p, count),
        )
        if not count:
            check_plausible(tidied, given, order)
        yield tidied
        count += len(t)


def _unit_of(t: NDArray[Any], whole: str | None) -> str:
    """The unit of times [E] that do not state it, from the first of them."""
    if t.dtype.kind != "f":
        return "us"
    for some in (t[:LOOKED_AT], t):
        with np.errstate(invalid="ignore"):
            if np.any(some != np.rint(some)):
                return "s"
    if not t.any():
        return "s"
    if whole is None:
        raise EventFileError(f"the times are floating-point numbers, but whole, such as {t[-1]}: {GIVE_UNIT}")
    return whole


def check_plausible(piece: Columns, unit: str | None, order: Order) -> None:
    """Refuses the first events of a file, tidy, if their times or their order are those of no camera.

    `unit` is what the user or the file says about times.
    """
    t, count = piece.t, piece.t.size
    if not count:
        return
    if unit is None and LATEST_US < abs(int(t[-1])) < LARGEST_TIME:
        raise EventFileError(
            f"a time of {int(t[-1])} us, if the unit is the usual one, is that of no clock: {GIVE_UNIT}"
        )
    if count < FEW:
        return
    some = piece.take(slice(LOOKED_AT))
    back = 0 if order == "named" else int(np.count_nonzero(some.t[1:] < some.t[:-1]))
    if back > len(some.t) // 4:
        steady = [name for name in "xy" if np.all(np.diff(getattr(some, name).astype(np.int32)) >= 0)]
        if steady or order == "guessed":
            why = f"column {steady[0]} never decreases" if steady else "nothing names the columns"
            raise EventFileError(f"times run back at {back} of {len(some.t)} events, and {why}: {FORMS}")
    duration = int(t[-1]) - int(t[0])
    if unit is None and duration > LONG_US and count / duration * 1e6 < SLOWEST:
        raise EventFileError(f"{count} events in {duration / 1e6:,.0f} s, if the unit is the usual one: {GIVE_UNIT}")
    if unit is None and count > LOOKED_AT and count > FASTEST * (abs(duration) + 1):
        raise EventFileError(f"{count} events in {duration} us are more than a camera sends: {GIVE_UNIT}")


@np.errstate(invalid="ignore", over="ignore")  # what is no number is refused
def microseconds(t: NDArray[Any], unit: str, first: int = 0) -> NDArray[np.int64]:
    """Times [E] in whole microseconds; messages count events from `first`."""
    if t.dtype.kind == "f":
        power = POWER[unit]
        scaled = t.astype(np.float64, copy=False)
        if power:
            scaled = scaled * 10.0**power if power > 0 else scaled / 10.0**-power
        scaled = np.rint(scaled)
        if scaled.size and not (scaled.min() > -LARGEST_US and scaled.max() < LARGEST_US):  # NaN compares as false
            bad = ~(np.abs(scaled) < LARGEST_US)
            _refuse(bad, t, first, "the time", "a time is finite and below 2^63 us")
        return np.asarray(scaled, np.int64)
    if t.dtype.kind not in "iu":
        raise EventFileError(f"times are {t.dtype}; they are whole or floating-point numbers")
    power = POWER[unit]
    if t.dtype.kind == "u" or power > 0:
        largest = LARGEST_US // 10 ** max(power, 0)
        if t.size and (int(t.max()) > largest or int(t.min()) < -largest):
            bad = t > largest if t.dtype.kind == "u" else (t > largest) | (t < -largest)
            _refuse(bad, t, first, "the time", "a time is below 2^63 us")
    whole: NDArray[np.int64] = t.astype(np.int64, copy=False)
    if power > 0:
        return whole * int(10**power)
    return whole if power == 0 else (whole - whole % 1000) // 1000 + (whole % 1000 >= 500)


@np.errstate(invalid="ignore", over="ignore")  # half-precision numbers end before the largest side
def coordinates(name: str, values: NDArray[Any], first: int = 0) -> NDArray[np.uint16]:
    """A column x or y [E] of whole numbers as uint16; those below 0 or beyond every sensor become `LARGEST_SIDE`.

    Messages count events from `first`.
    """
    if values.dtype.kind not in "iufb":
        raise EventFileError(f"column {name} holds {values.dtype}; it holds whole numbers")
    if values.dtype == np.uint16:
        return values
    if values.dtype.kind == "f":
        if np.array_equal(whole := values.astype(np.uint16), values):
            return whole
        values = values.astype(np.float64, copy=False)  # a shorter number may end before the largest side
        _refuse(values != np.rint(values), values, first, name, "coordinates are whole numbers")
    # The extremes first: a mask of every event costs more than reading them.
    if values.size and not (values.min() >= 0 and values.max() < LARGEST_SIDE):
        _refuse(~np.isfinite(values), values, first, name, "coordinates are whole numbers")
        values = np.where((values >= 0) & (values < LARGEST_SIDE), values, LARGEST_SIDE)
    return values.astype(np.uint16, copy=False)


class Polarities:
    """Polarities piece by piece: all 0 and 1, or all -1 and 1."""

    def __init__(self) -> None:
        self.zero = self.minus = False

    @np.errstate(invalid="ignore")
    def of(self, values: NDArray[Any], first: int = 0) -> NDArray[np.uint8]:
        """A column p [E] as 0 and 1; other values, and both 0 and -1 in one file, are refused."""
        if values.dtype.kind not in "iufb":
            raise EventFileError(f"column p holds {values.dtype}; polarities are 0 and 1, or -1 and 1")
        if values.dtype.kind == "f" and np.array_equal(whole := values.astype(np.int8), values):
            values = whole
        if values.dtype.kind != "b" and values.size:
            lowest, highest = values.min(), values.max()
            if values.dtype.kind == "f" or not (lowest >= -1 and highest <= 1):
                bad = (values != 1) & (values != 0) & (values != -1)
                _refuse(bad, values, first, "the polarity", "polarities are 0 and 1, or -1 and 1")
            self.minus |= bool(lowest == -1)
            self.zero |= bool(lowest == 0 or (lowest == -1 and np.any(values == 0)))
        if self.zero and self.minus:
            raise EventFileError("polarities of -1 and of 0 in one file; polarities are 0 and 1, or -1 and 1")
        is_on: NDArray[np.bool_] = values == 1
        return is_on.view(np.uint8)


def _refuse(bad: NDArray[Any], values: NDArray[Any], first: int, what: str, allowed: str) -> None:
    if bad.any():
        at = int(bad.argmax())
        raise EventFileError(f"{what} of event {first + at} is {values[at]}; {allowed}")
