"""Times of a camera whose clock was set back: they go on, so that the parts before and after do not mix.

Cameras, their drivers and programs that write tables let times step back a little, and the events are sorted. An event
that is earlier than one before it by more than that shows that the clock started again, by hand, by an overflow, or
because two recordings were joined. From there on, times go on from the latest one before. If they jump forward again to
where they would be without the step back, only the events between were late, and take the time at which they came.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError

CAMERA_US = 10_000  # by which events of a camera may be late
TABLE_US = 1_000_000  # and those of a table: programs write them by frames, or by pixels within a frame
ANY_US = 1 << 62  # no event is late
MOST_RESTARTS = 20  # more of them are no order of time
LARGEST_TIME = 1 << 62  # us; clocks that count from 1970 are far below


class Clock:
    """Continues times piece by piece; `late_us` is what an event may be late.

    Attributes:
        restarts: how often the clock started again; 0 if `disordered`.
        in_order: whether no time so far was earlier than one before it.
        disordered: whether times run back too often to be those of a clock. From there on they are left as they are;
            `as_in_file` undoes what was added before.
    """

    def __init__(self, late_us: int = CAMERA_US) -> None:
        self.late_us = late_us
        self.restarts = 0
        self.in_order, self.disordered = True, False
        # What is added to times: the first up to the first of these places, the next up to the next, ...
        self._offsets, self._places = [0], list[int]()
        self._latest: int | None = None
        self._count = 0

    def continued(self, times: NDArray[Any]) -> NDArray[np.int64]:
        """The times of the next events, at least one, as int64 [E]. `EventFileError` if they are of no clock."""
        if times.dtype.kind == "u" and times.dtype.itemsize == 8:
            _check(times.max())
        times = times.astype(np.int64, copy=False)
        if self.disordered:
            return times
        t = times + self._offsets[-1] if self._offsets[-1] else times
        latest = int(t[0]) if self._latest is None else self._latest
        if len(self._offsets) == 1 and int(t[0]) >= latest and np.all(t[1:] >= t[:-1]):
            _check(times[0], times[-1])
            latest = int(t[-1])
        else:
            self.in_order = False
            _check(times.min(), times.max())
            t, latest = self._checked(t, latest)
            if self.disordered:
                return times
        self._latest = latest
        self._count += t.size
        return t

    def as_in_file(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """The times of all events so far [E] without what was added to them."""
        added = np.zeros(t.size, np.int64)
        added[: self._count] = np.repeat(self._offsets, np.diff(np.array([0, *self._places, self._count])))
        return t - added

    def _checked(self, t: NDArray[np.int64], latest: int) -> tuple[NDArray[np.int64], int]:
        """Times that go on, and the latest."""
        at = 0
        while True:
            so_far = np.maximum(np.maximum.accumulate(t[at:]), latest)
            before = np.concatenate(([latest], so_far[:-1]))
            jump = t[at:] < before - self.late_us
            last = self._offsets[-1] - self._offsets[-2] if len(self._offsets) > 1 else 0
            if last > 0:  # of a step back
                jump |= (t[at:] > before + self.late_us) & (t[at:] - last >= before - self.late_us)
            step = int(jump.argmax())
            if not jump[step]:
                return t, int(so_far[-1])
            at, latest = at + step, int(before[step])
            back = max(latest - int(t[at]), -last)
            if len(self._places) == 2 * MOST_RESTARTS or self._offsets[-1] + back > LARGEST_TIME:
                self._give_up()
                return t, latest
            self.restarts += 1 if back > 0 else -1
            t = np.concatenate((t[:at], t[at:] + back))
            self._places.append(self._count + at)
            self._offsets.append(self._offsets[-1] + back)

    def _give_up(self) -> None:
        """Leaves the events of this piece, and all that follow, as they are."""
        self.disordered, self.restarts = True, 0
        self._places = [place for place in self._places if place < self._count]
        del self._offsets[len(self._places) + 1 :]


def _check(*times: np.integer[Any]) -> None:
    """Refuses times of which differences would not fit 63 bits."""
    for time in times:
        if not -LARGEST_TIME < int(time) < LARGEST_TIME:
            raise EventFileError(f"a time of {time} us, more than 100,000 years: damaged")
