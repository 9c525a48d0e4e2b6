"""ROS recordings, from containers put together after their specifications, and from the package rosbags where it is."""

from __future__ import annotations

import importlib
import re
import sqlite3
import struct
import sys
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording
from neuromoco.errors import MissingExtraError
from neuromoco.events.options import ReadOptions
from neuromoco.events.ros import bags as ros_bags
from neuromoco.events.ros import packets as ros
from neuromoco.events.ros.packets import looks_like_ros, open_ros
from neuromoco.events.stream import gather
from neuromoco.installation import pip_install
from tests.events.test_reader import same
from tests.helpers.outcomes import rows
from tests.helpers.ros_writers import (
    ARRAY,
    PACKET,
    Message,
    bag,
    cdr_array,
    cdr_packet,
    database,
    mcap,
    ros1_array,
    ros1_packet,
)

TOPIC = "/event_camera/events"
OTHER: Message = ("/imu", "sensor_msgs/Imu", b"\1" * 50)


def evt3(events: list[tuple[int, int, int, int]], high: int | None = None) -> bytes:
    """(t, x, y, p) one by one; `high` is the high half of the time that is known already."""
    words = []
    for t, x, y, p in events:
        if t >> 12 != high:
            high = t >> 12
            words.append(0x8000 | high)
        words += [0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x]
    return b"".join(word.to_bytes(2, "little") for word in words)


def caer(*words: tuple[int, int]) -> bytes:
    return b"".join((kind << 12 | value).to_bytes(2, "little") for kind, value in words)


def in_file(folder: Path, kind: str, payloads: list[bytes], **said: Any) -> Path:
    """A recording of one of the containers, with the packets of a camera between messages of another topic."""
    make = ros1_packet if kind.startswith("bag") else cdr_packet
    messages = [m for payload in payloads for m in ((TOPIC, PACKET, make(payload, **said)), OTHER)]
    file = folder / "recording"
    if kind == "db3":
        database(file, messages)
    elif kind.startswith("bag"):
        file.write_bytes(bag(messages, kind.partition("-")[2] or "none"))
    else:
        file.write_bytes(mcap(messages, {"mcap": "", "mcap-bare": None}.get(kind, kind[5:])))
    return file


def read(file: Path, sensor: tuple[int, int] | None = None, select: str | None = None) -> Recording:
    return gather(open_ros(file, ReadOptions(sensor=sensor, select=select)))


def refusal(file: Path) -> str:
    with pytest.raises(EventFileError) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read_or_refused(file: Path) -> None:
    try:
        read(file)
    except EventFileError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


EVENTS = [(5000, 1, 2, 1), (5001, 639, 479, 0), (9000, 7, 8, 1), (9001, 7, 8, 0)]


@pytest.mark.parametrize("kind", ["bag", "bag-bz2", "bag-lz4", "db3", "mcap", "mcap-bare", "mcap-lz4"])
def test_evt3_packets_go_on_where_the_one_before_ended(tmp_path: Path, kind: str) -> None:
    if kind.endswith("lz4"):
        pytest.importorskip("lz4")
    file = in_file(tmp_path, kind, [evt3(EVENTS[:2]), b"", evt3(EVENTS[2:3]), evt3(EVENTS[3:], high=2)])
    assert looks_like_ros(file.read_bytes()[:4000], file.stat().st_size)
    recording = read(file)
    assert recording.source == "ROS recording"
    assert (recording.width, recording.height) == (640, 480)
    assert rows(recording) == EVENTS


