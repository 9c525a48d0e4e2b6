"""The columns of events under the names of others, for the formats that leave them open.

A column's title may hold a unit and a size beside its name: `t_us`, `t [us]`, `timestamp(ms)`, `x@1280`. Case, signs
and a prefix such as `events_` do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from neuromoco.errors import ConfigError, EventFileError

ROLES = "txyp"
NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "xpos", "xaddr", "xcoord", "xcoordinate", "col", "column"),
    "y": ("y", "ys", "ypos", "yaddr", "ycoord", "ycoordinate", "row"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on", "onoff"),
}
UNITS = {
    **{unit: unit for unit in ("s", "ms", "us", "ns")},
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("\u00b5s", "\u03bcs", "usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nanosecond", "nanoseconds"), "ns"),
}
TITLE = re.compile(
    r"(?P<name>[\w\s/.-]*?)(?:[_ ](?P<unit>{units})|\s*[\[(]\s*(?P<inside>[^\])]*)[\])])?\s*(?:@(?P<size>\d+))?".format(
        units="|".join(UNITS)
    )
)
PREFIX = re.compile(r"(dataset_)?events?[_./]")
FORMS = "give the order, such as --columns txyp (_ skips a column), or names, such as --columns t=timestamp,x=x_pos"


class Title(NamedTuple):
    """A column's title, taken apart; None where it says nothing."""

    name: str  # its letters, in lower case
    unit: str | None = None
    size: str | None = None


def title_of(text: str) -> Title:
    """Takes a column's title apart."""
    text = PREFIX.sub("", text[:100].strip(" \t\r\n\"'#").lower(), count=1)
    match = TITLE.fullmatch(text)
    if match is None:
        return Title(text)
    name, unit, inside, size = match.group("name", "unit", "inside", "size")
    return Title(re.sub("[^a-z]", "", name), UNITS.get(unit or (inside or "").strip()), size)


def roles_of(titles: Iterable[str], columns: str | None = None) -> dict[str, str]:
    """The titles of the columns of events: {"t": title, ...}; a missing column is omitted.

    The user may name some in `columns`, such as "t=timestamp"; an order, such as "txyp", does not matter here.
    """
    titles = list(titles)
    named = names_in(columns)
    exact = {title_of(title).name: title for title in reversed(titles)}
    exact |= {title.strip().lower(): title for title in reversed(titles)}
    chosen = {role: exact[name] for role, name in named.items() if name in exact}
    plain = {title_of(title).name: title for title in reversed(titles) if title not in chosen.values()}
    known = {role: [plain[name] for name in NAMES[role] if name in plain] for role in ROLES if role not in named}
    return chosen | {role: names[0] for role, names in known.items() if names}


def no_columns(what: str, titles: Iterable[str], missing: Iterable[str]) -> EventFileError:
    """The error of a file without some of the columns."""
    missing = list(missing)
    names = ",".join(f"{role}=NAME" for role in missing)
    return EventFileError(
        f"the {what} are {shown(titles)}; a recording has t, x, y, p: {', '.join(missing)} missing; if they have other "
        f"names, give --columns {names}"
    )


def shown(names: Iterable[str]) -> str:
    """The first names, for a message of one line whatever they contain."""
    text = ", ".join(islice(names, 20)) or "none"
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def names_in(columns: str | None) -> dict[str, str]:
    """The names that a user gives to columns, in lower case: "t=Timestamp,x=x_pos"; none if it is an order.

    Raises:
        ConfigError: it is neither names nor an order.
    """
    if columns is None:
        return {}
    if "=" not in columns:
        if sorted(columns.lower().replace("_", "")) != sorted(ROLES):
            raise ConfigError(f"--columns {columns}: name each of t, x, y and p once; {FORMS}")
        return {}
    pairs = [pair.partition("=") for pair in columns.split(",")]
    names = {role.strip().lower(): name.strip().lower() for role, _, name in pairs}
    if len(names) < len(pairs) or not set(names) <= set(ROLES) or "" in names.values():
        raise ConfigError(f"--columns {columns}: name some of t, x, y and p, each once; {FORMS}")
    return names


def is_order(columns: str | None) -> bool:
    """Whether the user gives an order of columns, not names."""
    return columns is not None and not names_in(columns)


def column_order(columns: str, count: int | None = None) -> dict[str, int]:
    """The places of the columns in an order such as "xytp"; "_" stands for a column to skip, and so do further ones.

    `count` is the number of columns, if it is known.
    """
    if names_in(columns):
        raise EventFileError(f"--columns {columns}: the columns here have no names; give their order, such as txyp")
    letters = columns.lower()
    if count is not None and len(letters) > count:
        raise EventFileError(f"--columns {columns} names {len(letters)} columns; there are {count}")
    return {role: letters.index(role) for role in ROLES}
