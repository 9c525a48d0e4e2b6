"""Text with one event per line: `.csv` and `.txt`.

Fields are separated by commas, semicolons, tabs or blanks. `#` begins a comment, and so does `%` at the
beginning of a line before the first event. The order of the columns comes from, in this order: the user; a line
of names before the first event (also in a comment), in any order and case (see `neuromoco.events.columns`),
of which other names are skipped; or, without names, a first column of times with a decimal point, as
in the event camera dataset of Mueggler et al. 2017 (t x y p). The time unit comes from the user; from the name,
as in t_us, t [us] or time(s); or from the times: with a decimal point or an exponent they are seconds, whole
numbers are microseconds. The first times decide.

The sensor comes from names such as x@1280 and y@720, from Metavision's `%geometry:1280,720`, or from a first line
of only a width and a height (rpg_e2vid). Polarities are 0 and 1, -1 and 1, true and false, or on and off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from neuromoco.errors import EventFileError
from neuromoco.events.columns import ROLES, column_order, roles_of
from neuromoco.events.recording import LARGEST_SIDE, Recording
from neuromoco.events.stream import PIECE, Columns, EventStream, ReadOptions
from neuromoco.events.text import numbers as text_numbers
from neuromoco.events.text.faults import LONGEST_LINE, first_fault
from neuromoco.events.text.numbers import Read, Rows, split
from neuromoco.events.tidy import Polarities
from neuromoco.support.files import writing

FORMAT = "CSV or text"
BLOCK = 1 << 20  # bytes read at once: their arrays then stay in the processor's cache
HEAD = 1 << 16  # bytes that hold the first event
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
class TextHeader:
    """What precedes the first event; `rows` is None if nothing names the columns."""

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
    # Only the first event has to be one: a message about a later line helps more than an unknown format.
    rows = [_fields(line) for line in content[comments : comments + 2]]
    if len(rows) > 1 and _is_sensor(rows[0]):
        rows = rows[1:]
    is_event = bool(rows) and len(rows[0]) == 4 and all(map(_is_number, rows[0]))
    return is_event or (bool(rows) and _names(content[comments]) is not None)


def open_text(path: Path, options: ReadOptions) -> EventStream:
    """Opens a text of events; columns, time unit and sensor in `options` overrule the text."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    header = _header(head, options.columns)
    if header.rows is None:
        raise EventFileError("no line names the columns: give their order, such as --columns txyp or --columns xypt")
    pieces = _pieces(path, header.rows, header.start, options.time_unit or header.unit)
    return EventStream(FORMAT, pieces, *(options.sensor or header.sensor))


