"""When something moves in a recording: spans of activity between pauses, by the number of events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.checkpoint import SeenRecordings
from neuromoco.events import ReadOptions, Recording, read_windows

Counts = NDArray[np.int64]
READ_AT_ONCE = 128  # cells
# The background is that of the quietest tenth of the cells, or the median of those that are quieter than a quarter of
# the usual rate, whichever is more. Its counts vary by about their square root, as those of independent events do:
# activity goes on above 4 such deviations and begins above 8, within shares of the usual rate.
BACKGROUND, QUIET = 10, 0.25  # percent; share
DEVIATIONS = (4.0, 8.0)
SHARES = ((0.05, 0.35), (0.1, 0.5))


class Activity(NamedTuple):
    """Events of a recording by time.

    Attributes:
        first_us: time of the first event, by the file's clock.
        duration_us: from the first event to the last, at least 1.
        counts: events that the network sees, in cells of equal length [C].
    """

    first_us: int
    duration_us: int
    counts: Counts


def count_events(path: Path, cell_us: int, options: ReadOptions, see: Callable[[Recording], Recording]) -> Activity:
    """Reads a recording once and counts events in cells of `cell_us` microseconds. Memory: 8 bytes a cell.

    Args:
        path: the file.
        cell_us: length of a cell.
        options: for reading it.
        see: returns the events that the network sees.

    Raises:
        EventFileError: the file cannot be read, or its events are in no order of time.
    """
    first = last = None
    parts: list[Counts] = []
    for window in read_windows(path, cell_us * READ_AT_ONCE, options):
        begin = len(parts) * cell_us * READ_AT_ONCE
        if len(window):
            first = int(window.t[0]) if first is None else first
            last = int(window.t[-1])
        cells = (see(window).t - (first or 0) - begin) // cell_us
        cells = np.clip(cells, 0, READ_AT_ONCE - 1)  # of late events
        parts.append(np.bincount(cells, minlength=READ_AT_ONCE))
    assert first is not None, "a stream without events is an error"
    assert last is not None
    duration = last - first + 1
    return Activity(first, duration, np.concatenate(parts)[: -(-duration // cell_us)])


def usual_rate(seen: SeenRecordings) -> float:
    """Events per second of a usual training recording: the geometric mean of the least and the most that they allow."""
    least = max(seen.fewest_events, 1) / max(seen.longest_us, 1)
    most = max(seen.most_events, 1) / max(seen.shortest_us, 1)
    return 1e6 * float(np.sqrt(least * most))


def quiet_limits(counts: Counts, usual: float) -> tuple[float, float]:
    """Events per cell [C] above which activity goes on, and begins; `usual` is the events per cell of activity."""
    quiet = counts[counts < QUIET * usual]
    background = max(float(np.percentile(counts, BACKGROUND)), float(np.median(quiet)) if quiet.size else 0.0)
    low, high = (
        float(np.clip(background + times * np.sqrt(background), least * usual, most * usual))
        for times, (least, most) in zip(DEVIATIONS, SHARES, strict=True)
    )
    return low, high


def active_spans(counts: Counts, low: float, high: float, pause: int) -> list[tuple[int, int]]:
    """Spans of cells [C] with activity, by a hysteresis of two states.

    Activity goes on while cells have more than `low` events, over fewer than `pause` quieter ones in a row, and counts
    as such if a cell has more than `high`.

    Returns:
        First and excluded last cell of each span.
    """
    loud = np.flatnonzero(counts > low)
    if not loud.size:
        return []
    cuts = np.flatnonzero(np.diff(loud) > pause)
    begins, ends = loud[np.r_[0, cuts + 1]], loud[np.r_[cuts, loud.size - 1]] + 1
    return [(a, b) for a, b in zip(begins.tolist(), ends.tolist(), strict=True) if counts[a:b].max() > high]
