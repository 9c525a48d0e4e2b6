"""What answers come from: anything that gives events, chunk by chunk, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from neuromoco.events import ReadOptions, Recording
from neuromoco.events.extent import Stray
from neuromoco.events.recording import NOTHING_ODD
from neuromoco.events.stream import Columns

FEWEST = 1 << 12  # events of which it is clear that most lie outside


class Source(Protocol):
    """A source of events.

    Attributes:
        name: for messages.
        waits: whether whoever sends can wait while answers are computed. Where it cannot, what is oldest is dropped.
        clock_rate: microseconds of the events' clock in one of this machine's, where the clock goes on while nothing
            comes, as a camera's does; 0 where that is not known.
        goes_on: whether what is no stream of events ends nothing, since others may send better ones.
    """

    name: str
    waits: bool
    clock_rate: float
    goes_on: bool

    def chunks(self) -> Iterator[Recording | str]:
        """Events as they come, and notes for people, such as that a sender left; ends when there will be no more.

        Raises:
            NeuromocoError: it cannot be opened, or what comes are no events.
        """

    def close(self) -> None:
        """Ends `chunks`, from another thread."""

    def losses(self) -> dict[str, int]:
        """What was lost before it became a chunk, by what it was."""


@dataclass
class Sensor:
    """Makes recordings of columns; events outside the sensor are dropped and counted.

    Attributes:
        size: width and height.
        options: what the user says.
        name: of the format.
        stray: counts.
    """

    size: tuple[int, int]
    options: ReadOptions
    name: str
    stray: Stray = field(default_factory=Stray)

    def wrong(self, at_least: int = FEWEST) -> str:
        """What is wrong with the size, if most of the events so far lie outside; empty if nothing is."""
        outside, of = self.stray.outside, self.stray.of
        if of < at_least or 2 * outside <= of:
            return ""
        sensor = f"{self.size[0]} x {self.size[1]}"
        return f"{outside:,} of {of:,} events lie outside the {sensor} sensor: give --sensor WIDTHxHEIGHT"

    def recording(self, columns: Columns) -> Recording:
        """The events inside."""
        width, height = self.size
        inside = self.stray.inside(columns.x, columns.y, width, height)
        if inside is not None:
            columns = columns.take(inside)
        if self.options.flip:
            x = width - 1 - columns.x if "x" in self.options.flip else columns.x
            y = height - 1 - columns.y if "y" in self.options.flip else columns.y
            columns = columns._replace(x=x, y=y)
        return Recording.from_inside(columns._asdict(), width, height, self.name, NOTHING_ODD, in_order=True)


def joined(parts: list[Recording]) -> Recording:
    """Chunks of one sensor that follow each other, as one."""
    if len(parts) == 1:
        return parts[0]
    t, x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "txyp")
    return replace(parts[0], t=t, x=x, y=y, p=p)
