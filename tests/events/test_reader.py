"""Reading event files: what they hold decides, and every refusal is one line that names the file."""

from __future__ import annotations

import itertools
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from neuromoco import EventFileError, Recording, models, read_recording
from neuromoco.events import ReadOptions, read_windows, survey_recording, write_atis, write_npz
from neuromoco.events.arrays import npz
from neuromoco.events.atis import LAST_US
from neuromoco.events.reader import FORMATS
from tests.conftest import make_recording
from tests.fuzz import event_files
from tests.fuzz.seeds import evt3_words
from tests.helpers.outcomes import outcome_of, refusal_of
from tests.helpers.ros_writers import PACKET, cdr_packet, database

EVENTS = st.lists(
    st.tuples(st.integers(0, LAST_US), st.integers(0, 33), st.integers(0, 33), st.integers(0, 1)),
    min_size=3,
    max_size=50,
)


def same(a: Recording, b: Recording) -> bool:
    columns = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("t", "x", "y", "p"))
    return columns and (a.width, a.height) == (b.width, b.height)


def atis_bytes(events: list[tuple[int, int, int, int]]) -> bytes:
    """Straight from the published layout, bit by bit: 8 x, 8 y, 1 polarity, 23 time."""
    return b"".join(int(f"{x:08b}{y:08b}{p:01b}{t:023b}", 2).to_bytes(5, "big") for t, x, y, p in events)


def refusal(path: Path) -> str:
    with pytest.raises(EventFileError) as caught:
        read_recording(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_atis_bits_are_read_as_published(tmp_path: Path) -> None:
    file = tmp_path / "a.anything"
    file.write_bytes(atis_bytes([(0, 1, 2, 1), (70_000, 33, 0, 0), (LAST_US, 0, 33, 1)]))
    recording = read_recording(file)
    assert recording.source == "ATIS .bin"
    assert (recording.width, recording.height) == (34, 34)
    assert recording.t.tolist() == [0, 70_000, LAST_US]
    assert recording.x.tolist() == [1, 33, 0]
    assert recording.y.tolist() == [2, 0, 33]
    assert recording.p.tolist() == [1, 0, 1]
    assert recording.t.dtype == np.int64


def test_atis_overflow_marks_move_the_clock(tmp_path: Path) -> None:
    file = tmp_path / "long.bin"
    file.write_bytes(atis_bytes([(5, 200, 100, 1), (0, 0, 240, 0), (6, 200, 100, 1), (0, 0, 240, 0), (7, 1, 1, 0)]))
    recording = read_recording(file)
    assert recording.t.tolist() == [5, 6 + 8192, 7 + 2 * 8192]
    file.write_bytes(atis_bytes([(8000, 1, 1, 1), (0, 0, 240, 0), (10, 1, 1, 0)]))
    assert read_recording(file).t.tolist() == [8000, 8202]
    assert (recording.width, recording.height) == (240, 180)


def test_atis_rows_beyond_every_sensor_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "tall.bin"
    digit = models.example_paths()[3].read_bytes()
    file.write_bytes(digit + 300 * bytes([10, 250, 0xFF, 0xFF, 0xFF]))
    with pytest.raises(EventFileError, match=r"need 34 x 251 pixels, more than 256 x 240, the largest sensor"):
        read_recording(file)
    assert len(read_recording(file, options=ReadOptions(sensor=(34, 251)))) == 4664
    file.write_bytes(digit + bytes([10, 250, 0xFF, 0xFF, 0xFF]))
    assert len(read_recording(file, options=ReadOptions(sensor=(34, 34)))) == 4364  # a single glitch


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_atis_and_npz_round_trips(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int, int]]
) -> None:
    t, x, y, p = (list(column) for column in zip(*sorted(events), strict=True))
    recording = Recording.from_columns(t, x, y, p, width=34, height=34)
    folder = tmp_path_factory.mktemp("round")
    write_npz(folder / "a.bin", recording)
    assert same(read_recording(folder / "a.bin"), recording)
    write_atis(folder / "a.npz", recording)
    if any((folder / "a.npz").read_bytes()):  # all zeros are refused, and rightly
        back = read_recording(folder / "a.npz")
        assert same(back, recording)


def test_npz_of_any_integer_type_and_signed_polarity(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, t=np.array([3, 9], np.uint32), x=np.array([4, 5], np.int8), y=np.array([7, 1]), p=np.array([-1, 1]))
    recording = read_recording(file)
    assert (recording.width, recording.height) == (6, 8)
    assert recording.p.tolist() == [0, 1]


def test_events_out_of_order_are_sorted_stably() -> None:
    recording = Recording.from_columns([5, 1, 5, 0], [0, 1, 2, 3], [0] * 4, [0] * 4)
    assert recording.t.tolist() == [0, 1, 5, 5]
    assert recording.x.tolist() == [3, 1, 0, 2]


