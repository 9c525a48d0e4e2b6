"""ROS 1 bags, ROS 2 databases and MCAP with the events of a camera.

The names of types differ, their content is one of two:

* a packet: the sensor, an encoding and bytes (see `encodings.py`). `event_camera_msgs/EventPacket`, earlier
  `event_array_msgs/EventArray`.
* an array of whole events. `dvs_msgs/EventArray`, `prophesee_event_msgs/EventArray`, `dv_ros_msgs/EventArray` and
  whatever else is called so: an array must fill its message exactly.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from neuromoco.errors import EventFileError
from neuromoco.events.options import ReadOptions
from neuromoco.events.ros.bags import BAG, MCAP, SQLITE, Channel, messages
from neuromoco.events.ros.encodings import ARRAY_EVENT, CDR_EVENT, PACKET_ENCODINGS, Part, decoder_of
from neuromoco.events.stream import Columns, CutError, EventStream, in_batches, one_line, starts_with

FORMAT = "ROS recording"
PACKETS = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray")
READ = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray", "dvs_msgs/EventArray and others of its layout")
# Decoded at once: whole words and whole events, about 128 K words, which is fastest for EVT3.
PIECE_BYTES = 208 * 1261
LITTLE_ENDIAN_CDR = b"\0\1"
SEARCHED = 10_000  # messages, for the names of all topics
TRIGGERS = "trigger"  # an encoding of no events, on a topic of its own


class Packet(NamedTuple):
    """The events of a message: encoding, sensor, the time from which its times count, and the bytes."""

    encoding: str
    width: int
    height: int
    base_ns: int
    payload: bytes


looks_like_ros = starts_with(BAG, MCAP, SQLITE)


def open_ros(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; other topics are skipped."""
    packets = _packets(path, options.select, options.salvage)
    first = next(packets)
    sensor = (first.width, first.height) if first.width and first.height else options.sensor
    return EventStream(FORMAT, _pieces(first, packets, sensor), *(sensor or (None, None)))


def _packets(path: Path, select: str | None, salvage: bool) -> Iterator[Packet]:
    """The packets of one topic, at least one."""
    found: dict[str, str] = {}  # types by topic
    camera: str | None = None
    reading = messages(path, salvage)
    for channel, data in reading:
        found[channel.topic] = channel.type
        if not _holds_events(channel) or (select and channel.topic.strip("/") != select.strip("/")):
            continue
        packet = _packet(data, channel)
        if packet.encoding == TRIGGERS:
            continue
        camera = camera or channel.topic
        if channel.topic != camera:
            others = {other.topic for other, _ in islice(reading, SEARCHED) if _holds_events(other)}
            several = sorted(map(one_line, {camera, channel.topic, *others}))
            raise EventFileError(
                f"the ROS recording holds events of {len(several)} topics: give --select with one of "
                f"{', '.join(several)}"
            )
        yield packet
    if camera is None:
        what = f"no events in a topic {one_line(select)}" if select else "no events"
        topics = ", ".join(f"{one_line(topic)} ({one_line(kind)})" for topic, kind in islice(found.items(), 20))
        raise EventFileError(
            f"the ROS recording holds {what}; it holds {topics or 'no messages'}; the types {', '.join(READ)} are read"
        )


def _holds_events(channel: Channel) -> bool:
    return channel.type.endswith(("/EventArray", "/EventPacket"))


def _pieces(first: Packet, others: Iterator[Packet], sensor: tuple[int, int] | None) -> Iterator[Columns]:
    """Events of many packets at a time, as packets hold up to a few thousand, and of large packets in parts."""
    decode = decoder_of(first.encoding, sensor)
    for parts in in_batches(_parts(first, others), lambda part: len(part.payload), PIECE_BYTES):
        try:
            yield decode(parts)
        except CutError as damage:  # whose place is that in these parts
            raise CutError(str(damage)) from None


