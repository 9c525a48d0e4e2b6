"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import aedat
import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.stream import Columns, EventStream, Given

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
HEADER_AT = len(b"#!AER-DAT4.0\r\n")
LARGEST_HEADER = 1 << 16  # the decoder ends the process over descriptions that are nested deeper than fit here
PACKET_HEADER = 8  # number of the stream, size
STDERR = 2


def looks_like_aedat4(head: bytes, size: int) -> bool:
    """Whether the file begins as AEDAT4 files do."""
    return head.startswith(MAGIC)


def open_aedat4(path: Path, given: Given) -> EventStream:
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
            length = path.stat().st_size
            table_at = _table_position(header)
            _walk(file, HEADER_AT + 4 + size, table_at if 0 < table_at <= length else length)
    except (ValueError, struct.error, ElementTree.ParseError) as error:
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({error})") from error


def _table_position(header: bytes) -> int:
    """Where the table of packets begins, the second field of the header's flatbuffer; 0 or -1 if there is none."""
    (root,) = struct.unpack_from("<I", header, 0)
    (back,) = struct.unpack_from("<i", header, root)
    vtable = root - back
    if vtable < 0:
        raise ValueError("its header leads outside")
    (fields,) = struct.unpack_from("<H", header, vtable)
    (at,) = struct.unpack_from("<H", header, vtable + 6) if fields >= 8 else (0,)
    position: int = struct.unpack_from("<q", header, root + at)[0] if at else 0
    return position


def _walk(file: BinaryIO, at: int, end: int) -> None:
    """Whether packets follow one another without a gap up to the end."""
    while at < end:
        file.seek(at)
        head = file.read(PACKET_HEADER)
        size = int.from_bytes(head[4:], "little", signed=True)
        if len(head) < PACKET_HEADER or size < 0 or at + PACKET_HEADER + size > end:
            raise ValueError(f"a packet at byte {at} is longer than the file")
        at += PACKET_HEADER + size
