"""Tables of labels: which part of which recording shows what.

A CSV file with a line of column titles. `file` (from the set's folder) and `class` are needed; `begin` and `end`, with
their unit such as `begin_s` or `end [us]`, where a file has several parts; further columns may be groups:

    file,begin_s,end_s,class,subject
    monday.aedat4,0.5,4.25,walk,anna
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath

from neuromoco.config.recordings import UNITS
from neuromoco.errors import ConfigError
from neuromoco.events.columns import title_of
from neuromoco.support.console import printable
from neuromoco.support.files import writing
from neuromoco.support.untrusted import read_bytes

LARGEST_FILE = 1 << 26
LARGEST_TIME = 1 << 60  # us
TITLES = {
    "file": ("file", "filename", "path", "recording"),
    "class": ("class", "label", "classname", "category"),
    "begin": ("begin", "start", "starttime", "begintime", "onset"),
    "end": ("end", "stop", "endtime", "stoptime", "offset"),
}
POWER = {**{unit: Decimal(us) for unit, us in UNITS.items()}, "ns": Decimal("0.001")}
WRITTEN = ("file", "begin_us", "end_us", "class")
EXAMPLE = "for example file,begin_s,end_s,class,subject"


@dataclass(frozen=True)
class LabelledPart:
    """A line of a table.

    Attributes:
        file: path from the set's folder.
        span: begin and excluded end in microseconds; None for the whole file.
        class_name: what it shows.
        group: the value in the column of groups; None without one.
        line: where it stands, for messages.
    """

    file: str
    span: tuple[int, int] | None
    class_name: str
    group: str | None
    line: str


def read_label_table(path: Path, group: str | None = None) -> list[LabelledPart]:
    """Reads a table of labels; `group` names the column of groups.

    Raises:
        ConfigError: the file is no such table; the message names the line.
    """
    try:
        rows = list(csv.reader(read_bytes(path, LARGEST_FILE).decode("utf-8-sig").splitlines(), strict=True))
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{path}: is no table of labels ({printable(str(error))})") from None
    titles = [title.strip() for title in rows[0]] if rows else []
    places, units = _places(path, titles)
    if group is not None:
        if group not in titles:
            raise ConfigError(f"{path}: has no column {group!r} for --group; it has {_shown(titles)}")
        places["group"] = titles.index(group)
    parts = []
    for number, row in enumerate(rows[1:], 2):
        if any(cell.strip() for cell in row):
            line = f"{path}: line {number}"
            parts.append(_part(line, _cells(line, row, titles, places), units))
    if not parts:
        raise ConfigError(f"{path}: holds no labels")
    return parts


def write_label_table(path: Path, parts: Sequence[LabelledPart]) -> None:
    """Writes a table of parts with times that `read_label_table` reads; an interrupted write leaves the old file.

    Raises:
        ConfigError: there are none, or a name that cannot stand in a table.
        DiskError: the disk is full, read-only or gone; the old file is kept.
    """
    with writing(path) as unfinished:
        try:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(WRITTEN)
                table.writerows((part.file, *(part.span or ()), part.class_name) for part in parts)
            same = [replace(part, line="") for part in read_label_table(unfinished)]
        except (ConfigError, UnicodeEncodeError):
            same = []
        if same != [replace(part, line="") for part in parts]:
            raise ConfigError(f"{path}: names of files or classes that cannot stand in a table of labels")


def _places(path: Path, titles: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """The place of each column that is needed or known, and the units of the times."""
    places: dict[str, int] = {}
    units: dict[str, str] = {}
    for place, text in enumerate(titles):
        title = title_of(text)
        for role, names in TITLES.items():
            if title.name in names and role not in places:
                places[role] = place
                if title.unit:
                    units[role] = title.unit
    if missing := [role for role in ("file", "class") if role not in places]:
        raise ConfigError(f"{path}: its columns are {_shown(titles)}; {', '.join(missing)} missing, {EXAMPLE}")
    if ("begin" in places) != ("end" in places):
        raise ConfigError(f"{path}: a table has begin and end, or neither, {EXAMPLE}")
    for role in ("begin", "end"):
        if role in places and role not in units:
            text = titles[places[role]]
            raise ConfigError(f"{path}: the unit of {_shown([text])} is not known; call it {role}_s, _ms, _us or _ns")
    return places, units


def _cells(line: str, row: Sequence[str], titles: Sequence[str], places: dict[str, int]) -> dict[str, str]:
    if len(row) != len(titles):
        raise ConfigError(f"{line} has {len(row)} columns; there are {len(titles)} titles")
    cells = {role: row[place].strip() for role, place in places.items()}
    if missing := [role for role, cell in cells.items() if not cell]:
        raise ConfigError(f"{line} has no {missing[0]}")
    return cells


def _part(line: str, cells: dict[str, str], units: dict[str, str]) -> LabelledPart:
    file = PurePosixPath(cells["file"].replace("\\", "/"))
    if file.is_absolute() or ".." in file.parts:
        raise ConfigError(f"{line} names {_shown([cells['file']])}; files are named from the set's folder on")
    span = None
    if "begin" in cells:
        begin, end = (_microseconds(line, cells[role], units[role]) for role in ("begin", "end"))
        if not begin < end:
            raise ConfigError(f"{line} runs from {_shown([cells['begin']])} to {_shown([cells['end']])}; it ends first")
        span = (begin, end)
    return LabelledPart(file.as_posix(), span, cells["class"], cells.get("group"), line)


def _microseconds(line: str, text: str, unit: str) -> int:
    try:
        value = Decimal(text) * POWER[unit]
        if abs(value) < LARGEST_TIME:
            return math.floor(value + Decimal("0.5"))
    except (InvalidOperation, ValueError):
        raise ConfigError(f"{line} has the time {_shown([text])}; it is a number") from None
    raise ConfigError(f"{line} has the time {_shown([text])}, more than any clock shows")


def _shown(texts: Sequence[str]) -> str:
    return printable(", ".join(texts)[:200]) or "none"
