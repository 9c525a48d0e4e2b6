"""The one in-memory form of an event recording: columns, not rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromoco.errors import EventFileError


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

    Columns are contiguous: a packed structured array of the same events is many times slower to
    slice and to count. Build one with `Recording.from_columns`, which checks all of the above.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    width: int
    height: int
    source: str = "memory"

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
        """Checks columns and makes them contiguous. Events out of order are sorted, stably.

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
        times = columns["t"].astype(np.int64, copy=False)
        if times.size and np.any(times[1:] < times[:-1]):
            order = np.argsort(times, kind="stable")
            times = times[order]
            columns = {name: v[order] for name, v in columns.items()}
        return cls(
            t=np.ascontiguousarray(times),
            x=np.ascontiguousarray(columns["x"], dtype=np.uint16),
            y=np.ascontiguousarray(columns["y"], dtype=np.uint16),
            p=_polarity(columns["p"]),
            width=width,
            height=height,
            source=source,
        )

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

    def facts(self) -> dict[str, Any]:
        """What one wants to know first of a recording, ready for JSON."""
        seconds = self.duration / 1e6
        return {
            "format": self.source,
            "sensor": f"{self.width} x {self.height}",
            "events": len(self),
            "duration_ms": self.duration / 1e3,
            "rate_events_per_s": len(self) / seconds if seconds else None,
            "on_share": self.on_share,
            "first_us": int(self.t[0]) if len(self) else None,
            "last_us": int(self.t[-1]) if len(self) else None,
        }


def check_columns(columns: Mapping[str, NDArray[Any]]) -> None:
    """Whether columns t, x, y, p can be events.

    Raises:
        EventFileError: they differ in length, or hold something else than whole numbers and two polarities.
    """
    for name, column in columns.items():
        if column.ndim != 1:
            raise EventFileError(f"column {name} has shape {column.shape}; a column has one dimension")
        if column.dtype.kind not in "iub":
            raise EventFileError(f"column {name} holds {column.dtype}; events are whole numbers")
    if len({column.size for column in columns.values()}) > 1:
        sizes = ", ".join(f"{name} {column.size}" for name, column in columns.items())
        raise EventFileError(f"columns differ in length: {sizes}")
    t, p = columns["t"], columns["p"]
    if t.dtype == np.uint64 and t.size and int(t.max()) > np.iinfo(np.int64).max:
        raise EventFileError(f"a time of {int(t.max())} us does not fit 63 bits")
    if p.size and (p.min() < -1 or p.max() > 1 or (p.min() == -1 and np.any(p == 0))):
        raise EventFileError(f"polarities run from {p.min()} to {p.max()}; they are 0 and 1, or -1 and 1")


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


def _polarity(p: NDArray[Any]) -> NDArray[np.uint8]:
    """0 and 1 of checked polarities."""
    return np.ascontiguousarray(p > 0 if p.dtype.kind == "i" else p, dtype=np.uint8)


def _side(name: str, given: int | None, coordinates: NDArray[Any]) -> int:
    side = int(coordinates.max()) + 1 if given is None and coordinates.size else int(given or 1)
    if not 1 <= side <= 65535:
        raise EventFileError(f"a sensor {name} of {side}; it lies between 1 and 65535")
    return side
