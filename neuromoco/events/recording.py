"""The one in-memory form of an event recording: columns, not rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromoco.errors import EventFileError

LARGEST_SIDE = 65535  # pixels


@dataclass(frozen=True, slots=True)
class Oddities:
    """What was done to the events of a file to read them.

    Attributes:
        outside: events outside the sensor, which were dropped.
        restarts: how often the camera's clock was set back; times go on from the latest one before.
        lost: which part of a cut file was not read, and why; empty if all was read.
    """

    outside: int = 0
    restarts: int = 0
    lost: str = ""

    def and_of(self, other: Oddities) -> Oddities:
        """Those of two parts of a file."""
        return Oddities(self.outside + other.outside, self.restarts + other.restarts, self.lost or other.lost)

    def facts(self) -> dict[str, int | str]:
        """The same, ready for JSON."""
        facts: dict[str, int | str] = {"outside_sensor": self.outside, "clock_restarts": self.restarts}
        return facts | ({"lost": self.lost} if self.lost else {})

    def lines(self) -> list[str]:
        """A warning for each kind."""
        return [
            line
            for line in (
                self.outside and f"{self.outside:,} events outside the sensor were dropped",
                self.restarts and f"the clock was set back {self.restarts:,} times; times go on from the latest before",
                self.lost,
            )
            if line
        ]


NOTHING_ODD = Oddities()


def oddity_lines(of_files: Sequence[Oddities]) -> list[str]:
    """Warnings of what was done to the events of files to read them, given the oddities of each."""
    odd = [oddities for oddities in of_files if oddities != NOTHING_ODD]
    where = f" in {len(odd)} of {len(of_files)} files" if len(of_files) > 1 else ""
    return [line + where for line in reduce(Oddities.and_of, odd, NOTHING_ODD).lines()]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Events of one camera, in order of time.

    Attributes:
        t: int64 [E], microseconds, never decreasing.
        x: uint16 [E], column, 0 at the left, below `width`.
        y: uint16 [E], row, 0 at the top, below `height`.
        p: uint8 [E], polarity: 1 brighter (ON), 0 darker (OFF).
        width: columns of the sensor.
        height: rows of the sensor.
        source: the format that the events came from, for example "ATIS .bin".
        oddities: what was done to the events of the file to read them.
        is_part: whether it is a part of its sensor, chosen by hand; networks that use a part of theirs take all of it.

    Columns are contiguous: a packed structured array of the same events is many times slower to
    slice and to count. `Recording.from_columns` checks all of the above:

    Examples:
        >>> from neuromoco import Recording
        >>> recording = Recording.from_columns(t=[0, 250], x=[3, 4], y=[7, 7], p=[1, 0], width=34, height=34)
        >>> len(recording), recording.duration, recording.on_share
        (2, 250, 0.5)
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    width: int
    height: int
    source: str = "memory"
    oddities: Oddities = NOTHING_ODD
    is_part: bool = False

    @classmethod
    def from_columns(
        cls,
        t: ArrayLike,
        x: ArrayLike,
        y: ArrayLike,
        p: ArrayLike,
        *,
        width: int | None = None,
        height: int | None = None,
        source: str = "memory",
    ) -> Recording:
        """Checks columns and makes them contiguous. Sorts events by time; those of equal time keep their order.

        Args:
            t: times in microseconds, any integer type.
            x: columns of the events.
            y: rows of the events.
            p: polarities: booleans, 0 and 1, or -1 and 1.
            width: columns of the sensor; by default the largest x plus one.
            height: rows of the sensor; by default the largest y plus one.
            source: the format that the events came from.

        Raises:
            EventFileError: columns differ in length or type, or an event lies outside the sensor.
        """
        columns = {name: np.asarray(v) for name, v in (("t", t), ("x", x), ("y", y), ("p", p))}
        check_columns(columns)
        width = _side("width", width, columns["x"])
        height = _side("height", height, columns["y"])
        _check_inside(columns["x"], columns["y"], width, height)
        return cls.from_inside(columns, width, height, source, NOTHING_ODD, in_order=False)

    @classmethod
    def from_inside(
        cls,
        columns: Mapping[str, NDArray[Any]],
        width: int,
        height: int,
        source: str,
        oddities: Oddities,
        in_order: bool,
    ) -> Recording:
        """As `from_columns`, from columns whose events are known to lie inside the sensor.

        Args:
            columns: t, x, y and p by name.
            width: columns of the sensor.
            height: rows of the sensor.
            source: the format that the events came from.
            oddities: what was done to the events of the file to read them.
            in_order: whether the events are known to be in order of time.

        Raises:
            EventFileError: columns differ in length or type.
        """
        columns = dict(columns)
        check_columns(columns)
        if columns["p"].dtype.kind == "i":
            columns["p"] = columns["p"] > 0
        columns["t"] = columns["t"].astype(np.int64, copy=False)
        if not in_order and np.any(columns["t"][1:] < columns["t"][:-1]):
            order = np.argsort(columns["t"], kind="stable")
            columns = {name: v[order] for name, v in columns.items()}
        types = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
        contiguous = {name: np.ascontiguousarray(v, types[name]) for name, v in columns.items()}
        t, x, y, p = (contiguous[name] for name in "txyp")
        return cls(t, x, y, p, width, height, source, oddities)

    def __len__(self) -> int:
        return int(self.t.size)

    @property
    def duration(self) -> int:
        """Microseconds from the first event to the last; 0 without events."""
        return int(self.t[-1]) - int(self.t[0]) if len(self) else 0

    @property
    def on_share(self) -> float:
        """Share of ON events, 0 to 1; 0 without events."""
        return float(self.p.mean()) if len(self) else 0.0


def check_columns(columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuses columns t, x, y, p that differ in length, or hold anything but integers and two polarities."""
    for name, column in columns.items():
        if column.ndim != 1:
            raise EventFileError(f"column {name} has shape {column.shape}; a column has one dimension")
        if column.dtype.kind not in "iub":
            raise EventFileError(f"column {name} holds {column.dtype}; events are whole numbers")
    check_lengths("columns", {name: column.size for name, column in columns.items()})
    t, p = columns["t"], columns["p"]
    if t.dtype == np.uint64 and t.size and int(t.max()) > np.iinfo(np.int64).max:
        raise EventFileError(f"a time of {int(t.max())} us does not fit 63 bits")
    if p.size and (p.min() < -1 or p.max() > 1 or (p.min() == -1 and np.any(p == 0))):
        raise EventFileError(f"polarities run from {p.min()} to {p.max()}; they are 0 and 1, or -1 and 1")


