"""ROS messages and the containers that they lie in, after the published layouts, for tests."""

from __future__ import annotations

import bz2
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

Message = tuple[str, str, bytes]  # topic, type, content
PACKET = "event_camera_msgs/EventPacket"
ARRAY = "dvs_msgs/EventArray"


def ros1_packet(payload: bytes, encoding: str = "evt3", sensor: tuple[int, int] = (640, 480), base: int = 0) -> bytes:
    frame, name = b"cam", encoding.encode()
    head = struct.pack("<IIII3s", 9, 1_700_000_000, 5, len(frame), frame)
    head += struct.pack("<IIQQ", sensor[1], sensor[0], 77, base)
    return head + struct.pack("<I", len(name)) + name + struct.pack("<BI", 0, len(payload)) + payload


class Cdr:
    """A message of ROS 2: numbers lie at multiples of their size, counted after the first four bytes."""

    def __init__(self) -> None:
        self.body = b""
        self.put("iI", 1_700_000_000, 5)
        self.text("cam")

    def put(self, kinds: str, *values: int) -> None:
        """Numbers of kinds as in `struct`."""
        for kind, value in zip(kinds, values, strict=True):
            self.body += bytes(-len(self.body) % struct.calcsize(kind)) + struct.pack("<" + kind, value)

    def text(self, text: str) -> None:
        """A text, which ends in a zero."""
        self.put("I", len(text) + 1)
        self.body += text.encode() + b"\0"

    def done(self) -> bytes:
        """The whole message."""
        return b"\0\1\0\0" + self.body


def cdr_packet(payload: bytes, encoding: str = "evt3", sensor: tuple[int, int] = (640, 480), base: int = 0) -> bytes:
    message = Cdr()
    message.put("IIQQ", sensor[1], sensor[0], 77, base)
    message.text(encoding)
    message.put("BI", 0, len(payload))
    message.body += payload
    return message.done()


def cdr_array(events: Sequence[tuple[int, int, int, int]], sensor: tuple[int, int] = (346, 260)) -> bytes:
    """Of (t in microseconds, x, y, p)."""
    message = Cdr()
    message.put("III", sensor[1], sensor[0], len(events))
    for t, x, y, p in events:
        message.put("HHIIB", x, y, t // 10**6, t % 10**6 * 1000, p)
    return message.done()


def ros1_array(events: Sequence[tuple[int, int, int, int]], sensor: tuple[int, int] = (346, 260)) -> bytes:
    """Of (t in microseconds, x, y, p)."""
    head = struct.pack("<IIII", 9, 1, 5, 0) + struct.pack("<III", sensor[1], sensor[0], len(events))
    return head + b"".join(struct.pack("<HHIIB", x, y, t // 10**6, t % 10**6 * 1000, p) for t, x, y, p in events)


def _sized(raw: bytes) -> bytes:
    return struct.pack("<I", len(raw)) + raw


def _record(data: bytes, **fields: bytes) -> bytes:
    return _sized(b"".join(_sized(name.encode() + b"=" + value) for name, value in fields.items())) + _sized(data)


def bag(messages: Sequence[Message], packing: str = "none", each: int = 2, chunks: int | None = None) -> bytes:
    """A ROS 1 bag of chunks of some messages each; `chunks` is what it says it has."""
    numbers = {topic: i for i, topic in enumerate(dict.fromkeys(topic for topic, _, _ in messages))}
    content, known, count = b"", set(), 0
    for first in range(0, len(messages), each):
        inner = b""
        for topic, kind, raw in messages[first : first + each]:
            conn = struct.pack("<I", numbers[topic])
            if topic not in known:
                known.add(topic)
                said = {"topic": topic.encode(), "type": kind.encode(), "md5sum": b"*", "message_definition": b"-"}
                text = b"".join(_sized(name.encode() + b"=" + value) for name, value in said.items())
                inner += _record(text, op=b"\7", conn=conn, topic=topic.encode())
            inner += _record(raw, op=b"\2", conn=conn, time=bytes(8))
        packed = {"none": lambda raw: raw, "bz2": bz2.compress, "lz4": _lz4}[packing](inner)
        content += _record(packed, op=b"\5", compression=packing.encode(), size=struct.pack("<I", len(inner)))
        content += _record(bytes(12), op=b"\4", ver=struct.pack("<I", 1), conn=bytes(4), count=struct.pack("<I", 1))
        count += 1
    head = {"index_pos": struct.pack("<Q", 4117 + len(content)), "conn_count": struct.pack("<I", len(numbers))}
    head["chunk_count"] = struct.pack("<I", count if chunks is None else chunks)
    return b"#ROSBAG V2.0\n" + _record(b" " * 3900, op=b"\3", **head) + content


def _lz4(raw: bytes) -> bytes:
    import lz4.frame

    return bytes(lz4.frame.compress(raw))


def _mcap_record(kind: int, data: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(data)) + data


def mcap(messages: Sequence[Message], packing: str | None = "", each: int = 2, encoding: str = "cdr") -> bytes:
    """An MCAP file; without chunks if the packing is None."""
    numbers = {topic: i + 1 for i, topic in enumerate(dict.fromkeys(topic for topic, _, _ in messages))}
    kinds = {topic: kind for topic, kind, _ in messages}
    said = b""
    for topic, number in numbers.items():
        kind = kinds[topic].replace("/", "/msg/").encode()
        said += _mcap_record(3, struct.pack("<H", number) + _sized(kind) + _sized(b"ros2msg") + _sized(b"-"))
        text = _sized(topic.encode()) + _sized(encoding.encode()) + _sized(b"")
        said += _mcap_record(4, struct.pack("<HH", number, number) + text)
    content = b"" if packing is not None else said
    for first in range(0, len(messages), each):
        inner = b"".join(
            _mcap_record(5, struct.pack("<HIQQ", numbers[topic], i, i, i) + raw)
            for i, (topic, _, raw) in enumerate(messages[first : first + each])
        )
        if packing is None:
            content += inner
            continue
        inner = said + inner if first == 0 else inner
        packed = {"": lambda raw: raw, "lz4": _lz4}[packing](inner)
        head = struct.pack("<QQQI", 0, 9, len(inner), zlib.crc32(inner)) + _sized(packing.encode())
        content += _mcap_record(6, head + struct.pack("<Q", len(packed)) + packed)
        content += _mcap_record(7, bytes(6))
    magic = b"\x89MCAP0\r\n"
    begin = magic + _mcap_record(1, _sized(b"ros2") + _sized(b"test"))
    end = _mcap_record(15, bytes(4)) + said + _mcap_record(2, bytes(20)) + magic
    return begin + content + end


def database(path: Path, messages: Sequence[Message]) -> None:
    """A ROS 2 SQLite database."""
    numbers = {topic: i + 1 for i, topic in enumerate(dict.fromkeys(topic for topic, _, _ in messages))}
    kinds = {topic: kind for topic, kind, _ in messages}
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)")
    base.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
    for topic, number in numbers.items():
        kind = kinds[topic].replace("/", "/msg/")
        base.execute("INSERT INTO topics VALUES(?, ?, ?, 'cdr')", (number, topic, kind))
    rows = [(numbers[topic], raw) for topic, _, raw in messages]
    base.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES(?, 0, ?)", rows)
    base.commit()
    base.close()
