"""Event Stream, `.es`, with events of a DVS.

Layout: https://github.com/neuromorphic-paris/event_stream (README.md, versions 1.0 and 2.0). After a header, every
event is a few bytes, of which the first holds the time since the event before. Certain values of the first byte mark
an overflow instead of an event: time passes (none after a reset). Bits from the highest:

    version 2   5 bytes: 7 time, 1 polarity; 16 x; 16 y (little-endian)    overflow 0xFF: 127 us, reset 0xFE
    version 1   3 bytes: 4 x, 4 time; 2 y, 6 x; 1 polarity, 7 y            overflow 0x?F: 15 us times the high 4 bits

Rows count from the bottom, as in the writers of this format; version 1 does not name the sensor.

Where an event begins depends on all bytes before it. `_marks` finds it without a loop over bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import Columns, CutError, EventStream, records, starts_with

FORMAT = "Event Stream .es"
MAGIC = b"Event Stream"
KINDS = {
    1: ("DVS", "ATIS", "asynchronous and modular display", "color", "generic"),
    2: ("generic", "DVS", "ATIS", "asynchronous and modular display", "color"),
}
EVENT_BYTES = {1: 3, 2: 5}
HEADER_BYTES = {1: 15, 2: 20}
CHUNK = 1 << 20  # bytes that are decoded at once


looks_like_es = starts_with(MAGIC)


def open_es(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES[2])
    version = head[12] if len(head) > 12 else 0
    if len(head) < HEADER_BYTES.get(version, HEADER_BYTES[1]):
        raise EventFileError("the header of the Event Stream file is cut")
    if version not in KINDS:
        raise EventFileError(f"Event Stream version {version}.{head[13]}; versions 1 and 2 are read")
    number, kinds = head[13 + version], KINDS[version]
    if (kind := kinds[number] if number < len(kinds) else f"unknown ({number})") != "DVS":
        raise EventFileError(f"the Event Stream file holds {kind} events; those of a DVS are read")
    sensor = options.sensor
    if version == 2 and sensor is None:
        sensor = int.from_bytes(head[16:18], "little"), int.from_bytes(head[18:20], "little")
        if not all(sensor):
            raise EventFileError(f"the header's sensor has {sensor[0]} x {sensor[1]} pixels; the file is damaged")
    if sensor is None:
        raise EventFileError("Event Stream 1 does not name the sensor: give --sensor WIDTHxHEIGHT, for example 304x240")
    parts = path.stat().st_size / CHUNK
    return EventStream(f"Event Stream {version}", _pieces(path, version, sensor[1]), *sensor, parts=parts)


def _pieces(path: Path, version: int, height: int) -> Iterator[Columns]:
    length = EVENT_BYTES[version]
    t, rest = 0, np.empty(0, np.uint8)
    for block in records(path, np.uint8, HEADER_BYTES[version], CHUNK):
        waits, rest, events = _split(np.concatenate((rest, block)) if rest.size else block, version, length)
        waits[:-1] += events[:, 0] >> 1 if version == 2 else events[:, 0] & 15
        times = t + np.cumsum(waits)
        t = int(times[-1])
        if len(events):
            yield _columns(times[:-1], events, version, height)
    if rest.size:
        reason = f"the last event has {rest.size} of its {length} bytes: the file is cut or damaged"
        raise CutError(reason, path.stat().st_size - rest.size)


def _split(
    raw: NDArray[np.uint8], version: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """Splits bytes that begin with an event or an overflow.

    Returns:
        Microseconds of the overflows before each event, and after the last [E + 1]; the bytes of an incomplete event;
        the bytes of the events [E, length].
    """
    is_mark, begin, end = _marks(raw >= 0xFE if version == 2 else raw & 15 == 15, length)
    data = raw
    if begin.size:  # a mask is the faster the fewer it leaves out
        few = begin.size < raw.size >> 6
        data = raw[~is_mark] if few else raw.take(np.flatnonzero(~is_mark))
    whole = data.size // length
    # An incomplete event is at the end, without an overflow among its bytes.
    events, rest = data[: whole * length].reshape(whole, length), data[whole * length :].copy()
    waits = np.zeros(whole + 1, np.int64)
    if begin.size:
        count = passed = end - begin
        if version == 1 or (is_mark & (raw == 0xFE)).any():
            amount = np.cumsum(raw == 0xFF if version == 2 else raw >> 4, dtype=np.int32)
            passed = np.diff(np.concatenate(([0], amount)).take(np.stack((begin, end), axis=1)), axis=1)[:, 0]
        before = (begin - (np.cumsum(count, dtype=np.int32) - count)) // length  # the events before each run
        waits = np.bincount(before, passed, whole + 1).astype(np.int64)
        waits *= 127 if version == 2 else 15
    return waits, rest, events


def _marks(alike: NDArray[np.bool_], length: int) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32]]:
    """Where the overflows are.

    Between two overflows, all events begin at the same place modulo their length. So a run of bytes that look like
    overflows maps the place where events begin before it to the place after it: to the end of the run if an event
    would begin in it, else to itself.

    Args:
        alike: which bytes have the value of an overflow [N]; some of them may be inside an event.
        length: bytes of an event.

    Returns:
        Which bytes are overflows, because an event could begin there [N]; begin and end of each run of overflows.
    """
    edges = np.empty(alike.size + 1, bool)
    edges[0], edges[-1] = alike[0], alike[-1]
    np.not_equal(alike[1:], alike[:-1], out=edges[1:-1])
    begin, end = np.flatnonzero(edges).astype(np.int32).reshape(-1, 2).T
    if not begin.size:
        return alike, begin, end
    size, place = end - begin, (begin % length).astype(np.uint8)
    shape = place * np.uint8(length) + np.minimum(size, length).astype(np.uint8) - np.uint8(1)
    always = np.flatnonzero(size >= length)  # an event would begin in it in any case
    shape[always] = length * length + end.take(always) % length
    # From the begin of a run to where an event begins.
    ahead = _walk(shape, _shapes(length)) + (np.uint8(length) - place)
    ahead -= np.uint8(length) * (ahead >= length)
    marks = alike.copy()
    for step in range(length - 1):  # bytes before that place belong to the event before
        marks[begin.compress((ahead > step) & (size > step)) + step] = False
    begin = begin + ahead
    runs = np.flatnonzero(begin < end)
    return marks, begin.take(runs), end.take(runs)


def _shapes(length: int) -> NDArray[np.uint8]:
    """The maps of all runs, [K, length]: by the place of their begin and their size, then those with a single end."""
    places = np.arange(length)
    begins, sizes = places[:, None, None], 1 + places[:, None]
    maps = np.where((places - begins) % length < sizes, (begins + sizes) % length, places)
    ends = np.broadcast_to(places[:, None], (length, length))
    return np.concatenate((maps.reshape(-1, length), ends)).astype(np.uint8)


def _walk(shapes: NDArray[np.uint8], maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The place before each map of a walk that starts at place 0.

    The maps of a block are composed, for all blocks at once; then the place where each block begins is known.
    `shapes` [R] are the numbers of the maps in their order, `maps` [K, length] go from place to place.
    """
    length = maps.shape[1]
    table, same = np.concatenate((maps.ravel(), np.arange(length, dtype=np.uint8))), len(maps)
    steps = max(1, int(np.sqrt(shapes.size)) // 3)
    blocks = -(-shapes.size // steps)
    padded = np.full(steps * blocks, same * length, np.uint8)
    np.multiply(shapes, np.uint8(length), out=padded[: shapes.size])
    rows = np.ascontiguousarray(padded.reshape(blocks, steps).T)  # [steps, blocks]
    through = np.repeat(np.arange(length, dtype=np.uint8)[:, None], blocks, axis=1)  # [length, blocks]
    for row in rows:
        through = table.take(row + through)
    place, begins = 0, np.zeros(blocks, np.uint8)
    for block, ends in enumerate(through.T.tolist()):
        begins[block] = place
        place = ends[place]
    walk = np.empty((steps, blocks), np.uint8)
    for step, row in enumerate(rows):
        walk[step] = begins
        begins = table.take(row + begins)
    return walk.T.ravel()[: shapes.size]


def _columns(t: NDArray[np.int64], events: NDArray[np.uint8], version: int, height: int) -> Columns:
    """Columns of whole events [E, length]."""
    if version == 2:
        place = np.ascontiguousarray(events[:, 1:]).view("<u2")  # [E, 2]
        x, y, p = place[:, 0], place[:, 1], events[:, 0] & 1
    else:
        a, b, c = (events[:, i].astype(np.uint16) for i in range(3))
        x, y, p = a >> 4 | (b & 63) << 4, b >> 6 | (c & 127) << 2, events[:, 2] >> 7
    # A row beyond the top wraps around to one outside the sensor.
    return Columns(t, np.ascontiguousarray(x), (height - 1 - y).astype(np.uint16), p)
