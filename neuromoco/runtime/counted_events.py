"""Events of a stream, counted as they come, so that frames of a window cost little when it ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuromoco.frames import Grid

SMALLEST_BLOCK = 4096  # events
EVENTS_PER_CELL = 2  # of a block: its counts take as much memory as its events


class Rolling:
    """Rows of numbers that are added at the end and dropped at the front; memory follows what is held.

    Args:
        dtype: of the numbers.
        shape: of a row.
    """

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self._rows: NDArray[Any] = np.empty((16, *shape), dtype)
        self._begin = self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def held(self) -> NDArray[Any]:
        """All rows; valid until the next one is added."""
        return self._rows[self._begin : self._end]

    def add(self, rows: NDArray[Any]) -> None:
        """Adds rows at the end."""
        need = len(self) + len(rows)
        if self._end + len(rows) > len(self._rows):
            held = self.held
            if 2 * need > len(self._rows) or 8 * need < len(self._rows):
                self._rows = np.empty((max(16, 3 * need), *held.shape[1:]), held.dtype)
            self._rows[: len(held)] = held  # may overlap: numpy copies as if it did not
            self._begin, self._end = 0, len(held)
        self._rows[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def drop(self, count: int) -> None:
        """Drops rows at the front."""
        self._begin += count


class CountedEvents:
    """The events of a stream, and how many of them lie in each cell, block by block.

    Events have numbers, from 0 at the first; those before a number are dropped when no window needs them any more.

    Args:
        grid: the cells.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._block = max(SMALLEST_BLOCK, EVENTS_PER_CELL * grid.cells)
        self._first = 0  # number of the first event that is held, a multiple of the block
        self._times, self._cells = Rolling(np.int64), Rolling(np.uint32)
        self._counts = Rolling(np.int32, (grid.cells,))  # of whole blocks

    def __len__(self) -> int:
        return len(self._times)

    @property
    def end(self) -> int:
        """Number of the event that comes next."""
        return self._first + len(self._times)

    def add(self, t: NDArray[np.int64], x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.uint8]) -> None:
        """Adds events [E], none earlier than the last."""
        self._times.add(t)
        self._cells.add(self._grid.cell(x, y, p))
        while (len(self._counts) + 1) * self._block <= len(self._cells):
            begin = len(self._counts) * self._block
            self._counts.add(self._count(begin, begin + self._block)[None])

    def number_at(self, time: int) -> int:
        """Number of the first event that is held and not earlier than a time."""
        return self._first + int(np.searchsorted(self._times.held, time))

    def times(self, first: int, last: int) -> NDArray[np.int64]:
        """Times of the events from one number to before another."""
        return self._times.held[first - self._first : last - self._first]

    def frames(self, bounds: NDArray[np.int64]) -> NDArray[np.float32]:
        """Frames [T, P, H, W] of events; those of step i have the numbers bounds[i] to before bounds[i + 1]."""
        bounds = bounds - self._first
        counts = np.stack([self._between(int(a), int(b)) for a, b in pairwise(bounds)])
        return self._grid.frames(counts).astype(np.float32)

    def drop(self, before: int) -> None:
        """Forgets the blocks with no event from this number on."""
        blocks = (before - self._first) // self._block
        if blocks > 0:
            for rolling, size in ((self._times, self._block), (self._cells, self._block), (self._counts, 1)):
                rolling.drop(blocks * size)
            self._first += blocks * self._block

    def _between(self, begin: int, end: int) -> NDArray[np.int32]:
        low, high = -(-begin // self._block), end // self._block
        if low >= high:
            return self._count(begin, end)
        counts: NDArray[np.int32] = self._counts.held[low:high].sum(0, dtype=np.int32)
        return counts + self._count(begin, low * self._block) + self._count(high * self._block, end)

    def _count(self, begin: int, end: int) -> NDArray[np.int32]:
        return np.bincount(self._cells.held[begin:end], minlength=self._grid.cells).astype(np.int32)