def test_facts(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", make_recording(0, events=600))
    facts = survey_recording(tmp_path / "a.npz").facts()
    assert facts["events"] == 600
    assert facts["duration_ms"] == 300.0
    assert facts["rate_events_per_s"] == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "is a PNG picture"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "is a JPEG picture"),
        (b"%PDF-1.7 something", "is a PDF document"),
        (b"#!AER-DAT9.0\r\n# more", "is an AEDAT recording of an unknown version; neuromoco reads"),
        (b"% something else\n% end\n", "is a Prophesee recording of an unknown kind; neuromoco reads"),
        (b"# a note\n\nSome words in a text file.\n", "no event recording that neuromoco knows"),
        (b"\0" * 5000, "no event recording that neuromoco knows"),
        (np.random.default_rng(0).bytes(5000), "no event recording that neuromoco knows"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "00001.bin"
    file.write_bytes(content)
    assert words in refusal(file)


def test_missing_and_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing.bin")
    assert refusal(tmp_path) == f"{tmp_path}: is an empty folder"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.raw").touch()
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; give the files in it, such as a/b.raw"
    os.mkfifo(tmp_path / "pipe")
    assert "is a named pipe; give - and its content" in refusal(tmp_path / "pipe")


def test_cut_files_are_refused(tmp_path: Path) -> None:
    recording = make_recording(1)
    write_atis(tmp_path / "a.bin", recording)
    write_npz(tmp_path / "a.npz", recording)
    for name in ("a.bin", "a.npz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(whole[: len(whole) // 2 + 1])
        assert "cut or damaged" in refusal(tmp_path / f"cut-{name}")


def test_damaged_bytes_of_an_npz_are_refused_or_read(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", make_recording(2, events=50))
    whole = (tmp_path / "a.npz").read_bytes()
    refused: list[EventFileError] = []
    for at in range(0, len(whole), 3):
        (tmp_path / "b.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_recording(tmp_path / "b.npz")
        except EventFileError as error:
            refused.append(error)
    assert len(refused) > len(whole) // 12
    assert not any("\n" in str(error) for error in refused)


def test_pickles_in_npz_are_never_loaded(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    columns = {"t": np.array([print], object), "x": np.array([1]), "y": np.array([1]), "p": np.array([1])}
    np.savez(file, **columns, allow_pickle=True)
    assert "t holds Python objects, which are never loaded" in refusal(file)


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "HARMLESS_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", t=np.zeros(1 << 18, np.int64))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 14
    assert "unpacks to 2097" in refusal(tmp_path / "bomb.npz")


def test_a_column_is_missing_or_of_another_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", t=np.arange(3), x=np.arange(3), y=np.arange(3))
    assert "p missing" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", t=np.arange(3), x=np.arange(3), y=np.arange(3), p=np.zeros(2, int))
    assert "differ in length" in refusal(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", t=np.arange(3), x=np.arange(3) / 2, y=np.arange(3), p=np.zeros(3, int))
    assert "whole numbers" in refusal(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", t=np.arange(3), x=np.arange(3), y=np.arange(3), p=np.zeros(3, int), width=2, height=9)
    assert "outside the 2 x 9 sensor" in refusal(tmp_path / "d.npz")


def test_an_aedat4_file_of_our_own_is_read(tmp_path: Path) -> None:
    from tests.helpers.aedat4_writer import write_aedat4

    recording = make_recording(3, events=500)
    write_aedat4(tmp_path / "a.bin", recording)
    back = read_recording(tmp_path / "a.bin")
    assert back.source == "AEDAT4"
    assert same(back, recording)
    whole = (tmp_path / "a.bin").read_bytes()
    (tmp_path / "cut.aedat4").write_bytes(whole[: len(whole) - 100])
    assert "cut or damaged" in refusal(tmp_path / "cut.aedat4")
    info = whole.index(b"<dv")
    for at in (info + 13, info + 19, info + 167):
        (tmp_path / "flipped.aedat4").write_bytes(whole[:at] + b"\xfa" + whole[at + 1 :])
        assert "damaged" in refusal(tmp_path / "flipped.aedat4")
    write_aedat4(tmp_path / "none.aedat4", None)
    assert "holds no events" in refusal(tmp_path / "none.aedat4")


def test_real_recordings_are_read(real_folder: Path) -> None:
    files = sorted(real_folder.glob("*/*.bin"))
    assert files
    for file in files:
        raw = np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, 5)
        recording = read_recording(file)
        assert len(recording) == len(raw)
        assert recording.t[-1] == struct.unpack(">I", b"\0" + bytes([raw[-1, 2] & 0x7F]) + bytes(raw[-1, 3:]))[0]
        assert (recording.width, recording.height) == (34, 34)


def test_whatever_format_is_forced_on_a_file_it_is_read_or_refused(tmp_path: Path) -> None:
    for name, files in event_files.seeds().items():
        (tmp_path / name).write_bytes(files[event_files.FILE])
    for file, key in itertools.product(sorted(tmp_path.iterdir()), FORMATS):
        found = outcome_of(lambda: read_recording(file, options=ReadOptions(format=key)))  # noqa: B023
        assert found == "is read" or found.startswith(f"{file}: ")
        assert found.isprintable()
    (tmp_path / "short.bin").write_bytes(b"#!AER-DAT3.\n")
    assert "3.1" in refusal_of(lambda: read_recording(tmp_path / "short.bin", options=ReadOptions(format="aedat3")))


@pytest.mark.parametrize("side", [0, -5, 1 << 16, 1 << 40, 10**18])
def test_sides_of_no_sensor_are_refused(tmp_path: Path, side: int) -> None:
    columns = {name: np.arange(2) for name in "txyp"}
    np.savez(tmp_path / "a.npz", **columns, width=side, height=34)
    for read in (read_recording, survey_recording):
        assert f"a sensor of {side} x 34; a side has 1 to 65535 pixels" in refusal_of(lambda: read(tmp_path / "a.npz"))  # noqa: B023
    assert read_recording(tmp_path / "a.npz", options=ReadOptions(sensor=(34, 34))).width == 34


@pytest.mark.parametrize("times", [[-(2**63), 0, 2**63 - 1], [0, 1, 2**62], [-(2**62), 0, 1]])
def test_times_beyond_all_clocks_are_refused(tmp_path: Path, times: list[int]) -> None:
    np.savez(tmp_path / "a.npz", t=np.array(times), x=np.zeros(3, int), y=np.zeros(3, int), p=np.zeros(3, int))
    for read in (read_recording, survey_recording, lambda path: list(read_windows(path, 1000))):
        assert "us, more than 100,000 years: damaged" in refusal_of(lambda: read(tmp_path / "a.npz"))  # noqa: B023


def test_endless_windows_without_events_are_refused_before_the_first(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("t,x,y,p\n0,1,1,1\n1700000000000000,1,1,0\n1700000000000100,1,2,1\n")
    reading = read_windows(file, 500_000)
    words = "3,400,000,000 windows of 500,000 us without events, more than 100,030"
    assert words in refusal_of(lambda: next(reading))
    file.write_text("t,x,y,p\n0,1,1,1\n100000000,1,1,0\n")
    assert [len(window) for window in read_windows(file, 1000)] == [1, *[0] * 99_999, 1]
    assert "100,100 windows of 999 us" in refusal_of(lambda: list(read_windows(file, 999)))
    times = "".join(f"{50_000_000 * number},1,1,1\n" for number in range(100))  # many gaps, each of 50,000 windows
    file.write_text("t,x,y,p\n" + times)
    assert "4,950,000 windows of 1,000 us" in refusal_of(lambda: next(read_windows(file, 1000)))


def test_a_version_of_any_bytes_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"#!AER-DAT3.\x01\x00\x1b[2J\r\n")
    assert refusal(tmp_path / "a.bin").isprintable()


def test_numbers_that_are_none_are_refused_without_a_warning(tmp_path: Path) -> None:
    signalling = np.array([0x7FF0000000000001], "u8").view("f8")
    columns = {name: np.arange(3.0) for name in ("ts", "x", "y", "pol")}
    for name in columns:
        savemat(tmp_path / "a.mat", {**columns, "pol": np.ones(3), name: np.append(columns[name][:2], signalling)})
        assert "is nan" in refusal(tmp_path / "a.mat")


def test_a_database_whose_pages_repeat_is_no_recording_without_end(tmp_path: Path) -> None:
    """A page of a tree that stands for itself many times, at two levels: 50 x 50 times the messages of one page."""
    file, page = tmp_path / "a.db3", 4096
    message = cdr_packet(evt3_words(make_recording(0, events=100)), sensor=(34, 34))
    database(file, [("/camera", PACKET, message)] * 200)
    raw = bytearray(file.read_bytes())
    roots = [at for at in range(page, len(raw), page) if raw[at] == 5]  # inner pages of tables
    assert len(roots) == 1
    root = roots[0]
    copy = raw[root : root + page]
    cells = struct.unpack_from(f">{struct.unpack_from('>H', copy, 3)[0]}H", copy, 12)
    for at in cells:
        struct.pack_into(">I", raw, root + at, len(raw) // page + 1)
    struct.pack_into(">I", raw, root + 8, len(raw) // page + 1)
    for at in cells:
        copy[at : at + 4] = copy[cells[0] : cells[0] + 4]
    raw += copy
    struct.pack_into(">I", raw, 28, len(raw) // page)
    file.write_bytes(raw)
    with closing(sqlite3.connect(file)) as base:
        assert base.execute("SELECT count(*) FROM messages").fetchone()[0] > 1000
    assert "hold more bytes than the file" in refusal(file)


def test_half_precision_coordinates_are_read_without_a_warning(tmp_path: Path) -> None:
    t, half = np.arange(3), np.array([0, 5, 33], np.float16)
    np.savez(tmp_path / "a.npz", t=t, x=half, y=half, p=np.ones(3, int), width=34, height=34)
    assert read_recording(tmp_path / "a.npz").x.tolist() == [0, 5, 33]
    np.savez(
        tmp_path / "a.npz", t=t, x=np.array([0, 5, np.inf], np.float16), y=half, p=np.ones(3, int), width=34, height=34
    )
    assert refusal(tmp_path / "a.npz")
