"""Events as they come out of a file: in pieces, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording

PIECE = 1 << 20  # events that a reader holds at once, approximately
# Cameras and their software let times step back a little; events are sorted. An event that is later than this is
# damage to a reader that must not look further ahead.
LATEST_US = 10_000
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
        width, height: of the sensor, if the file names them.
    """

    source: str
    pieces: Iterator[Columns]
    width: int | None = None
    height: int | None = None

    def events(self) -> Iterator[Columns]:
        """The pieces that are not empty; `EventFileError` if there are none."""
        empty = True
        for piece in self.pieces:
            if piece.t.size:
                empty = False
                yield piece
        if empty:
            raise EventFileError(f"the {self.source} file holds no events")


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file that does not say it itself.

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


def gather(stream: EventStream, start: int | None = None, stop: int | None = None) -> Recording:
    """All events of a stream, or those from `start` until before `stop`, in microseconds from the first event.

    The stream is used up. `EventFileError` if it is damaged, or without events.
    """
    parts, first = [], None
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
            break
    return _recording(stream, parts)


def windows(stream: EventStream, length: int) -> Iterator[Recording]:
    """Consecutive recordings of `length` microseconds, empty ones included; the last may be shorter.

    The stream, from a known sensor, is used up. `EventFileError` if times step back by more than 10 ms.
    """
    held: list[Columns] = []  # joined only when a window is complete, or long ones would be joined again and again
    begin = latest = 0
    for piece in chain(stream.events(), (None,)):
        if piece is not None:
            last = int(piece.t.max())
            begin, latest = (begin, max(latest, last)) if held else (int(piece.t.min()), last)
            held.append(piece)
        limit = latest + length if piece is None else latest - LATEST_US
        if limit >= begin + length:
            rest = _in_order(held, begin)
            while limit >= begin + length:
                begin += length
                at = int(np.searchsorted(rest.t, begin))
                yield _recording(stream, [rest.take(slice(at))])
                rest = rest.take(slice(at, None))
            held = [rest]


def _in_order(pieces: list[Columns], begin: int) -> Columns:
    """The events of all pieces in order of time; none may be earlier than `begin`."""
    columns = _joined(pieces)
    t = columns.t.astype(np.int64)
    if t.size and int(t.min()) < begin:
        raise EventFileError(f"times run back by {begin - int(t.min())} us, into a window that is done")
    columns = columns._replace(t=t)
    return columns if np.all(t[1:] >= t[:-1]) else columns.take(np.argsort(t, kind="stable"))


def _joined(parts: list[Columns]) -> Columns:
    return parts[0] if len(parts) == 1 else Columns(*map(np.concatenate, zip(*parts, strict=True)))


def _recording(stream: EventStream, parts: list[Columns]) -> Recording:
    return Recording.from_columns(*_joined(parts), width=stream.width, height=stream.height, source=stream.source)


# What readers share.


class CutError(EventFileError):
    """A file of which only the first `whole` bytes can be read."""

    def __init__(self, message: str, whole: int) -> None:
        super().__init__(message)
        self.whole = whole


def extent(pieces: Iterable[Columns]) -> tuple[int, int]:
    """Width and height that hold every event."""
    width = height = 1
    for piece in pieces:
        width = max(width, int(piece.x.max(initial=0)) + 1)
        height = max(height, int(piece.y.max(initial=0)) + 1)
    return width, height


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
