"""Text with one event per line: `.csv` and `.txt`, read by pandas.

Fields are separated by commas, semicolons, tabs or blanks, with or without quotes; a separator may end every line. `#`
begins a comment, and so does `%` at the beginning of a line before the first event. A byte-order mark says UTF-16. The
order of the columns comes from, in this order: the user; a line of names before the first event (also in a comment), in
any order (see `neuromoco.events.columns`), of which other names are skipped; or, without names, a first column of times
with a decimal point, as in the event camera dataset of Mueggler et al. 2017 (t x y p). Times: see
`neuromoco.events.tidy`; the first ones decide.

The sensor comes from names such as x@1280 and y@720, from Metavision's `%geometry:1280,720`, or from a first line
of only a width and a height (rpg_e2vid). Polarities are 0 and 1, -1 and 1, true and false, or on and off.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError, MissingExtraError
from neuromoco.events.columns import ROLES
from neuromoco.events.options import ReadOptions
from neuromoco.events.recording import Recording
from neuromoco.events.stream import PIECE, Columns, CutError, EventStream
from neuromoco.events.text.faults import before_first_fault, first_fault
from neuromoco.events.text.header import BOM, HEAD, LONGEST_LINE, WORDS, Header, encoding_of, read_header
from neuromoco.events.tidy import tidy
from neuromoco.support.files import writing

FORMAT = "CSV or text"
BLOCK = 1 << 21  # bytes that are read at once: their arrays then stay in the processor's cache
SPELLINGS = (str.lower, str.title, str.upper)
ON, OFF = ([form(word) for word in WORDS if WORDS[word] is value for form in SPELLINGS] for value in (True, False))


def open_text(path: Path, options: ReadOptions) -> EventStream:
    """Opens a text of events; columns, time unit and sensor in `options` overrule the text."""
    pandas = load_pandas()
    with _decoded(path) as file:
        head = file.read(HEAD)
    if len(head) == HEAD:
        head = head[: head.rfind(b"\n") + 1]
    header = read_header(head.decode(errors="surrogateescape"), options.ways)
    pieces = _pieces(path, Table(pandas, header), options.unit(header.unit))
    return EventStream(FORMAT, pieces, *(options.sensor or header.sensor), parts=path.stat().st_size / BLOCK)


def load_pandas() -> Any:
    """The package that parses text. Raises `MissingExtraError` where it is not installed."""
    try:
        return importlib.import_module("pandas")
    except ImportError:
        raise MissingExtraError("reading text", "text") from None


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


class _Recoded(io.RawIOBase):
    """A text in UTF-16 as UTF-8."""

    def __init__(self, file: Any) -> None:
        self._text, self._rest = io.TextIOWrapper(file, "utf-16", newline=""), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._text.read(len(buffer)).encode()
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


@contextmanager
def _decoded(path: Path) -> Iterator[Any]:
    """A text as a binary file in UTF-8 without a byte-order mark."""
    with path.open("rb") as file:
        start = file.read(len(BOM))
        file.seek(len(BOM) if start == BOM else 0)
        try:
            yield io.BufferedReader(_Recoded(file)) if encoding_of(start) == "utf-16" else file
        except UnicodeError as error:
            raise EventFileError(f"the text in UTF-16 is cut or damaged ({error})") from error


class Table:
    """Parses blocks of whole lines."""

    def __init__(self, pandas: Any, header: Header) -> None:
        self._pandas, self.header = pandas, header
        # A single blank is faster than any number of blanks and tabs. What failed for one block is not tried again.
        separator = header.notation.separator
        self._separators = [" ", r"\s+"] if separator == " " else [separator]

    def columns(self, block: bytes) -> Columns | None:
        """The columns of a block as they are written; None if a line is no event."""
        while (columns := self._columns(block, self._separators[0])) is None and len(self._separators) > 1:
            del self._separators[0]
        return columns

    def _columns(self, block: bytes, separator: str) -> Columns | None:
        header = self.header
        # pandas takes the first line as a model for the others.
        first = block[: block.find(b"\n")].decode(errors="replace").partition("#")[0].strip("\r")
        fields = first.split(" ") if separator == " " else header.notation.split(first)
        if len(fields) > header.fields:
            return None
        try:
            frame = self._pandas.read_csv(
                io.BytesIO(block),
                header=None,
                names=range(header.fields),
                index_col=False,
                sep=separator,
                decimal=header.notation.decimal,
                engine="c",
                comment="#" if b"#" in block else None,
                skipinitialspace=separator != " " and b" " in block,
                na_filter=False,
                low_memory=False,
                true_values=ON,
                false_values=OFF,
            )
        except self._pandas.errors.EmptyDataError:
            return Columns(*np.zeros((len(ROLES), 0), np.int64))
        except (ValueError, self._pandas.errors.ParserError):
            return None
        columns = {role: frame[place].to_numpy() for role, place in header.places.items()}
        columns["p"] = _without_words(columns["p"])
        return Columns(**columns) if all(column.dtype.kind in "iufb" for column in columns.values()) else None


def _without_words(p: NDArray[Any]) -> NDArray[Any]:
    """Polarities of words and numbers as numbers, if all are either."""
    if p.dtype.kind != "O":
        return p
    words, of = np.unique(p.astype(str), return_inverse=True)
    try:
        return np.array([float(WORDS.get(word.strip().lower(), word)) for word in words])[of]
    except ValueError:
        return p


class _Block(NamedTuple):
    """Whole lines, each of which ends, and the bytes before them."""

    content: bytes
    start: int


def _pieces(path: Path, table: Table, unit: str | None) -> Iterator[Columns]:
    """The events, block by block; an error names the first line that is no event, if there is one."""
    block = _Block(b"", 0)
    with path.open("rb") as file:
        in_bytes = encoding_of(file.read(len(BOM))) != "utf-16"  # and not recoded

    def parsed() -> Iterator[Columns]:
        nonlocal block
        for one in _blocks(path, table.header.start):
            block, columns = one, table.columns(one.content)
            if columns is None:
                before = before_first_fault(one.content, table.header)
                if before and (good := table.columns(before)) is not None:
                    yield good
                raise CutError("holds lines that are no numbers", one.start + len(before) if in_bytes else None)
            yield columns

    try:
        yield from tidy(parsed(), unit, order=table.header.order)
    except EventFileError as error:
        reason = first_fault(block.content, table.header, _lines(path, block.start)) or str(error)
        raise (CutError(reason, error.whole) if isinstance(error, CutError) else EventFileError(reason)) from None


def _blocks(path: Path, start: int) -> Iterator[_Block]:
    with _decoded(path) as file:
        file.read(start)
        rest = b""
        while block := file.read(BLOCK):
            whole, end, after = block.rpartition(b"\n")
            if not end:
                rest += block
                if len(rest) > BLOCK:
                    line = _lines(path, start) + 1
                    raise EventFileError(f"line {line} is longer than {LONGEST_LINE} bytes: no text of events")
                continue
            lines = rest + whole + end
            yield _Block(lines, start)
            start += len(lines)
            rest = after
        if rest.strip():
            yield _Block(rest + b"\n", start)


def _lines(path: Path, end: int) -> int:
    """Lines before a byte: counted only for messages."""
    lines = 0
    with _decoded(path) as file:
        while end > 0 and (block := file.read(min(BLOCK, end))):
            lines += block.count(b"\n")
            end -= len(block)
    return lines
