"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`.

The decoder aborts its process over descriptions that are nested deeply and packets that claim a huge size: it runs in a
process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aedat
import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.stream import (
    PIECE,
    Columns,
    EventStream,
    ReadOptions,
    in_batches,
    reason_of,
    same_camera,
    starts_with,
)

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
looks_like_aedat4 = starts_with(MAGIC)


def open_aedat4(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; frames, IMU samples and triggers are skipped."""
    with _decoding():
        decoder = aedat.Decoder(str(path))
        streams = decoder.id_to_stream()
    camera = next((stream for stream in streams.values() if stream["type"] == "events"), None)
    if camera is None:
        raise _no_events(streams)
    return EventStream(FORMAT, _pieces(decoder, streams), camera["width"], camera["height"])


def _pieces(decoder: Any, streams: Mapping[int, Any]) -> Iterator[Columns]:
    """The events of many packets at a time: DV's packets hold 10 ms."""
    for packets in in_batches(_packets(decoder, streams), len, PIECE):
        # Column by column: joining the packed structured arrays first is many times slower.
        yield Columns(*(np.concatenate([packet[name] for packet in packets]) for name in ("t", "x", "y", "on")))


def _packets(decoder: Any, streams: Mapping[int, Any]) -> Iterator[NDArray[Any]]:
    camera: int | None = None
    while True:
        with _decoding():
            packet = next(decoder, None)
        if packet is None:
            break
        if "events" not in packet or not len(packet["events"]):
            continue
        camera = same_camera(FORMAT, camera, packet["stream_id"])
        yield packet["events"]
    if camera is None:
        raise _no_events(streams)


def _no_events(streams: Mapping[int, Any]) -> EventFileError:
    kinds = sorted({stream["type"] for stream in streams.values()})
    return EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds) or 'none'}")


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns errors and panics of the decoder into `EventFileError`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder's panics are no Exception
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({reason_of(error)})") from None
