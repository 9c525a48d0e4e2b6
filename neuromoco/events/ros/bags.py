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
from neuromoco.events.stream import damage

BAG = b"#ROSBAG V2.0\n"
MCAP = b"\x89MCAP0\r\n"
SQLITE = b"SQLite format 3\0"
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


def messages(path: Path, types: tuple[str, ...]) -> Iterator[Message]:
    """Messages of some types, as ROS 1 names them, in a file that begins with `BAG`, `MCAP` or `SQLITE`."""
    with path.open("rb") as file:
        mark = file.read(len(SQLITE))
        end = file.seek(0, 2)
        reading = _mcap(file, end) if mark.startswith(MCAP) else _sqlite(path)
        if mark.startswith(BAG):
            reading = _bag(file, end)
        with damage("ROS recording", (struct.error, UnicodeDecodeError, LookupError)):
            for channel, data in reading:
                if channel.type in types:
                    yield channel, data


# ROS 1


def _bag(file: BinaryIO, end: int) -> Iterator[Message]:
    """Records of a header with named fields and of data; messages and connections are in records that are chunks."""
    file.seek(len(BAG))
    channels: dict[int, Channel] = {}
    chunks, count = None, 0
    while file.tell() < end:
        fields = _fields(_read(file, _number(_read(file, 4, end)), end))
        size = _number(_read(file, 4, end))
        kind = fields[b"op"][0]
        if kind == BAG_HEADER:
            if not any(fields[b"index_pos"]):
                raise EventFileError("the ROS bag was not closed: repair it with rosbag reindex")
            chunks = _number(fields[b"chunk_count"])
        if kind != BAG_CHUNK:
            _skip(file, size, end)
            continue
        count += 1
        chunk = _unpacked(_read(file, size, end), fields[b"compression"].decode(), _number(fields[b"size"]))
        yield from _bag_chunk(chunk, channels)
    if chunks != count:
        raise EventFileError(f"the ROS bag holds {count} chunks and should hold {chunks}: cut or damaged")


def _bag_chunk(chunk: bytes, channels: dict[int, Channel]) -> Iterator[Message]:
    at = 0
    while at < len(chunk):
        head, at = _sized(chunk, at)
        data, at = _sized(chunk, at)
        fields = _fields(head)
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


def _mcap(file: BinaryIO, end: int) -> Iterator[Message]:
    """Messages refer to channels, and channels to schemas with their types."""
    schemas: dict[int, str] = {0: ""}
    channels: dict[int, Channel] = {}
    for kind, record in _mcap_records(file, end):
        if kind == MCAP_SCHEMA:
            schemas[struct.unpack_from("<H", record)[0]] = _type(_sized(record, 2)[0].decode())
        elif kind == MCAP_CHANNEL:
            number, schema = struct.unpack_from("<HH", record)
            topic, at = _sized(record, 4)
            channels[number] = Channel(topic.decode(), schemas[schema], _sized(record, at)[0].decode())
        elif kind == MCAP_MESSAGE:
            yield channels[MCAP_MESSAGE_HEAD.unpack_from(record)[0]], record[MCAP_MESSAGE_HEAD.size :]


def _mcap_records(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Kinds and data of records, those in chunks included; records after the end of the data repeat it."""
    file.seek(end - len(MCAP))
    if end < 2 * len(MCAP) or file.read() != MCAP:
        raise EventFileError("the MCAP file does not end as it should: cut; repair it with mcap recover")
    end = file.seek(0, 1) - len(MCAP)
    file.seek(len(MCAP))
    while True:
        kind, size = struct.unpack("<BQ", _read(file, 9, end))
        if kind in (MCAP_END, MCAP_FOOTER):
            return
        if kind in (MCAP_SCHEMA, MCAP_CHANNEL, MCAP_MESSAGE):
            yield kind, _read(file, size, end)
            continue
        if kind != MCAP_CHUNK:
            _skip(file, size, end)
            continue
        record = _read(file, size, end)
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


def _sqlite(path: Path) -> Iterator[Message]:
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise EventFileError(f"the ROS 2 database was not closed: {log.name} holds messages that are not in it yet")
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with (
        damage("SQLite database", (sqlite3.Error, OverflowError, UnicodeDecodeError)),
        closing(sqlite3.connect(uri, uri=True)) as base,
    ):
        # A view or a computed column could produce any amount of data.
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_MESSAGE)
        plain = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('topics', 'messages')"
        if base.execute(plain).fetchone() != (2,):
            raise EventFileError("an SQLite database without the tables of a ROS 2 recording")
        if base.execute("SELECT count(*) FROM pragma_table_xinfo('messages') WHERE hidden").fetchone() != (0,):
            raise EventFileError("an SQLite database with computed messages; no ROS 2 recording has them")
        topics = base.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        channels = {number: Channel(str(name), _type(str(kind)), str(form)) for number, name, kind, form in topics}
        for number, data in base.execute("SELECT topic_id, data FROM messages ORDER BY id"):
            channel = channels.get(number)
            if channel is None or not isinstance(data, bytes):
                raise EventFileError("the ROS 2 database is damaged: a message without a topic or data")
            yield channel, data


# Bytes and words


def _read(file: BinaryIO, size: int, end: int) -> bytes:
    _check_left(file, size, end)
    if size > LARGEST_CHUNK:
        raise EventFileError(f"the ROS recording has a record of {size} bytes; up to {LARGEST_CHUNK} are read")
    raw = file.read(size)
    if len(raw) != size:
        raise EventFileError("the ROS recording became shorter while it was read")
    return raw


def _skip(file: BinaryIO, size: int, end: int) -> None:
    _check_left(file, size, end)
    file.seek(size, 1)


def _check_left(file: BinaryIO, size: int, end: int) -> None:
    left = end - file.tell()
    if size > left:
        raise EventFileError(f"the ROS recording is cut or damaged: {size} bytes are announced and {left} are left")


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
