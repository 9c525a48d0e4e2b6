"""Cut files: refused, or read up to the damage on request, which is said. Cameras that count the other way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco import Recording
from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, read_recording, read_windows, survey_recording
from neuromoco.events.arrays import stored
from neuromoco.events.prophesee import evt
from neuromoco.events.text import lines
from neuromoco.events.writers import WRITERS
from tests.fuzz import seeds
from tests.helpers.cli import error_line, run
from tests.helpers.evt_files import HEADERS, evt3_word, raw
from tests.helpers.outcomes import refusal_of, rows
from tests.helpers.ros_writers import ARRAY, bag, cdr_array, database, mcap, ros1_array

SIDE = 34


def example(events: int = 120) -> Recording:
    rng = np.random.default_rng(0)
    x, y, p = rng.integers(0, SIDE, events), rng.integers(0, SIDE, events), rng.integers(0, 2, events)
    return Recording.from_columns(np.arange(events) * 1000 + 70, x, y, p, width=SIDE, height=SIDE)


def in_messages(make: Callable[..., bytes]) -> list[tuple[str, str, bytes]]:
    events = rows(example())
    frame = ("/image", "sensor_msgs/Image", bytes(3000))
    parts = [make(events[at : at + 10], (SIDE, SIDE)) for at in range(0, len(events), 10)]
    return [message for part in parts for message in (("/dvs", ARRAY, part), frame)]


def written(folder: Path, format: str) -> Path:
    path = folder / format
    if format in WRITERS:
        WRITERS[format](path, example())
    elif format == "bag":
        path.write_bytes(bag(in_messages(ros1_array)))
    elif format == "mcap":
        path.write_bytes(mcap(in_messages(cdr_array)))
    elif format == "db3":
        database(path, in_messages(cdr_array))
    else:
        path.write_bytes(getattr(seeds, format)(example()))
    return path


FORMATS = ["atis", "evt2", "evt3", "aedat2", "aedat3", "aedat4", "dat", "es", "bag", "mcap", "db3"]


@pytest.mark.parametrize("format", FORMATS)
def test_what_comes_before_a_cut_is_read(tmp_path: Path, format: str) -> None:
    file = written(tmp_path, format)
    whole, expected = file.read_bytes(), rows(read_recording(file))
    assert len(expected) == 120
    cut, salvage = tmp_path / "cut", ReadOptions(salvage=True)
    most, refusals = 0, list[str]()
    step = max(1, len(whole) // (12 if format in ("aedat4", "db3") else 60))
    for size in range(len(whole) // 3, len(whole), step):
        cut.write_bytes(whole[:size])
        try:
            recording = read_recording(cut, options=salvage)
        except EventFileError as error:
            refusals.append(str(error))
            continue
        found = rows(recording)
        assert found == expected[: len(found)]
        most = max(most, len(found))
        windows = [row for window in read_windows(cut, 10_000, salvage) for row in rows(window)]
        assert windows == found
        if recording.oddities.lost:
            words = refusal_of(lambda: read_recording(cut))
            assert words.endswith("; --salvage reads what comes before")
            assert survey_recording(cut, salvage).facts()["lost"] == recording.oddities.lost
            assert "not read" in recording.oddities.lost
    assert most >= (0 if format == "aedat4" else 70)  # whose one packet is cut
    opened_first = format in ("aedat4", "db3")  # or not at all
    assert all("no events" in words or (opened_first and "cut" in words) for words in refusals)
    whole_again = read_recording(file, options=salvage)
    assert (rows(whole_again), whole_again.oddities.lost) == (expected, "")


def test_how_much_is_lost_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, "evt2")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    size = len(whole) - 5
    said = f"the last 3 of {size:,} bytes ({3 / size:.1%}) were not read: the last record has 3 of its 4 bytes"
    result = run("convert", file, tmp_path / "a.npz", "--salvage")
    assert (result.exit_code, len(read_recording(tmp_path / "a.npz"))) == (0, 119)
    assert f"warning: {file}: {said}" in result.stderr
    assert run("convert", file, tmp_path / "b.npz").exit_code == 3
    npz = run("info", tmp_path / "a.npz", "--salvage")
    assert "--salvage with the format npz, which takes" in error_line(npz)


def test_words_before_a_damaged_one_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [evt3_word(*word) for word in ((8, 0), (6, 0), (0, 5))]
    words += [evt3_word(2, x) for x in range(40)]
    words[23] = evt3_word(1, 0)
    for piece in (7, 1000):
        monkeypatch.setitem(evt.WORDS, "EVT3", piece)
        file = raw(tmp_path / "a.raw", HEADERS["EVT3"], words, "<H")
        recording = read_recording(file, options=ReadOptions(salvage=True))
        assert recording.x.tolist() == list(range(20))
        assert f"the last {2 * 20} of {file.stat().st_size}" in recording.oddities.lost


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("line", ["9,1,2", "9,a,2,1", "9"])
def test_lines_before_a_damaged_one_are_read(
    tmp_path: Path, line: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas")
    events = rows(example())
    written = ["t,x,y,p", *(",".join(map(str, event)) for event in events)]
    written[61:61] = [line]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(written), encoding=encoding)
    for block in (200, 1 << 20):
        monkeypatch.setattr(lines, "BLOCK", block)
        words = refusal_of(lambda: read_recording(file))
        assert "line 62: " in words
        assert words.endswith("; --salvage reads what comes before")
        recording = read_recording(file, options=ReadOptions(salvage=True))
        assert rows(recording) == events[:60]
        left = len("\n".join(written[61:]))
        said = f"the last {left:,} of {file.stat().st_size:,} bytes" if encoding == "utf-8" else "the rest of the file"
        assert recording.oddities.lost.startswith(said)


def test_a_bag_that_was_not_closed(tmp_path: Path) -> None:
    """Its last chunk has no size yet: its records follow as if there was no chunk."""
    whole = bag(in_messages(ros1_array), each=4)
    place = whole.index(b"index_pos=") + len(b"index_pos=")
    chunk = whole.rindex(b"op=\5")
    begin = whole.index(b"size=", chunk) + len(b"size=") + 4
    size = int.from_bytes(whole[begin : begin + 4], "little")
    content = whole[begin + 4 : begin + 4 + size]
    head = whole[: begin - 4] + bytes(8)
    file = tmp_path / "a.bag.active"
    file.write_bytes(head[:place] + bytes(8) + head[place + 8 :] + content[:-3100])
    assert "rosbag reindex; --salvage reads what comes before" in refusal_of(lambda: read_recording(file))
    recording = read_recording(file, options=ReadOptions(salvage=True))
    assert rows(recording) == rows(example())[:110]
    assert "were not read" in recording.oddities.lost


@pytest.mark.parametrize("flip", ["x", "y", "xy"])
def test_flip_mirrors_columns_and_rows(tmp_path: Path, flip: str) -> None:
    for format in ("aedat2", "npz", "csv"):
        file = written(tmp_path, format)
        plain = read_recording(file)
        x, y = plain.x.astype(int), plain.y.astype(int)
        expected = (plain.width - 1 - x if "x" in flip else x, plain.height - 1 - y if "y" in flip else y)
        options = ReadOptions(flip=flip)  # type: ignore[arg-type]
        recording = read_recording(file, options=options)
        assert (recording.x.tolist(), recording.y.tolist()) == tuple(place.tolist() for place in expected)
        assert (recording.width, recording.height) == (plain.width, plain.height)
        cut = list(read_windows(file, 10_000, options))
        assert np.concatenate([part.x for part in cut]).tolist() == recording.x.tolist()
        assert np.concatenate([part.y for part in cut]).tolist() == recording.y.tolist()
        image = survey_recording(file, options).image.sum(0)
        rows_of, columns_of = image.nonzero()
        assert set(zip(columns_of.tolist(), rows_of.tolist(), strict=True)) == set(
            zip(recording.x.tolist(), recording.y.tolist(), strict=True)
        )


def test_cameras_that_are_selected(tmp_path: Path) -> None:
    file = tmp_path / "a.bag"
    for number, side in enumerate(("left", "right")):
        assert run("info", file, "--select", side).exit_code == 3, number
    events = rows(example(20))
    file.write_bytes(bag([(f"/{side}/events", ARRAY, ros1_array(events)) for side in ("left", "right")]))
    assert "give --select with one of /left/events, /right/events" in error_line(run("info", file))
    assert run("convert", file, tmp_path / "a.npz", "--select", "/right/events", "--flip", "x").exit_code == 0
    x = read_recording(tmp_path / "a.npz").x
    assert x.tolist() == [345 - event[1] for event in events]


@pytest.mark.parametrize("table", [False, True])
def test_whole_records_of_a_cut_npy_are_read(tmp_path: Path, table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "PIECE", 50)
    events = rows(example())
    array = np.array(events) if table else np.array(events, [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "|u1")])
    file, columns = tmp_path / "a.npy", "txyp" if table else None
    np.save(file, array)
    whole = file.read_bytes()
    begin, row = len(whole) - array.nbytes, array.nbytes // len(events)
    salvage = ReadOptions(columns=columns, salvage=True)
    file.write_bytes(whole[: begin + 1])
    assert "no events" in refusal_of(lambda: read_recording(file, options=salvage))
    for size in (begin + 2 * row, begin + 60 * row - 1, begin + 100 * row + 3, len(whole) - 1):
        file.write_bytes(whole[:size])
        words = refusal_of(lambda: read_recording(file, options=ReadOptions(columns=columns)))
        assert f"{len(whole) - size} bytes of its array are missing; --salvage reads what comes before" in words
        left, rest = divmod(size - begin, row)
        recording = read_recording(file, options=salvage)
        assert rows(recording) == events[:left]
        assert recording.oddities.lost.startswith(f"the last {rest} of {size:,} bytes")
        assert [row for window in read_windows(file, 10_000, salvage) for row in rows(window)] == events[:left]
    salvage = ReadOptions(columns="txyp", salvage=True)
    np.save(file, np.array(events).T)  # event by event, too
    file.write_bytes(file.read_bytes()[:-9])
    assert rows(read_recording(file, options=salvage)) == events[:-1]
    np.save(file, np.array(events).T.copy())  # all times, then all columns, ...
    file.write_bytes(file.read_bytes()[:-9])
    words = refusal_of(lambda: read_recording(file, options=salvage))
    assert "its columns come one after the other, and some are not there" in words