def test_other_files_are_not_recognised() -> None:
    assert not looks_like_ros(b"#ROSBAG V1.2\n", 1000)
    assert not looks_like_ros(b"", 0)


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
def test_libcaer_packets(tmp_path: Path, kind: str) -> None:
    first = caer((2, 5), (3, 1 << 11 | 7), (1, 9), (3, 8), (0, 1), (3, 9), (4, 1 << 11 | 100), (5, 0b10000001), (5, 2))
    second = caer((3, 259), (1, 2), (5, 1))  # x and the vector go on, the time begins anew
    recording = read(
        in_file(tmp_path, kind, [first, second], encoding="libcaer_cmp", sensor=(346, 260), base=1_700_000_123_999)
    )
    base = 1_700_000_123
    assert (recording.width, recording.height) == (346, 260)
    assert [t - base for t in recording.t.tolist()] == [0, 0, 2, 9, *[4096 + 9] * 4]
    order = np.lexsort((recording.y, recording.t))
    assert set(recording.x.tolist()) == {5}
    assert recording.y[order].tolist() == [7, 259, 116, 8, 9, 100, 107, 109]
    assert recording.p[order].tolist() == [1, 0, 1, 0, 0, 1, 1, 1]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 0xFFF)), max_size=20), min_size=1, max_size=6),
    st.sampled_from([2, 6, 26, 4096]),
)
def test_libcaer_words_in_any_order_and_pieces(packets: list[list[tuple[int, int]]], piece: int) -> None:
    expected, x, y, p = [], 0, 0, 0
    for number, words in enumerate(packets):
        high = low = 0
        for kind, value in words:
            if kind == 0:
                high = value
            elif kind == 1:
                low = value
            elif kind == 2:
                x = value & 0x7FF
            elif kind == 3:
                expected.append((number + (high << 12) + low, x, value & 0x7FF, value >> 11))
            elif kind == 4:
                y, p = value & 0x7FF, value >> 11
            else:
                expected += [(number + (high << 12) + low, x, y + i, p) for i in range(8) if value >> i & 1]
                y += 8
    made = [ros.Packet("libcaer_cmp", 346, 260, 1000 * i, caer(*words)) for i, words in enumerate(packets)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ros, "PIECE_BYTES", piece)
        pieces = list(ros._pieces(made[0], iter(made[1:]), (346, 260)))
    columns = [np.concatenate(column).tolist() for column in zip(*pieces, strict=True)] if pieces else [[]] * 4
    assert list(zip(*columns, strict=True)) == expected


def in_order(parts: list[list[tuple[int, int, int, int]]]) -> list[list[tuple[int, int, int, int]]]:
    """The same events in order of time, in parts of the same sizes."""
    events = iter(sorted(event for part in parts for event in part))
    return [list(islice(events, len(part))) for part in parts]


ANY_EVENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 345), st.integers(0, 259), st.integers(0, 1)), max_size=9),
    max_size=5,
).map(in_order)
LAST = (2**40, 345, 259, 1)  # so that there is an event


@settings(max_examples=30, deadline=None)
@given(
    ANY_EVENTS,
    st.sampled_from([ARRAY, "prophesee_event_msgs/EventArray", "dv_ros_msgs/EventArray"]),
    st.sampled_from(["bag", "db3", "mcap"]),
)
def test_event_arrays_of_any_name(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[int, int, int, int]]], name: str, kind: str
) -> None:
    file = tmp_path_factory.mktemp("array") / "a"
    parts = [*parts, [LAST]]
    make = ros1_array if kind == "bag" else cdr_array
    # A message of CDR may be longer by what its end lacks to a multiple of 4 bytes.
    messages = [
        ("/dvs/events", name, raw + bytes(0 if kind == "bag" or i % 2 else -len(raw) % 4))
        for i, raw in enumerate(map(make, parts))
    ]
    if kind == "db3":
        database(file, messages)
    else:
        file.write_bytes(bag(messages) if kind == "bag" else mcap(messages))
    recording = read(file)
    assert (recording.width, recording.height) == (346, 260)
    assert rows(recording) == [event for part in parts for event in part]


