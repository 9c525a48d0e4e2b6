"""ATIS 40-bit `.bin`: the files of N-MNIST and N-Caltech101 (Orchard et al. 2015).

Five bytes an event, no header: x, y, then 1 bit polarity and 23 bits of microseconds, big-endian.
An event with y = 240 is no event: it says that the 23-bit clock has advanced by 2^13 us once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording
from neuromoco.events.stream import PIECE, Columns, EventStream, ReadOptions
from neuromoco.support.files import writing

FORMAT = "ATIS .bin"
EVENT_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13
LAST_US = (1 << 23) - 1
TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))
# The format does not name its sensor. The smallest of these that holds every event is taken.
SENSORS = ((34, 34), (240, 180), (256, 240))


def looks_like_atis(head: bytes, size: int) -> bool:
    """Whether the first bytes could be ATIS events: without a magic number, ordered times have to do."""
    whole = len(head) // EVENT_BYTES
    if whole == 0 or not any(head) or all(byte in TEXT for byte in head):
        return False
    raw = np.frombuffer(head, np.uint8, whole * EVENT_BYTES)
    t = _columns(raw, 0)[0].t
    return bool(np.all(raw[1::EVENT_BYTES] <= OVERFLOW_ROW) and np.all(np.diff(t) >= 0))


def open_atis(path: Path, options: ReadOptions) -> EventStream:
    """The events of a file.

    Raises:
        EventFileError: the size is not a whole number of events, or times run backwards.
    """
    size = path.stat().st_size
    if size % EVENT_BYTES:
        raise EventFileError(f"{size} bytes are not a whole number of 5-byte ATIS events: the file is cut or damaged")
    width, height = options.sensor or _sensor(path)
    return EventStream(FORMAT, _pieces(path), width, height)


def _sensor(path: Path) -> tuple[int, int]:
    """The smallest sensor that holds every event."""
    right = bottom = 0
    for piece in _pieces(path):
        if piece.t.size:
            right, bottom = max(right, int(piece.x.max())), max(bottom, int(piece.y.max()))
    return next((s for s in SENSORS if right < s[0] and bottom < s[1]), SENSORS[-1])


def _pieces(path: Path) -> Iterator[Columns]:
    marks, last, seen = 0, 0, 0
    with path.open("rb") as file:
        while (raw := np.fromfile(file, np.uint8, PIECE * EVENT_BYTES)).size:
            piece, marks = _columns(raw, marks)
            back = np.flatnonzero(np.diff(piece.t, prepend=last) < 0)
            if back.size:
                raise EventFileError(
                    f"times run backwards at event {seen + int(back[0])}: no ATIS recording, or damaged"
                )
            if piece.t.size:
                last, seen = int(piece.t[-1]), seen + piece.t.size
            yield piece


def write_atis(path: Path, recording: Recording) -> None:
    """Writes a recording of up to 8.3 s on a sensor of up to 256 x 240 pixels.

    Raises:
        EventFileError: the recording does not fit the format.
    """
    if recording.width > 256 or recording.height > OVERFLOW_ROW:
        raise EventFileError(
            f"{path}: ATIS .bin holds up to 256 x 240 pixels, not {recording.width} x {recording.height}"
        )
    if len(recording) and not (recording.t[0] >= 0 and recording.t[-1] <= LAST_US):
        raise EventFileError(
            f"{path}: ATIS .bin holds times from 0 to {LAST_US} us, not {recording.t[0]} to {recording.t[-1]}"
        )
    raw = np.empty((len(recording), EVENT_BYTES), np.uint8)
    raw[:, 0] = recording.x
    raw[:, 1] = recording.y
    raw[:, 2] = (recording.p << 7) | (recording.t >> 16).astype(np.uint8)
    raw[:, 3] = (recording.t >> 8) & 0xFF
    raw[:, 4] = recording.t & 0xFF
    with writing(path) as part:
        part.write_bytes(raw.tobytes())


def _columns(raw: NDArray[np.uint8], marks: int) -> tuple[Columns, int]:
    """The events, and how often the clock has advanced; its marks are taken into account and left out."""
    b = raw.reshape(-1, EVENT_BYTES)  # [E, 5]
    t: Any = ((b[:, 2] & 0x7F).astype(np.int64) << 16) | (b[:, 3].astype(np.int64) << 8) | b[:, 4]
    columns = Columns(t + OVERFLOW_US * marks, b[:, 0], b[:, 1], b[:, 2] >> 7)
    mark = b[:, 1] == OVERFLOW_ROW
    if not mark.any():
        return columns, marks
    t, x, y, p = (column[~mark] for column in columns)
    return Columns(t + OVERFLOW_US * np.cumsum(mark)[~mark], x, y, p), marks + int(mark.sum())
