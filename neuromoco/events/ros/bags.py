"""Messages of ROS 1 bags, ROS 2 SQLite databases and MCAP, in the order of the file, one chunk in memory at a time.

Layouts: wiki.ros.org/Bags/Format/2.0; github.com/ros2/rosbag2 (tables `topics` and `messages`);
mcap.dev/spec. Every declared size is compared with what the file has before anything is allocated, and chunks that
claim to unpack to many times their size are refused. Only the packings lz4 and zstd need packages (`neuromoco[ros]`).
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from neuromoco.errors import EventFileError, MissingExtraError
from neuromoco.events.stream import CutError, damage

BAG = b"#ROSBAG V2.0\n"
MCAP = b"\x89MCAP0\r\n"
SQLITE = b"SQLite format 3\0"
ZSTD = b"\x28\xb5\x2f\xfd"
LARGEST_CHUNK = 1 << 27
LARGEST_MESSAGE = 1 << 26
# Events pack to a half at best; chunks that grow more than this many times are made to fill memory.
LARGEST_GROWTH = 250
SPARE_BYTES = 1 << 20
BAG_HEADER, BAG_CHUNK, BAG_CONNECTION, BAG_MESSAGE = 3, 5, 7, 2
MCAP_FOOTER, MCAP_SCHEMA, MCAP_CHANNEL, MCAP_MESSAGE, MCAP_CHUNK, MCAP_END = 2, 3, 4, 5, 6, 15
MCAP_MESSAGE_HEAD = struct.Struct("<HIQQ")


class Channel(NamedTuple):
    """Attributes: topic; type, such as "dvs_msgs/EventArray"; encoding: "ros1" or "cdr" (ROS 2)."""

    topic: str
    type: str
    encoding: str


Message = tuple[Channel, bytes]


class Records:
    """Reads the records of a file in their order, and knows where the one in hand begins."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.end, self.begin = file, file.seek(0, 2), 0

    def start(self, at: int) -> None:
        """Goes to a record."""
        self.file.seek(at)

    def left(self) -> int:
        """The bytes that follow; a record begins here."""
        self.begin = self.file.tell()
        return self.end - self.begin

    def read(self, size: int) -> bytes:
        """The next bytes; as many must be there, and no more than memory allows."""
        self._check_left(size)
        if size > LARGEST_CHUNK:
            raise EventFileError(f"the ROS recording has a record of {size} bytes; up to {LARGEST_CHUNK} are read")
        raw = self.file.read(size)
        if len(raw) != size:
            raise EventFileError("the ROS recording became shorter while it was read")
        return raw

    def skip(self, size: int) -> None:
        """Leaves bytes out, which must be there."""
        self._check_left(size)
        self.file.seek(size, 1)

    def _check_left(self, size: int) -> None:
        left = self.end - self.file.tell()
        if size > left:
            raise EventFileError(f"the ROS recording is cut or damaged: {size} bytes are announced and {left} are left")


def messages(path: Path, salvage: bool = False) -> Iterator[Message]:
    """The messages of a file that begins with `BAG`, `MCAP` or `SQLITE`; types are named as ROS 1 names them.

    With `salvage`, a file that was not closed is refused at its end, after its messages.
    """
    with path.open("rb") as file:
        mark = file.read(len(SQLITE))
        records = Records(file)
        reading = _mcap(records, salvage) if mark.startswith(MCAP) else _sqlite(path, salvage)
        if mark.startswith(BAG):
            reading = _bag(records, salvage)
        try:
            with damage("ROS recording", (struct.error, UnicodeDecodeError, LookupError)):
                for channel, data in reading:  # ROS 2 may pack messages one by one
                    yield channel, _unpacked_message(data) if data.startswith(ZSTD) else data
        except EventFileError as error:
            raise CutError(str(error), None if mark.startswith(SQLITE) else records.begin) from error


# ROS 1


