"""ATIS 40-bit `.bin`: the files of N-MNIST and N-Caltech101 (Orchard et al. 2015).

Five bytes an event, no header: x, y, then 1 bit polarity and 23 bits of microseconds, big-endian.
An event with y = 240 is no event: it says that the 23-bit clock has advanced by 2^13 us once more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording
from neuromoco.files import writing

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
    _, _, _, t = _columns(raw)
    return bool(np.all(raw[1::EVENT_BYTES] <= OVERFLOW_ROW) and np.all(np.diff(t) >= 0))


def read_atis(path: Path) -> Recording:
    """Reads a whole file.

    Raises:
        EventFileError: the size is not a whole number of events, or times run backwards.
    """
    raw = np.fromfile(path, np.uint8)
    if raw.size % EVENT_BYTES:
        raise EventFileError(
            f"{raw.size} bytes are not a whole number of 5-byte ATIS events: the file is cut or damaged"
        )
    x, y, p, t = _columns(raw)
    if np.any(t[1:] < t[:-1]):
        at = int(np.argmax(t[1:] < t[:-1])) + 1
        raise EventFileError(f"times run backwards at event {at} of {t.size}: no ATIS recording, or damaged")
    if not t.size:
        raise EventFileError("the ATIS file holds no events")
    width, height = next((s for s in SENSORS if x.max() < s[0] and y.max() < s[1]), SENSORS[-1])
    return Recording.from_columns(t, x, y, p, width=width, height=height, source=FORMAT)


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


def _columns(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, p, t of the events, the marks of the clock taken into account and left out."""
    b = raw.reshape(-1, EVENT_BYTES)  # [E, 5]
    t = ((b[:, 2] & 0x7F).astype(np.int64) << 16) | (b[:, 3].astype(np.int64) << 8) | b[:, 4]
    columns = b[:, 0], b[:, 1], b[:, 2] >> 7, t
    mark = b[:, 1] == OVERFLOW_ROW
    if not mark.any():
        return columns
    x, y, p, t = (column[~mark] for column in columns)
    return x, y, p, t + OVERFLOW_US * np.cumsum(mark)[~mark]
