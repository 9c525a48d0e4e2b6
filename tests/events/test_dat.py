"""Prophesee DAT of both versions and the ATIS files without a header."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording, read_recording
from neuromoco.events.options import ReadOptions
from neuromoco.events.prophesee import dat
from neuromoco.events.stream import gather

Event = tuple[int, int, int, int]  # t, x, y, p
HEADER = (
    b"% Data file containing CD events\n% Version 2\n% Date 2020-09-14 14:18:29\n% Height 480\n% Width 640\n% end\n"
)
BITS = {1: (14, 1, 8, 9), 2: (3, 1, 14, 14)}  # unused, polarity, y, x


def dat_bytes(events: list[Event], version: int) -> bytes:
    """Bit by bit after the published layout: 32 bits of time, then the address."""
    spare, p_bits, y_bits, x_bits = BITS[version]
    addresses = [int(f"{0:0{spare}b}{p:0{p_bits}b}{y:0{y_bits}b}{x:0{x_bits}b}", 2) for _, x, y, p in events]
    return b"".join(struct.pack("<II", event[0], address) for event, address in zip(events, addresses, strict=True))


def read(path: Path, options: ReadOptions = ReadOptions()) -> Recording:  # noqa: B008
    return gather(dat.open_dat(path, options))


def events_of(recording: Recording) -> list[Event]:
    return list(zip(*(getattr(recording, name).tolist() for name in "txyp"), strict=True))


def refusal(path: Path, options: ReadOptions = ReadOptions()) -> str:  # noqa: B008
    with pytest.raises(EventFileError) as caught:
        read(path, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_version_2(tmp_path: Path) -> None:
    events = [(0, 0, 479, 1), (5, 639, 0, 0), (5, 1, 2, 1), (2**32 - 1, 3, 4, 0)]
    path = tmp_path / "a.dat"
    for kind in (0x0C, 0x00):
        path.write_bytes(HEADER + bytes([kind, 8]) + dat_bytes(events, 2))
        assert dat.looks_like_dat(path.read_bytes(), path.stat().st_size)
        recording = read(path)
        assert events_of(recording) == events
        assert (recording.width, recording.height, recording.source) == (640, 480, "Prophesee DAT 2")
    path.write_bytes(b"% Version 2\n\x0c\x08" + dat_bytes(events, 2))
    assert (read(path).width, read(path).height) == (640, 480)  # the largest, plus one
    assert read(path, ReadOptions(sensor=(1280, 720))).width == 1280
    path.write_bytes(HEADER.replace(b"% end", b"% T0 7") + b"\x0c\x08" + dat_bytes(events, 2))
    assert read(path).t.tolist() == [t + 7 for t, *_ in events]


@pytest.mark.parametrize("line", [b"% Version 1\n", b"% Version 0\n", b""])
def test_version_1_is_of_the_atis(tmp_path: Path, line: bytes) -> None:
    events = [(3, 303, 239, 1), (9, 0, 1, 0)]
    path = tmp_path / "a_td.dat"
    path.write_bytes(b"% Data file containing TD events.\n" + line + b"\x00\x08" + dat_bytes(events, 1))
    assert dat.looks_like_dat(path.read_bytes(), path.stat().st_size)
    recording = read(path)
    assert events_of(recording) == events
    assert (recording.width, recording.height, recording.source) == (304, 240, "Prophesee DAT 1")
    path.write_bytes(b"% Version 1\n\x00\x08" + dat_bytes([(3, 304, 0, 1)], 1))
    assert "outside the 304 x 240 sensor" in refusal(path)
    assert read(path, ReadOptions(sensor=(320, 240))).width == 320


def test_atis_files_without_header_have_to_be_named(tmp_path: Path) -> None:
    events = [(0x25, 1, 2, 1), (70_000, 303, 239, 0), (69_990, 5, 6, 1)]
    path = tmp_path / "a_td.dat"
    path.write_bytes(dat_bytes(events, 1))
    assert not dat.looks_like_dat(path.read_bytes(), path.stat().st_size)
    assert "give --format dat" in refusal(path)
    recording = read(path, ReadOptions(format="dat"))
    assert sorted(events_of(recording)) == sorted(events)
    assert (recording.width, recording.height, recording.source) == (304, 240, "ATIS td .dat")
    of_a_set = read_recording(path, options=ReadOptions(defaults=ReadOptions(format="dat")))
    assert sorted(events_of(of_a_set)) == sorted(events)
    path.write_bytes(dat_bytes([(70_000, 1, 2, 1), (5, 1, 2, 1)], 1))
    assert "times run back" in refusal(path, ReadOptions(format="dat"))


def test_times_go_on_after_2_to_the_32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dat, "PIECE", 2)
    path = tmp_path / "a.dat"
    times = [2**32 - 9, 2**32 - 1, 3, 2**32 - 2, 8, 2**31, 2**32 - 1, 1]
    path.write_bytes(HEADER + b"\x0c\x08" + dat_bytes([(t, 1, 1, 1) for t in times], 2))
    one, two = 2**32, 2**33
    expected = [one - 9, one - 1, one + 3, one - 2, one + 8, one + 2**31, two - 1, two + 1]
    assert [t for piece in dat.open_dat(path, ReadOptions()).pieces for t in piece.t.tolist()] == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEADER, "ends before the type"),
        (HEADER + b"\x0c", "ends before the type"),
        (HEADER + b"\x0c\x08", "holds no events"),
        (HEADER + b"\x0e\x08" + b"\0" * 8, "external triggers"),
        (HEADER + b"\x0c\x10" + b"\0" * 16, "type 0x0c and 16 bytes"),
        (HEADER + b"\x07\x08" + b"\0" * 8, "type 0x07 and 8 bytes"),
        (HEADER + b"\x0c\x08" + b"\0" * 9, "9 bytes of events are not a whole number"),
        (HEADER.replace(b"Version 2", b"Version 3") + b"\x0c\x08", "DAT version '3'; versions 1 and 2"),
        (HEADER.replace(b"640", b"x") + b"\x0c\x08", "the header's sensor is 'xx480'"),
        (HEADER[:-3], "the header is cut"),
        (HEADER + b"\x0c\x08" + dat_bytes([(0, 640, 0, 1)], 2), "outside the 640 x 480 sensor"),
    ],
)
def test_refusals_say_what_was_found(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.dat").write_bytes(content)
    assert words in refusal(tmp_path / "a.dat")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 250), st.integers(0, 255), st.sampled_from([None, "dat"]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, at: int, value: int, name: str | None
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.dat"
    whole = HEADER + b"\x0c\x08" + body
    changed = whole[: at % len(whole)] + bytes([value]) + whole[at % len(whole) + 1 :]
    for content in (whole, whole[:at], changed, body):
        path.write_bytes(content)
        dat.looks_like_dat(content, len(content))
        with suppress(EventFileError):
            assert len(read(path, ReadOptions(format=name)))


def test_real_files(event_files: Path) -> None:
    folder = event_files / "prophesee-dat2"
    for name, count in {"cube_10ms_cd.dat": 323_449, "rect_1ms_cd.dat": 566_878}.items():
        recording = read(folder / name)
        assert (len(recording), recording.width, recording.height) == (count, 1280, 720)
