"""AEDAT 3.1 as cAER writes it, from bytes put together bit by bit; and the label files of DVS128 Gesture."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording
from neuromoco.datasets.gesture_labels import Segment, read_segments
from neuromoco.events.aedat import aedat3
from neuromoco.events.aedat.aedat3 import looks_like_aedat3, open_aedat3
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather
from tests.helpers.outcomes import outcome_of, refusal_of

END = b"#!END-HEADER\r\n"
GESTURE = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-06-16 09:57:49 (TZ-0500)\r\n" + END
UNNAMED = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: File\r\n" + END
EVENT = st.tuples(st.integers(0, (1 << 31) - 1), st.integers(0, 127), st.integers(0, 127), st.integers(0, 1))


def event(t: int, x: int, y: int, p: int, valid: int = 1) -> bytes:
    word = int(f"{x:015b}{y:015b}{p:01b}{valid:01b}", 2)
    return word.to_bytes(4, "little") + t.to_bytes(4, "little")


def packet(*events: bytes, kind: int = 1, source: int = 1, overflow: int = 0, **wrong: int) -> bytes:
    size = len(events[0]) if events else 8
    said = {"size": size, "time_at": 4, "capacity": len(events), "number": len(events), "valid": len(events), **wrong}
    head = struct.pack("<hh", kind, source) + struct.pack("<iii", said["size"], said["time_at"], overflow)
    return head + struct.pack("<iii", said["capacity"], said["number"], said["valid"]) + b"".join(events)


def read(folder: Path, content: bytes, sensor: tuple[int, int] | None = None) -> Recording:
    file = folder / "a.aedat"
    file.write_bytes(content)
    return gather(open_aedat3(file, ReadOptions(sensor=sensor)))


def refusal(folder: Path, content: bytes) -> str:
    return refusal_of(lambda: read(folder, content))


def read_or_refused(folder: Path, content: bytes) -> None:
    outcome_of(lambda: read(folder, content))


def test_the_mark_is_recognised() -> None:
    assert looks_like_aedat3(GESTURE, 1000)
    assert not looks_like_aedat3(b"#!AER-DAT2.0\r\n", 1000)
    assert not looks_like_aedat3(b"", 0)


def test_polarity_events_are_read_as_published_and_others_passed_over(tmp_path: Path) -> None:
    content = GESTURE + packet(b"\1" * 12, b"\2" * 12, kind=0)
    content += packet(event(5, 1, 2, 1), event(6, 127, 0, 0), event(6, 9, 9, 1, valid=0), valid=2)
    content += packet(b"f" * 100, kind=2) + packet()
    content += packet(event(7, 0, 127, 1), overflow=2)
    recording = read(tmp_path, content)
    assert recording.source == "AEDAT 3.1"
    assert (recording.width, recording.height) == (128, 128)
    assert recording.t.tolist() == [5, 6, 2 * 2**31 + 7]
    assert recording.x.tolist() == [1, 127, 0]
    assert recording.y.tolist() == [2, 0, 127]
    assert recording.p.tolist() == [1, 0, 1]


def test_capacity_beyond_the_events_is_passed_over(tmp_path: Path) -> None:
    content = GESTURE + packet(event(5, 1, 2, 1), event(6, 1, 2, 1), number=1, valid=1) + packet(event(9, 3, 3, 0))
    assert read(tmp_path, content).t.tolist() == [5, 9]


@pytest.mark.parametrize(
    ("header", "sensor", "size"),
    [
        (UNNAMED, None, (4, 6)),
        (UNNAMED, (64, 32), (64, 32)),
        (UNNAMED.replace(b"#Source", b"#-Source 1: DAVIS346B\r\n#Source"), None, (346, 260)),
        (GESTURE.replace(b"DVS128", b"DAVIS240C"), (64, 32), (240, 180)),
        (GESTURE.replace(b"#Source", b"#Source 0: DAVIS640\r\n#Source"), None, (4, 6)),  # which camera is not clear
    ],
)
def test_the_sensor(tmp_path: Path, header: bytes, sensor: tuple[int, int] | None, size: tuple[int, int]) -> None:
    recording = read(tmp_path, header + packet(event(1, 3, 5, 1)), sensor)
    assert (recording.width, recording.height) == size


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GESTURE[:-1], "no #!END-HEADER"),
        (b"#!AER-DAT3.0\r\n#Format: RAW\r\n", "an AEDAT 3.0 recording; of AEDAT 3, version 3.1"),
        (b"#!AER-DAT3.", "an AEDAT 3. recording"),
        (GESTURE.replace(b"RAW", b"SerializedTS"), "format 'SerializedTS'"),
        (GESTURE, "holds no events"),
        (GESTURE + packet(b"\1" * 12, kind=0), "holds no events"),
        (GESTURE + packet(event(1, 1, 1, 1))[:20], "ends within the header of a packet"),
        (GESTURE + packet(event(1, 1, 1, 1))[:-1], "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), capacity=2**31 - 1), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), size=2**31 - 1), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), capacity=-1, number=-1), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), number=2), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), valid=2), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), overflow=-1), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), kind=1 - 2**15), "cut or damaged"),
        (GESTURE + packet(event(1, 1, 1, 1), time_at=0), "they have 8, at 4"),
        (GESTURE + packet(event(1, 1, 1, 1) * 2), "polarity events of 16 bytes"),
        (GESTURE + packet(event(2**31, 1, 1, 1)), "a time of -2147483648 us"),
        (
            GESTURE + packet(event(1, 1, 1, 1)) + packet(event(1, 1, 1, 1), source=2),
            "--select with one of 1 (DVS128), 2 (unnamed)",
        ),
        (GESTURE + packet(event(1, 128, 0, 1)), "outside the 128 x 128 sensor"),
    ],
)
def test_refusals(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(tmp_path, content)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(EVENT, max_size=12), max_size=8), st.integers(1, 5))
def test_any_events_in_any_packets_and_pieces(
    tmp_path_factory: pytest.TempPathFactory, packets: list[list[tuple[int, int, int, int]]], piece: int
) -> None:
    folder = tmp_path_factory.mktemp("packets")
    content = GESTURE + b"".join(packet(*(event(*e) for e in p), overflow=i) for i, p in enumerate(packets))
    (folder / "a.aedat").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aedat3, "PIECE", piece)
        pieces = list(open_aedat3(folder / "a.aedat", ReadOptions()).pieces)
    expected = [(t + (i << 31), x, y, p) for i, part in enumerate(packets) for t, x, y, p in part]
    columns = [np.concatenate(column).tolist() for column in zip(*pieces, strict=True)] if pieces else [[]] * 4
    assert list(zip(*columns, strict=True)) == expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_after_a_header_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, in_a_packet: bool
) -> None:
    rest = packet(*(rest[i : i + 8] for i in range(0, len(rest) // 8 * 8, 8))) if in_a_packet else rest
    read_or_refused(tmp_path_factory.mktemp("any"), UNNAMED + rest)


def test_every_cut_is_refused_and_every_flip_read_or_refused(tmp_path: Path) -> None:
    first = GESTURE + packet(event(1, 1, 1, 1), event(2, 1, 1, 1))
    whole = first + packet(event(3, 2, 2, 0))
    for at in range(len(aedat3.MAGIC), len(whole)):
        if at != len(first):
            assert refusal(tmp_path, whole[:at])
        read_or_refused(tmp_path, whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])


def test_segments_of_dvs128_gesture(tmp_path: Path) -> None:
    file = tmp_path / "user01_natural_labels.csv"
    file.write_bytes(b"class,startTime_usec,endTime_usec\n2,80048239,85092709\n11,95431006,103103075\n")
    assert read_segments(file) == [Segment(2, 80048239, 85092709), Segment(11, 95431006, 103103075)]
    file.write_bytes(b"\xef\xbb\xbfclass,startTime_usec,endTime_usec\r\n1,0,1\r\n\r\n")
    assert read_segments(file) == [Segment(1, 0, 1)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"", "its columns are ''"),
        (b"class,start,end\n1,2,3\n", "a table of labels has class, startTime_usec, endTime_usec"),
        (b"class,startTime_usec,endTime_usec\n1,2\n", "line 2 is '1,2'"),
        (b"class,startTime_usec,endTime_usec\n1,2,3\n1,2,x\n", "line 3 is '1,2,x'"),
        (b"class,startTime_usec,endTime_usec\n12,2,3\n", "class 12; classes are 1 to 11"),
        (b"class,startTime_usec,endTime_usec\n1,3,3\n", "from 3 to 3 us"),
        (b"class,startTime_usec,endTime_usec\n1,-3,3\n", "from -3 to 3 us"),
        (b"\xff\xfe", "no table of labels"),
        (b"1" * ((1 << 20) + 1), "larger than"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, rows: bytes, words: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(rows)
    with pytest.raises(EventFileError) as caught:
        read_segments(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_table_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rest: bytes) -> None:
    file = tmp_path_factory.mktemp("table") / "labels.csv"
    file.write_bytes(b"class,startTime_usec,endTime_usec\n" + rest)
    with suppress(EventFileError):
        read_segments(file)
