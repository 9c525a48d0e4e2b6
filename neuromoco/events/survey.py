"""Facts about a file, gathered in one pass without keeping its events: oddities, event rate, and an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.events.occupied import occupied
from neuromoco.events.recording import NOTHING_ODD, Oddities
from neuromoco.events.stream import Columns, EventStream

LARGEST_IMAGE = 1024  # pixels of a side; neighbours of larger sensors are counted together
BINS = 4096  # of the event rate; their duration doubles whenever the recording outgrows them
FIRST_BIN_US = 64


@dataclass
class Survey:
    """Facts about a stream of events.

    Attributes:
        source: the format.
        width, height: of the sensor; if the file does not name it, large enough for every event.
        events: number of events.
        on: number of ON events.
        first_us, last_us: earliest and latest time.
        unsorted: events that follow a later one.
        largest_step_back_us: the most by which such an event is earlier.
        oddities: what was done to the events to read them; no other figure counts events that were dropped.
        duplicates: events equal to one of the same time, pixel and polarity before them, within a piece.
        image: events per pixel and polarity, int64 [P, rows, columns].
        rate: events in equal intervals of time, int64 [BINS].
        bin_us: duration of such an interval.
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
    oddities: Oddities = NOTHING_ODD
    duplicates: int = 0
    image: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 0, 0), np.int64))
    rate: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    bin_us: int = FIRST_BIN_US

    def facts(self) -> dict[str, Any]:
        """The figures, without image and rate, ready for JSON."""
        duration = self.last_us - self.first_us
        return {
            "format": self.source,
            "sensor": f"{self.width} x {self.height}",
            "occupied": ",".join(map(str, self.occupied())),
            "events": self.events,
            "duration_ms": duration / 1e3,
            "rate_events_per_s": self.events / (duration / 1e6) if duration else None,
            "on_share": self.on / self.events,
            "first_us": self.first_us,
            "last_us": self.last_us,
            "unsorted": self.unsorted,
            "largest_step_back_us": self.largest_step_back_us,
            **self.oddities.facts(),
            "duplicates": self.duplicates,
        }

    def occupied(self) -> tuple[int, int, int, int]:
        """The part of the sensor in which the events lie: left column, top row, width and height, as `--crop` takes."""
        together = -(-max(self.width, self.height) // LARGEST_IMAGE)
        image = self.image.sum(0)
        (x, w), (y, h) = occupied(image.sum(0)), occupied(image.sum(1))
        left, top = x * together, y * together
        return left, top, min(w * together, self.width - left), min(h * together, self.height - top)

    def rate_curve(self, most: int) -> tuple[NDArray[np.float64], float]:
        """Events per second in at most `most` equal parts of the recording, and the seconds of one part."""
        used = (self.last_us - self.first_us) // self.bin_us + 1
        together = -(-used // most)
        counts = self.rate[: -(-used // together) * together].reshape(-1, together).sum(1)
        seconds = self.bin_us * together / 1e6
        return counts / seconds, seconds


def survey(stream: EventStream) -> Survey:
    """Surveys a stream from a known sensor, which is used up."""
    assert stream.width is not None
    assert stream.height is not None
    facts = Survey(stream.source, stream.width, stream.height)
    shrink = -(-max(facts.width, facts.height) // LARGEST_IMAGE)
    facts.image = np.zeros((2, -(-facts.height // shrink), -(-facts.width // shrink)), np.int64)
    for piece in stream.events():
        _add(facts, stream.flipped(piece), shrink)
    facts.oddities = stream.news()
    return facts


def _add(facts: Survey, piece: Columns, shrink: int) -> None:
    t, x, y = (column.astype(np.int64) for column in piece[:3])
    p = (np.asarray(piece.p) > 0).astype(np.int64)
    so_far = np.maximum.accumulate(t)
    if facts.events:
        so_far = np.maximum(so_far, facts.last_us)
    back = so_far - t
    facts.unsorted += int(np.count_nonzero(back))
    facts.largest_step_back_us = max(facts.largest_step_back_us, int(back.max()))
    facts.first_us = min(facts.first_us, int(t.min())) if facts.events else int(t.min())
    facts.last_us = int(so_far[-1])
    facts.events += t.size
    facts.on += int(p.sum())
    order = np.lexsort((p, x, y, t))
    same = [np.diff(column[order]) == 0 for column in (t, x, y, p)]
    facts.duplicates += int(np.count_nonzero(np.logical_and.reduce(same)))
    cell = (p * facts.image.shape[1] + y // shrink) * facts.image.shape[2] + x // shrink
    facts.image += np.bincount(cell, minlength=facts.image.size).reshape(facts.image.shape)
    while (facts.last_us - facts.first_us) // facts.bin_us >= BINS:
        facts.rate = np.concatenate([facts.rate.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
        facts.bin_us *= 2
    facts.rate += np.bincount(np.maximum(t - facts.first_us, 0) // facts.bin_us, minlength=BINS)[:BINS]
