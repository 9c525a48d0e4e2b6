"""ATIS 40-bit `.bin`: the files of N-MNIST and N-Caltech101 (Orchard et al. 2015).

Five bytes per event, no header: x, y, then 1 bit of polarity and 23 bits of microseconds, big-endian.
A record with y = 240 is no event: it means that the 23-bit clock has advanced by another 2^13 us.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.options import ReadOptions
from neuromoco.events.recording import Recording, check_fits
from neuromoco.events.stream import Columns, EventStream, check_whole, records
from neuromoco.support.files import writing

PIECE = 1 << 17  # events that are decoded at once; more do not stay in the processor's cache
FORMAT = "ATIS .bin"
EVENT_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13
FEW = 16  # events that say nothing
MOST_PER_US = 100  # events; the camera sends 25 million in a second
LAST_US = (1 << 23) - 1
TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))
# The format does not name its sensor. The smallest of these that holds every event is taken.
SENSORS = ((34, 34), (240, 180), (256, 240))


def looks_like_atis(head: bytes, size: int) -> bool:
    """Whether the first bytes could be ATIS events. The format has no signature: they have to be those of a camera.

    Times are in order, and events no more than a camera sends. Events that are all OFF and all in one column are spikes
    of neurons in the similar format `.bs1` of SLAYER: 16 bits of a number and 24 bits of time.
    """
    whole = len(head) // EVENT_BYTES
    if whole == 0 or not any(head) or all(byte in TEXT for byte in head):
        return False
    raw = np.frombuffer(head, np.uint8, whole * EVENT_BYTES).reshape(-1, EVENT_BYTES)
    t, x, _, p = _columns(raw, 0)[0]
    if np.any(raw[:, 1] > OVERFLOW_ROW) or np.any(np.diff(t) < 0):
        return False
    if t.size < FEW:
        return True
    return bool(t.size <= MOST_PER_US * (t[-1] - t[0]) and (p.any() or np.any(x != x[0])))


def open_atis(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file."""
    check_whole(path, 0, EVENT_BYTES, "ATIS events", options.salvage)
    parts = path.stat().st_size / (EVENT_BYTES * PIECE)
    return EventStream(FORMAT, _pieces(path), likely=SENSORS, parts=parts)


def _pieces(path: Path) -> Iterator[Columns]:
    marks = last = count = 0
    for raw in records(path, (np.uint8, EVENT_BYTES), 0, PIECE):
        piece, marks = _columns(raw, marks)
        back = np.flatnonzero(np.diff(piece.t, prepend=last) < 0)
        if back.size:
            raise EventFileError(f"times run backwards at event {count + int(back[0])}: no ATIS recording, or damaged")
        if piece.t.size:
            last, count = int(piece.t[-1]), count + piece.t.size
        yield piece


def write_atis(path: Path, recording: Recording) -> None:
    """Writes an ATIS `.bin` file, the format of N-MNIST: up to 8.3 s on a sensor of up to 256 x 240 pixels.

    Examples:
        >>> import tempfile
        >>> from neuromoco.events import read_recording, write_atis
        >>> recording = read_recording("models/examples/3.bin", stop=100_000)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atis(Path(folder) / "part.bin", recording)
        ...     len(read_recording(Path(folder) / "part.bin"))
        1599

    Raises:
        EventFileError: the sensor or the times do not fit the format.
    """
    check_fits(path, recording, FORMAT, 256, OVERFLOW_ROW, LAST_US)
    raw = np.empty((len(recording), EVENT_BYTES), np.uint8)
    raw[:, 0] = recording.x
    raw[:, 1] = recording.y
    raw[:, 2] = (recording.p << 7) | (recording.t >> 16).astype(np.uint8)
    raw[:, 3] = (recording.t >> 8) & 0xFF
    raw[:, 4] = recording.t & 0xFF
    with writing(path) as part:
        part.write_bytes(raw.tobytes())


def _columns(raw: NDArray[np.uint8], marks: int) -> tuple[Columns, int]:
    """The events of records [E, 5], and how often the clock has advanced after them; `marks`: before them."""
    t: Any = ((raw[:, 2] & 0x7F).astype(np.int64) << 16) | (raw[:, 3].astype(np.int64) << 8) | raw[:, 4]
    x, y = (np.ascontiguousarray(raw[:, place]) for place in (0, 1))
    columns = Columns(t + OVERFLOW_US * marks, x, y, raw[:, 2] >> 7)
    mark = raw[:, 1] == OVERFLOW_ROW
    if not mark.any():
        return columns, marks
    columns = columns.take(~mark)
    return columns._replace(t=columns.t + OVERFLOW_US * np.cumsum(mark)[~mark]), marks + int(mark.sum())
