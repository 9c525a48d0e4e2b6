"""ROS 1 bags, ROS 2 databases and MCAP with the events of a camera, as `event_camera_msgs/EventPacket` or, in ROS 1
or MCAP, `dvs_msgs/EventArray`.

A packet (github.com/ros-event-camera/event_camera_msgs) holds the sensor, an encoding and bytes:

* `evt3`: words of EVT3 (see `evt3.py`), whose state continues from packet to packet; times are the sensor's.
* `libcaer_cmp`: 16-bit words, 4 bits of type and 12 bits (event_camera_codecs, `libcaer_cmp_types.h`): 0 high and 1
  low half of 24 bits of microseconds since the packet's `time_base` (nanoseconds), 2 x, 3 polarity and y: one
  event, 4 polarity and y where the next vector begins, 5 a bit for each of 8 pixels, the next vector begins 8 further.

An array holds whole events with times of ROS, which become microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import EventFileError
from neuromoco.events.prophesee.evt3 import Evt3Decoder
from neuromoco.events.ros.bags import BAG, MCAP, SQLITE, Channel, messages
from neuromoco.events.stream import Columns, EventStream, ReadOptions, in_batches, one_line, starts_with

FORMAT = "ROS recording"
PACKET, ARRAY = "event_camera_msgs/EventPacket", "dvs_msgs/EventArray"
ENCODINGS = ("evt3", "libcaer_cmp")
# Decoded at once: whole words and whole events, about 128 K words, which is fastest for EVT3.
PIECE_BYTES = 26 * 10_082
FARTHEST = 1 << 20  # rows; far outside of every sensor
ARRAY_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nsec", "<u4"), ("p", "u1")])  # packed
LITTLE_ENDIAN_CDR = b"\0\1"
TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8 = range(6)


class Packet(NamedTuple):
    """The events of a message: encoding, sensor, the time in microseconds from which its times count, and the bytes."""

    encoding: str
    width: int
    height: int
    base: int
    payload: bytes


looks_like_ros = starts_with(BAG, MCAP, SQLITE)


def open_ros(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; topics of other types are skipped."""
    packets = _packets(path)
    first = next(packets, None)
    if first is None:
        raise EventFileError(f"the ROS recording holds no messages of the types {PACKET}, {ARRAY}")
    sensor = (first.width, first.height) if first.width and first.height else options.sensor
    return EventStream(FORMAT, _pieces(first, packets, _decoder(first, sensor)), *(sensor or (None, None)))


def _packets(path: Path) -> Iterator[Packet]:
    camera: Channel | None = None
    for channel, data in messages(path, (PACKET, ARRAY)):
        camera = camera or channel
        if channel.topic != camera.topic:
            topics = f"{one_line(camera.topic)}, {one_line(channel.topic)}"
            raise EventFileError(
                f"the ROS recording holds events of several topics ({topics}); one is read: "
                "copy one to a separate recording with rosbag filter or ros2 bag convert"
            )
        try:
            packet = _array(data, channel) if channel.type == ARRAY else _packet(data, channel)
        except (struct.error, UnicodeDecodeError) as error:
            raise EventFileError(f"a message of {one_line(channel.topic)} is cut or damaged ({error})") from error
        if packet.encoding not in (*ENCODINGS, ARRAY):
            raise EventFileError(
                f"events in the encoding {packet.encoding[:30]!r}; {', '.join(ENCODINGS)} and {ARRAY} are read"
            )
        yield packet


class Part(NamedTuple):
    """A part of a packet's payload, and whether it is the beginning of the packet."""

    base: int
    begins: bool
    payload: bytes


def _pieces(first: Packet, others: Iterator[Packet], decode: Callable[[list[Part]], Columns]) -> Iterator[Columns]:
    """Events of many packets at a time, as packets hold up to a few thousand, and of large packets in parts."""
    yield from map(decode, in_batches(_parts(first, others), lambda part: len(part.payload), PIECE_BYTES))


def _parts(first: Packet, others: Iterator[Packet]) -> Iterator[Part]:
    for packet in chain((first,), others):
        if packet[:3] != first[:3]:
            raise EventFileError(f"the sensor or the encoding changes from {first[:3]} to {packet[:3]}")
        for at in range(0, len(packet.payload), PIECE_BYTES):
            yield Part(packet.base, at == 0, packet.payload[at : at + PIECE_BYTES])


# Messages


