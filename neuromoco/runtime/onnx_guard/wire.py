"""Protocol buffers as they lie in a file: the fields of a message, by number. Nothing is built that is not asked for.

A message that the format's own readers would put together from several pieces is refused, as is any field that is not
in the caller's table: a file is what we read of it, or it is not read at all.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIGN = 1 << 63


class Field(NamedTuple):
    """A field that a message may have."""

    name: str
    wire: int  # its wire type
    repeated: bool = False


Table = Mapping[int, Field]


def message(raw: memoryview, table: Table, what: str) -> dict[str, Any]:
    """The fields of a message by name: numbers, floats, and views of bytes; lists where a field is repeated.

    Raises:
        ValueError: the message is cut, has a field that is not in the table, or has one twice that is there once.
    """
    found: dict[str, Any] = {field.name: [] for field in table.values() if field.repeated}
    at, end = 0, len(raw)
    while at < end:
        key, at = _varint(raw, at)
        field = table.get(key >> 3)
        if field is None or field.wire != key & 7:
            raise ValueError(f"{what} has field {key >> 3}, which we do not write")
        if field.wire == VARINT:
            value: Any
            value, at = _varint(raw, at)
            value = value - 2 * SIGN if value >= SIGN else value
        elif field.wire == BYTES:
            size, at = _varint(raw, at)
            value, at = raw[at : at + size], at + size
        else:
            size, code = (4, "<f") if field.wire == FIXED32 else (8, "<d")
            if at + size > end:
                raise ValueError(f"{what} is cut")
            (value,), at = struct.unpack_from(code, raw, at), at + size
        if at > end:
            raise ValueError(f"{what} is cut")
        if field.repeated:
            found[field.name].append(value)
        elif field.name in found:
            raise ValueError(f"{what} has {field.name} twice")
        else:
            found[field.name] = value
    return found


def text(raw: memoryview | None) -> str:
    """A field of text; ValueError if it is not UTF-8."""
    return "" if raw is None else str(raw, "utf-8")


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the place behind it."""
    number = 0
    for index, byte in enumerate(raw[at : at + 10]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number & (2 * SIGN - 1), at + index + 1
    raise ValueError("a number is cut")
