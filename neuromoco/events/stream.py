"""Events as they come out of a file: in pieces, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.clock import MOST_RESTARTS, Clock
from neuromoco.events.extent import Stray, likely_sensor
from neuromoco.events.recording import NOTHING_ODD, Oddities, Recording

PIECE = 1 << 20  # events that a reader holds at once, approximately
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
        likely: sensors of the cameras that write the format, the smallest first, if it does not name the sensor.
        clock: continues the times.
        flip: "x", "y" or "xy": the directions in which the camera counts the other way.
        size: bytes of the file.
        parts: about how many pieces there are, of integers like a recording's; 0 if that is not known.
        salvage: whether damage ends the events instead of being an error.
        stray: counts events outside the sensor, or any sensor, which `events` drops.
        lost: what was not read because of damage.
    """

    source: str
    pieces: Iterator[Columns]
    width: int | None = None
    height: int | None = None
    likely: tuple[tuple[int, int], ...] = ()
    clock: Clock = field(default_factory=Clock)
    flip: str = ""
    size: int = 0
    parts: float = 0.0
    salvage: bool = False
    stray: Stray = field(default_factory=Stray)
    lost: str = ""
    _reported: Oddities = NOTHING_ODD

    def events(self) -> Iterator[Columns]:
        """The pieces that are not empty, without events outside the sensor, and with times that go on.

        `EventFileError` if there are no events, or more than 1 % of them lie outside.
        """
        for piece in self._whole():
            inside = self.stray.inside(piece.x, piece.y, self.width, self.height)
            piece = piece if inside is None else piece.take(inside)
            if self.stray.are_most():
                break
            if piece.t.size:
                yield piece._replace(t=self.clock.continued(piece.t))
        if not self.stray.of:
            raise EventFileError(f"the {self.source} file holds no events" + (self.lost and f": {self.lost}"))
        self.stray.check(self.width, self.height)

    def _whole(self) -> Iterator[Columns]:
        try:
            yield from self.pieces
        except CutError as damage:
            if not self.salvage:
                raise
            self.lost = damage.lost(self.size)

    def news(self) -> Oddities:
        """What was done to the events since this was asked before."""
        now, before = Oddities(self.stray.outside, self.clock.restarts, self.lost), self._reported
        self._reported = now
        lost = "" if before.lost else now.lost
        return Oddities(now.outside - before.outside, now.restarts - before.restarts, lost)

    def flipped(self, events: Columns) -> Columns:
        """The events as `flip` demands; the sensor must be known."""
        if "x" in self.flip:
            events = events._replace(x=int(self.width or 0) - 1 - events.x)
        return events._replace(y=int(self.height or 0) - 1 - events.y) if "y" in self.flip else events


def gather(stream: EventStream, start: int | None = None, stop: int | None = None) -> Recording:
    """All events of a stream, or those from `start` until before `stop`, in microseconds from the first event.

    The stream is used up. `EventFileError` if it is damaged, without events, or from a sensor that cannot be known.
    """
    if start is None and stop is None:
        columns = _collected(stream) if stream.parts > 1 else joined(list(stream.events()))
        if stream.clock.disordered:
            columns = columns._replace(t=stream.clock.as_in_file(columns.t))
        settle_sensor(stream, lambda: [columns])
        return as_recording(stream, columns, stream.news(), stream.clock.in_order)
    parts: list[Columns] = []
    first = None
    for piece in stream.events():
        t = piece.t.astype(np.int64)
        first = int(t.min()) if first is None else first
        inside = np.ones(t.size, bool)
        if start is not None:
            inside &= t >= first + start
        if stop is not None:
            inside &= t < first + stop
        parts.append(piece.take(inside))
        if stop is not None and int(t.min()) > first + stop + stream.clock.late_us:
            stream.stray.check(stream.width, stream.height)
            break
    if stream.clock.disordered:
        raise disordered(stream)
    settle_sensor(stream, lambda: parts)
    return as_recording(stream, joined(parts), stream.news(), stream.clock.in_order)


