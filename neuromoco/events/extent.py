"""Events outside the sensor, and the sensor of a file that does not name it.

That is as large as its events need, if no stray event speaks against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import LARGEST_SIDE

# Glitches of sensors and of cables put single events anywhere; more of them mean another sensor, or damage.
MOST_STRAY = 0.01  # share of the events
LARGEST_INFERRED = 4096  # pixels of a side; no camera has more
LARGEST_GAP = 0.25  # without events, before the last few: share of the side up to there
SAMPLED = 13  # events of which one is looked at first
SOON = 1 << 16  # events after which a stream that lies mostly outside is not read on
TOGETHER = 1 << 16  # events that are counted at once, approximately
FEW = 1 << 14  # events of which all are looked at
Places = tuple[NDArray[Any], NDArray[Any]]  # x and y [E] of some events, from 0 to below LARGEST_SIDE


class Stray:
    """Counts events outside the sensor, or of any sensor while it is not known.

    Attributes:
        of: all events so far.
        outside: of them outside.
    """

    def __init__(self) -> None:
        self.of = self.outside = 0
        self._first = (0, 0)  # place of the first event outside

    def inside(
        self, x: NDArray[Any], y: NDArray[Any], width: int | None, height: int | None
    ) -> NDArray[np.bool_] | None:
        """Which of the next events [E] lie inside the sensor; None if all do."""
        self.of += x.size
        width, height = width or LARGEST_SIDE, height or LARGEST_SIDE
        # The extremes first: a mask of every event costs more than reading them.
        if not x.size or (_all_below(x, width) and _all_below(y, height)):
            return None
        inside: NDArray[np.bool_] = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not self.outside:
            at = int(inside.argmin())
            self._first = int(x[at]), int(y[at])
        self.outside += x.size - int(np.count_nonzero(inside))
        return inside

    def are_most(self) -> bool:
        """Whether it is clear soon that the sensor is another one."""
        return self.of > SOON and 2 * self.outside > self.of

    def check(self, width: int | None, height: int | None) -> None:
        """Refuses a file of whose events so far more than 1 % lie outside the sensor."""
        if self.outside > MOST_STRAY * self.of:
            sensor = f"the {width} x {height} sensor" if width and height else "any sensor"
            x, y = self._first
            raise EventFileError(
                f"{self.outside} of {self.of} events ({self.outside / self.of:.1%}) lie outside {sensor}, the "
                f"first at x={x}, y={y}; up to 1 % are dropped: damaged, or give the right --sensor WIDTHxHEIGHT"
            )


def _all_below(places: NDArray[Any], side: int) -> bool:
    return bool((places.dtype.kind == "u" or places.min() >= 0) and places.max() < side)


def likely_sensor(places: Callable[[], Iterable[Places]], sensors: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The smallest of a format's sensors that holds every event, or without these, the extent.

    `EventFileError` as of `extent`, or if none of the sensors holds every event.
    """
    if sensors and all(x.max(initial=0) < sensors[0][0] and y.max(initial=0) < sensors[0][1] for x, y in places()):
        return sensors[0]  # at once: N-MNIST has 70,000 small files
    needed = extent(places)
    sensor = smallest(needed, sensors)
    if needed[0] > sensor[0] or needed[1] > sensor[1]:
        raise EventFileError(
            f"the file does not name its sensor, and its events need {needed[0]} x {needed[1]} pixels, more than "
            f"{sensor[0]} x {sensor[1]}, the largest sensor of this format: damaged, or give --sensor WIDTHxHEIGHT"
        )
    return sensor


def smallest(needed: tuple[int, int], sensors: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The first of some sensors that is as large as needed; what is needed, if there are none."""
    large = (sensor for sensor in sensors if needed[0] <= sensor[0] and needed[1] <= sensor[1])
    return next(large, sensors[-1] if sensors else needed)


def extent(places: Callable[[], Iterable[Places]]) -> tuple[int, int]:
    """Width and height that hold every event. The events may be asked for twice.

    `EventFileError` if they are beyond every camera, or come from a few events (at most 1 %) far from all others: these
    say nothing about the sensor.
    """
    for step in (SAMPLED, 1):  # a sample is enough, unless it holds a gap
        sides, counts = _counted(places(), step)
        gaps = [wide_gap(of_axis) for of_axis in counts]
        if not any(gaps):
            break
    for name, gap in zip("xy", gaps, strict=True):
        if gap:
            raise EventFileError(
                f"the file does not name its sensor, and a few events lie at {name}={gap[1]} or beyond, far from all "
                f"others (up to {name}={gap[0]}): give --sensor WIDTHxHEIGHT, for example --sensor 640x480"
            )
    return sides[0], sides[1]


def _counted(places: Iterable[Places], step: int) -> tuple[list[int], NDArray[np.int64]]:
    """Width and height; and how many events, of which one in `step` is counted, lie in each column and row [2, N]."""
    sides, counts = [1, 1], np.zeros((2, LARGEST_INFERRED), np.int64)
    for batch in _batches(places):
        for axis, name in enumerate("xy"):
            parts = [place[axis] for place in batch]
            sides[axis] = max(sides[axis], *(int(part.max()) + 1 for part in parts))
            if sides[axis] > LARGEST_INFERRED:
                raise EventFileError(
                    f"the file does not name its sensor, and {name} reaches {sides[axis] - 1}, beyond every camera: "
                    "damaged, or give --sensor WIDTHxHEIGHT, for example --sensor 640x480"
                )
            counted = np.concatenate([part[:: step if part.size > FEW else 1] for part in parts])
            counts[axis] += np.bincount(counted, minlength=LARGEST_INFERRED)
    for of_axis, side in zip(counts, sides, strict=True):
        of_axis[side - 1] = max(of_axis[side - 1], 1)  # the last one counts, if it is in the sample or not
    return sides, counts


def _batches(places: Iterable[Places]) -> Iterator[list[Places]]:
    """Places together until they are many: counting has a price each time."""
    batch: list[Places] = []
    held = 0
    for place in places:
        if place[0].size:
            batch.append(place)
            held += place[0].size
        if held >= TOGETHER:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def wide_gap(counts: NDArray[np.int64]) -> tuple[int, int] | None:
    """The places before and after a wide gap among the last 1 % of the events, given their number at each place [N]."""
    occupied = np.flatnonzero(counts)
    beyond = np.cumsum(counts[occupied][::-1])[::-1]  # events at each place and beyond
    last = int(np.count_nonzero(beyond <= MOST_STRAY * beyond[:1]))
    before, after = occupied[-last - 1 : -1], occupied[occupied.size - last :]
    wide = np.flatnonzero(after - before > LARGEST_GAP * (before + 1))
    return (int(before[wide[0]]), int(after[wide[0]])) if wide.size else None
