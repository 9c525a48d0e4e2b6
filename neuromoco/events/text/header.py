"""What precedes the events of a text, and how its lines are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from neuromoco.errors import EventFileError
from neuromoco.events.columns import FORMS, ROLES, column_order, is_order, names_in, no_columns, roles_of, title_of
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.tidy import Order

HEAD = 1 << 16  # bytes that hold the first event
LONGEST_LINE = 4096
LONGEST_HEADER = 10  # lines before the first event, without comments
BOM, BOMS_16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
CONTROL = frozenset(map(chr, range(32))) - frozenset("\t\n\r") | {"\x7f"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
GEOMETRY = re.compile(r"%\s*geometry:\s*(\d+)\s*,\s*(\d+)")
WORDS = {"true": True, "on": True, "false": False, "off": False}  # for polarities, in any case


class Notation(NamedTuple):
    """How the fields of a line are written; a blank as separator stands for any number of blanks and tabs."""

    separator: str
    decimal: str = "."

    def split(self, line: str) -> list[str]:
        """The fields of one line."""
        parts = line.split() if self.separator == " " else line.split(self.separator)
        return [part.strip().strip("\"'").strip() for part in parts]

    def is_number(self, field: str) -> bool:
        """Whether a field is a number, or a word for a polarity."""
        return bool(NUMBER.fullmatch(field.replace(self.decimal, "."))) or field.lower() in WORDS


NOTATIONS = (*map(Notation, ",;\t "), *(Notation(separator, ",") for separator in ";\t "))
Sides = tuple[int | None, int | None]


@dataclass(frozen=True)
class Header:
    """How a text is read.

    Attributes:
        start: bytes before the first event.
        notation: of the lines.
        fields: of each line.
        places: of t, x, y, p among them.
        order: how their order is known.
        unit: of times, if a name says it.
        sensor: width and height, as far as the text says them.
    """

    start: int
    notation: Notation
    fields: int
    places: dict[str, int]
    order: Order
    unit: str | None = None
    sensor: Sides = (None, None)


class _Found(NamedTuple):
    """What the lines before the first event say."""

    start: int
    titles: list[str]
    sensor: Sides
    event: list[str]  # the fields of the first event, none without one
    notation: Notation


def encoding_of(head: bytes) -> str:
    """The encoding that a byte-order mark says."""
    return "utf-16" if head.startswith(BOMS_16) else "utf-8-sig"


def looks_like_text(head: bytes, size: int) -> bool:
    """Whether the first bytes are text, and soon numbers of events or names of their columns."""
    encoding = encoding_of(head)
    text = head[: len(head) // 2 * 2 if encoding == "utf-16" else None].decode(encoding, errors="replace")
    if not CONTROL.isdisjoint(text):
        return False
    if len(head) < size and "\n" in text:
        text = text[: text.rfind("\n")]
    found = _found(text)
    return len(found.event) >= len(ROLES) or len(roles_of(found.titles)) == len(ROLES)


def read_header(head: str, ways: Sequence[str | None]) -> Header:
    """The header of a text whose first characters are `head`; for `ways` see `ReadOptions`."""
    found = _found(head)
    columns = next((one for one in ways if len(roles_of(found.titles, one)) == len(ROLES)), ways[-1])
    if not found.event and len(head) > HEAD // 2:
        raise EventFileError(f"the first {HEAD} bytes hold comments and no event")
    count = len(found.event) or len(found.titles)
    titles, sensor, unit = found.titles, found.sensor, None
    order: Order = "named"
    if columns is not None and is_order(columns):
        places, order = column_order(columns, count or None), "given"
    elif titles:
        roles = roles_of(titles, columns)
        if missing := [role for role in ROLES if role not in roles]:
            raise no_columns("columns", titles, missing)
        places = {role: titles.index(title) for role, title in roles.items()}
        unit = title_of(roles["t"]).unit
        named = _sides(title_of(roles["x"]).size, title_of(roles["y"]).size)
        sensor = named if any(named) else sensor
    elif names_in(columns) or ["." in field for field in found.event] != [True, False, False, False]:
        raise EventFileError(f"no line names the columns: {FORMS}")
    else:  # as in the event camera dataset of Mueggler et al. 2017
        places, order = {role: place for place, role in enumerate(ROLES)}, "guessed"
    if max(places.values()) >= count:
        raise EventFileError(f"the first event has {count} fields, its columns are {', '.join(titles)}")
    return Header(found.start, found.notation, count, places, order, unit, sensor)


def _found(text: str) -> _Found:
    """Reads lines up to the first event."""
    start, lines = 0, 0
    titles: list[str] = []
    in_comment: list[str] = []
    sensor: Sides = (None, None)
    for raw in text.split("\n"):
        line = raw.strip(" \r")
        if line.strip() and line[0] not in "#%":
            notation, fields = _fields(line[:LONGEST_LINE].partition("#")[0].strip(" "))
            numbers = sum(map(notation.is_number, fields))
            if len(fields) == 2 == numbers and not lines and any(_sides(*fields)):
                sensor = _sides(*fields)
            elif numbers >= len(ROLES) or numbers == len(fields) - (fields[-1:] == [""]):
                return _Found(start, titles or in_comment, sensor, fields, notation)
            else:
                lines += 1
                titles = fields
            if lines > LONGEST_HEADER:
                break
        elif geometry := GEOMETRY.match(line):
            sensor = _sides(*geometry.groups())
        elif len(line) < LONGEST_LINE:
            names = _fields(line.lstrip("#%"))[1]
            in_comment = names if len(roles_of(names)) == len(ROLES) else in_comment
        start += len(raw.encode(errors="surrogateescape")) + 1
    return _Found(start, titles or in_comment, sensor, [], NOTATIONS[0])


def _fields(line: str) -> tuple[Notation, list[str]]:
    """The notation in which a line is an event, or else the usual one of its first separator; and its fields."""
    for notation in NOTATIONS:
        fields = notation.split(line)
        if len(fields) >= len(ROLES) and sum(map(notation.is_number, fields)) >= len(ROLES):
            return notation, fields
    notation = next((one for one in NOTATIONS[:3] if one.separator in line), NOTATIONS[3])
    return notation, notation.split(re.sub(r"(?<!\s)[ \t]+(?=[\[(])", "", line) if notation.separator == " " else line)


def _sides(width: str | None, height: str | None) -> Sides:
    first, second = (
        int(text) if text and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= LARGEST_SIDE else None
        for text in (width, height)
    )
    return first, second