@settings(max_examples=60, deadline=None)
@given(ANY_EVENTS, st.sampled_from(["evt2", "libcaer", "mono"]), st.sampled_from([8, 4096]), st.booleans())
def test_packets_of_whole_events(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[list[tuple[int, int, int, int]]],
    encoding: str,
    piece: int,
    old: bool,
) -> None:
    parts = [*parts, [(2**31 + 5, 345, 259, 1)]]
    bases = [7_000 * i + 999 for i in range(len(parts))]  # nanoseconds
    bases[-1] = 2**41
    if encoding == "evt2":
        bases = [0] * len(parts)  # which has times of its own
        made = [b"".join(struct.pack("<II", 8 << 28 | t >> 6, p << 28 | (t & 63) << 22 | x << 11 | y)
                for t, x, y, p in part) for part in parts]  # fmt: skip
    elif encoding == "libcaer":
        made = [
            b"".join(struct.pack("<II", 1 | p << 1 | y << 2 | x << 17, t & 0x7FFFFFFF) for t, x, y, p in part)
            for part in parts
        ]
        parts[-1] = [(5, *parts[-1][0][1:])]
    else:
        parts = [[(min(t, 4_294_966), x, y, p) for t, x, y, p in part] for part in parts]
        made = [
            b"".join(struct.pack("<Q", p << 63 | y << 48 | x << 32 | t * 1000) for t, x, y, p in part) for part in parts
        ]
    file = tmp_path_factory.mktemp("packets") / "a.bag"
    name = "event_array_msgs/EventArray" if old else PACKET
    messages = [
        ("/a", name, ros1_packet(payload, encoding, (346, 260), base))
        for payload, base in zip(made, bases, strict=True)
    ]
    file.write_bytes(bag(messages))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ros, "PIECE_BYTES", piece)
        recording = read(file)
    expected = [(base // 1000 + t, x, y, p)
                for part, base in zip(parts, bases, strict=True) for t, x, y, p in part]  # fmt: skip
    assert sorted(rows(recording)) == sorted(expected)


@pytest.mark.parametrize("piece", [8, 16, 4096])
def test_times_of_libcaer_overflow_within_a_packet(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros, "PIECE_BYTES", piece)
    top = (1 << 31) - 1
    payloads = [struct.pack("<8I", 1, top - 1, 1, top, 1, 0, 1, 1), struct.pack("<4I", 1, 5, 1, 6)]
    bases = (0, 1000 << 31)
    messages = [
        ("/a", PACKET, ros1_packet(payload, "libcaer", (346, 260), base))
        for payload, base in zip(payloads, bases, strict=True)
    ]
    (tmp_path / "a.bag").write_bytes(bag(messages))
    assert read(tmp_path / "a.bag").t.tolist() == [top + i for i in (-1, 0, 1, 2, 6, 7)]


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
def test_a_camera_of_several_is_chosen(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "stereo"
    make = ros1_array if kind == "bag" else cdr_array
    messages = [
        (f"/davis/{side}/events", ARRAY, make([(i, 1 + i, 2, side == "left")]))
        for i in range(3)
        for side in ("left", "right", "third")
    ]
    if kind == "db3":
        database(file, messages)
    else:
        file.write_bytes(bag(messages) if kind == "bag" else mcap(messages))
    assert refusal(file).endswith(
        "events of 3 topics: give --select with one of /davis/left/events, /davis/right/events, /davis/third/events"
    )
    assert rows(read(file, select="/davis/left/events")) == [(i, 1 + i, 2, 1) for i in range(3)]
    assert rows(read(file, select="davis/right/events")) == [(i, 1 + i, 2, 0) for i in range(3)]
    with pytest.raises(EventFileError, match=r"no events in a topic /imu; it holds /davis/left/events \(dvs_msgs/"):
        read(file, select="/imu")


def test_messages_packed_one_by_one(tmp_path: Path) -> None:
    zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    database(tmp_path / "a", [(TOPIC, PACKET, zstd.compress(cdr_packet(evt3(EVENTS))))])
    assert rows(read(tmp_path / "a")) == EVENTS
    database(tmp_path / "b", [(TOPIC, PACKET, zstd.compress(bytes(50_000_000)))])
    assert "unpacks to more than" in refusal(tmp_path / "b")
    database(tmp_path / "c", [(TOPIC, PACKET, zstd.compress(cdr_packet(evt3(EVENTS)))[:-9])])
    assert refusal(tmp_path / "c")


def test_triggers_are_no_camera(tmp_path: Path) -> None:
    file = tmp_path / "a.bag"
    triggers = ("/triggers", PACKET, ros1_packet(bytes(8), "trigger"))
    file.write_bytes(bag([triggers, ("/events", PACKET, ros1_packet(evt3(EVENTS))), triggers]))
    assert rows(read(file)) == EVENTS


def test_a_sensor_that_the_messages_leave_open(tmp_path: Path) -> None:
    file = in_file(tmp_path, "bag", [evt3(EVENTS)], sensor=(0, 0))
    assert "give --sensor WIDTHxHEIGHT" in refusal(file)
    assert (read(file, (1280, 720)).width, read(file, (1280, 720)).height) == (1280, 720)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([OTHER], "no events; it holds /imu (sensor_msgs/Imu); the types event_camera_msgs/EventPacket"),
        ([], "no events; it holds no messages"),
        (
            [("/left", PACKET, ros1_packet(evt3(EVENTS))), ("/right", PACKET, ros1_packet(evt3(EVENTS)))],
            "events of 2 topics: give --select with one of /left, /right",
        ),
        ([("/a\n\0b", PACKET, b"")], "a message of /a b is cut or damaged"),
        (
            [("/a", PACKET, ros1_packet(b"", "evt4"))],
            "encoding 'evt4'; evt3, evt2, libcaer, libcaer_cmp, mono are read",
        ),
        ([("/a", PACKET, ros1_packet(b"12345678"[:3]))], "3 bytes of events, no multiple of 2"),
        ([("/a", PACKET, ros1_packet(caer((6, 0)), "libcaer_cmp"))], "unknown kind 6"),
        (
            [("/a", PACKET, ros1_packet(b"")), ("/a", PACKET, ros1_packet(b"", sensor=(1, 1)))],
            "changes from ('evt3', 640, 480) to ('evt3', 1, 1)",
        ),
        ([("/a", PACKET, ros1_packet(evt3(EVENTS))[:-1])], "announces more bytes than it has"),
        ([("/a", PACKET, ros1_packet(b"")[:20])], "cut or damaged"),
        ([("/a", ARRAY, ros1_array([(1, 1, 1, 1)])[:-1])], "1 events in 12 bytes: cut or damaged"),
        ([("/a", "celex/EventArray", ros1_array([(1, 1, 1, 1)]) + b"1")], "celex/EventArray has not the layout"),
        ([("/a", ARRAY, ros1_array([(1, 346, 1, 1)]))], "outside the 346 x 260 sensor"),
        ([("/a", PACKET, ros1_packet(b""))], "holds no events"),
    ],
)
def test_refusals_of_messages(tmp_path: Path, messages: list[Message], words: str) -> None:
    (tmp_path / "a.bag").write_bytes(bag(messages))
    assert words in refusal(tmp_path / "a.bag")