def _parts(first: Packet, others: Iterator[Packet]) -> Iterator[Part]:
    for packet in chain((first,), others):
        if packet[:3] != first[:3]:
            raise EventFileError(f"the sensor or the encoding changes from {first[:3]} to {packet[:3]}")
        for at in range(0, len(packet.payload), PIECE_BYTES):
            yield Part(packet.base_ns, at == 0, packet.payload[at : at + PIECE_BYTES])


# Messages


class Fields:
    """Reads a message field by field; ROS 2 (CDR) aligns numbers to their size, counted after its first 4 bytes."""

    def __init__(self, data: bytes, channel: Channel) -> None:
        self._data, self.at, self.cdr = data, 0, channel.encoding == "cdr"
        if self.cdr:
            if data[:2] != LITTLE_ENDIAN_CDR:
                topic = one_line(channel.topic)
                raise EventFileError(f"a message of {topic} begins with {data[:4].hex()}: no plain CDR, or packed")
            self.at = 4
        elif channel.encoding != "ros1":
            topic = one_line(channel.topic)
            raise EventFileError(f"messages of {topic} are {channel.encoding[:20]!r}; ros1 and cdr are read")

    def number(self, kind: str) -> int:
        """A number of a kind, such as "I" of `struct`."""
        size = struct.calcsize(kind)
        if self.cdr:
            self.at += -(self.at - 4) % size
        (value,) = struct.unpack_from("<" + kind, self._data, self.at)
        self.at += size
        return int(value)

    def sized(self) -> bytes:
        """Bytes that follow their number."""
        size = self.number("I")
        if size > len(self._data) - self.at:
            raise CutError("a message announces more bytes than it has: cut or damaged")
        self.at += size
        return self._data[self.at - size : self.at]

    def head(self) -> None:
        """Skips the header of every message."""
        for _ in range(2 if self.cdr else 3):  # ROS 1 counts messages too
            self.number("I")
        self.sized()


def _packet(data: bytes, channel: Channel) -> Packet:
    try:
        fields = Fields(data, channel)
        fields.head()
        height, width = fields.number("I"), fields.number("I")
        if channel.type not in PACKETS:
            payload = _array(data, fields, channel)
            return Packet("cdr" if fields.cdr else "ros1", width, height, 0, payload)
        fields.number("Q")  # count of the packet
        base = fields.number("Q")
        encoding = fields.sized().rstrip(b"\0").decode()
        if fields.number("B"):
            raise EventFileError("events written with the high byte first; they are not read")
        payload = fields.sized()
    except (struct.error, UnicodeDecodeError) as error:
        raise CutError(f"a message of {one_line(channel.topic)} is cut or damaged ({error})") from error
    if encoding not in (*PACKET_ENCODINGS, TRIGGERS):
        raise EventFileError(f"events in the encoding {encoding[:30]!r}; {', '.join(PACKET_ENCODINGS)} are read")
    return Packet(encoding, width, height, base, payload)


def _array(data: bytes, fields: Fields, channel: Channel) -> bytes:
    """The events of an array, which must fill the message: records of `ARRAY_EVENT` or `CDR_EVENT`."""
    count = fields.number("I")
    size, left = (ARRAY_EVENT if not fields.cdr else CDR_EVENT).itemsize, len(data) - fields.at
    # CDR has 3 bytes less, as nothing follows the last event, and up to 3 to end at a multiple of 4.
    if not (0 <= left - count * size + 3 * bool(count) < 4 if fields.cdr else left == count * size):
        raise EventFileError(
            f"a message of {one_line(channel.topic)} announces {count} events in {left} bytes: cut or damaged, or "
            f"{one_line(channel.type)} has not the layout of dvs_msgs/EventArray"
        )
    if not (fields.cdr and count):
        return data[fields.at :]
    # The coordinates of the first event are 2 bytes nearer to its time.
    events = bytearray(data[fields.at - 2 : fields.at - 2 + count * size].ljust(count * size, b"\0"))
    events[:4] = events[2:6]
    return bytes(events)
