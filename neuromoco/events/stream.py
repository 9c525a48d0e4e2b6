"""Events as they come out of a file: in pieces, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.extent import MOST_STRAY, extent
from neuromoco.events.recording import LARGEST_SIDE, Recording

PIECE = 1 << 20  # events that a reader holds at once, approximately
# Cameras and their software let times step back a little; events are sorted. An event that is later than this is
# damage to a reader that must not look further ahead.
LATEST_US = 10_000
LARGEST_TIME = 1 << 62  # us; clocks that count from 1970 are far below
SOON = 1 << 16  # events after which a stream that lies mostly outside is not read on
# What libraries raise on damaged files, apart from errors of their own.
DAMAGE = (ValueError, TypeError, LookupError, RuntimeError, MemoryError, OverflowError)

T = TypeVar("T")


class Columns(NamedTuple):
    """Some events: arrays of one length, of any integer type; times in microseconds."""

    t: NDArray[Any]
    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]

    def take(self, part: Any) -> Columns:
        """The events of a slice, a mask or an array of indices."""
        return Columns(*(column[part] for column in self))


@dataclass
class EventStream:
    """The events of one camera in the order of the file.

    Attributes:
        source: the format.
        pieces: the events, about `PIECE` at a time. Taking the next piece may raise `EventFileError`.
        width, height: of the sensor, if they are known.
        count: events so far.
        outside: of them outside the sensor, or of any sensor; `events` drops them.
    """

    source: str
    pieces: Iterator[Columns]
    width: int | None = None
    height: int | None = None
    count: int = 0
    outside: int = 0
    _stray: tuple[int, int] = (0, 0)  # place of the first event outside

    def events(self) -> Iterator[Columns]:
        """The pieces that are not empty, without events outside the sensor.

        `EventFileError` if there are no events, or more than 1 % of them lie outside.
        """
        for piece in self.pieces:
            _check_times(piece.t)
            self.count += piece.t.size
            piece = self._inside(piece)
            if self.count > SOON and 2 * self.outside > self.count:
                break
            if piece.t.size:
                yield piece
        if not self.count:
            raise EventFileError(f"the {self.source} file holds no events")
        self.check_outside()

    def check_outside(self) -> None:
        """Refuses a file of whose events so far more than 1 % lie outside the sensor."""
        if self.outside > MOST_STRAY * self.count:
            sensor = f"the {self.width} x {self.height} sensor" if self.width and self.height else "any sensor"
            x, y = self._stray
            raise EventFileError(
                f"{self.outside} of {self.count} events ({self.outside / self.count:.1%}) lie outside {sensor}, the "
                f"first at x={x}, y={y}; up to 1 % are dropped: damaged, or give the right --sensor WIDTHxHEIGHT"
            )

    def _inside(self, piece: Columns) -> Columns:
        x, y = piece.x, piece.y
        width, height = self.width or LARGEST_SIDE, self.height or LARGEST_SIDE
        # The extremes first: a mask of every event costs more than reading them.
        if not x.size or (_all_below(x, width) and _all_below(y, height)):
            return piece
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if not self.outside:
            at = int(inside.argmin())
            self._stray = int(x[at]), int(y[at])
        kept = piece.take(inside)
        self.outside += piece.t.size - kept.t.size
        return kept


def dropped_line(outside: Sequence[int]) -> str | None:
    """A warning that events outside the sensor were dropped, given their number in each file; None without any."""
    files = sum(map(bool, outside))
    where = f" in {files} of {len(outside)} files" if len(outside) > 1 else ""
    return f"{sum(outside):,} events outside the sensor were dropped{where}" if files else None


def _check_times(t: NDArray[Any]) -> None:
    """Refuses times of which differences would not fit 63 bits."""
    if t.dtype.itemsize == 8 and t.size and not (int(t.min()) > -LARGEST_TIME and int(t.max()) < LARGEST_TIME):
        at = int(np.argmax((t <= -LARGEST_TIME) | (t >= LARGEST_TIME)))
        raise EventFileError(f"a time of {t[at]} us, more than 100,000 years: damaged")


def _all_below(places: NDArray[Any], side: int) -> bool:
    return bool((places.dtype.kind == "u" or places.min() >= 0) and places.max() < side)


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file; it wins over what the file says.

    Attributes:
        format: short name of a format, for files that cannot be recognised.
        sensor: width and height in pixels.
        columns: order of the columns of a text or an unnamed array, such as "xytp".
        time_unit: unit of the times in a text or an array.
        select: which camera of a file with several: a topic of a ROS recording, ...
        salvage: read the undamaged beginning of a cut file.
    """

    format: str | None = None
    sensor: tuple[int, int] | None = None
    columns: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    select: str | None = None
    salvage: bool = False

    def given(self) -> list[str]:
        """The options that the user gives, without the format."""
        return [f.name for f in fields(self) if f.name != "format" and getattr(self, f.name) != f.default]