def check_lengths(what: str, counts: Mapping[str, int | None]) -> None:
    """Refuses columns of different lengths."""
    if len(set(counts.values())) > 1:
        sizes = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise EventFileError(f"{what} differ in length: {sizes}")


def check_fits(path: Path, recording: Recording, name: str, width: int, height: int, last_us: int) -> None:
    """Refuses a recording whose sensor or times a format cannot hold."""
    if recording.width > width or recording.height > height:
        raise EventFileError(
            f"{path}: {name} holds up to {width} x {height} pixels, not {recording.width} x {recording.height}"
        )
    if len(recording) and not (recording.t[0] >= 0 and recording.t[-1] <= last_us):
        raise EventFileError(
            f"{path}: {name} holds times from 0 to {last_us} us, not {recording.t[0]} to {recording.t[-1]}; neuromoco "
            "convert --start 0 shifts them"
        )


def _check_inside(x: NDArray[Any], y: NDArray[Any], width: int, height: int) -> None:
    # The extremes first: a mask of every event costs more than reading them.
    if not x.size or (x.min() >= 0 and x.max() < width and y.min() >= 0 and y.max() < height):
        return
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    at = int(outside.argmax())
    raise EventFileError(
        f"{int(outside.sum())} of {outside.size} events lie outside the {width} x {height} sensor, "
        f"the first at x={x[at]}, y={y[at]} (event {at})"
    )


def _side(name: str, side: int | None, coordinates: NDArray[Any]) -> int:
    side = int(coordinates.max(initial=0)) + 1 if side is None else int(side or 1)
    if not 1 <= side <= LARGEST_SIDE:
        raise EventFileError(f"a sensor {name} of {side}; it is between 1 and {LARGEST_SIDE}")
    return side
