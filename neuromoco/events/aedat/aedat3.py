"""AEDAT 3.1: the `.aedat` files of cAER, among them those of DVS128 Gesture.

Header lines up to `#!END-HEADER`, then packets, all little-endian (docs.inivation.com, "AEDAT 3.1"): a header of
28 bytes (type, source, event size, offset of the time, overflow, capacity, number, valid), then `capacity` events of
one size. A polarity event is a word (bit 0 valid, bit 1 polarity, bits 2-16 y, bits 17-31 x; (0, 0) at the upper left)
and a time in microseconds of 31 bits, which the packet's overflow continues. Invalid events, and packets of other
types, are skipped.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.stream import PIECE, Columns, EventStream, ReadOptions, in_batches, same_camera, starts_with

FORMAT = "AEDAT 3.1"
MAGIC = b"#!AER-DAT3."
LARGEST_HEADER = 1 << 20
looks_like_aedat3 = starts_with(MAGIC)
HEADER_END = re.compile(rb"^#!END-HEADER\r?\n", re.MULTILINE)
NAMED_FORMAT = re.compile(rb"^#Format:\s*([^\r\n]*)", re.MULTILINE)
# A recording of a recording keeps the old sources with a minus.
NAMED_SOURCE = re.compile(rb"^#-*Source\s+\d+:\s*(\S+)", re.MULTILINE)
SENSORS = {
    **dict.fromkeys(("DVS128", "EDVS4337", "DAVIS128"), (128, 128)),
    "DAVIS208": (208, 192),
    **dict.fromkeys(("DAVIS240A", "DAVIS240B", "DAVIS240C"), (240, 180)),
    **dict.fromkeys(("DAVIS346A", "DAVIS346B", "DAVIS346C"), (346, 260)),
    "DAVIS640": (640, 480),
}
PACKET = struct.Struct("<hhiiiiii")
POLARITY = 1
EVENT_BYTES = 8
TIME_AT = 4


def open_aedat3(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; everything but polarity events is skipped."""
    with path.open("rb") as file:
        head = file.read(LARGEST_HEADER)
    if not head.startswith(MAGIC):
        raise EventFileError(f"no AEDAT 3.1 recording: it does not begin with {MAGIC.decode()}")
    if not head.startswith(MAGIC + b"1"):
        version = head[len(MAGIC) - 2 :][:4].split(maxsplit=1)[0].decode("latin-1")
        raise EventFileError(f"an AEDAT {version} recording; of AEDAT 3, version 3.1 is read")
    end = HEADER_END.search(head)
    if end is None:
        raise EventFileError("the AEDAT 3.1 header has no #!END-HEADER: the file is cut or damaged")
    header = head[: end.end()]
    kind = NAMED_FORMAT.search(header)
    if kind and kind[1].strip() not in (b"RAW", b""):
        raise EventFileError(f"an AEDAT 3.1 file of the format {kind[1][:40].decode('latin-1')!r}; RAW is read")
    names = {name.decode("latin-1").upper() for name in NAMED_SOURCE.findall(header)}
    sensors = {SENSORS[name] for name in names if name in SENSORS}
    sensor = sensors.pop() if len(sensors) == 1 else options.sensor
    return EventStream(FORMAT, _pieces(path, len(header)), *(sensor or ()))


def _pieces(path: Path, begin: int) -> Iterator[Columns]:
    """Events of many packets at a time: cAER's packets hold a few hundred."""
    for parts in in_batches(_parts(path, begin), lambda part: len(part[1]) // EVENT_BYTES, PIECE):
        yield _columns(parts)


def _parts(path: Path, begin: int) -> Iterator[tuple[int, bytes]]:
    """Overflow and events of the packets with polarity events, a large packet in parts of `PIECE` events."""
    camera: int | None = None
    with path.open("rb") as file:
        left = file.seek(0, 2) - begin
        file.seek(begin)
        while left:
            header = file.read(PACKET.size)
            if len(header) < PACKET.size:
                raise EventFileError("the AEDAT 3.1 file ends within the header of a packet: cut or damaged")
            kind, source, size, time_at, overflow, capacity, number, valid = PACKET.unpack(header)
            left -= PACKET.size
            length = capacity * size
            if not (kind >= 0 and size >= 0 and overflow >= 0 and 0 <= valid <= number <= capacity and length <= left):
                at = file.tell() - PACKET.size
                raise EventFileError(
                    f"the AEDAT 3.1 file is cut or damaged: the packet at byte {at} says type {kind}, overflow "
                    f"{overflow}, {number} of {capacity} events of {size} bytes, {valid} valid; {left} bytes follow"
                )
            left -= length
            if kind != POLARITY or not number:
                file.seek(length, 1)
                continue
            if size != EVENT_BYTES or time_at != TIME_AT:
                raise EventFileError(f"polarity events of {size} bytes with the time at {time_at}; they have 8, at 4")
            camera = same_camera(FORMAT, camera, source)
            for first in range(0, number, PIECE):
                yield overflow, file.read(EVENT_BYTES * min(PIECE, number - first))
            file.seek((capacity - number) * size, 1)


def _columns(parts: list[tuple[int, bytes]]) -> Columns:
    """The valid events of packets, given the overflow and the events of each."""
    words: NDArray[np.uint32] = np.frombuffer(b"".join(events for _, events in parts), "<u4").reshape(-1, 2)
    data, time = words[:, 0], words[:, 1].view(np.int32)
    if time.size and time.min() < 0:
        raise EventFileError(f"a time of {int(time.min())} us in an AEDAT 3.1 file: damaged")
    t = time.astype(np.int64)
    if any(overflow for overflow, _ in parts):
        overflows = np.array([overflow for overflow, _ in parts], np.int64)
        t += np.repeat(overflows << 31, [len(events) // EVENT_BYTES for _, events in parts])
    x, y, p = (data >> 17).astype(np.uint16), (data >> 2 & 0x7FFF).astype(np.uint16), (data >> 1 & 1).astype(np.uint8)
    valid = (data & 1).astype(bool)
    columns = Columns(t, x, y, p)
    return columns if valid.all() else columns.take(valid)
