"""Event Stream: where events begin is found as a state machine finds it, byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording
from neuromoco.events import es
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather

Event = tuple[int, int, int, int]  # t, x, y from the bottom, p
SENSORS = {1: (1024, 512), 2: (65535, 65535)}
HEADERS = {1: b"Event Stream\x01\x00\x00", 2: b"Event Stream\x02\x00\x00\x01" + struct.pack("<HH", *SENSORS[2])}


def es_bytes(events: list[Event], version: int) -> bytes:
    """After the published layout."""
    out, last = b"", 0
    for t, x, y, p in events:
        wait, last = t - last, t
        if version == 2:
            out += b"\xff" * (wait // 127) + bytes([wait % 127 << 1 | p]) + struct.pack("<HH", x, y)
        else:
            while wait >= 15:
                many = min(wait // 15, 15)
                out, wait = out + bytes([many << 4 | 15]), wait - 15 * many
            word = int(f"{p:01b}{y:09b}{x:010b}{wait:04b}", 2)
            out += word.to_bytes(3, "little")
    return out


def one_by_one(data: bytes, version: int) -> tuple[list[Event], int]:
    """Events, and the bytes of one that is not whole."""
    events: list[Event] = []
    t, at, length = 0, 0, es.EVENT_BYTES[version]
    while at < len(data):
        byte = data[at]
        if version == 2 and byte >= 0xFE:
            t, at = t + (127 if byte == 0xFF else 0), at + 1
        elif version == 1 and byte & 15 == 15:
            t, at = t + 15 * (byte >> 4), at + 1
        elif at + length > len(data):
            return events, len(data) - at
        else:
            word = int.from_bytes(data[at : at + length], "little")
            if version == 2:
                t, x, y, p = t + (word >> 1 & 127), word >> 8 & 0xFFFF, word >> 24, word & 1
            else:
                t, x, y, p = t + (word & 15), word >> 4 & 1023, word >> 14 & 511, word >> 23
            events.append((t, x, y, p))
            at += length
    return events, 0


def read(path: Path, options: ReadOptions = ReadOptions()) -> Recording:  # noqa: B008
    assert es.looks_like_es(path.read_bytes()[:4000], path.stat().st_size)
    return gather(es.open_es(path, options))


def events_of(recording: Recording) -> list[Event]:
    """With rows from the bottom, as in the file."""
    rows = (recording.height - 1 - recording.y.astype(int)).tolist()
    return list(zip(recording.t.tolist(), recording.x.tolist(), rows, recording.p.tolist(), strict=True))


def refusal(path: Path, options: ReadOptions = ReadOptions()) -> str:  # noqa: B008
    with pytest.raises(EventFileError) as caught:
        gather(es.open_es(path, options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("version", [1, 2])
def test_the_published_layouts(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.es"
    events = [
        (0, 0, 0, 1),
        (0, 254, 255, 0),
        (14, 255, 254, 1),
        (15, 15, 31, 0),
        (400, 1, 2, 1),
        (100_000, 303, 511, 1),
    ]
    path.write_bytes(HEADERS[version] + es_bytes(events, version) + b"\xff" * 7)
    recording = read(path, ReadOptions(sensor=SENSORS[version]))
    assert events_of(recording) == events
    assert (recording.width, recording.height) == SENSORS[version]
    assert recording.source == f"Event Stream {version}"


def test_rows_count_from_the_bottom_in_the_file_only(tmp_path: Path) -> None:
    path = tmp_path / "a.es"
    path.write_bytes(b"Event Stream\x02\x00\x00\x01" + struct.pack("<HH", 320, 240) + es_bytes([(1, 5, 239, 1)], 2))
    assert read(path).y.tolist() == [0]
    recording = read(path, ReadOptions(sensor=(320, 250)))  # what the user says wins
    assert (recording.x.tolist(), recording.y.tolist(), recording.height) == ([5], [10], 250)


def test_resets_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.es"
    path.write_bytes(
        HEADERS[2] + b"\xfe" * 5 + es_bytes([(130, 1, 2, 1)], 2) + b"\xff\xfe\xff" + es_bytes([(1, 3, 4, 0)], 2)
    )
    assert events_of(read(path)) == [(130, 1, 2, 1), (130 + 254 + 1, 3, 4, 0)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([0xFF, 0xFE, 0x0F, 0x1F, 0, 1, 2, 127, 253]), max_size=120)
    | st.lists(st.integers(0, 255), max_size=120),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 3, 7, 16, 1 << 20]),
)
def test_any_bytes_equal_a_state_machine_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, data: list[int], version: int, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("es") / "a.es"
    path.write_bytes(HEADERS[version] + bytes(data))
    expected, rest = one_by_one(bytes(data), version)
    length = es.EVENT_BYTES[version]
    before = es.CHUNK
    try:
        es.CHUNK = chunk
        stream = es.open_es(path, ReadOptions(sensor=SENSORS[version]))
        found, refused = [], ""
        try:
            for piece in stream.pieces:
                t, x, y, p = (column.tolist() for column in piece)
                found += zip(t, x, ((SENSORS[version][1] - 1 - row) & 0xFFFF for row in y), p, strict=True)
        except EventFileError as error:
            refused = str(error)
    finally:
        es.CHUNK = before
    assert refused == (f"the last event has {rest} of its {length} bytes: the file is cut or damaged" if rest else "")
    assert found == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Event Stream", "header of the Event Stream file is cut"),
        (b"Event Stream\x02\x00\x00", "header of the Event Stream file is cut"),
        (b"Event Stream\x02\x00\x00\x01\x40\x01\xf0", "header of the Event Stream file is cut"),
        (b"Event Stream\x00\x01\x00" + b"\0" * 9, "Event Stream version 0.1; versions 1 and 2"),
        (b"Event Stream\x03\x00\x00\x01" + b"\0" * 9, "Event Stream version 3.0"),
        (b"Event Stream\x02\x00\x00\x00" + b"\0" * 9, "holds generic events"),
        (b"Event Stream\x02\x00\x00\x02" + b"\0" * 9, "holds ATIS events"),
        (b"Event Stream\x02\x00\x00\x03" + b"\0" * 9, "holds asynchronous and modular display events"),
        (b"Event Stream\x02\x00\x00\x04" + b"\0" * 9, "holds color events"),
        (b"Event Stream\x02\x00\x00\x63" + b"\0" * 9, "holds unknown (99) events"),
        (b"Event Stream\x01\x00\x01" + b"\0" * 9, "holds ATIS events"),
        (b"Event Stream\x01\x00\x00" + b"\0" * 9, "give --sensor"),
        (b"Event Stream\x02\x00\x00\x01\x00\x00\xf0\x00" + b"\0" * 5, "sensor has 0 x 240 pixels"),
        (b"Event Stream\x02\x00\x00\x01\x40\x01\xf0\x00", "holds no events"),
        (b"Event Stream\x02\x00\x00\x01\x40\x01\xf0\x00" + b"\0" * 4, "the last event has 4 of its 5 bytes"),
        (
            b"Event Stream\x02\x00\x00\x01\x40\x01\xf0\x00\x00\x40\x01\x00\x00",
            "outside the 320 x 240 sensor, the first at x=320, y=239",
        ),
    ],
)
def test_refusals_say_what_was_found(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.es").write_bytes(content)
    assert words in refusal(tmp_path / "a.es")


def test_real_files(event_files: Path) -> None:
    folder = event_files / "event-stream"
    recording = read(folder / "dvs.es")
    assert (len(recording), recording.width, recording.height) == (473_225, 320, 240)
    assert (recording.t[0], recording.t[-1]) == (0, 999_000)
    assert "holds color events" in refusal(folder / "color.es")
    assert "holds generic events" in refusal(folder / "generic.es")
