"""Names the first line of a text that is no event, one line at a time: used only if something is wrong."""

from __future__ import annotations

import math
import re

from neuromoco.events.columns import ROLES
from neuromoco.events.text.header import LONGEST_LINE, WORDS, Header

MOST_DIGITS = 19


def first_fault(block: bytes, header: Header, lines: int) -> str | None:
    """The fault of the first line in a block that is no event, if one is; `lines` precede the block."""
    for number, raw in enumerate(block.split(b"\n"), lines + 1):
        if fault := _fault(raw, header):
            return f"line {number}: {fault}"
    return None


def before_first_fault(block: bytes, header: Header) -> bytes:
    """The lines of a block before the first that is no event."""
    lines = block.split(b"\n")
    good = next((number for number, raw in enumerate(lines) if _fault(raw, header)), len(lines))
    return b"".join(line + b"\n" for line in lines[:good])


def _fault(raw: bytes, header: Header) -> str | None:
    if len(raw) > LONGEST_LINE:
        return f"is longer than {LONGEST_LINE} bytes: no text of events"
    text = raw.decode("utf-8", errors="replace").partition("#")[0].strip(" \r")
    if not text.strip():
        return None
    fields = header.notation.split(text)
    if len(fields) != header.fields:
        return f"{len(fields)} instead of {header.fields} fields, in {_shown(text)}"
    faults = (_fault_of(fields[header.places[role]], role, header.notation.decimal) for role in ROLES)
    return next((fault for fault in faults if fault), None)


def _fault_of(field: str, role: str, decimal: str) -> str | None:
    if role == "p" and field.lower() in WORDS:
        return None
    try:
        value = float(field.replace(decimal, "."))
    except ValueError:
        return f"{_shown(field)} in column {role} is no number"
    if not math.isfinite(value) or "_" in field:
        return f"{_shown(field)} in column {role} is no finite number"
    if len(re.split(r"[.,eE]", field)[0].lstrip("+-")) > MOST_DIGITS:
        return f"{_shown(field)} in column {role} has more than {MOST_DIGITS} digits"
    if role == "p" and value not in (-1, 0, 1):
        return f"the polarity is {_shown(field)}; polarities are 0 and 1, or -1 and 1"
    if role in "xy" and not value.is_integer():
        return f"{role} is {_shown(field)}; coordinates are whole numbers"
    return None


def _shown(text: str) -> str:
    """The first characters, on one line."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