def test_refusals_of_containers(tmp_path: Path) -> None:
    file = tmp_path / "a"
    messages = [(TOPIC, PACKET, ros1_packet(evt3(EVENTS)))] * 3
    whole = bag(messages)
    place = whole.index(b"index_pos=") + len(b"index_pos=")
    for content, words in (
        (bag(messages, chunks=3), "2 chunks and should hold 3"),
        (whole[:place] + bytes(8) + whole[place + 8 :], "rosbag reindex"),
        (bag(messages).replace(b"=none", b"=nine"), "packed with 'nine'"),
        (mcap(messages)[:-1], "does not end as it should"),
        (mcap(messages).replace(b"cam", b"cat", 1), "check sum"),
        (mcap(messages, encoding="json"), "are 'json'; ros1 and cdr are read"),
        (mcap(messages), "no plain CDR"),
        (mcap([(TOPIC, ARRAY, b"\0\1\0\0")]), "cut or damaged"),
        (ros_bags.SQLITE + bytes(5000), "SQLite database is cut or damaged"),
    ):
        file.write_bytes(content)
        assert words in refusal(file)
    assert gather(open_ros(_written(file, mcap(messages, encoding="ros1")), ReadOptions())).t.size == 12


def _written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_databases_of_others_are_refused(tmp_path: Path) -> None:
    for name, statements, words in (
        ("a", ["CREATE TABLE t(x)"], "without the tables of a ROS 2 recording"),
        ("b", ["CREATE TABLE topics(id)", "CREATE VIEW messages AS SELECT 1 AS id"], "without the tables"),
        ("c", ["CREATE TABLE topics(id)", "CREATE TABLE messages(id)"], "cut or damaged (no such column"),
        (
            "d",
            [
                "CREATE TABLE topics(id, name, type, serialization_format)",
                "CREATE TABLE messages(id, topic_id, data AS (zeroblob(1000000000)))",
            ],
            "computed messages",
        ),
        (
            "e",
            [
                "CREATE TABLE topics(id, name, type, serialization_format)",
                "CREATE TABLE messages(id, topic_id, data)",
                "INSERT INTO messages VALUES(1, 1, 'text')",
            ],
            "a message without a topic or data",
        ),
    ):
        base = sqlite3.connect(tmp_path / name)
        for statement in statements:
            base.execute(statement)
        base.commit()
        base.close()
        assert words in refusal(tmp_path / name)
    file = in_file(tmp_path, "db3", [evt3(EVENTS)])
    Path(f"{file}-wal").write_bytes(b"messages")
    assert "was not closed" in refusal(file)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bag([(TOPIC, PACKET, ros1_packet(evt3(EVENTS)))]).replace(b"\x10\0\0\0compression=none", b"")
    content = content.replace(b")\0\0\0\4\0\0\0op=\5", b"(\0\0\0\4\0\0\0op=\5\x0f\0\0\0compression=lz4")
    monkeypatch.setitem(sys.modules, "lz4", None)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(MissingExtraError, match=re.escape(pip_install("ros"))):
        read(_written(tmp_path / "a.bag", content))