class Fields:
    """Reads a message field by field; ROS 2 (CDR) aligns numbers to their size, counted after its first 4 bytes."""

    def __init__(self, data: bytes, channel: Channel) -> None:
        self._data, self._at, self._cdr = data, 0, channel.encoding == "cdr"
        if self._cdr:
            if data[:2] != LITTLE_ENDIAN_CDR:
                topic = one_line(channel.topic)
                raise EventFileError(f"a message of {topic} begins with {data[:4].hex()}: no plain CDR, or packed")
            self._at = 4
        elif channel.encoding != "ros1":
            topic = one_line(channel.topic)
            raise EventFileError(f"messages of {topic} are {channel.encoding[:20]!r}; ros1 and cdr are read")

    def number(self, kind: str) -> int:
        """A number of a kind, such as "I" of `struct`."""
        size = struct.calcsize(kind)
        if self._cdr:
            self._at += -(self._at - 4) % size
        (value,) = struct.unpack_from("<" + kind, self._data, self._at)
        self._at += size
        return int(value)

    def sized(self, of: int = 1) -> bytes:
        """Elements of a size that follow their number, as bytes."""
        size = self.number("I") * of
        if size > len(self._data) - self._at:
            raise EventFileError("a message announces more bytes than it has: cut or damaged")
        self._at += size
        return self._data[self._at - size : self._at]

    def head(self) -> None:
        """Skips the header of every message."""
        for _ in range(2 if self._cdr else 3):  # ROS 1 counts messages too
            self.number("I")
        self.sized()


def _packet(data: bytes, channel: Channel) -> Packet:
    fields = Fields(data, channel)
    fields.head()
    height, width = fields.number("I"), fields.number("I")
    fields.number("Q")  # count of the packet
    base = fields.number("Q")
    encoding = fields.sized().rstrip(b"\0").decode()
    if fields.number("B"):
        raise EventFileError("events written with the high byte first; they are not read")
    return Packet(encoding, width, height, base // 1000, fields.sized())


def _array(data: bytes, channel: Channel) -> Packet:
    if channel.encoding != "ros1":
        raise EventFileError(f"{ARRAY} of ROS 2; it is read from ROS 1, and {PACKET} from both")
    fields = Fields(data, channel)
    fields.head()
    height, width = fields.number("I"), fields.number("I")
    return Packet(ARRAY, width, height, 0, fields.sized(ARRAY_EVENT.itemsize))


# Payloads


def _decoder(packet: Packet, sensor: tuple[int, int] | None) -> Callable[[list[Part]], Columns]:
    if packet.encoding == ARRAY:
        return _array_columns
    if packet.encoding == "libcaer_cmp":
        return LibcaerDecoder().decode
    if sensor is None:
        raise EventFileError("the messages do not name the sensor: give --sensor WIDTHxHEIGHT, for example 640x480")
    words = Evt3Decoder(sensor)
    return lambda parts: words.decode(_words(parts))


def _words(parts: list[Part]) -> NDArray[np.uint16]:
    if any(len(part.payload) % 2 for part in parts):
        raise EventFileError("a packet of an odd number of bytes: damaged")
    return np.frombuffer(b"".join(part.payload for part in parts), "<u2")


def _array_columns(parts: list[Part]) -> Columns:
    events = np.frombuffer(b"".join(part.payload for part in parts), ARRAY_EVENT)
    t = events["sec"].astype(np.int64) * 1_000_000 + events["nsec"] // 1000
    return Columns(t, events["x"].copy(), events["y"].copy(), events["p"].copy())


class LibcaerDecoder:
    """Decodes `libcaer_cmp` part by part; x and vectors continue from packet to packet, the time starts again."""

    def __init__(self) -> None:
        self._high = self._low = self._x = self._y = self._p = 0

    def decode(self, parts: list[Part]) -> Columns:
        """Events of the next parts; at least one."""
        words = _words(parts)
        kind, value = words >> 12, (words & 0xFFF).astype(np.int32)
        if kind.max() > VECT_8:
            raise EventFileError(f"a word of the unknown kind {int(kind.max())} among the events: damaged")
        counts = np.array([len(part.payload) // 2 for part in parts])
        starts = np.cumsum(counts) - counts
        # The time is 0 at the beginning of a packet, as if a word there had set it.
        fresh = starts[[part.begins for part in parts]]
        base = np.repeat(np.array([part.base for part in parts], np.int64), counts)
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
