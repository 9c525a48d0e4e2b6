"""Prophesee DAT: a header, a byte with the type and one with the size of events, then 8 bytes per event.

Layout: https://docs.prophesee.ai/stable/data/file_formats/dat.html for version 2; version 1, and files without a
version, as written by the software of the ATIS camera. An event is a 32-bit time in microseconds and a 32-bit address,
both little-endian. Bits of the address, from the lowest:

    version 2   14 x, 14 y, 1 polarity
    version 1    9 x,  8 y, 1 polarity; of the ATIS camera, 304 x 240

The oldest ATIS files (`..._td.dat`) have no header. Nothing distinguishes them from other binary files: they are
read with `--format dat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.clock import CAMERA_US
from neuromoco.events.options import ReadOptions
from neuromoco.events.prophesee.header import Clock, parse_header, read_header, sensor_of, shifted
from neuromoco.events.stream import Columns, EventStream, check_whole, records

FORMAT = "Prophesee DAT"
MARK = b"%"
EVENT = np.dtype([("t", "<u4"), ("address", "<u4")])
PIECE = 1 << 17  # events that are decoded at once; more do not stay in the processor's cache
X_BITS, Y_BITS = {1: 9, 2: 14}, {1: 8, 2: 14}
ATIS = (304, 240)
VERSIONS = {"0": 1, "1": 1, "1.0": 1, "2": 2, "2.0": 2}
# Types of events; both are changes of brightness. The only other type in use is the trigger.
CHANGES = (0x00, 0x0C)
TRIGGER = 0x0E


def looks_like_dat(head: bytes, size: int) -> bool:
    """Whether the header is that of a DAT file."""
    fields = parse_header(head, MARK).fields
    return "version" in fields or fields.get("data", "").startswith("file containing")


def open_dat(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file."""
    header = read_header(path, MARK)
    if not header.begin and options.format != "dat":
        raise EventFileError("no header of a DAT file; for an ATIS file without one, give --format dat")
    text = header.fields.get("version", "1")
    version = VERSIONS.get(text)
    if version is None:
        raise EventFileError(f"DAT version {text[:40]!r}; versions 1 and 2 are read")
    sensor = options.sensor or sensor_of(header.fields) or (ATIS if version == 1 else None)
    name, begin = "ATIS td .dat", 0
    if header.begin:
        _check_type(path, header.begin)
        name, begin = f"{FORMAT} {version}", header.begin + 2
    check_whole(path, begin, EVENT.itemsize, "DAT events", options.salvage)
    parts = (path.stat().st_size - begin) / (EVENT.itemsize * PIECE)
    width, height = sensor or (None, None)
    pieces = shifted(_pieces(path, begin, version), header.fields)
    return EventStream(name, pieces, width, height, parts=parts)


def _check_type(path: Path, at: int) -> None:
    """Refuses events that are no changes of brightness."""
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


def _pieces(path: Path, begin: int, version: int) -> Iterator[Columns]:
    x_bits, y_bits = X_BITS[version], Y_BITS[version]
    clock, latest = Clock(1 << 32, CAMERA_US), 0
    for events in records(path, EVENT, begin, PIECE):
        t, address = clock.unwrap(np.ascontiguousarray(events["t"])), np.ascontiguousarray(events["address"])
        if not begin:  # without a header, only the order of the times shows that these are events
            so_far = np.maximum(np.maximum.accumulate(t), latest)
            if (so_far - t).max() > CAMERA_US:
                raise EventFileError("times run back: no ATIS file without header, or damaged")
            latest = int(so_far[-1])
        x, y = address.astype(np.uint16), (address >> x_bits).astype(np.uint16)
        p = (address >> (x_bits + y_bits)).astype(np.uint8)
        x &= (1 << x_bits) - 1
        y &= (1 << y_bits) - 1
        p &= 1
        yield Columns(t, x, y, p)
