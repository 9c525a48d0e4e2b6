"""Numbers in lines of text, a block at a time, in numpy: without a Python loop over lines that are correct.

Numbers stay integers throughout: a time in seconds with nine decimals is exact. Lines with words for polarities,
blanks or comments are simplified first.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import Columns
from neuromoco.events.text.digits import LONGEST, NEWLINE, NINE, PAD, TENS, ZERO, Array, fields_of, numbers, padded
from neuromoco.events.tidy import LARGEST_US, POWER

POINT, PLUS, MINUS, ONE, LOWER_E, UPPER_E = b".+-1eE"
# Replace words; no text holds them.
ON_BYTE, OFF_BYTE = b"\x01", b"\x02"
WORDS = {
    form(word): byte
    for byte, words in ((ON_BYTE, (b"true", b"on")), (OFF_BYTE, (b"false", b"off")))
    for word in words
    for form in (bytes.lower, bytes.title, bytes.upper)
}


class Rows(NamedTuple):
    """How the lines of a text are read."""

    separator: bytes  # between fields; a blank stands for any number of blanks and tabs
    fields: int  # of a line
    places: dict[str, int]  # of t, x, y, p among them


def split(line: str, separator: str) -> list[str]:
    """The fields of one line."""
    return line.split() if separator == " " else [field.strip() for field in line.split(separator)]


_NONE = np.zeros(0, np.intp)


class Read(NamedTuple):
    """Events of a block, polarities as they are written, and whether a time had a point or an exponent."""

    columns: Columns
    fraction: bool


class _Column(NamedTuple):
    """The fields of one column, and its points and exponents: the rows with one, and its place."""

    text: NDArray[np.uint8]
    begin: Array
    end: Array
    plain: bool = True  # no point, exponent or plus
    point_rows: Array = _NONE
    points: Array = _NONE
    exponent_rows: Array = _NONE
    exponents: Array = _NONE


def shorten_words(block: bytes) -> bytes:
    """Lines with words for polarities replaced by single bytes; a longer word is then no number."""
    for word, byte in WORDS.items():
        block = block.replace(word, byte)
    return block


def clean(block: bytes, separator: bytes) -> bytes:
    """Lines without comments, empty lines and needless blanks."""
    if b"#" in block:
        block = re.sub(rb"#[^\n]*", b"", block)
    # Runs of blanks first: the time of every pattern below is then proportional to the block.
    block = re.sub(rb" +" if separator == b"\t" else rb"[ \t]+", b" ", block)
    if separator != b" ":
        block = block.replace(b" " + separator, separator).replace(separator + b" ", separator)
    return re.sub(rb" ?\n[ \n]*", b"\n", block).lstrip(b" \n")


def read_rows(block: bytes, rows: Rows, unit: str | None) -> Read | None:
    """Reads a block of whole lines; None if one of them is no plain row of numbers.

    For the `unit` None, times are seconds if one of them has a point or an exponent, else microseconds.
    """
    text = padded(block)
    if POWER[unit or "us"] == 0 and (plain := _plain_columns(text, rows)):
        return Read(plain, fraction=False)
    raw = text[PAD:]
    cuts = (raw == rows.separator[0]) | (raw == NEWLINE)
    if (fields := fields_of(raw, np.flatnonzero(cuts), rows.separator, rows.fields)) is None:
        return None
    ends, starts = fields[0], fields[0] - fields[1]  # [E, fields]
    columns = {role: _Column(text, starts[:, place], ends[:, place]) for role, place in rows.places.items()}
    if not _mark(columns, raw, cuts, starts.ravel(), ends.ravel(), rows):
        return None
    fraction = bool(columns["t"].points.size or columns["t"].exponents.size)
    t = _times(columns["t"], POWER[unit or ("s" if fraction else "us")])
    x, y, p = _coordinates(columns["x"]), _coordinates(columns["y"]), _polarities(columns["p"])
    if t is None or x is None or y is None or p is None:
        return None
    return Read(Columns(t, x, y, p), fraction)


def _plain_columns(text: NDArray[np.uint8], rows: Rows) -> Columns | None:
    """The events of lines with nothing but digits, which most are; times in microseconds."""
    raw = text[PAD:]
    if raw.max(initial=0) > NINE:
        return None
    fields = fields_of(raw, np.flatnonzero(raw < ZERO), rows.separator, rows.fields)
    if fields is None:
        return None
    ends, lengths = ({role: all[:, place] for role, place in rows.places.items()} for all in fields)
    t, x, y = (numbers(text, ends[role], lengths[role]) for role in "txy")
    p = text[ends["p"] + (PAD - 1)] - np.uint8(ZERO)
    if t is None or x is None or y is None or lengths["p"].max(initial=1) > 1 or p.max(initial=0) > 1:
        return None
    if t.max(initial=0) > LARGEST_US or max(x.max(initial=0), y.max(initial=0)) >= LARGEST_SIDE:
        return None
    return Columns(t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.view(np.int8))


def _mark(columns: dict[str, _Column], raw: Array, cuts: Array, starts: Array, ends: Array, rows: Rows) -> bool:
    """Finds points and exponents; False if another byte is no digit, or one of them is misplaced."""
    digits = raw - np.uint8(ZERO) < 10
    if raw.size == ends.size + np.count_nonzero(digits):
        return True
    at = np.flatnonzero(~(digits | cuts))
    byte, fields = raw[at], np.searchsorted(ends, at)
    row, column = np.divmod(fields, rows.fields)
    first = at == starts[fields]
    is_e = (byte == LOWER_E) | (byte == UPPER_E)
    after_e = (raw[at - 1] == LOWER_E) | (raw[at - 1] == UPPER_E)
    sign = ((byte == MINUS) | (byte == PLUS)) & (first | after_e)
    word = ((byte == ON_BYTE[0]) | (byte == OFF_BYTE[0])) & first & (column == rows.places["p"])
    skipped = ~np.isin(column, list(rows.places.values()))
    if not np.all(is_e | (byte == POINT) | sign | word | skipped):
        return False
    for role, place in rows.places.items():
        here = column == place
        point, exponent = here & (byte == POINT), here & is_e
        if any(np.any(marked[1:] == marked[:-1]) for marked in (row[point], row[exponent])):
            return False
        plain = not np.any(point | exponent | (here & (byte == PLUS)))
        columns[role] = columns[role]._replace(
            plain=plain, point_rows=row[point], points=at[point], exponent_rows=row[exponent], exponents=at[exponent]
        )
    return True


def _digits(block: Array, begin: Array, end: Array) -> NDArray[np.uint64] | None:
    value = numbers(block, end, end - begin)
    return None if value is None else value.astype(np.uint64, copy=False)


def _decimals(column: _Column, begin: Array, power: int) -> tuple[NDArray[np.uint64], Array] | None:
    """Numbers without a sign times 10^power, rounded half up, and whether they are exact.

    None if one has no digits, too many of them, or is beyond 63 bits.
    """
    text, end = column.text, column.end
    stop, exponent = end, np.zeros(end.size, np.int64)
    if column.exponents.size:
        at = column.exponent_rows
        sign = text[column.exponents + (PAD + 1)]
        start = column.exponents + 1 + ((sign == MINUS) | (sign == PLUS))
        value = _digits(text, start, end[at])
        if value is None or np.any(start >= end[at]) or np.any(end[at] - start > 3):
            return None
        stop = end.copy()
        stop[at] = column.exponents
        exponent[at] = np.where(sign == MINUS, -1, 1) * value.astype(np.int64)
    point = stop
    if column.points.size:
        if np.any(column.points > stop[column.point_rows]):
            return None
        point = stop.copy()
        point[column.point_rows] = column.points
    whole = _digits(text, begin, point)
    length, places = point - begin, np.maximum(stop - point - 1, 0)
    if whole is None or np.any(length + places < 1):
        return None
    if column.points.size:
        # Decimals beyond 64 bits are cut: they do not affect rounding half up.
        places = np.minimum(places, LONGEST - length)
        parts = _digits(text, point + 1, np.maximum(point + 1 + places, point + 1))
        if parts is None:
            return None
        whole = whole * TENS[places] + parts
    return _shifted(whole, exponent + (power - places))


def _shifted(value: NDArray[np.uint64], shift: Array) -> tuple[NDArray[np.uint64], Array] | None:
    """value * 10^shift, rounded half up, and whether it is exact; None beyond 63 bits."""
    up, down = np.clip(shift, 0, LONGEST), np.clip(-shift, 0, LONGEST)
    if np.any((down == 0) & (value > np.uint64(LARGEST_US) // TENS[up])):
        return None
    divisor = TENS[down]
    result, rest = np.divmod(value * TENS[up], divisor)
    result += rest >= (divisor + np.uint64(1)) // np.uint64(2)
    tiny = shift < -LONGEST  # less than a tenth
    result[tiny] = 0
    return result, (rest == 0) & (~tiny | (value == 0))


def _signs(column: _Column) -> tuple[Array, Array]:
    """Which numbers are negative, and where their digits begin."""
    first = column.text[column.begin + PAD]
    minus = first == MINUS
    return minus, column.begin + (minus | (first == PLUS))


def _values(column: _Column, power: int, exact: bool) -> tuple[NDArray[np.uint64], Array] | None:
    """Numbers times 10^power without their sign, and which are negative; None if one is no number, or not `exact`."""
    minus, begin = _signs(column)
    if column.plain and power == 0:
        value = None if np.any(begin == column.end) else _digits(column.text, begin, column.end)
    else:
        scaled = _decimals(column, begin, power)
        value = None if scaled is None or (exact and not np.all(scaled[1])) else scaled[0]
    return None if value is None else (value, minus)


def _times(column: _Column, power: int) -> NDArray[np.int64] | None:
    """Times in microseconds."""
    values = _values(column, power, exact=False)
    if values is None or values[0].max(initial=0) > LARGEST_US:
        return None
    t = values[0].astype(np.int64)
    t[values[1]] *= -1
    return t


def _coordinates(column: _Column) -> NDArray[np.uint16] | None:
    values = _values(column, 0, exact=True)
    if values is None or values[0].max(initial=0) >= LARGEST_SIDE or np.any(values[1] & (values[0] != 0)):
        return None
    return values[0].astype(np.uint16)


def _polarities(column: _Column) -> NDArray[np.int8] | None:
    """-1, 0 and 1."""
    if column.plain:
        # Single characters after their signs, as the bytes for words are, too.
        minus, begin = _signs(column)
        last = column.text[column.end + (PAD - 1)]
        on = (last == ONE) | (last == ON_BYTE[0])
        if np.any(column.end - begin != 1) or not np.all(on | (last == ZERO) | (last == OFF_BYTE[0])):
            return None
    else:
        values = _values(column, 0, exact=True)
        if values is None or values[0].max(initial=0) > 1:
            return None
        on, minus = values[0] == 1, values[1]
    p: NDArray[np.int8] = on.astype(np.int8)
    p[minus] *= -1
    return p