def write_csv(path: Path, recording: Recording) -> None:
    """Writes a line `t,x,y,p`, then one line per event in microseconds; CSV has no common notation for the sensor.

    Examples:
        >>> import tempfile
        >>> from neuromoco.events import read_recording
        >>> recording = read_recording("models/examples/3.bin")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_csv(Path(folder) / "3.csv", recording)
        ...     (Path(folder) / "3.csv").read_text().split()[:2]
        ['t,x,y,p', '2233,1,31,1']
    """
    with writing(path) as part, part.open("wb") as file:
        file.write(b"t,x,y,p\n")
        for first in range(0, len(recording), PIECE // 8):
            columns = (getattr(recording, name)[first : first + PIECE // 8].tolist() for name in ROLES)
            numbers = [number for row in zip(*columns, strict=True) for number in row]
            file.write(("%d,%d,%d,%d\n" * (len(numbers) // 4) % tuple(numbers)).encode())


def _header(head: bytes, columns: str | None) -> TextHeader:
    """The lines before the first event; the user may name the columns."""
    header, names = TextHeader(None, 0), None
    at = len(BOM) if head.startswith(BOM) else 0
    for line in head[at:].split(b"\n"):
        text = line.decode("utf-8", errors="replace").strip()
        if text and text[0] not in "#%":
            line_names, fields = _names(text), _fields(text)
            if _is_sensor(fields) and names is None:
                header = replace(header, sensor=_sides(*fields))
            elif line_names is None:
                return _with_columns(header, names, columns, _separator(text).encode(), fields)
            names = line_names or names
        elif geometry := GEOMETRY.match(text):
            header = replace(header, sensor=_sides(*geometry.groups()))
        elif text:
            names = _names(text.lstrip("#%")) or names
        at += len(line) + 1
        header = replace(header, start=at)
    if len(head) == HEAD:
        raise EventFileError(f"the first {HEAD} bytes hold comments and no event")
    return _with_columns(header, names or list(ROLES), columns, b",", [])


def _with_columns(
    header: TextHeader, names: list[str] | None, columns: str | None, separator: bytes, fields: list[str]
) -> TextHeader:
    """The header with its columns, named by the user or the text; fields are those of the first event."""
    if columns is not None:
        return replace(header, rows=Rows(separator, len(columns), column_order(columns, len(fields) or None)))
    if names is None:
        if ["." in field for field in fields] != [True, False, False, False]:
            return header
        names = list(ROLES)
    parts = [match.groupdict() if (match := NAME.fullmatch(name)) else {} for name in names]
    plain = [part.get("name", f" {at}") for at, part in enumerate(parts)]
    places = {role: plain.index(name) for role, name in roles_of(plain).items()}
    t, x, y = (parts[places[role]] for role in "txy")
    unit, sides = t["a"] or t["b"], _sides(x["size"], y["size"])
    return replace(
        header,
        rows=Rows(separator, len(names), places),
        unit=SPELLINGS.get(unit, unit),
        sensor=sides if any(sides) else header.sensor,
    )


def _names(line: str) -> list[str] | None:
    """The names of a line that names t, x, y and p; None for every other line."""
    if len(line) > LONGEST_LINE:
        return None
    line = re.sub(r"(?<!\s)\s+(?=[\[(])", "", line.strip().lower())  # t [us]
    names = [name.strip().strip("\"'") for name in _fields(line)]
    plain = [match["name"] for match in map(NAME.fullmatch, names) if match]
    return names if len(roles_of(plain)) == len(ROLES) else None


def _separator(line: str) -> str:
    return next((mark for mark in ",;\t" if mark in line), " ")


def _fields(line: str) -> list[str]:
    return split(line, _separator(line))


def _is_sensor(fields: list[str]) -> bool:
    return len(fields) == 2 and all(re.fullmatch(r"[1-9]\d{0,4}", field) for field in fields)


def _is_number(field: str) -> bool:
    return bool(NUMBER.fullmatch(field)) or field.encode() in text_numbers.WORDS


def _sides(width: str | None, height: str | None) -> tuple[int | None, int | None]:
    first, second = (
        int(text) if text and len(text) < 6 and 1 <= int(text) <= LARGEST_SIDE else None for text in (width, height)
    )
    return first, second


def _pieces(path: Path, rows: Rows, start: int, unit: str | None) -> Iterator[Columns]:
    """The events, block by block."""
    decided, polarities, reader = unit is not None, Polarities(), BlockReader(rows)
    for block in _blocks(path, start):
        whole = not decided and unit == "us"  # the first times were whole numbers, so all are
        read = reader.numbers(block, unit, whole)
        if read is None:
            before, block = _narrowed(block, reader, unit, whole)
            raise EventFileError(first_fault(block, rows, _lines(path, start) + before, unit, whole))
        start += len(block)
        t, x, y, p = read.columns
        if not t.size:
            continue
        if unit is None:
            unit = "s" if read.fraction else "us"
        yield Columns(t, x, y, polarities.of(p))


def _lines(path: Path, end: int) -> int:
    """Lines before a byte: counted only for messages."""
    lines = 0
    with path.open("rb") as file:
        while end > 0 and (block := file.read(min(BLOCK, end))):
            lines += block.count(b"\n")
            end -= len(block)
    return lines


def _narrowed(block: bytes, reader: BlockReader, unit: str | None, whole: bool) -> tuple[int, bytes]:
    """A few lines of a block with the first bad one among them, after the number of lines before them."""
    before = 0
    while len(block) > 2 * LONGEST_LINE:
        half = block.find(b"\n", len(block) // 2) + 1
        if half in (0, len(block)):
            break
        if reader.numbers(block[:half], unit, whole) is None:
            block = block[:half]
        else:
            before += block[:half].count(b"\n")
            block = block[half:]
    return before, block


class BlockReader:
    """Tries ways to read a block, the fastest first; a way that failed for one block is not tried again."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.way = 0

    def numbers(self, block: bytes, unit: str | None, whole: bool) -> Read | None:
        """The numbers of whole lines, or None, also for a time with a fraction where times are `whole`."""
        if text_numbers.ON_BYTE in block or text_numbers.OFF_BYTE in block:
            return None
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        for way in range(self.way, 3):
            simplified = block if way == 0 else text_numbers.shorten_words(block)
            if way == 2:
                simplified = text_numbers.clean(simplified, self.rows.separator)
            read = text_numbers.read_rows(simplified, self.rows, unit)
            if read is not None:
                self.way = way
                return None if whole and read.fraction else read
        return None


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
