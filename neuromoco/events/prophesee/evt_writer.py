"""Writes Prophesee RAW, as EVT2 or EVT3: every event unchanged, on sensors of up to 2048 x 2048.

Both begin with a TIME_HIGH of 0 and go from there to the first event, so that a reader that counts the turns of EVT3's
24-bit clock also starts at 0. Times later than 2^24 us are preceded by the turns before them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.events.prophesee.evt3 import ADDR_X, ADDR_Y, TIME_HIGH, TIME_LOW
from neuromoco.events.recording import Recording, check_fits
from neuromoco.support.files import writing

LARGEST_SIDE = 2048
LAST_US = (1 << 34) - 1  # the range of EVT2: 4.8 h; EVT3 has no limit
TURN = 1 << 12  # TIME_HIGH values of a turn of EVT3's clock


def write_evt2(path: Path, recording: Recording) -> None:
    """Writes a recording as EVT2: 4 bytes per event, and 4 for every 64 us with events.

    Examples:
        >>> import tempfile
        >>> from neuromoco.events import read_recording
        >>> recording = read_recording("models/examples/3.bin")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_evt2(Path(folder) / "3.raw", recording)
        ...     read_recording(Path(folder) / "3.raw").source
        'Prophesee RAW EVT2'

    Raises:
        EventFileError: the sensor or the times do not fit the format.
    """
    check_fits(path, recording, "Prophesee RAW", LARGEST_SIDE, LARGEST_SIDE, LAST_US)
    t = recording.t
    highs = np.unique(np.concatenate(([0], t >> 6)))
    words = np.empty(len(t) + len(highs), "<u4")
    of_event = np.searchsorted(highs, t >> 6, "right")  # the number of TIME_HIGH up to it
    place = np.arange(len(t)) + of_event
    is_high = np.ones(len(words), bool)
    is_high[place] = False
    words[is_high] = highs | TIME_HIGH << 28
    x, y = recording.x.astype(np.int64), recording.y.astype(np.int64)
    words[place] = recording.p.astype(np.int64) << 28 | (t & 63) << 22 | x << 11 | y
    _write(path, recording, "2.0", "EVT2", words)


def write_evt3(path: Path, recording: Recording) -> None:
    """Writes a recording as EVT3: 2 bytes per event, and 2 each for a new time and a new row.

    Vectors, with which cameras write smaller files, are not used.

    Examples:
        >>> import tempfile
        >>> from neuromoco.events import read_recording
        >>> recording = read_recording("models/examples/3.bin")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_evt3(Path(folder) / "3.raw", recording)
        ...     read_recording(Path(folder) / "3.raw").source
        'Prophesee RAW EVT3'

    Raises:
        EventFileError: the sensor or the times do not fit the format.
    """
    check_fits(path, recording, "Prophesee RAW", LARGEST_SIDE, LARGEST_SIDE, LAST_US)
    t, y = recording.t, recording.y
    high = t >> 12
    highs = _highs(high)
    until = np.searchsorted(highs, high, "right")  # the number of TIME_HIGH up to an event
    count_high = np.diff(until, prepend=0)
    new_t = np.diff(t, prepend=-1) != 0
    new_y = np.diff(y.astype(np.int32), prepend=-1) != 0
    count = count_high + new_t + new_y + 1
    end = np.cumsum(count)  # of each event's words
    words = np.empty(int(end[-1]) if len(t) else len(highs), "<u2")
    place = np.arange(len(highs))
    if len(t):
        first = np.searchsorted(until, np.arange(len(highs)), "right")  # the event that each TIME_HIGH comes before
        place += (end - count - until + count_high)[first]
    words[place] = highs % TURN | TIME_HIGH << 12
    at_t, at_y = np.flatnonzero(new_t), np.flatnonzero(new_y)
    words[(end - 2 - new_y)[at_t]] = t[at_t] & 0xFFF | TIME_LOW << 12
    words[end[at_y] - 2] = y[at_y] | ADDR_Y << 12
    words[end - 1] = recording.x | recording.p.astype(np.uint16) << 11 | ADDR_X << 12
    _write(path, recording, "3.0", "EVT3", words)


def _highs(high: NDArray[np.int64]) -> NDArray[np.int64]:
    """The TIME_HIGH to write: those of the events, and in long gaps enough others that no turn is missed.

    Decoders take a step of nearly a whole turn for one in the other direction, and some miss a new turn that does not
    begin with a step from the last value to 0.
    """
    last = int(high[-1]) if high.size else 0
    turns = np.arange(0, last + 1, TURN)
    steps = np.concatenate([turns + step for step in (0, TURN // 2, TURN - 1)])
    return np.unique(np.concatenate((high, steps[steps <= last])))


def _write(path: Path, recording: Recording, evt: str, name: str, words: NDArray[np.unsignedinteger]) -> None:
    width, height = recording.width, recording.height
    header = f"% evt {evt}\n% format {name};height={height};width={width}\n% geometry {width}x{height}\n% end\n"
    with writing(path) as part, part.open("wb") as file:
        file.write(header.encode("ascii"))
        words.tofile(file)
