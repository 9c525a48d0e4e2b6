"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`.

The decoder aborts its process over descriptions that are nested deeply and packets that claim a huge size: it runs in a
process of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import aedat
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
    reason_of,
    starts_with,
)

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
HEADER_AT = len(b"#!AER-DAT4.0\r\n")
PIECE = 1 << 17  # events that are sent at once; while they are, the next ones are decoded
PACKET_HEADER = struct.Struct("<ii")  # number of the stream, size
looks_like_aedat4 = starts_with(MAGIC)


class Packet(NamedTuple):
    """Events of a stream."""

    stream: int
    events: NDArray[Any]


def open_aedat4(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; frames, IMU samples and triggers are skipped."""
    with _decoding():
        decoder = aedat.Decoder(str(path))
        streams = decoder.id_to_stream()
    cameras = {number: stream for number, stream in sorted(streams.items()) if stream["type"] == "events"}
    packets = _packets(path, decoder)
    if options.select is not None:
        number = _selected(path, cameras, options.select)
        packets = (packet for packet in packets if packet.stream == number)
    first = next(packets, None)
    if first is None:
        kinds = sorted({stream["type"] for stream in streams.values()})
        raise EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds) or 'none'}")
    camera = cameras[first.stream]
    return EventStream(FORMAT, _pieces(path, first, packets, cameras), camera["width"], camera["height"])


def _pieces(path: Path, first: Packet, others: Iterator[Packet], cameras: Mapping[int, Any]) -> Iterator[Columns]:
    """The events of many packets at a time: DV's packets hold 10 ms."""
    for packets in in_batches(chain((first,), others), lambda packet: len(packet.events), PIECE):
        if any(packet.stream != first.stream for packet in packets):
            raise EventFileError(
                f"the AEDAT4 file holds events of {len(cameras)} cameras: give --select with one of "
                f"{_listed(path, cameras)}"
            )
        # Column by column: joining the packed structured arrays first is many times slower.
        yield Columns(*(np.concatenate([packet.events[name] for packet in packets]) for name in ("t", "x", "y", "on")))


def _packets(path: Path, decoder: Any) -> Iterator[Packet]:
    """The packets with events."""
    count = 0
    while True:
        try:
            with _decoding():
                packet = next(decoder, None)
        except EventFileError as error:
            raise CutError(str(error), _end_of(path, count)) from None
        if packet is None:
            return
        count += 1
        if len(packet.get("events", ())):
            yield Packet(packet["stream_id"], packet["events"])


def _end_of(path: Path, packets: int) -> int:
    """Where so many packets end."""
    with path.open("rb") as file:
        file.seek(HEADER_AT)
        file.seek(int.from_bytes(file.read(4), "little"), 1)
        for _ in range(packets):
            file.seek(PACKET_HEADER.unpack(file.read(PACKET_HEADER.size))[1], 1)
        return file.tell()


def _selected(path: Path, cameras: Mapping[int, Any], select: str) -> int:
    """The number of the stream that the user names by it, or by the camera."""
    names = _names(path)
    numbers = [number for number in cameras if select in (str(number), names.get(number))]
    if len(numbers) != 1:
        raise EventFileError(
            f"--select {one_line(select)}: is {'several' if numbers else 'none'} of the streams with events, which are "
            f"{_listed(path, cameras) or 'none'}"
        )
    return numbers[0]


def _listed(path: Path, cameras: Mapping[int, Any]) -> str:
    names = _names(path)
    return ", ".join(
        f"{number} ({one_line(names.get(number, ''))} {camera['width']} x {camera['height']})"
        for number, camera in cameras.items()
    )


def _names(path: Path) -> dict[int, str]:
    """The names of the cameras of the streams, where the description of the file has them."""
    with path.open("rb") as file:
        file.seek(HEADER_AT)
        header = file.read(int.from_bytes(file.read(4), "little"))
    names = {}
    with suppress(ValueError, ElementTree.ParseError):
        begin, end = header.index(b"<dv"), header.rindex(b"</dv>") + len(b"</dv>")
        for node in ElementTree.fromstring(header[begin:end].decode("utf-8")).iter("node"):
            source = node.find("node[@name='info']/attr[@key='source']")
            if source is not None and node.get("name", "").isdecimal():
                names[int(node.get("name", ""))] = source.text or ""
    return names


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns errors and panics of the decoder into `EventFileError`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder's panics are no Exception
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({reason_of(error)})") from None