def _bag(records: Records, salvage: bool) -> Iterator[Message]:
    """Records of a header with named fields and of data; messages and connections are in records that are chunks."""
    records.start(len(BAG))
    channels: dict[int, Channel] = {}
    chunks, count, closed = None, 0, True
    while records.left():
        fields = _fields(records.read(_number(records.read(4))))
        size = _number(records.read(4))
        kind = fields[b"op"][0]
        if kind == BAG_HEADER:
            closed, chunks = any(fields[b"index_pos"]), _number(fields[b"chunk_count"])
            if not (closed or salvage):
                raise EventFileError("the ROS bag was not closed: repair it with rosbag reindex")
        if kind == BAG_CHUNK:
            count += 1
            chunk = _unpacked(records.read(size), fields[b"compression"].decode(), _number(fields[b"size"]))
            yield from _bag_chunk(chunk, channels)
        elif kind in (BAG_CONNECTION, BAG_MESSAGE):  # of a chunk that was not closed; or of the index
            yield from _bag_record(fields, records.read(size), channels)
        else:
            records.skip(size)
    if chunks != count or not closed:
        raise EventFileError(f"the ROS bag holds {count} chunks and should hold {chunks}: cut or damaged")


def _bag_chunk(chunk: bytes, channels: dict[int, Channel]) -> Iterator[Message]:
    at = 0
    while at < len(chunk):
        head, at = _sized(chunk, at)
        data, at = _sized(chunk, at)
        yield from _bag_record(_fields(head), data, channels)


def _bag_record(fields: dict[bytes, bytes], data: bytes, channels: dict[int, Channel]) -> Iterator[Message]:
    kind, number = fields[b"op"][0], _number(fields[b"conn"])
    if kind == BAG_CONNECTION:
        channels[number] = Channel(fields[b"topic"].decode(), _type(_fields(data)[b"type"].decode()), "ros1")
    elif kind == BAG_MESSAGE:
        yield channels[number], data


def _fields(raw: bytes) -> dict[bytes, bytes]:
    """The named fields of a header."""
    fields, at = {}, 0
    while at < len(raw):
        field, at = _sized(raw, at)
        name, _, value = field.partition(b"=")
        fields[name] = value
    return fields


# MCAP


def _mcap(records: Records, salvage: bool) -> Iterator[Message]:
    """Messages refer to channels, and channels to schemas with their types."""
    schemas: dict[int, str] = {0: ""}
    channels: dict[int, Channel] = {}
    for kind, record in _mcap_records(records, salvage):
        if kind == MCAP_SCHEMA:
            schemas[struct.unpack_from("<H", record)[0]] = _type(_sized(record, 2)[0].decode())
        elif kind == MCAP_CHANNEL:
            number, schema = struct.unpack_from("<HH", record)
            topic, at = _sized(record, 4)
            channels[number] = Channel(topic.decode(), schemas[schema], _sized(record, at)[0].decode())
        elif kind == MCAP_MESSAGE:
            yield channels[MCAP_MESSAGE_HEAD.unpack_from(record)[0]], record[MCAP_MESSAGE_HEAD.size :]


def _mcap_records(records: Records, salvage: bool) -> Iterator[tuple[int, bytes]]:
    """Kinds and data of records, those in chunks included; records after the end of the data repeat it."""
    if not salvage:
        records.start(max(0, records.end - len(MCAP)))
        if records.end < 2 * len(MCAP) or records.read(len(MCAP)) != MCAP:
            raise EventFileError("the MCAP file does not end as it should: cut")
    records.start(len(MCAP))
    while records.left():
        kind, size = struct.unpack("<BQ", records.read(9))
        if kind in (MCAP_END, MCAP_FOOTER):
            return
        if kind in (MCAP_SCHEMA, MCAP_CHANNEL, MCAP_MESSAGE):
            yield kind, records.read(size)
        elif kind == MCAP_CHUNK:
            yield from _mcap_chunk(records.read(size))
        else:
            records.skip(size)
    raise EventFileError("the MCAP file has no end of its data: cut")


def _mcap_chunk(record: bytes) -> Iterator[tuple[int, bytes]]:
    unpacked, check = struct.unpack_from("<QI", record, 16)
    packing, at = _sized(record, 28)
    (size,) = struct.unpack_from("<Q", record, at)
    packed = record[at + 8 : at + 8 + size]
    chunk = _unpacked(packed, packing.decode() or "none", unpacked)
    if len(packed) != size or (check and zlib.crc32(chunk) != check):
        raise EventFileError("a chunk of the MCAP file does not match its check sum: damaged")
    at = 0
    while at < len(chunk):
        kind, size = struct.unpack_from("<BQ", chunk, at)
        at += 9 + size
        if at > len(chunk):
            raise EventFileError("a record of the MCAP file is longer than its chunk: damaged")
        yield kind, chunk[at - size : at]


# ROS 2 SQLite