@pytest.mark.parametrize("kind", ["bag", "bag-bz2", "db3", "mcap", "mcap-bare"])
def test_every_cut_and_many_flips_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    file = in_file(tmp_path, kind, [evt3(EVENTS[:2]), evt3(EVENTS[2:])])
    whole = file.read_bytes()
    step = max(1, len(whole) // 300)
    for at in range(len(ros_bags.BAG), len(whole), step):
        read_or_refused(_written(file, whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]))
        if kind != "bag-bz2":
            read_or_refused(_written(file, whole[:at]))
    if kind != "db3":  # whose last pages may be spare
        for cut in (1, 8, 9, 40):
            assert refusal(_written(file, whole[:-cut]))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([ros_bags.BAG, ros_bags.MCAP, ros_bags.SQLITE]), st.binary(max_size=200), st.booleans())
def test_any_bytes_after_a_mark_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, mark: bytes, rest: bytes, in_a_message: bool
) -> None:
    content = bag([("/a", PACKET, rest)]) if in_a_message else mark + rest
    read_or_refused(_written(tmp_path_factory.mktemp("any") / "a", content))


def test_what_is_announced_is_never_allocated(tmp_path: Path) -> None:
    huge = struct.pack("<I", 0xFFFFFFF0)
    chunk = b"\x05\x00\x00\x00op=\x05"
    bomb = bag([(TOPIC, PACKET, bytes(50_000_000))], "bz2")
    said = bag([(TOPIC, PACKET, b"")]).index(b"size=") + 5
    lying = bag([(TOPIC, PACKET, b"")])
    tracemalloc.start()
    for content in (
        ros_bags.BAG + huge,
        ros_bags.BAG + struct.pack("<I", 8) + chunk + huge,
        lying[:said] + huge + lying[said + 4 :],
        bomb,
        mcap([(TOPIC, PACKET, b"")]).replace(struct.pack("<BQ", 6, 0)[:1], b"\x06", 1)[:33] + b"\x06" + b"\xff" * 60,
    ):
        assert refusal(_written(tmp_path / "a", content))
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
        tracemalloc.reset_peak()
    tracemalloc.stop()


@pytest.mark.parametrize("version", [1, 2])
def test_what_the_package_rosbags_writes(tmp_path: Path, version: int) -> None:
    pytest.importorskip("rosbags")
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)
    fields = (
        "uint32 height\nuint32 width\nuint64 seq\nuint64 time_base\nstring encoding\nbool is_bigendian\nuint8[] events"
    )
    name = "event_camera_msgs/msg/EventPacket"
    store.register(get_types_from_msg("std_msgs/Header header\n" + fields, name))
    time = store.types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    extra = {"seq": 0} if version == 1 else {}
    header = store.types["std_msgs/msg/Header"](stamp=time, frame_id="camera", **extra)
    messages = [
        store.types[name](header, 480, 640, i, 0, "evt3", False, np.frombuffer(evt3([event]), np.uint8))
        for i, event in enumerate(EVENTS)
    ]
    files: list[Path] = []
    if version == 1:
        for packing in (None, Writer1.CompressionFormat.BZ2, Writer1.CompressionFormat.LZ4):
            files.append(tmp_path / f"{packing}.bag")
            writer = Writer1(files[-1])
            if packing:
                writer.set_compression(packing)
            with writer:
                connection = writer.add_connection(TOPIC, name, typestore=store)
                for i, message in enumerate(messages):
                    writer.write(connection, i, store.serialize_ros1(message, name))
    else:
        for plugin, packed in (
            (StoragePlugin.SQLITE3, False),
            (StoragePlugin.MCAP, False),
            (StoragePlugin.MCAP, True),
        ):
            folder = tmp_path / f"{plugin.name}{packed}"
            bag2 = Writer2(folder, version=9, storage_plugin=plugin)
            if packed:
                bag2.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            with bag2:
                connection2 = bag2.add_connection(TOPIC, name, typestore=store)
                for i, message in enumerate(messages):
                    bag2.write(connection2, i, store.serialize_cdr(message, name))
            files += [file for file in folder.iterdir() if file.suffix in (".db3", ".mcap")]
    assert len(files) == 3
    for file in files:
        recording = read(file)
        assert rows(recording) == EVENTS


def test_real_recordings(event_files: Path) -> None:
    from neuromoco.events.prophesee.evt import open_evt

    raw = gather(open_evt(event_files / "prophesee-evt3" / "ecp_test_events_1_evt3.raw", ReadOptions()))
    assert len(raw) == 343_474
    for name in ("test_events_1.bag", "test_events_1.db3"):
        assert same(read(event_files / "rosbag" / name), raw)
    davis = read(event_files / "rosbag" / "test_events_2_0.mcap")
    assert (len(davis), davis.width, davis.height) == (571_266, 346, 260)
    assert davis.duration == 999_996
