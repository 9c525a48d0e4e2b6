"""Prophesee DAT: a header, a byte of the type and one of the size of events, then 8 bytes for every event.

Layout: https://docs.prophesee.ai/stable/data/file_formats/dat.html for version 2; version 1, and files without a
version, as the ATIS camera's software wrote them. An event is a 32-bit time in microseconds and a 32-bit address, both
little-endian. Bits of the address, from the lowest:

    version 2   14 x, 14 y, 1 polarity
    version 1    9 x,  8 y, 1 polarity; of the ATIS camera, 304 x 240

The oldest ATIS files (`..._td.dat`) begin with the first event. Nothing tells them from other binary files: they are
read with `--format dat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.prophesee.header import Clock, parse_header, read_header, sensor_of, start_of
from neuromoco.events.stream import LATEST_US, Columns, EventStream, ReadOptions

FORMAT = "Prophesee DAT"
MARK = b"%"
EVENT = np.dtype([("t", "<u4"), ("address", "<u4")])
PIECE = 1 << 18  # events that are decoded at once
X_BITS, Y_BITS = {1: 9, 2: 14}, {1: 8, 2: 14}
ATIS = (304, 240)
# Types of events by their byte; both are changes of brightness, and there are no others in use but triggers.
CHANGES = (0x00, 0x0C)
TRIGGER = 0x0E


def looks_like_dat(head: bytes, size: int) -> bool:
    """Whether the header is that of a DAT file."""
    fields = parse_header(head, MARK).fields if head.startswith(MARK) else {}
    return "version" in fields or fields.get("data", "").startswith("file containing")


@dataclass(frozen=True)
class _Layout:
    version: int
    begin: int  # bytes before the events
    t0: int
    marked: bool


def open_dat(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file.

    Raises:
        EventFileError: another version, events of another type, or cut.
    """
    header = read_header(path, MARK)
    if not header.begin and options.format != "dat":
        raise EventFileError("no header of a DAT file; for an ATIS file without one, give --format dat")
    layout = _Layout(
        version=_version(header.fields.get("version", "1")),
        begin=header.begin + 2 if header.begin else 0,
        t0=start_of(header.fields),
        marked=header.begin > 0,
    )
    sensor = sensor_of(header.fields) or options.sensor or (ATIS if layout.version == 1 else None)
    size = path.stat().st_size - layout.begin
    if layout.marked:
        _check_type(path, header.begin)
    if size < 0 or size % EVENT.itemsize:
        raise EventFileError(
            f"{max(size, 0)} bytes are not a whole number of 8-byte DAT events: the file is cut or damaged"
        )
    name = f"{FORMAT} {layout.version}" if layout.marked else "ATIS td .dat"
    return EventStream(name, _pieces(path, layout), *(sensor or ()))


def _version(text: str) -> int:
    version = {"0": 1, "1": 1, "1.0": 1, "2": 2, "2.0": 2}.get(text)
    if version is None:
        raise EventFileError(f"DAT version {text[:40]!r}; versions 1 and 2 are read")
    return version


def _check_type(path: Path, at: int) -> None:
    """Refuses what are no changes of brightness.

    Raises:
        EventFileError: names them.
    """
    with path.open("rb") as file:
        file.seek(at)
        kind = file.read(2)
    if len(kind) < 2:
        raise EventFileError("the DAT file ends before the type of its events: it is cut")
    if kind[0] == TRIGGER:
        raise EventFileError("the DAT file holds external triggers; changes of brightness are read (CD)")
    if kind[0] not in CHANGES or kind[1] != EVENT.itemsize:
        raise EventFileError(
            f"DAT events of type {kind[0]:#04x} and {kind[1]} bytes; type 0x0c (CD) or 0x00 of 8 bytes is read"
        )


def _pieces(path: Path, layout: _Layout) -> Iterator[Columns]:
    x_bits, y_bits = X_BITS[layout.version], Y_BITS[layout.version]
    clock, latest = Clock(1 << 32, LATEST_US), 0
    left = (path.stat().st_size - layout.begin) // EVENT.itemsize
    with path.open("rb") as file:
        file.seek(layout.begin)
        while left:
            events = np.fromfile(file, EVENT, min(left, PIECE))
            if not events.size:
                raise EventFileError("the file became shorter while it was read")
            left -= events.size
            t, address = clock.unwrap(events["t"]), np.ascontiguousarray(events["address"])
            if not layout.marked:
                latest = _check_order(t, latest)
            yield Columns(
                t + layout.t0 if layout.t0 else t,
                (address & ((1 << x_bits) - 1)).astype(np.uint16),
                (address >> x_bits & ((1 << y_bits) - 1)).astype(np.uint16),
                (address >> (x_bits + y_bits) & 1).astype(np.uint8),
            )


def _check_order(t: np.ndarray, latest: int) -> int:
    """The latest time so far, of a file that only the order of its times makes believable.

    Raises:
        EventFileError: times run back.
    """
    so_far = np.maximum(np.maximum.accumulate(t), latest)
    if (so_far - t).max() > LATEST_US:
        raise EventFileError("times run back: no ATIS file without header, or damaged")
    return int(so_far[-1])
