"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aedat
import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.stream import Columns, EventStream, Given

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
HEADER_AT = len(b"#!AER-DAT4.0\r\n")
LARGEST_HEADER = 1 << 20


def looks_like_aedat4(head: bytes, size: int) -> bool:
    """Whether the file begins as AEDAT4 files do."""
    return head.startswith(MAGIC)


def open_aedat4(path: Path, given: Given) -> EventStream:
    """The events of a file; frames, IMU samples and triggers are passed over.

    Raises:
        EventFileError: damaged, without a stream of events, or with events of several cameras.
    """
    _check_header(path)
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
    """What the decoder raises, as a damaged file."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder's panics are no Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({reason})") from None


def _check_header(path: Path) -> None:
    """Refuses a damaged description of the streams: the decoder ends the whole process over one."""
    with path.open("rb") as file:
        file.seek(HEADER_AT)
        size = int.from_bytes(file.read(4), "little")
        header = file.read(min(size, LARGEST_HEADER))
    begin, end = header.find(b"<dv"), header.rfind(b"</dv>")
    try:
        if len(header) != size or begin < 0 or end < begin:
            raise ValueError("no description of its streams")
        ElementTree.fromstring(header[begin : end + len(b"</dv>")].decode("utf-8"))
    except (ValueError, ElementTree.ParseError) as error:
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({error})") from error
