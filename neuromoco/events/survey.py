"""What a file holds, found in one pass without keeping its events: facts, oddities, and what a picture needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.stream import Columns, EventStream

LARGEST_IMAGE = 1024  # pixels of a side; neighbours of larger sensors are counted together
BINS = 4096  # of the event rate; twice as long ones are taken as the recording goes on
FIRST_BIN_US = 64


@dataclass
class Survey:
    """Facts of a stream of events.

    Attributes:
        source: the format.
        width, height: of the sensor; where the file does not say, what holds every event.
        events: how many.
        on: how many are ON.
        first_us, last_us: earliest and latest time.
        unsorted: events that come after a later one.
        largest_step_back_us: by how much at most.
        outside: events outside the sensor that the file declares.
        duplicates: events equal to one of the same time, pixel and polarity before them, within a piece.
        image: events a pixel and polarity, int64 [P, rows, columns].
        rate: events in each of equal parts of the time, int64 [BINS].
        bin_us: duration of such a part.
    """

    source: str
    width: int = 0
    height: int = 0
    events: int = 0
    on: int = 0
    first_us: int = 0
    last_us: int = 0
    unsorted: int = 0
    largest_step_back_us: int = 0
    outside: int = 0
    duplicates: int = 0
    image: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 0, 0), np.int64))
    rate: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    bin_us: int = FIRST_BIN_US

    def facts(self) -> dict[str, Any]:
        """What one wants to know first of a recording, ready for JSON."""
        duration = self.last_us - self.first_us
        return {
            "format": self.source,
            "sensor": f"{self.width} x {self.height}",
            "events": self.events,
            "duration_ms": duration / 1e3,
            "rate_events_per_s": self.events / (duration / 1e6) if duration else None,
            "on_share": self.on / self.events,
            "first_us": self.first_us,
            "last_us": self.last_us,
            "unsorted": self.unsorted,
            "largest_step_back_us": self.largest_step_back_us,
            "outside_sensor": self.outside,
            "duplicates": self.duplicates,
        }

    def rate_curve(self, most: int) -> tuple[NDArray[np.float64], float]:
        """Events per second in at most `most` equal parts of the recording, and the seconds of one part."""
        used = (self.last_us - self.first_us) // self.bin_us + 1
        together = -(-used // most)
        counts = self.rate[: -(-used // together) * together].reshape(-1, together).sum(1)
        seconds = self.bin_us * together / 1e6
        return counts / seconds, seconds


def survey(stream: EventStream) -> Survey:
    """Goes through a stream.

    Args:
        stream: of a known sensor; is used up.

    Raises:
        EventFileError: damaged, or without events.
    """
    assert stream.width is not None
    assert stream.height is not None
    found = Survey(stream.source, stream.width, stream.height)
    shrink = -(-max(found.width, found.height) // LARGEST_IMAGE)
    found.image = np.zeros((2, -(-found.height // shrink), -(-found.width // shrink)), np.int64)
    latest: int | None = None
    for piece in stream.pieces:
        if piece.t.size:
            latest = _add(found, piece, latest, shrink)
    if latest is None:
        raise EventFileError(f"the {stream.source} file holds no events")
    return found


def _add(found: Survey, piece: Columns, latest: int | None, shrink: int) -> int:
    t = piece.t.astype(np.int64)
    x, y, p = piece.x.astype(np.int64), piece.y.astype(np.int64), (np.asarray(piece.p) > 0).astype(np.int64)
    begin = int(t[0]) if latest is None else latest
    so_far = np.maximum(np.maximum.accumulate(t), begin)
    back = so_far - t
    found.unsorted += int(np.count_nonzero(back))
    found.largest_step_back_us = max(found.largest_step_back_us, int(back.max()))
    found.first_us = int(t.min()) if latest is None else min(found.first_us, int(t.min()))
    found.last_us = int(so_far[-1])
    inside = (x >= 0) & (x < found.width) & (y >= 0) & (y < found.height)
    found.outside += int(np.count_nonzero(~inside))
    found.events += t.size
    found.on += int(p.sum())
    order = np.lexsort((p, x, y, t))
    same = [np.diff(column[order]) == 0 for column in (t, x, y, p)]
    found.duplicates += int(np.count_nonzero(np.logical_and.reduce(same)))
    cell = (p * found.image.shape[1] + y // shrink) * found.image.shape[2] + x // shrink
    found.image += np.bincount(cell[inside], minlength=found.image.size).reshape(found.image.shape)
    _count_rate(found, t)
    return found.last_us


def _count_rate(found: Survey, t: NDArray[np.int64]) -> None:
    while (found.last_us - found.first_us) // found.bin_us >= BINS:
        found.rate = np.concatenate([found.rate.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
        found.bin_us *= 2
    found.rate += np.bincount(np.maximum(t - found.first_us, 0) // found.bin_us, minlength=BINS)[:BINS]