def _sqlite(path: Path, salvage: bool) -> Iterator[Message]:
    log = path.with_name(path.name + "-wal")
    closed = not (log.exists() and log.stat().st_size)
    if not (closed or salvage):
        raise EventFileError(f"the ROS 2 database was not closed: {log.name} holds messages that are not in it yet")
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with (
        damage("SQLite database", (sqlite3.Error, OverflowError, UnicodeDecodeError)),
        closing(sqlite3.connect(uri, uri=True)) as base,
    ):
        if salvage:
            base.execute("PRAGMA writable_schema = ON")  # or a file that is cut is not opened
        # A view or a computed column could produce any amount of data.
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_MESSAGE)
        plain = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('topics', 'messages')"
        if base.execute(plain).fetchone() != (2,):
            raise EventFileError("an SQLite database without the tables of a ROS 2 recording")
        if base.execute("SELECT count(*) FROM pragma_table_xinfo('messages') WHERE hidden").fetchone() != (0,):
            raise EventFileError("an SQLite database with computed messages; no ROS 2 recording has them")
        topics = base.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        channels = {number: Channel(str(name), _type(str(kind)), str(form)) for number, name, kind, form in topics}
        left = path.stat().st_size
        for number, data in base.execute("SELECT topic_id, data FROM messages ORDER BY id"):
            channel = channels.get(number)
            if channel is None or not isinstance(data, bytes):
                raise EventFileError("the ROS 2 database is damaged: a message without a topic or data")
            left -= 1 + len(data)  # pages that lead to the same one many times have messages without end
            if left < 0:
                raise EventFileError("the ROS 2 database is damaged: its messages hold more bytes than the file")
            yield channel, data
    if not closed:
        raise EventFileError(f"{log.name} holds messages that are not in the ROS 2 database")


# Bytes and words


def _sized(raw: bytes, at: int) -> tuple[bytes, int]:
    """Bytes that follow their size, and where they end."""
    (size,) = struct.unpack_from("<I", raw, at)
    end = at + 4 + size
    if end > len(raw):
        raise EventFileError("the ROS recording is cut or damaged: a field is longer than its record")
    return raw[at + 4 : end], end


def _number(raw: bytes) -> int:
    (number,) = struct.unpack("<I", raw)
    return int(number)


def _type(name: str) -> str:
    """ROS 2 writes "a/msg/B" for what ROS 1 calls "a/B"."""
    return name.replace("/msg/", "/")


def _unpacked(packed: bytes, packing: str, size: int) -> bytes:
    """The content of a chunk, packed with "none", "bz2", "lz4" or "zstd", which must have `size` bytes."""
    if size > min(LARGEST_CHUNK, SPARE_BYTES + LARGEST_GROWTH * len(packed)):
        raise EventFileError(f"a chunk of the ROS recording unpacks from {len(packed)} to {size} bytes: damaged")
    raw = packed
    if packing != "none":
        decompressor = _decompressor(packing)
        with damage("chunk of the ROS recording", (Exception,)):  # each package raises its own kinds
            raw = bytes(decompressor.decompress(packed, max_length=size + 1)) if packed else b""
    if len(raw) != size:
        raise EventFileError(f"a chunk of the ROS recording does not have the {size} bytes that it claims: damaged")
    return raw


def _unpacked_message(packed: bytes) -> bytes:
    largest = min(LARGEST_MESSAGE, SPARE_BYTES + LARGEST_GROWTH * len(packed))
    decompressor = _decompressor("zstd")
    with damage("message of the ROS recording", (Exception,)):
        raw = bytes(decompressor.decompress(packed, max_length=largest + 1))
    if len(raw) > largest:
        raise EventFileError(f"a message of the ROS recording unpacks to more than {largest} bytes: damaged")
    return raw


def _decompressor(packing: str) -> Any:
    modules = {
        "bz2": ("BZ2Decompressor", "bz2"),
        "lz4": ("LZ4FrameDecompressor", "lz4.frame"),
        "zstd": ("ZstdDecompressor", "compression.zstd", "backports.zstd"),
    }
    if packing not in modules:
        raise EventFileError(f"a ROS recording packed with {packing[:20]!r}; {', '.join(modules)} are read")
    name, *places = modules[packing]
    for place in places:
        with suppress(ModuleNotFoundError):
            return getattr(import_module(place), name)()
    raise MissingExtraError(f"reading a ROS recording packed with {packing}", "ros")
