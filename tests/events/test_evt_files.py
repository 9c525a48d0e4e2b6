"""Prophesee RAW: headers of all ages, and every damage refused or read, never a crash."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording
from neuromoco.events import es
from neuromoco.events.options import ReadOptions
from neuromoco.events.prophesee import dat, evt
from neuromoco.events.prophesee.evt_writer import LAST_US, write_evt2, write_evt3
from neuromoco.events.stream import gather
from tests.helpers.evt_files import HEADERS, events_of, evt3_word, raw, read, refusal
from tests.helpers.outcomes import refusal_of


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    for write in (write_evt2, write_evt3):
        with pytest.raises(EventFileError, match="up to 2048 x 2048 pixels, not 2049 x 1"):
            write(tmp_path / "a.raw", Recording.from_columns([0], [0], [0], [1], width=2049, height=1))
        for t in (-1, LAST_US + 1):
            with pytest.raises(EventFileError, match="times from 0 to"):
                write(tmp_path / "a.raw", Recording.from_columns([t], [0], [0], [1]))
        assert not list(tmp_path.iterdir())
        none = np.empty(0, np.int64)
        write(tmp_path / "none.raw", Recording.from_columns(none, none, none, none, width=5, height=5))
        assert "holds no events" in refusal(tmp_path / "none.raw")
        (tmp_path / "none.raw").unlink()


def test_headers_of_all_ages(tmp_path: Path) -> None:
    path, words = tmp_path / "a.raw", [evt3_word(*word) for word in ((8, 0), (0, 1), (2, 2))]
    for header in (b"% evt 3.0\n", b"% Date 2020\r\n% evt 3.0\r\n% end\r\n", b"% format EVT3\n% end\n"):
        raw(path, header, words, "<H")
        assert "--sensor" in refusal(path)
        assert read(path, sensor=(300, 200)).width == 300
    raw(path, b"% evt 3.0\n% geometry 320x240\n", words, "<H")
    assert read(path).height == 240
    assert read(path, sensor=(20, 10)).height == 10  # what the user says wins
    raw(path, b"% evt 3.0\n% geometry 320x240\n% t0 1000\n% end\n", words, "<H")
    assert read(path).t.tolist() == [1000]
    # Data whose first bytes are "% " follow a header without "% end".
    raw(path, b"% evt 3.0\n% geometry 320x240\n", [0x2025, *words], "<H")
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"% format HISTO3D;height=320;width=320\n% end\n", "holds 'HISTO3D'"),
        (b"% evt 4.0\n% end\n", "holds '4.0'"),
        (b"% evt 3.0\n% geometry 640 480\n% end\n", "'640 480'; it reads WIDTHxHEIGHT"),
        (b"% evt 3.0\n% geometry 0x480\n% end\n", "each from 1 to 65535"),
        (b"% evt 3.0\n% geometry 9999999999x480\n% end\n", "it reads WIDTHxHEIGHT"),
        (b"% evt 3.0\n% geometry 640x480\n% t0 -5\n% end\n", "t0 is '-5'"),
        (b"% format EVT21;endianness=big;width=640;height=480\n% end\n", "endianness 'big'; little and legacy"),
        (b"% format EVT3;endianness=big;width=640;height=480\n% end\n", "endianness 'big'; little is read"),
        (b"% evt 3.0\n% geometry 640x4", "the header is cut"),
        (b"% evt 3.0\n% geometry 640x480\n% end\n\x01\x80\x05", "3 bytes of events are not a whole number of 2-byte"),
        (b"% evt 3.0\n% geometry 640x480\n% end\n\x01\x90", "reserved type 0x9 in EVT3"),
        (b"% evt 2.0\n% geometry 640x480\n% end\n\0\0\0\x20", "reserved type 0x2 in EVT2"),
        (
            b"% evt 3.0\n% geometry 640x480\n% end\n\x01\x00\x01\x08",
            "give --select with one of master, slave",
        ),
        (b"% evt 3.0\n% geometry 9x9\n% end\n\x00\x80\x01\x00\x09\x20", "outside the 9 x 9 sensor"),
        (b"% evt 3.0\n% geometry 640x480\n% end\n", "holds no events"),
    ],
)
def test_refusals_say_what_was_found(tmp_path: Path, header: bytes, words: str) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(header)
    assert words in refusal(path)


def test_other_files_are_not_taken(tmp_path: Path) -> None:
    for head in (
        b"",
        b"% ",
        b"% a text\n% of some kind\n",
        b"%PDF-1.7",
        b"% Version 2\n\x0c\x08",
        b"evt 3.0\n",
        b"\0" * 99,
    ):
        assert not evt.looks_like_evt(head, len(head))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(HEADERS)), st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, encoding: str, body: bytes, at: int, value: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.raw"
    whole = HEADERS[encoding] + body
    changed = whole[: at % len(whole)] + bytes([value]) + whole[at % len(whole) + 1 :]
    for content in (whole, whole[:at], changed):
        path.write_bytes(content)
        evt.looks_like_evt(content, len(content))
        with suppress(EventFileError):
            assert len(gather(evt.open_evt(path, ReadOptions(sensor=(640, 480)))))


def test_real_files(event_files: Path, tmp_path: Path) -> None:
    recording = read(event_files / "prophesee-evt2/faery_evt2.raw", sensor=(640, 480))
    assert len(recording) == 521_252
    assert recording.on_share == pytest.approx(0.3566, abs=1e-4)
    recording = read(event_files / "prophesee-evt3/ecp_test_events_1_evt3.raw")
    assert (len(recording), recording.width, recording.height) == (343_474, 640, 480)
    assert recording.duration == 9218023 - 7139845
    table = np.genfromtxt(event_files / "transcoded/cube20k.csv", delimiter=",", skip_header=1, dtype=np.int64)
    for name, open_it in {
        "cube20k_evt2.raw": evt.open_evt,
        "cube20k_evt3.raw": evt.open_evt,
        "cube20k.dat": dat.open_dat,
        "cube20k_dat2.dat": dat.open_dat,
        "cube20k.es": es.open_es,
    }.items():
        recording = gather(open_it(event_files / "transcoded" / name, ReadOptions()))
        assert (recording.width, recording.height) == (1280, 720)
        assert np.array_equal(np.stack([getattr(recording, c) for c in "txyp"], axis=1), table), name
    for name in ("dat", "evt3"):
        write = {"dat": write_evt2, "evt3": write_evt3}[name]
        write(tmp_path / name, recording)
        assert events_of(read(tmp_path / name)) == events_of(recording)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 479), st.integers(0, 639)), min_size=1, max_size=30),
    st.integers(1, 7),
)
def test_a_camera_of_a_pair_is_selected(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], piece: int
) -> None:
    words = [evt3_word(8, 0), evt3_word(6, 0)]
    for camera, y, x in events:
        words += [evt3_word(0, camera << 11 | y), evt3_word(2, x), evt3_word(3, x), evt3_word(5, 3)]
    file = raw(tmp_path_factory.mktemp("pair") / "a.raw", HEADERS["EVT3"], words, "<H")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(evt.WORDS, "EVT3", piece)
        for number, name in enumerate(("master", "slave")):
            pieces = list(evt.open_evt(file, ReadOptions(select=name)).pieces)
            found = [(int(a), int(b)) for columns in pieces for a, b in zip(columns.x, columns.y, strict=True)]
            assert found == [(x + i, y) for camera, y, x in events for i in (0, 0, 1) if camera == number]
    assert "EVT3 has master and slave" in refusal_of(lambda: evt.open_evt(file, ReadOptions(select="left")))
