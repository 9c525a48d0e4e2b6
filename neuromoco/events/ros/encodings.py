"""The events in the messages of a camera, decoded many messages at a time.

Encodings of packets (github.com/ros-event-camera, `event_camera_msgs` and `event_camera_codecs`), little-endian:

* `evt3`: words of EVT3 (see `evt3.py`), whose state continues from packet to packet; times are the sensor's.
* `evt2`: words of EVT2 (see `evt.py`), likewise. The drivers know the name but do not write it.
* `libcaer`: 8 bytes an event: bit 1 polarity, bits 2-16 y, bits 17-31 x; then 31 bits of microseconds since the
  packet's `time_base`, which go on from 0 if they overflow within a packet.
* `libcaer_cmp`: 16-bit words, 4 bits of type and 12 bits (`libcaer_cmp_types.h`): 0 high and 1 low half of 24 bits of
  microseconds since `time_base`, 2 x, 3 polarity and y: one event, 4 polarity and y where the next vector begins, 5 a
  bit for each of 8 pixels, the next vector begins 8 further.
* `mono`: 8 bytes an event: 32 bits of nanoseconds since `time_base`, 16 bits x, 15 bits y, 1 bit polarity.

Arrays hold whole events with times of ROS, which become microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.prophesee.evt import Evt2Decoder
from neuromoco.events.prophesee.evt3 import Evt3Decoder
from neuromoco.events.stream import Columns

FARTHEST = 1 << 20  # rows; far outside of every sensor
TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = range(6)
# An event of an array in ROS 1, and in ROS 2 (CDR), where numbers lie at multiples of their size.
ARRAY_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nsec", "<u4"), ("p", "u1")])
CDR_EVENT = np.dtype(
    {"names": list(ARRAY_EVENT.names or ()), "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
     "offsets": [0, 2, 6, 10, 14], "itemsize": 16}
)  # fmt: skip
MONO_EVENT = np.dtype([("ns", "<u4"), ("x", "<u2"), ("y_p", "<u2")])


class Part(NamedTuple):
    """A part of a message's events, the time from which its times count, and whether the message begins with it."""

    base_ns: int
    begins: bool
    payload: bytes


def decoder_of(encoding: str, sensor: tuple[int, int] | None) -> Callable[[list[Part]], Columns]:
    """What decodes the next parts, at least one; some encodings continue from one part to the next."""
    if encoding == "evt3":
        if sensor is None:
            raise EventFileError("the messages do not name the sensor: give --sensor WIDTHxHEIGHT, for example 640x480")
        evt3 = Evt3Decoder()
        return lambda parts: evt3.decode(_joined(parts, "<u2"))
    if encoding == "evt2":
        evt2 = Evt2Decoder(vectors=False)
        return lambda parts: evt2.decode(_joined(parts, "<u4"))
    decoders: dict[str, Callable[[list[Part]], Columns]] = {
        "libcaer": LibcaerDecoder().decode,
        "libcaer_cmp": CompressedLibcaerDecoder().decode,
        "mono": _mono,
        "ros1": lambda parts: _array(parts, ARRAY_EVENT),
        "cdr": lambda parts: _array(parts, CDR_EVENT),
    }
    return decoders[encoding]


PACKET_ENCODINGS = ("evt3", "evt2", "libcaer", "libcaer_cmp", "mono")


def _joined(parts: list[Part], dtype: DTypeLike) -> NDArray[Any]:
    dtype = np.dtype(dtype)
    for part in parts:
        if len(part.payload) % dtype.itemsize:
            raise EventFileError(
                f"a message with {len(part.payload)} bytes of events, no multiple of {dtype.itemsize}: damaged"
            )
    return np.frombuffer(b"".join(part.payload for part in parts), dtype)