def gather(stream: EventStream, start: int | None = None, stop: int | None = None) -> Recording:
    """All events of a stream, or those from `start` until before `stop`, in microseconds from the first event.

    The stream is used up. `EventFileError` if it is damaged, without events, or from a sensor that cannot be known.
    """
    parts: list[Columns] = []
    first = None
    for piece in stream.events():
        if start is None and stop is None:
            parts.append(piece)
            continue
        t = piece.t.astype(np.int64)
        first = int(t.min()) if first is None else first
        inside = np.ones(t.size, bool)
        if start is not None:
            inside &= t >= first + start
        if stop is not None:
            inside &= t < first + stop
        parts.append(piece.take(inside))
        if stop is not None and int(t.min()) > first + stop + LATEST_US:
            stream.check_outside()
            break
    settle_sensor(stream, lambda: parts)
    return as_recording(stream, parts, stream.outside)


def joined(parts: list[Columns]) -> Columns:
    """All events of several pieces."""
    return parts[0] if len(parts) == 1 else Columns(*map(np.concatenate, zip(*parts, strict=True)))


def as_recording(stream: EventStream, parts: list[Columns], outside: int) -> Recording:
    """Events of a stream whose sensor is known, and the number of those that were dropped."""
    assert stream.width is not None
    assert stream.height is not None
    return Recording.from_inside(joined(parts)._asdict(), stream.width, stream.height, stream.source, outside)


def settle_sensor(stream: EventStream, pieces: Callable[[], Iterable[Columns]]) -> None:
    """Gives a stream whose sensor is not known the one that holds every event, if no stray event speaks against it."""
    if stream.width is None or stream.height is None:
        width, height = extent(lambda: ((piece.x, piece.y) for piece in pieces()))
        stream.width, stream.height = stream.width or width, stream.height or height


# What readers share.


class CutError(EventFileError):
    """A file of which only the first `whole` bytes can be read."""

    def __init__(self, message: str, whole: int) -> None:
        super().__init__(message)
        self.whole = whole


def in_pieces(columns: Columns, size: int = PIECE) -> Iterator[Columns]:
    """Columns that are already there, such as memory-mapped ones, piece by piece."""
    for first in range(0, len(columns.t), size):
        yield columns.take(slice(first, first + size))


def in_batches(parts: Iterable[T], size_of: Callable[[T], int], size: int) -> Iterator[list[T]]:
    """Consecutive parts together until their sizes add up to `size`: files have packets far smaller than a piece."""
    batch: list[T] = []
    held = 0
    for part in parts:
        batch.append(part)
        held += size_of(part)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def check_whole(path: Path, begin: int, size: int, name: str) -> None:
    """Refuses a file whose bytes from `begin` on are not a whole number of records of `size` bytes."""
    length = path.stat().st_size - begin
    if length % size:
        raise EventFileError(
            f"{length} bytes of events are not a whole number of {size}-byte {name}: the file is cut or damaged"
        )


def records(path: Path, dtype: DTypeLike, begin: int, count: int) -> Iterator[NDArray[Any]]:
    """The whole records of a file from byte `begin` on, up to `count` at a time."""
    dtype = np.dtype(dtype)
    left = (path.stat().st_size - begin) // dtype.itemsize
    with path.open("rb") as file:
        file.seek(begin)
        while left > 0:
            block = np.fromfile(file, dtype, min(left, count))
            if not len(block):
                raise EventFileError("the file became shorter while it was read")
            left -= len(block)
            yield block


def same_camera(file: str, camera: int | None, number: int) -> int:
    """The number of a camera, which must be the one of the events before."""
    if camera not in (None, number):
        raise EventFileError(f"the {file} file holds events of two cameras ({camera}, {number}); one is read")
    return number


@contextmanager
def damage(file: str, errors: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Turns what a library raises on a damaged file into an `EventFileError` of one line."""
    try:
        yield
    except errors as error:
        raise EventFileError(f"the {file} is cut or damaged ({reason_of(error)})") from error


def reason_of(error: BaseException) -> str:
    """The message of an error on one line, or the name of its class."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """A text from a file, fit for a message."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())


def starts_with(*marks: bytes) -> Callable[[bytes, int], bool]:
    """A test of the first bytes of a file; its second argument, the size of the file, does not matter."""
    return lambda head, size: head.startswith(marks)
