"""Where and when the events of a recording lie: what a set needs to settle what its files do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.extent import LARGEST_INFERRED, smallest, wide_gap
from neuromoco.events.recording import LARGEST_SIDE
from neuromoco.events.stream import EventStream

Counts = NDArray[np.int64]
# A column or row is occupied if it has this share of the events of a typical one; background noise stays below it.
LEAST_OCCUPIED = 0.05
SHORTEST_GAP_US = 10_000
SMOOTHED = 5  # columns of which the median is taken: single hot pixels do not count


def _none() -> Counts:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Extent:
    """Where and when the events of a file lie.

    Attributes:
        sensor: width and height, if the file names them.
        likely: sensors of the cameras that write the format, see `EventStream`.
        first_us, last_us: earliest and latest time; both 0 if the events were not read.
        columns: events in each column, as far as there are any; empty if they were not read.
        rows: events in each row.
        gaps: parts of the time without events, int64 [G, 2], of `SHORTEST_GAP_US` or longer: the times of the events
            before and after.
    """

    sensor: tuple[int, int] | None
    likely: tuple[tuple[int, int], ...] = ()
    first_us: int = 0
    last_us: int = 0
    columns: Counts = field(default_factory=_none)
    rows: Counts = field(default_factory=_none)
    gaps: Counts = field(default_factory=lambda: _none().reshape(0, 2))


def measure(stream: EventStream, whole: bool) -> Extent:
    """The extent of a stream, which is used up; one that names its sensor is read only if `whole`."""
    sensor = (stream.width, stream.height) if stream.width and stream.height else None
    if sensor and not whole:
        return Extent(sensor)
    counts = [np.zeros(LARGEST_SIDE, np.int64) for _ in range(2)]
    gaps: list[Counts] = []
    first: int | None = None
    last = 0
    for piece in stream.events():
        for of_axis, places in zip(counts, (piece.x, piece.y), strict=True):
            found = np.bincount(places)
            of_axis[: found.size] += found
        t = np.sort(piece.t.astype(np.int64))
        first = int(t[0]) if first is None else min(first, int(t[0]))
        before = np.concatenate([[last if gaps else t[0]], t[:-1]])
        wide = np.flatnonzero(t - before >= SHORTEST_GAP_US)
        gaps.append(np.stack([before[wide], t[wide]], axis=1))
        last = max(last, int(t[-1])) if len(gaps) > 1 else int(t[-1])
    used = [of_axis[: np.flatnonzero(of_axis).max(initial=-1) + 1].copy() for of_axis in counts]
    return Extent(sensor, stream.likely, first or 0, last, used[0], used[1], np.concatenate(gaps))


def summed(counts: Sequence[Counts]) -> Counts:
    """The sum of counts of different lengths."""
    total = np.zeros(max((of_one.size for of_one in counts), default=0), np.int64)
    for of_one in counts:
        total[: of_one.size] += of_one
    return total


def common_sensor(extents: Sequence[Extent]) -> tuple[tuple[int, int], int]:
    """Width and height of the sensor of files that do not name it, and the number of events far outside.

    It holds all events but a few (at most 1 %) that lie far from all others.

    Raises:
        EventFileError: the events reach beyond every camera.
    """
    sides, outside = [], 0
    for name, counts in (("x", summed([e.columns for e in extents])), ("y", summed([e.rows for e in extents]))):
        gap = wide_gap(counts)
        side = gap[0] + 1 if gap else max(1, counts.size)
        if side > LARGEST_INFERRED:
            raise EventFileError(
                f"no file names its sensor, and {name} reaches {side - 1}, beyond every camera: damaged, or give "
                "--sensor WIDTHxHEIGHT, for example --sensor 640x480"
            )
        sides.append(side)
        outside = max(outside, int(counts[side:].sum()))
    return smallest((sides[0], sides[1]), max((e.likely for e in extents), key=len, default=())), outside


def occupied(counts: NDArray[Any]) -> tuple[int, int]:
    """The first place and the length of the part of an axis in which the events lie, given their number at each place.

    Places with far fewer events than a typical one are background; the typical event lies in a typical place.
    """
    if not counts.any():
        return 0, max(1, counts.size)
    padded = np.pad(counts, SMOOTHED // 2, mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, SMOOTHED), axis=1)
    smooth = smooth if smooth.any() else counts.astype(float)
    order = np.sort(smooth)
    typical = order[np.searchsorted(np.cumsum(order), order.sum() / 2)]
    places = np.flatnonzero(smooth >= LEAST_OCCUPIED * typical)
    return int(places[0]), int(places[-1] - places[0] + 1)
