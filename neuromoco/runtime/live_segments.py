"""Segments of a stream, told when they end: the rule of `neuromoco.runtime.timeline`, without what comes later.

Cells of a stride take the class with the largest mean probability over the windows around them, as in a timeline. A
segment ends where another class lasts for the shortest segment, or nothing moves for a pause; what is shorter joins the
segment before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuromoco.runtime.timeline import EDGE, Segment, TimelineRule, Why
from neuromoco.runtime.window_classifier import WindowAnswer


@dataclass
class _Cell:
    """Evidence for a stride of time."""

    shares: NDArray[np.float64]  # of each class, weighted
    weight: float = 0.0
    is_unlike: bool = False


@dataclass
class _Run:
    """Equal cells in a row: from one to before another."""

    begin: int
    end: int
    label: int | None
    why: Why | None
    shares: float  # sum over the cells of this label
    cells: int

    def add(self, other: _Run) -> None:
        """Adds a run that follows; of another label, it counts for nothing but time."""
        self.end = other.end
        if (other.label, other.why) == (self.label, self.why):
            self.shares, self.cells = self.shares + other.shares, self.cells + other.cells


class LiveSegments:
    """Takes the answers for the windows of a stream, in their order.

    Args:
        class_names: of the model.
        rule: its window and stride are those of the answers.
    """

    def __init__(self, class_names: Sequence[str], rule: TimelineRule) -> None:
        self._names, self._rule = class_names, rule
        self._next = 0  # the first cell that is not settled
        self._cells: deque[_Cell] = deque()  # with evidence, from there on
        self._open: _Run | None = None
        self._other: _Run | None = None  # after it, not long enough yet
        self._ended: list[Segment] = []

    def add(self, answer: WindowAnswer) -> list[Segment]:
        """Takes an answer, and returns the segments that it ends."""
        rule, (_, end) = self._rule, answer.window
        self._weigh(answer)
        settled = (end - rule.window_us) // rule.stride_us + 1  # the next window begins there
        while self._cells and self._next < settled:
            self._settle()
        if self._next < settled:
            self._push(_Run(self._next, settled, None, "pause", 0.0, settled - self._next))
            self._next = settled
        return self._told()

    def finish(self, end_us: int) -> list[Segment]:
        """Ends the stream at a time from its first event, and returns the last segments; another may follow."""
        while self._cells:
            self._settle()
        for run in (self._open, self._other):
            if run is not None:
                self._end(run)
        self._open, self._other, self._next = None, None, 0
        return [replace(one, end_us=min(one.end_us, end_us)) for one in self._told() if one.begin_us < end_us]

    def _weigh(self, answer: WindowAnswer) -> None:
        if answer.prediction is None:
            return
        (begin, end), stride = answer.window, self._rule.stride_us
        numbers = np.arange(begin // stride, -(-end // stride))
        while len(self._cells) < numbers[-1] + 1 - self._next:
            self._cells.append(_Cell(np.zeros(len(self._names))))
        distance = np.abs((numbers + 0.5) * stride - (begin + end) / 2) / ((end - begin) / 2)
        shares = np.array([answer.prediction.probabilities[name] for name in self._names])
        fits = answer.prediction.fit is None or answer.prediction.fit.fits
        for number, weight in zip(numbers, np.maximum(1.0 - (1.0 - EDGE) * distance, EDGE), strict=True):
            if number >= self._next:
                cell = self._cells[number - self._next]
                cell.is_unlike |= not fits
                if fits:
                    cell.shares += weight * shares
                    cell.weight += weight

    def _settle(self) -> None:
        cell, number = self._cells.popleft(), self._next
        self._next += 1
        if cell.weight:
            label = int(cell.shares.argmax())
            self._push(_Run(number, number + 1, label, None, float(cell.shares[label]) / cell.weight, 1))
        else:
            self._push(_Run(number, number + 1, None, "unlike" if cell.is_unlike else "pause", 0.0, 1))

    def _push(self, run: _Run) -> None:
        kind = (run.label, run.why)
        if self._open is None:
            self._open = run
        elif self._other is not None and kind == (self._other.label, self._other.why):
            self._other.add(run)
        else:
            if self._other is not None:  # it was too short
                self._open.add(self._other)
                self._other = None
            if kind == (self._open.label, self._open.why):
                self._open.add(run)
            else:
                self._other = run
        if self._other is not None and self._lasts(self._other):
            self._end(self._open)
            self._open, self._other = self._other, None

    def _lasts(self, run: _Run) -> bool:
        least = self._rule.pause_us if run.why == "pause" else self._rule.shortest_us
        return (run.end - run.begin) * self._rule.stride_us >= least

    def _end(self, run: _Run) -> None:
        stride = self._rule.stride_us
        begin, end = run.begin * stride, run.end * stride
        if run.label is None:
            self._ended.append(Segment(begin, end, None, why=run.why))
            return
        confidence = run.shares / run.cells
        why: Why | None = None if self._lasts(run) else "short"
        if why is None and confidence < self._rule.least:
            why = "unsure"
        self._ended.append(Segment(begin, end, None if why else self._names[run.label], confidence, why))

    def _told(self) -> list[Segment]:
        ended, self._ended = self._ended, []
        return ended
