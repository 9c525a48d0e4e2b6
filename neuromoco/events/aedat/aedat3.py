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
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import (
    Columns,
    CutError,
    EventStream,
    in_batches,
    one_line,
    starts_with,
)

PIECE = 1 << 17  # events that are decoded at once; more do not stay in the processor's cache
FORMAT = "AEDAT 3.1"
MAGIC = b"#!AER-DAT3."
LARGEST_HEADER = 1 << 20
looks_like_aedat3 = starts_with(MAGIC)
HEADER_END = re.compile(rb"^#!END-HEADER\r?\n", re.MULTILINE)
NAMED_FORMAT = re.compile(rb"^#Format:\s*([^\r\n]*)", re.MULTILINE)
# A recording of a recording keeps the old sources with a minus.
NAMED_SOURCE = re.compile(rb"^#-*Source\s+(\d+):\s*(\S+)", re.MULTILINE)
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
SEARCHED = 10_000  # parts of packets, for the names of all cameras


def open_aedat3(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; everything but polarity events is skipped."""
    with path.open("rb") as file:
        head = file.read(LARGEST_HEADER)
    if not head.startswith(MAGIC):
        raise EventFileError(f"no AEDAT 3.1 recording: it does not begin with {MAGIC.decode()}")
    if not head.startswith(MAGIC + b"1"):
        version = head[len(MAGIC) - 2 :][:4].split(maxsplit=1)[0].decode("latin-1")
        raise EventFileError(f"an AEDAT {one_line(version)} recording; of AEDAT 3, version 3.1 is read")
    end = HEADER_END.search(head)
    if end is None:
        raise EventFileError("the AEDAT 3.1 header has no #!END-HEADER: the file is cut or damaged")
    header = head[: end.end()]
    kind = NAMED_FORMAT.search(header)
    if kind and kind[1].strip() not in (b"RAW", b""):
        raise EventFileError(f"an AEDAT 3.1 file of the format {kind[1][:40].decode('latin-1')!r}; RAW is read")
    named = [(int(number), name.decode("latin-1")) for number, name in NAMED_SOURCE.findall(header)]
    chosen = [name for number, name in named if options.select in (None, str(number))]
    sensors = {SENSORS[name.upper()] for name in chosen if name.upper() in SENSORS}
    sensor = sensors.pop() if len(sensors) == 1 else options.sensor
    packets = _of_one_camera(_parts(path, len(header)), dict(named), options.select)
    batches = in_batches(packets, lambda part: len(part.events) // EVENT_BYTES, PIECE)  # packets hold a few hundred
    parts = path.stat().st_size / (EVENT_BYTES * PIECE)
    width, height = sensor or (None, None)
    return EventStream(FORMAT, map(_columns, batches), width, height, parts=parts)


class Part(NamedTuple):
    """A part of a packet: its source, its overflow, and its events."""

    source: int
    overflow: int
    events: bytes


def _of_one_camera(parts: Iterator[Part], names: dict[int, str], select: str | None) -> Iterator[Part]:
    """The parts of the source that the user names, or of the only one."""
    sources: set[int] = set()
    for part in parts:
        sources.add(part.source)
        if select is None and len(sources) > 1:
            sources |= {other.source for other in islice(parts, SEARCHED)}
            raise EventFileError(
                f"the AEDAT 3.1 file holds events of {len(sources)} cameras: give --select with one of "
                f"{_listed(sources, names)}"
            )
        if select in (None, str(part.source)):
            yield part
    if select is not None and not any(select == str(source) for source in sources):
        raise EventFileError(
            f"--select {one_line(select)}: no events; the cameras with events are {_listed(sources, names) or 'none'}"
        )


def _listed(sources: set[int], names: dict[int, str]) -> str:
    return ", ".join(f"{source} ({one_line(names.get(source, 'unnamed'))})" for source in sorted(sources))


def _parts(path: Path, begin: int) -> Iterator[Part]:
    """The packets with polarity events, a large one in parts of `PIECE` events."""
    with path.open("rb") as file:
        left = file.seek(0, 2) - begin
        file.seek(begin)
        while left:
            header = file.read(PACKET.size)
            if len(header) < PACKET.size:
                reason = "the AEDAT 3.1 file ends within the header of a packet: cut or damaged"
                raise CutError(reason, file.tell() - len(header))
            kind, source, size, time_at, overflow, capacity, number, valid = PACKET.unpack(header)
            left -= PACKET.size
            length = capacity * size
            if not (kind >= 0 and size >= 0 and overflow >= 0 and 0 <= valid <= number <= capacity and length <= left):
                at = file.tell() - PACKET.size
                reason = (
                    f"the AEDAT 3.1 file is cut or damaged: the packet at byte {at} says type {kind}, overflow "
                    f"{overflow}, {number} of {capacity} events of {size} bytes, {valid} valid; {left} bytes follow"
                )
                raise CutError(reason, at)
            left -= length
            if kind != POLARITY or not number:
                file.seek(length, 1)
                continue
            if size != EVENT_BYTES or time_at != TIME_AT:
                raise EventFileError(f"polarity events of {size} bytes with the time at {time_at}; they have 8, at 4")
            for first in range(0, number, PIECE):
                yield Part(source, overflow, file.read(EVENT_BYTES * min(PIECE, number - first)))
            file.seek((capacity - number) * size, 1)


def _columns(parts: list[Part]) -> Columns:
    """The valid events of parts of packets."""
    words: NDArray[np.uint32] = np.frombuffer(b"".join(part.events for part in parts), "<u4").reshape(-1, 2)
    data, time = words[:, 0], words[:, 1].view(np.int32)
    if time.size and time.min() < 0:
        raise EventFileError(f"a time of {int(time.min())} us in an AEDAT 3.1 file: damaged")
    t = time.astype(np.int64)
    if any(part.overflow for part in parts):
        overflows = np.array([part.overflow for part in parts], np.int64)
        t += np.repeat(overflows << 31, [len(part.events) // EVENT_BYTES for part in parts])
    x, y, p = (data >> 17).astype(np.uint16), (data >> 2 & 0x7FFF).astype(np.uint16), (data >> 1 & 1).astype(np.uint8)
    valid = (data & 1).astype(bool)
    columns = Columns(t, x, y, p)
    return columns if valid.all() else columns.take(valid)
