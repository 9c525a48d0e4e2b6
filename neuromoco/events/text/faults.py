"""Names the first line of a text that is no event, one line at a time: used only if something is wrong."""

from __future__ import annotations

import math
import re

from neuromoco.events.columns import ROLES
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.text.digits import LONGEST
from neuromoco.events.text.numbers import WORDS, Rows, split
from neuromoco.events.tidy import LARGEST_US, POWER

LONGEST_LINE = 4096


def first_fault(block: bytes, rows: Rows, line: int, unit: str | None, whole: bool) -> str:
    """The fault of the first line in a block that is no event.

    `line` lines precede the block; `whole`: times are whole numbers because the first ones were.
    """
    first = line + 1
    for raw in block.split(b"\n"):
        line += 1
        if fault := _fault(raw, rows, unit, whole):
            return f"line {line}: {fault}"
    return f"lines {first} to {line - 1} are no numbers that can be read"


def _fault(raw: bytes, rows: Rows, unit: str | None, whole: bool) -> str | None:
    if len(raw) > LONGEST_LINE:
        return f"is longer than {LONGEST_LINE} bytes: no text of events"
    text = raw.decode("utf-8", errors="replace").partition("#")[0].strip(" \r")
    if not text.strip():
        return None
    fields = split(text, rows.separator.decode())
    if len(fields) != rows.fields:
        return f"{len(fields)} instead of {rows.fields} fields, in {_shown(text)}"
    faults = (_fault_of(fields[rows.places[role]], role, unit, whole) for role in ROLES)
    return next((fault for fault in faults if fault), None)


def _fault_of(field: str, role: str, unit: str | None, whole: bool) -> str | None:
    if role == "p" and field.encode() in WORDS:
        return None
    try:
        value = float(field)
    except ValueError:
        return f"{_shown(field)} in column {role} is no number"
    if not math.isfinite(value) or "_" in field:
        return f"{_shown(field)} in column {role} is no finite number"
    if len(re.split(r"[.eE]", field)[0].lstrip("+-")) > LONGEST:
        return f"{_shown(field)} in column {role} has more than {LONGEST} digits"
    if role == "p":
        return None if value in (-1, 0, 1) else f"the polarity is {_shown(field)}; it is 0 or 1, or -1 or 1"
    if role in "xy":
        fine = value.is_integer() and 0 <= value < LARGEST_SIDE
        return None if fine else f"{role} is {_shown(field)}; coordinates are whole numbers from 0"
    if whole and any(mark in field for mark in ".eE"):
        return f"the time {_shown(field)} has a fraction, those before had none; give --time-unit"
    if abs(value) * 10.0 ** POWER[unit or "us"] >= LARGEST_US:
        return f"the time {_shown(field)} is beyond 2^63 us"
    return None


def _shown(text: str) -> str:
    """The first characters, on one line."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
