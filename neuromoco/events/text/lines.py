"""Text with one event a line: `.csv` and `.txt`.

Fields are separated by commas, semicolons, tabs or blanks. `#` begins a comment, and so does `%` at the
beginning of a line before the first event. Which column is which is said by, in this order: the user; a line
of names before the first event (also in a comment), in any order and case (see `neuromoco.events.columns`),
columns of other names being passed over; or, without names, a first column of times with a decimal point, as
in the event camera dataset of Mueggler et al. 2017 (t x y p). The time unit is said by the user; by the name,
as in t_us, t [us] or time(s); or by the times: with a decimal point or an exponent they are seconds, whole
numbers are microseconds. The first times decide.

The sensor is said by names such as x@1280 and y@720, by Metavision's `%geometry:1280,720`, or by a first line
of only a width and a height (rpg_e2vid). Polarities are 0 and 1, -1 and 1, true and false, or on and off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from neuromoco.errors import EventFileError
from neuromoco.events.columns import LARGEST_SIDE, ROLES, Polarities, column_order, roles_of
from neuromoco.events.recording import Recording
from neuromoco.events.stream import PIECE, Columns, EventStream, ReadOptions
from neuromoco.events.text import numbers as text_numbers
from neuromoco.events.text.faults import LONGEST_LINE, first_fault
from neuromoco.events.text.numbers import Read, Rows
from neuromoco.support.files import writing

FORMAT = "CSV or text"
BLOCK = 1 << 20  # bytes that are read at once: their arrays then stay in the processor's cache
HEAD = 1 << 16  # bytes in which the first event lies
BOM = b"\xef\xbb\xbf"
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r") | {127}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# A name, a unit with or without brackets, and a size.
NAME = re.compile(
    r"(?P<name>[a-z]+)(?:_(?P<a>s|ms|us|ns)|\s*[\[(]\s*(?P<b>s|sec|ms|us|µs|ns)\s*[\])])?(?:@(?P<size>\d+))?"
)
GEOMETRY = re.compile(r"%\s*geometry:\s*(\d+)\s*,\s*(\d+)")
SPELLINGS = {"sec": "s", "µs": "us"}


@dataclass(frozen=True)
class Layout:
    """What is said before the first event: rows is None where nothing says which column is which."""

    rows: Rows | None
    start: int  # bytes before the first event
    unit: str | None = None
    sensor: tuple[int | None, int | None] = (None, None)


def looks_like_text(head: bytes, size: int) -> bool:
    """Whether the first bytes are text and the first lines are numbers of events, or name their columns."""
    if any(byte in CONTROL for byte in head):
        return False
    text = head.decode("utf-8-sig", errors="replace")
    lines = text.split("\n") if len(head) == size or "\n" not in text else text.split("\n")[:-1]
    content = [line.strip() for line in lines if line.strip()]
    comments = next((at for at, line in enumerate(content) if line[0] not in "#%"), len(content))
    if any(_names(line.lstrip("#%")) for line in content[:comments]):
        return True
    # Only the first of the events has to be one: a message about a later line helps more than not knowing the file.
    rows = [_fields(line, _separator(line)) for line in content[comments : comments + 2]]
    if len(rows) > 1 and _is_sensor(rows[0]):
        rows = rows[1:]
    return bool(rows) and (
        _names(content[comments]) is not None or (len(rows[0]) == 4 and all(_is_number(field) for field in rows[0]))
    )


def open_text(path: Path, options: ReadOptions) -> EventStream:
    """Opens a text of events.

    Args:
        path: the file.
        options: `columns`, `time_unit` and `sensor` overrule what the text says.

    Raises:
        EventFileError: nothing says which column is which.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    layout = _layout(head, options.columns)
    if layout.rows is None:
        raise EventFileError("no line names the columns; give their order, such as --columns txyp or --columns xypt")
    width, height = options.sensor or layout.sensor
    return EventStream(FORMAT, _pieces(path, replace(layout, unit=options.time_unit or layout.unit)), width, height)


