"""A recording that is played again: as fast as it was made, faster or slower, or as fast as it can be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from neuromoco.events import ReadOptions, Recording, read_windows

CHUNK_SECONDS = 0.002  # of this machine's time, from one chunk to the next, and of the recording at least
SLOWEST_SECONDS = 0.04  # of this machine's time at most: less than what makes a source silent


class Replay:
    """Plays a file of any format once.

    Args:
        path: the file.
        speed: seconds of the recording in one; 0 reads it as fast as it can be answered.
        options: for reading it.
    """

    goes_on = False

    def __init__(self, path: Path, speed: float, options: ReadOptions) -> None:
        self.name = str(path)
        self.waits = speed == 0
        self.clock_rate = speed
        self._path, self._speed, self._options = path, speed, options
        self._closed = threading.Event()
        self._outside = 0

    def chunks(self) -> Iterator[Recording | str]:
        """See `Source`."""
        seconds = CHUNK_SECONDS * max(self._speed or 5.0, 1.0)
        length = round(1e6 * (min(seconds, SLOWEST_SECONDS * self._speed) if self._speed else seconds))
        begin = None
        for number, chunk in enumerate(read_windows(self._path, length, self._options), 1):
            if self._closed.is_set():
                return
            self._outside += chunk.oddities.outside
            begin = time.monotonic() if begin is None else begin
            if self._speed:
                wait = begin + number * length / 1e6 / self._speed - time.monotonic()
                if wait > 0 and self._closed.wait(wait):
                    return
            if len(chunk):
                yield chunk

    def close(self) -> None:
        """See `Source`."""
        self._closed.set()

    def losses(self) -> dict[str, int]:
        """See `Source`."""
        return {"outside_sensor": self._outside}