def _bases(parts: list[Part], unit: int, size: int) -> NDArray[np.int64]:
    """The base of every event [E] of `size` bytes, in units of some nanoseconds."""
    return np.repeat([part.base_ns // unit for part in parts], [len(part.payload) // size for part in parts])


def _array(parts: list[Part], dtype: np.dtype[np.void]) -> Columns:
    events = _joined(parts, dtype)
    t = events["sec"].astype(np.int64) * 1_000_000 + events["nsec"] // 1000
    return Columns(t, events["x"].copy(), events["y"].copy(), events["p"].copy())


def _mono(parts: list[Part]) -> Columns:
    events = _joined(parts, MONO_EVENT)
    t = (_bases(parts, 1, 8) + events["ns"]) // 1000
    return Columns(t, events["x"].copy(), events["y_p"] & 0x7FFF, (events["y_p"] >> 15).astype(np.uint8))


class LibcaerDecoder:
    """Decodes `libcaer` part by part; 31 bits of time may overflow within a packet."""

    def __init__(self) -> None:
        self._last = self._turns = 0

    def decode(self, parts: list[Part]) -> Columns:
        """Events of the next parts; at least one."""
        words = _joined(parts, np.dtype(("<u4", 2)))
        data, time = np.ascontiguousarray(words[:, 0]), words[:, 1].astype(np.int64)
        t = time + _bases(parts, 1000, 8)
        counts = np.array([len(part.payload) // 8 for part in parts])
        starts = (np.cumsum(counts) - counts)[[part.begins for part in parts]]
        starts = starts[starts < time.size]
        turned = np.diff(time, prepend=self._last) < -(1 << 30)
        turned[starts] = False
        if turned.any() or self._turns:
            total = np.cumsum(turned)
            before = np.concatenate(([-self._turns], total[starts]))  # the turns before each packet
            turns: NDArray[np.int64] = total - before[np.searchsorted(starts, np.arange(time.size), side="right")]
            t += turns << 31
            self._turns = int(turns[-1]) if turns.size else self._turns
        self._last = int(time[-1]) if time.size else self._last
        x, y, p = data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
        return Columns(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


class CompressedLibcaerDecoder:
    """Decodes `libcaer_cmp` part by part; x and vectors continue from packet to packet, the time starts again."""

    def __init__(self) -> None:
        self._high = self._low = self._x = self._y = self._p = 0

    def decode(self, parts: list[Part]) -> Columns:
        """Events of the next parts; at least one."""
        words = _joined(parts, "<u2")
        kind, value = words >> 12, (words & 0xFFF).astype(np.int32)
        if kind.max() > VECT_8:
            raise EventFileError(f"a word of the unknown kind {int(kind.max())} among the events: damaged")
        counts = np.array([len(part.payload) // 2 for part in parts])
        starts = np.cumsum(counts) - counts
        # The time is 0 at the beginning of a packet, as if a word there had set it.
        fresh = starts[[part.begins for part in parts]]
        base = _bases(parts, 1000, 2)
        high = _latest(value, kind == TIME_HIGH, self._high, fresh)
        low = _latest(value, kind == TIME_LOW, self._low, fresh)
        x = _latest(value & 0x7FF, kind == ADDR_X, self._x)
        sets, vector = kind == VECT_BASE_Y, kind == VECT_8
        moved = np.cumsum(vector, dtype=np.int32) * 8
        y = _latest((value & 0x7FF) - moved, sets, self._y) + moved  # after the word
        p = _latest(value >> 11, sets, self._p)
        self._high, self._low, self._x, self._y, self._p = (int(state[-1]) for state in (high, low, x, y, p))
        self._y = min(self._y, FARTHEST)

        events = np.flatnonzero(vector | (kind == ADDR_Y))
        many = vector[events]
        pixels = np.where(many, value[events] & 0xFF, 1).astype(np.uint8)
        bits = np.flatnonzero(np.unpackbits(pixels, bitorder="little").view(bool))
        at, many = events[bits >> 3], many[bits >> 3]
        rows = np.where(many, y[at] - 8 + (bits & 7), value[at] & 0x7FF)
        polarities = np.where(many, p[at], value[at] >> 11).astype(np.uint8)
        t = base[at] + (high[at].astype(np.int64) << 12 | low[at])
        return Columns(t, x[at].astype(np.uint16), rows, polarities)


def _latest(
    value: NDArray[np.int32], here: NDArray[np.bool_], before: int, zero_at: NDArray[np.int64] | None = None
) -> NDArray[np.int32]:
    """For every word, the value [W] of the last word up to it that is `here` [W], or the value before it.

    Before the words `zero_at` the value becomes 0.
    """
    at = np.flatnonzero(here)
    if zero_at is None or not zero_at.size:
        values = np.concatenate(([before], value[at]))
        return np.asarray(values, np.int32)[np.cumsum(here)]
    # If a word sets the value where it becomes 0, the value of the word applies.
    places = np.concatenate((zero_at, at))
    order = np.argsort(places, kind="stable")
    values = np.concatenate((np.zeros(zero_at.size, np.int32), value[at]))[order]
    of = np.searchsorted(places[order], np.arange(here.size), side="right")
    return np.concatenate((np.array([before], np.int32), values))[of]