def write_csv(path: Path, recording: Recording) -> None:
    """Writes a line `t,x,y,p`, then one line an event in microseconds. The sensor is not written: CSV has no place
    for it that everybody's readers pass over."""
    with writing(path) as part, part.open("wb") as file:
        file.write(b"t,x,y,p\n")
        for first in range(0, len(recording), PIECE // 8):
            columns = (getattr(recording, name)[first : first + PIECE // 8].tolist() for name in ROLES)
            numbers = [number for row in zip(*columns, strict=True) for number in row]
            file.write(("%d,%d,%d,%d\n" * (len(numbers) // 4) % tuple(numbers)).encode())


def _layout(head: bytes, given_columns: str | None) -> Layout:
    """What the lines before the first event say."""
    layout, names = Layout(None, 0), None
    at = len(BOM) if head.startswith(BOM) else 0
    for line in head[at:].split(b"\n"):
        text = line.decode("utf-8", errors="replace").strip()
        if text and text[0] not in "#%":
            found, fields = _names(text), _fields(text, _separator(text))
            if _is_sensor(fields) and names is None:
                layout = replace(layout, sensor=_sides(*fields))
            elif found is None:
                return _named(layout, names, given_columns, _separator(text).encode(), fields)
            names = found or names
        elif geometry := GEOMETRY.match(text):
            layout = replace(layout, sensor=_sides(*geometry.groups()))
        elif text:
            names = _names(text.lstrip("#%")) or names
        at += len(line) + 1
        layout = replace(layout, start=at)
    if len(head) == HEAD:
        raise EventFileError(f"the first {HEAD} bytes hold comments and no event")
    return _named(layout, names or list(ROLES), given_columns, b",", [])


def _named(layout: Layout, names: list[str] | None, given: str | None, separator: bytes, fields: list[str]) -> Layout:
    """The layout with its columns, as the user or the text names them; fields are those of the first event."""
    if given is not None:
        return replace(layout, rows=Rows(separator, len(given), column_order(given, len(fields) or None)))
    if names is None:
        if ["." in field for field in fields] != [True, False, False, False]:
            return layout
        return replace(layout, rows=Rows(separator, len(ROLES), {role: at for at, role in enumerate(ROLES)}))
    parts = [NAME.fullmatch(name) for name in names]
    plain = [part["name"] if part else f" {at}" for at, part in enumerate(parts)]
    found = {role: plain.index(name) for role, name in roles_of(plain).items()}
    by_role = {role: parts[place] for role, place in found.items()}
    t, x, y = (by_role[role] for role in "txy")
    unit = (t["a"] or t["b"]) if t else None
    sides = _sides(x["size"] if x else None, y["size"] if y else None)
    return replace(
        layout,
        rows=Rows(separator, len(names), found),
        unit=SPELLINGS.get(unit, unit) if unit else None,
        sensor=sides if any(sides) else layout.sensor,
    )


def _names(line: str) -> list[str] | None:
    """The names of a line that names t, x, y and p; None for every other line."""
    if len(line) > LONGEST_LINE:
        return None
    line = re.sub(r"(?<!\s)\s+(?=[\[(])", "", line.strip().lower())  # t [us]
    names = [name.strip().strip("\"'") for name in _fields(line, _separator(line))]
    plain = [match["name"] for match in map(NAME.fullmatch, names) if match]
    return names if len(roles_of(plain)) == len(ROLES) else None


def _separator(line: str) -> str:
    return next((mark for mark in ",;\t" if mark in line), " ")


def _fields(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else [field.strip() for field in line.split(separator)]


def _is_sensor(fields: list[str]) -> bool:
    return len(fields) == 2 and all(re.fullmatch(r"[1-9]\d{0,4}", field) for field in fields)


def _is_number(field: str) -> bool:
    return bool(NUMBER.fullmatch(field)) or field.encode() in text_numbers.WORDS


def _sides(width: str | None, height: str | None) -> tuple[int | None, int | None]:
    def side(text: str | None) -> int | None:
        return int(text) if text and len(text) < 6 and 1 <= int(text) <= LARGEST_SIDE else None

    return side(width), side(height)


def _pieces(path: Path, layout: Layout) -> Iterator[Columns]:
    """The events, block by block."""
    assert layout.rows is not None
    unit, decided, at, polarities = layout.unit, layout.unit is not None, layout.start, Polarities()
    reading = _Reading(layout.rows)
    for block in _blocks(path, layout.start):
        read = reading.numbers(block, unit)
        whole = not decided and unit == "us"  # the first times were whole numbers, so all are
        if read is None or (whole and read.fraction):
            before, block = _narrowed(block, reading, unit, whole)
            raise EventFileError(first_fault(block, layout.rows, _lines(path, at) + before, unit, whole))
        at += len(block)
        t, x, y, p = read.columns
        if not t.size:
            continue
        if unit is None:
            unit = "s" if read.fraction else "us"
        yield Columns(t, x, y, polarities.of(p))


def _lines(path: Path, end: int) -> int:
    """Lines before a byte: counted only where a message needs them."""
    lines = 0
    with path.open("rb") as file:
        while end > 0 and (block := file.read(min(BLOCK, end))):
            lines += block.count(b"\n")
            end -= len(block)
    return lines


def _narrowed(block: bytes, reading: _Reading, unit: str | None, whole: bool) -> tuple[int, bytes]:
    """Some lines of a block that hold the first bad one, and how many lines come before them."""
    before = 0
    while len(block) > 2 * LONGEST_LINE:
        half = block.find(b"\n", len(block) // 2) + 1
        if half in (0, len(block)):
            break
        read = reading.numbers(block[:half], unit)
        if read is None or (whole and read.fraction):
            block = block[:half]
        else:
            before += block[:half].count(b"\n")
            block = block[half:]
    return before, block


class _Reading:
    """Tries ways to read a block, the fastest first, and none again that did not do for the block before."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.way = 0

    def numbers(self, block: bytes, unit: str | None) -> Read | None:
        """The numbers of whole lines, or None."""
        if text_numbers.ON_BYTE in block or text_numbers.OFF_BYTE in block:
            return None
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        for way in range(self.way, 3):
            read = self._read(block, unit, way)
            if read is not None:
                self.way = way
                return read
        return None

    def _read(self, block: bytes, unit: str | None, way: int) -> Read | None:
        if way > 0:
            block = text_numbers.shorten_words(block)
        if way > 1:
            block = text_numbers.clean(block, self.rows.separator)
        return text_numbers.read_rows(block, self.rows, unit)


def _blocks(path: Path, start: int) -> Iterator[bytes]:
    """Blocks of whole lines, each of which ends."""
    at = start
    with path.open("rb") as file:
        file.seek(start)
        rest = b""
        while block := file.read(BLOCK):
            whole, end, rest_of_block = block.rpartition(b"\n")
            if not end:
                rest += block
                if len(rest) > BLOCK:
                    line = _lines(path, at) + 1
                    raise EventFileError(f"line {line} is longer than {LONGEST_LINE} bytes: no text of events")
                continue
            lines = rest + whole + end
            at += len(lines)
            yield lines
            rest = rest_of_block
        if rest.strip():
            yield rest + b"\n"
