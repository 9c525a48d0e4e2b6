"""Writes AEDAT4, the files of iniVation's DV software: one stream of events, not compressed.

A line with the version, then flatbuffers, each after its own size (docs.inivation.com, "AEDAT 4.0"; dv-processing's
schemas IOHeader, EventPacket and FileDataTable): the header with an XML of the streams; packets of events, each after
8 bytes with its stream and size; at the end a table of the packets, which lets a player seek. A writer of flatbuffers
may choose where its fields go; here they are always in the same places, so `struct` is enough.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuromoco.events.recording import Recording, check_fits
from neuromoco.support.files import writing

VERSION = b"#!AER-DAT4.0\r\n"
PACKET_EVENTS = 100_000
LARGEST_SIDE = 1 << 15  # coordinates are signed 16-bit
STREAM = 0
LAST_US = (1 << 63) - 1
EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("unused", "V3")])
STREAMS = """<dv version="2.0">
    <node name="outInfo" path="/mainloop/Recorder/outInfo/">
        <node name="0" path="/mainloop/Recorder/outInfo/0/">
            <attr key="compression" type="string">NONE</attr>
            <attr key="originalModuleName" type="string">neuromoco</attr>
            <attr key="originalOutputName" type="string">events</attr>
            <attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
            <attr key="typeIdentifier" type="string">EVTS</attr>
            <node name="info" path="/mainloop/Recorder/outInfo/0/info/">
                <attr key="sizeX" type="int">{width}</attr>
                <attr key="sizeY" type="int">{height}</attr>
                <attr key="source" type="string">neuromoco</attr>
                <attr key="tsOffset" type="long">0</attr>
            </node>
        </node>
    </node>
</dv>
"""


class Packet(NamedTuple):
    """A packet in the table: where the flatbuffer of its events is, and what it holds."""

    at: int
    size: int
    events: int
    first_us: int
    last_us: int


def write_aedat4(path: Path, recording: Recording) -> None:
    """Writes a recording as AEDAT4, uncompressed; `read_recording` and DV read it back unchanged.

    Examples:
        >>> import tempfile
        >>> from neuromoco.events import read_recording
        >>> recording = read_recording("models/examples/3.bin")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_aedat4(Path(folder) / "3.aedat4", recording)
        ...     read_recording(Path(folder) / "3.aedat4").source
        'AEDAT4'

    Raises:
        EventFileError: the sensor is wider or higher than 32768 pixels, or a time is negative.
    """
    # Times could be negative, but the package `aedat` reads them as unsigned.
    check_fits(path, recording, "AEDAT4", LARGEST_SIDE, LARGEST_SIDE, LAST_US)
    streams = STREAMS.format(width=recording.width, height=recording.height).encode()
    packets = []
    with writing(path) as part, part.open("wb") as file:
        file.write(VERSION + _header(streams, table_at=0))
        for first in range(0, len(recording), PACKET_EVENTS):
            content = _events(recording, first)
            file.write(struct.pack("<ii", STREAM, len(content)))
            times = recording.t[first : first + PACKET_EVENTS]
            packets.append(Packet(file.tell(), len(content), times.size, int(times[0]), int(times[-1])))
            file.write(content)
        table_at = file.tell()
        file.write(_table(packets))
        file.seek(0)
        file.write(VERSION + _header(streams, table_at))


def _header(streams: bytes, table_at: int) -> bytes:
    """`IOHeader`: compression (none), position of the table in the file, XML of the streams."""
    text = streams + bytes(4 - len(streams) % 4)  # ends in at least one zero
    vtable = struct.pack("<5H", 10, 24, 4, 12, 8)  # from byte 14
    table = struct.pack("<iiIqi", 10, 0, 16, table_at, 0)  # from byte 24; the text 16 bytes after its field
    content = struct.pack("<I4s6x", 24, b"IOHE") + vtable + table + struct.pack("<I", len(streams)) + text
    return _sized(content)


def _events(recording: Recording, first: int) -> bytes:
    """`EventPacket`: a vector of structures of 16 bytes, at a multiple of 8 bytes."""
    part = slice(first, first + PACKET_EVENTS)
    t, x, y, p = (column[part] for column in (recording.t, recording.x, recording.y, recording.p))
    events = np.zeros(t.size, EVENT)
    events["t"], events["x"], events["y"], events["on"] = t, x, y, p
    return _sized(_vector_root(b"EVTS") + struct.pack("<I", events.size) + events.tobytes())


def _table(packets: list[Packet]) -> bytes:
    """`FileDataTable`: a vector of tables, which all share one description of their fields."""
    vtable = struct.pack("<7H", 14, 44, 12, 4, 20, 28, 36)
    vector_at = 24  # from behind the size
    vtable_at = vector_at + 4 + 4 * len(packets)
    # 64-bit fields begin 12 bytes into a table and must be at multiples of 8, counted from before the size.
    begin = vtable_at + len(vtable) + -(vtable_at + len(vtable)) % 8
    stride = 48
    offsets = [begin + stride * i - (vector_at + 4 + 4 * i) for i in range(len(packets))]
    tables = b"".join(
        struct.pack("<iiiqqqq4x", begin + stride * i - vtable_at, STREAM, p.size, p.at, p.events, p.first_us, p.last_us)
        for i, p in enumerate(packets)
    )
    vector = struct.pack(f"<{1 + len(packets)}I", len(packets), *offsets) + vtable
    return _sized(_vector_root(b"FTAB") + vector.ljust(begin - vector_at, b"\0") + tables)


def _vector_root(identifier: bytes) -> bytes:
    """24 bytes: a root table whose one field is the vector that follows."""
    return struct.pack("<I4s2x3HiI", 16, identifier, 6, 8, 4, 6, 4)


def _sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content
