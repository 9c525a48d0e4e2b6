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
from neuromoco.events.stream import Columns, EventStream, ReadOptions

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
HEADER_AT = len(b"#!AER-DAT4.0\r\n")
LARGEST_HEADER = 1 << 16  # the decoder ends the process over descriptions that are nested deeper than fit here
PACKET_HEADER = 8  # number of the stream, size
LARGEST_PACKET = 1 << 27  # bytes, unpacked; DV writes packets of 10 ms
UNPACKED_BOUNDS = {0: len, 1: lz4_bound, 2: lz4_bound, 3: zstd_bound, 4: zstd_bound}  # by IOHeader's `compression`
STDERR = 2


def looks_like_aedat4(head: bytes, size: int) -> bool:
    """Whether the file begins as AEDAT4 files do."""
    return head.startswith(MAGIC)


def open_aedat4(path: Path, options: ReadOptions) -> EventStream:
    """The events of a file; frames, IMU samples and triggers are passed over.

    Raises:
        EventFileError: damaged, without a stream of events, or with events of several cameras.
    """
    _check(path)
    with _damage():
        decoder = aedat.Decoder(str(path))
        streams = decoder.id_to_stream()
    cameras = {number: stream for number, stream in streams.items() if stream["type"] == "events"}
    if not cameras:
        kinds = sorted({stream["type"] for stream in streams.values()})
        raise EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds) or 'none'}")
    stream = next(iter(cameras.values()))
    return EventStream(FORMAT, _pieces(decoder, streams), stream["width"], stream["height"])


def _pieces(decoder: Any, streams: Mapping[int, Any]) -> Iterator[Columns]:
    seen: int | None = None
    while True:
        with _damage():
            packet = next(decoder, None)
        if packet is None:
            break
        if "events" not in packet or not len(packet["events"]):
            continue
        if seen not in (None, packet["stream_id"]):
            raise EventFileError(
                f"the AEDAT4 file holds events of several cameras (streams {seen}, {packet['stream_id']}); one is read"
            )
        seen, events = packet["stream_id"], packet["events"]
        # Column by column: joining the packed structured arrays first is many times slower.
        yield Columns(*(np.ascontiguousarray(events[name]) for name in ("t", "x", "y", "on")))
    if seen is None:
        kinds = sorted({stream["type"] for stream in streams.values()})
        raise EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds)}")


@contextmanager
def _damage() -> Iterator[None]:
    """What the decoder raises, as a damaged file; what its panics print is not for users."""
    try:
        with _silent():
            yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder's panics are no Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({reason})") from None


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing that is written to the process's standard error, from whatever language, is seen."""
    try:
        kept = os.dup(STDERR)
    except OSError:  # there is none
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDERR)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def _check(path: Path) -> None:
    """Refuses what the decoder ends the whole process over: a damaged description, packets that boast of their size."""
    try:
        with path.open("rb") as file:
            file.seek(HEADER_AT)
            size = int.from_bytes(file.read(4), "little")
            header = file.read(min(size, LARGEST_HEADER))
            begin, end = header.find(b"<dv"), header.rfind(b"</dv>")
            if len(header) != size or begin < 0 or end < begin:
                raise ValueError("no description of its streams")
            ElementTree.fromstring(header[begin : end + len(b"</dv>")].decode("utf-8"))
            (compression,) = struct.unpack("<i", _field(header, 0, 4) or bytes(4))
            (table_at,) = struct.unpack("<q", _field(header, 1, 8) or bytes(8))
            if compression not in UNPACKED_BOUNDS:
                raise ValueError(f"a compression numbered {compression}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as whole:
                begin = HEADER_AT + 4 + size
                if 0 < table_at < begin:
                    raise ValueError(f"its table of packets would begin at byte {table_at}, inside the header")
                end = table_at if 0 < table_at <= len(whole) else len(whole)
                _walk(whole, begin, end, UNPACKED_BOUNDS[compression])
    except (ValueError, struct.error, ElementTree.ParseError) as error:
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({error})") from error


def _field(header: bytes, number: int, size: int) -> bytes | None:
    """The bytes of one of the header's fields; None where its flatbuffer leaves it out."""
    (root,) = struct.unpack_from("<I", header, 0)
    (back,) = struct.unpack_from("<i", header, root)
    vtable = root - back
    if vtable < 0:
        raise ValueError("its header leads outside")
    (length,) = struct.unpack_from("<H", header, vtable)
    place = 4 + 2 * number
    (at,) = struct.unpack_from("<H", header, vtable + place) if length >= place + 2 else (0,)
    field = header[root + at : root + at + size]
    if at and len(field) < size:
        raise ValueError("its header leads outside")
    return field if at else None


def _walk(content: memoryview, at: int, end: int, bound: Callable[[memoryview], int]) -> None:
    """Whether packets follow one another without a gap up to the end, and none unpacks to more than is read."""
    while at < end:
        if at + PACKET_HEADER > end:
            raise ValueError(f"a packet at byte {at} is longer than the file")
        (size,) = struct.unpack_from("<i", content, at + 4)
        if size < 0 or at + PACKET_HEADER + size > end:
            raise ValueError(f"a packet at byte {at} is longer than the file")
        with content[at + PACKET_HEADER : at + PACKET_HEADER + size] as packet:
            unpacked = bound(packet)
        if unpacked > LARGEST_PACKET:
            raise ValueError(
                f"a packet at byte {at} unpacks to up to {unpacked} bytes; up to {LARGEST_PACKET} are read"
            )
        at += PACKET_HEADER + size