def _collected(stream: EventStream) -> Columns:
    """All events of several pieces, put where they stay at once: fresh memory costs as much as decoding."""
    columns, end = _room(0), 0
    for number, piece in enumerate(stream.events(), 1):
        begin, end = end, end + len(piece.t)
        if end > len(columns.t):
            likely = min(int(1.02 * end * stream.parts / number), max(stream.size, 4 * end))  # damage may promise more
            grown = _room(max(likely, end + end // 4))
            for column, before in zip(grown, columns, strict=True):
                column[:begin] = before[:begin]
            columns = grown
        for column, part in zip(columns, piece, strict=True):
            column[begin:end] = part
    return columns.take(slice(end))


def _room(count: int) -> Columns:
    """Columns for so many events in one piece of memory, which the system provides faster than four."""
    t, x, y, p = np.split(np.empty(13 * count, np.uint8), (8 * count, 10 * count, 12 * count))
    return Columns(t.view(np.int64), x.view(np.uint16), y.view(np.uint16), p)


def joined(parts: list[Columns]) -> Columns:
    """All events of several pieces."""
    return parts[0] if len(parts) == 1 else Columns(*map(np.concatenate, zip(*parts, strict=True)))


def disordered(stream: EventStream) -> EventFileError:
    """The error of a stream in no order of time, where that matters."""
    return EventFileError(
        f"times run back by more than {stream.clock.late_us // 1000} ms more than {MOST_RESTARTS} times: sort the "
        "events first, with neuromoco convert FILE SORTED.npz"
    )


def as_recording(stream: EventStream, columns: Columns, oddities: Oddities, in_order: bool) -> Recording:
    """Events of a stream whose sensor is known, what was done to them, and whether they are in order of time."""
    assert stream.width is not None
    assert stream.height is not None
    columns = stream.flipped(columns)
    return Recording.from_inside(columns._asdict(), stream.width, stream.height, stream.source, oddities, in_order)


def settle_sensor(stream: EventStream, pieces: Callable[[], Iterable[Columns]]) -> None:
    """Gives a stream whose sensor is not known the one that holds every event, if no stray event speaks against it."""
    if stream.width is None or stream.height is None:
        width, height = likely_sensor(lambda: ((piece.x, piece.y) for piece in pieces()), stream.likely)
        stream.width, stream.height = stream.width or width, stream.height or height


# What readers share.


class CutError(EventFileError):
    """Damage to a file whose events before it can be read; they end after `whole` bytes, if that is known."""

    def __init__(self, message: str, whole: int | None = None) -> None:
        super().__init__(message)
        self.whole = whole

    def lost(self, size: int) -> str:
        """What of a file of so many bytes is lost, and why."""
        if self.whole is None:
            return f"the rest of the file was not read: {self}"
        left = size - self.whole
        return f"the last {left:,} of {size:,} bytes ({left / size:.1%}) were not read: {self}"


def in_batches(parts: Iterable[T], size_of: Callable[[T], int], size: int) -> Iterator[list[T]]:
    """Consecutive parts together until their sizes add up to `size`: files have packets far smaller than a piece."""
    batch: list[T] = []
    held, damage = 0, None
    try:
        for part in parts:
            batch.append(part)
            held += size_of(part)
            if held >= size:
                yield batch
                batch, held = [], 0
    except CutError as error:  # after what came before
        damage = error
    if batch:
        yield batch
    if damage:
        raise damage


def check_whole(path: Path, begin: int, size: int, name: str, salvage: bool) -> None:
    """Refuses a file whose bytes from `begin` on are not a whole number of records of `size` bytes.

    With `salvage`, `records` does so after the last whole one.
    """
    length = path.stat().st_size - begin
    if length % size and not salvage:
        raise CutError(
            f"{length} bytes of events are not a whole number of {size}-byte {name}: the file is cut or damaged"
        )


def records(path: Path, dtype: DTypeLike, begin: int, count: int) -> Iterator[NDArray[Any]]:
    """The records of a file from byte `begin` on, up to `count` at a time."""
    dtype = np.dtype(dtype)
    size = path.stat().st_size
    left, rest = divmod(size - begin, dtype.itemsize)
    with path.open("rb") as file:
        file.seek(begin)
        while left > 0:
            block = np.fromfile(file, dtype, min(left, count))
            if not len(block):
                raise EventFileError("the file became shorter while it was read")
            left -= len(block)
            yield block
    if rest:
        raise CutError(f"the last record has {rest} of its {dtype.itemsize} bytes: the file is cut", size - rest)


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
