"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aedat
import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.packed import lz4_bound, zstd_bound
from neuromoco.events.stream import Columns, EventStream, ReadOptions, damage, reason_of, same_camera, starts_with

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
HEADER_AT = len(b"#!AER-DAT4.0\r\n")
LARGEST_HEADER = 1 << 16  # the decoder aborts the process over descriptions that are nested deeper than fit here
PACKET_HEADER = 8  # number of the stream, size
LARGEST_PACKET = 1 << 27  # bytes, unpacked; DV writes packets of 10 ms
UNPACKED_BOUNDS = {0: len, 1: lz4_bound, 2: lz4_bound, 3: zstd_bound, 4: zstd_bound}  # by IOHeader's `compression`
STDERR = 2
looks_like_aedat4 = starts_with(MAGIC)


def open_aedat4(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; frames, IMU samples and triggers are skipped."""
    _check(path)
    with _decoding():
        decoder = aedat.Decoder(str(path))
        streams = decoder.id_to_stream()
    camera = next((stream for stream in streams.values() if stream["type"] == "events"), None)
    if camera is None:
        raise _no_events(streams)
    return EventStream(FORMAT, _pieces(decoder, streams), camera["width"], camera["height"])


def _pieces(decoder: Any, streams: Mapping[int, Any]) -> Iterator[Columns]:
    camera: int | None = None
    while True:
        with _decoding():
            packet = next(decoder, None)
        if packet is None:
            break
        if "events" not in packet or not len(packet["events"]):
            continue
        camera, events = same_camera(FORMAT, camera, packet["stream_id"]), packet["events"]
        # Column by column: joining the packed structured arrays first is many times slower.
        yield Columns(*(np.ascontiguousarray(events[name]) for name in ("t", "x", "y", "on")))
    if camera is None:
        raise _no_events(streams)


def _no_events(streams: Mapping[int, Any]) -> EventFileError:
    kinds = sorted({stream["type"] for stream in streams.values()})
    return EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds) or 'none'}")


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns errors and panics of the decoder into `EventFileError`, and hides what its panics print."""
    try:
        with _silent():
            yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder's panics are no Exception
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({reason_of(error)})") from None


@contextmanager
def _silent() -> Iterator[None]:
    """Hides what is written to the standard error of the process, from any language."""
    try:
        stderr = os.dup(STDERR)
    except OSError:  # there is none
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(stderr, STDERR)
        os.close(stderr)


def _check(path: Path) -> None:
    """Refuses what the decoder would abort the process over: a damaged description, packets that claim a huge size."""
    with damage(f"{FORMAT} file", (ValueError, struct.error, ElementTree.ParseError)), path.open("rb") as file:
        file.seek(HEADER_AT)
        size = int.from_bytes(file.read(4), "little")
        header = file.read(min(size, LARGEST_HEADER))
        begin, end = header.find(b"<dv"), header.rfind(b"</dv>")
        if len(header) != size or begin < 0 or end < begin:
            raise ValueError("no description of its streams")
        ElementTree.fromstring(header[begin : end + len(b"</dv>")].decode("utf-8"))
        compression, table_at = _field(header, 0, "<i"), _field(header, 1, "<q")
        if compression not in UNPACKED_BOUNDS:
            raise ValueError(f"a compression numbered {compression}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            begin = HEADER_AT + 4 + size
            if 0 < table_at < begin:
                raise ValueError(f"its table of packets would begin at byte {table_at}, inside the header")
            end = table_at if 0 < table_at <= len(content) else len(content)
            _check_packets(content, begin, end, UNPACKED_BOUNDS[compression])


def _field(header: bytes, number: int, kind: str) -> int:
    """The number in a field of the header's flatbuffer; 0 if the field is omitted."""
    (root,) = struct.unpack_from("<I", header, 0)
    (back,) = struct.unpack_from("<i", header, root)
    vtable = root - back
    if vtable < 0:
        raise ValueError("its header leads outside")
    (length,) = struct.unpack_from("<H", header, vtable)
    place = 4 + 2 * number
    (at,) = struct.unpack_from("<H", header, vtable + place) if length >= place + 2 else (0,)
    return int(struct.unpack_from(kind, header, root + at)[0]) if at else 0


def _check_packets(content: memoryview, at: int, end: int, bound: Callable[[memoryview], int]) -> None:
    """Refuses packets that leave a gap up to the end, or that may unpack to more than is read."""
    while at < end:
        begin = at + PACKET_HEADER
        size = struct.unpack_from("<i", content, at + 4)[0] if begin <= end else -1
        if size < 0 or begin + size > end:
            raise ValueError(f"a packet at byte {at} is longer than the file")
        with content[begin : begin + size] as packet:
            unpacked = bound(packet)
        if unpacked > LARGEST_PACKET:
            raise ValueError(f"a packet at byte {at} unpacks to {unpacked} bytes; up to {LARGEST_PACKET} are read")
        at = begin + size
