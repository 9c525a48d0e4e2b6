"""Text: separators, names, units and polarities as people write them; every refusal names its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import ConfigError, EventFileError, Recording
from neuromoco.events.aedat import aedat4
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather
from neuromoco.events.text import lines as text
from neuromoco.events.text.header import looks_like_text
from neuromoco.events.text.lines import open_text, write_csv
from tests.conftest import make_recording
from tests.helpers.outcomes import outcome_of, refusal_of, rows

EVENTS = [(0, 3, 4, 1), (1_000_001, 639, 0, 0), (1_000_001, 0, 479, 1)]


def read(path: Path, **said: object) -> Recording:
    return gather(open_text(path, ReadOptions(**said)))  # type: ignore[arg-type]


def refusal(path: Path, content: str | bytes | None = None, **said: object) -> str:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return refusal_of(lambda: read(path, **said))


def outcome(path: Path, **said: object) -> str:
    return outcome_of(lambda: read(path, **said))


@pytest.mark.parametrize(
    "content",
    [
        "t,x,y,p\n0,3,4,1\n1000001,639,0,0\n1000001,0,479,1\n",
        "t,x,y,p\r\n0,3,4,1\r\n1000001,639,0,0\r\n1000001,0,479,1",
        "\ufefft;x;y;p\n0;3;4;1\n\n1000001;639;0;0\n1000001;0;479;1\n\n",
        "y\tp\tx\tt\n4\t1\t3\t0\n0\t-1\t639\t1000001\n479\t1\t0\t1000001\n",
        "# made by hand\nx, y, polarity, ts\n3, 4, True, 0 # first\n639, 0, false, 1000001\n0, 479, TRUE, 1000001\n",
        "#x y on time(s)\n3 4 on 0.0\n639   0\toff 1.000001\n  0 479 on 1.0000009999999999 \n",
        "0.000000000 3 4 1\n1.000001000 639 0 0\n1.000001499 0 479 1\n",
        "640 480\n0.0 3 4 1\n1.000001 639 0 0\n1.0000010000000000000000001 0 479 1\n",
        ',t_ms,x,y,p,label\n0,0.0004,3,4,1,"a b"\n1,1000.001,639,0,0,c\n2,1000.0014,0,479,1,-\n',
        "# t x y p\n0.0000000000000000e+00 3.0000000000000000e+00 4.0 1.0\n1.000001e+00 639 0 0\n1000001e-6 0 479 1\n",
        "t [ns],x@640,y@480,p\n499,3,4,1\n1000000500,639,0,0\n1000001499,0,479,1\n",
        "%geometry:640,480\nt,x,y,p\n0,3.0,4,+1\n1000001,639.0,0,-1\n1000001,0,479,1\n",
    ],
)
def test_ways_to_write_the_same_events(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content.encode())
    recording = read(file)
    assert rows(recording) == EVENTS
    assert (recording.width, recording.height) == (640, 480)
    assert recording.t.dtype == np.int64
    assert looks_like_text(content.encode()[:4000], len(content.encode()))


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
@pytest.mark.parametrize(
    ("separator", "end", "quote", "decimal"),
    [(",", "", "", "."), (",", ",", "", "."), (";", ";", '"', ","), ("\t", "\t", "", "."), (" ", " ", "", "."),
     ("  ", "", "", ","), (", ", "", '"', "."), (" \t", "", "", "."), (",", " ", "", "."), (";", "", "", ",")],
)  # fmt: skip
def test_what_spreadsheets_and_programs_make_of_it(
    tmp_path: Path, names: bool, encoding: str, separator: str, end: str, quote: str, decimal: str
) -> None:
    times = [f"{t / 1e6:.6f}".replace(".", decimal) for t, *_ in EVENTS]
    lines = [(t, *map(str, rest)) for t, (_, *rest) in zip(times, EVENTS, strict=True)]
    if names:
        lines.insert(0, ("Time [s]", "X", "Y", "On/Off") if separator.strip() else ("t_s", "X", "Y", "On/Off"))
    text = "".join(separator.join(f"{quote}{field}{quote}" for field in line) + end + "\r\n" for line in lines)
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    assert looks_like_text(content[:4000], len(content))
    for columns in ("txyp",) if not names else (None, "txyp", "t=time" if separator.strip() else "t=t_s"):
        assert rows(read(file, columns=columns)) == EVENTS


def test_utf_16_that_is_cut_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(("t,x,y,p\n" + "1,2,3,1\n" * 40_000).encode("utf-16")[:-1])
    assert "the text in UTF-16 is cut or damaged" in refusal(tmp_path / "a.csv")


def test_columns_beyond_those_that_are_named_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"{t} {x} {y} {p} 1 car\n" for t, x, y, p in EVENTS))
    for columns in ("txyp", "txyp_", "txyp__"):
        assert rows(read(file, columns=columns)) == EVENTS
    assert "names 7 columns; there are 6" in refusal(file, columns="txyp___")
    assert "no line names the columns" in refusal(file)


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    assert "--columns txyp" in refusal(file, "3,4,1,0\n639,0,0,1000001\n0,479,1,1000001\n")
    assert rows(read(file, columns="xypt")) == EVENTS
    assert rows(read(file, columns="XYPT", time_unit="ms"))[1][0] == 1_000_001_000
    assert read(file, columns="xypt", sensor=(1280, 720)).width == 1280
    assert "each of t, x, y and p once" in refusal_of(lambda: read(file, columns="xyp"), ConfigError)
    assert "names 5 columns; there are 4" in refusal(file, "1,2,3,4\n", columns="xy_pt")
    file.write_text("t,x,y,p\n7,1,2,0\n")
    assert rows(read(file, columns="ytxp")) == [(1, 2, 7, 0)]


def test_times_of_any_size_are_exact(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("t,x,y,p\n-1504645177123456,1,2,0\n1504645177123456,1,2,0\n4611686018427387903,1,2,0\n")
    assert read(file, time_unit="us").t.tolist() == [-1504645177123456, 1504645177123456, 4611686018427387903]
    file.write_text("1504645177.123456789 1 2 0\n1504645178.1234567 1 2 0\n")
    assert read(file).t.tolist() == [1504645177123457, 1504645178123457]
    assert "the time of event 0 is 9223372036855" in refusal(file, "t_s,x,y,p\n9223372036855,1,2,0\n")
    assert "the time of event 1 is 9.9e+18" in refusal(file, "t,x,y,p\n1,1,1,1\n9.9e18,1,2,0\n", time_unit="us")
    assert "more than 19 digits" in refusal(file, "t,x,y,p\n1,1,1,1\n99999999999999999999999,1,2,0\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("5,1,2", "3 instead of 4 fields, in '5,1,2'"),
        ("5,1,2,1,0", "5 instead of 4 fields"),
        ("5,1,2,1,", "5 instead of 4 fields"),
        ("5,,2,1", "'' in column x is no number"),
        ("5,1,2,", "'' in column p is no number"),
        ("nan,1,2,1", "'nan' in column t is no finite number"),
        ("5,inf,2,1", "'inf' in column x is no finite number"),
        ("5,a,2,1", "'a' in column x is no number"),
        ("5,true,2,1", "'true' in column x is no number"),
        ("5,1,2,maybe", "'maybe' in column p is no number"),
        ("5,-1.5,2,1", "x is '-1.5'; coordinates are whole numbers"),
        ("5,1,2.5,1", "y is '2.5'"),
        ("5,1,2,2", "the polarity is '2'"),
        ("5,1,2,11", "the polarity is '11'"),
        ("5,1,2,-2", "the polarity is '-2'"),
        ("1_0,1,2,1", "'1_0' in column t"),
        ("5-5,1,2,1", "'5-5' in column t"),
        ("5.5.5,1,2,1", "'5.5.5' in column t"),
        ("--5,1,2,1", "'--5' in column t"),
        ("5,1,2,\x01", "in column p is no number"),
        ("9" * 5000 + ",1,2,1", "is longer than 4096 bytes"),
        ("\u00e9\u2028,1,2,1", "in column t is no number"),
    ],
)
def test_lines_that_are_no_events(tmp_path: Path, line: str, words: str) -> None:
    message = refusal(tmp_path / "a.csv", f"t,x,y,p\n# fine\n1,1,1,1\n\n{line}\n6,1,1,0\n")
    assert message.startswith("line 5: ")
    assert words in message


def test_a_bad_line_is_named_in_any_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK", 100)
    good = [f"{t},1,1,1\n" for t in range(1000)]
    for at in (0, 17, 500, 999):
        content = "t,x,y,p\n" + "".join(good[:at]) + "7,1,1.5,1\n" + "".join(good[at:])
        assert f"line {at + 2}: y is '1.5'" in refusal(tmp_path / "a.csv", content)
    content = "t,x,y,p\n" + "".join(good) + "1000.5,1,1,1\n"
    assert "the time of event 1000 is 1000.5; those before it were whole" in refusal(tmp_path / "a.csv", content)
    (tmp_path / "a.csv").write_text(content)
    assert len(read(tmp_path / "a.csv", time_unit="us")) == 1001
    content = "t,x,y,p\n" + "".join(good) + "8,1,1,0\n" * 20 + "9,1,1,-1\n"
    assert "polarities of -1 and of 0" in refusal(tmp_path / "a.csv", content)
    assert "line 3 is longer" in refusal(tmp_path / "a.csv", b"t,x,y,p\n1,1,1,1\n" + b"1" * 1000)


@pytest.mark.parametrize(
    "content",
    [
        '{"t": [1, 2], "x": [3, 4], "y": [1, 2], "p": [0, 1]}',
        "[[1, 2, 3, 1],\n [2, 2, 3, 1]]",
        "<!DOCTYPE html>\n<html><p>1 2 3 4</p></html>",
        "# A project\n\nIt reads t, x, y and p of events.\n",
        "t x y\n1 2 3\n",
        "1 2 3\n4 5 6\n",
        "import numpy\n",
        "1 2\n3 4\n",
        "1.0 2.0\n1 2 3 4\n",
        "\n\n\n",
        "# only a comment",
        "0 1 2 1\n\0",
    ],
)
def test_other_texts_are_not_taken_for_events(content: str) -> None:
    assert not looks_like_text(content.encode(), len(content))
    assert not looks_like_text(content.encode("utf-16"), 2 * len(content))


def test_numbers_without_names_need_an_order(tmp_path: Path) -> None:
    assert "no line names the columns: give the order" in refusal(tmp_path / "a.csv", "1 2 3 4 5 6 7\n")
    words = "the columns are frame, left, top, width; a recording has t, x, y, p: t, x, y, p missing"
    assert words in refusal(tmp_path / "a.csv", "frame,left,top,width\n1,2,3,1\n")
    assert rows(read(tmp_path / "a.csv", columns="t=frame,x=left,y=top,p=width")) == [(1, 2, 3, 1)]


def test_the_first_line_alone_makes_a_text_of_events() -> None:
    assert looks_like_text(b"0.1 2 3 1\nbroken", 15)
    assert looks_like_text(b"1,2,3,4\n" * 500, 10_000)
    assert looks_like_text(b"# t x y p\n1 2 3 1\n", 18)


def test_texts_without_events_give_no_pieces(tmp_path: Path) -> None:
    for content in ("t,x,y,p", "t,x,y,p\n", "# t x y p\n\n#\n"):
        assert "holds no events" in refusal(tmp_path / "a.csv", content)
    assert "comments and no event" in refusal(tmp_path / "a.csv", "# a line of words\n" * 10_000)


def test_written_recordings_come_back(tmp_path: Path) -> None:
    recording = make_recording(4, events=3000)
    write_csv(tmp_path / "a.csv", recording)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "t,x,y,p"
    assert lines[1:] == [",".join(map(str, row)) for row in rows(recording)]
    assert rows(read(tmp_path / "a.csv")) == rows(recording)
    empty = Recording.from_columns(*(np.zeros(0, int) for _ in range(4)), width=3, height=3)
    write_csv(tmp_path / "a.csv", empty)
    assert (tmp_path / "a.csv").read_text() == "t,x,y,p\n"


TIMES = st.one_of(
    st.integers(-(2**62), 2**62).map(str),
    st.decimals(-(10**6), 10**12, places=6, allow_nan=False).map(lambda d: f"{d:f}"),
    st.decimals(-(10**6), 10**9, places=9, allow_nan=False).map(lambda d: f"{d:.17e}"),
    st.floats(-1e6, 1e9).map(lambda f: f"{f:.18e}"),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(TIMES, st.integers(0, 65534), st.integers(0, 65534), st.sampled_from("01")), min_size=1, max_size=30
    ),
    st.sampled_from(",;\t "),
    st.sampled_from(["s", "ms", "us"]),
    st.booleans(),
)
def test_python_reads_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[str, int, int, str]],
    separator: str,
    unit: str,
    messy: bool,
) -> None:
    from decimal import ROUND_HALF_UP, Decimal, localcontext

    power = {"s": 6, "ms": 3, "us": 0}[unit]
    with localcontext(prec=60):
        times = [(Decimal(t) * 10**power).to_integral_value(ROUND_HALF_UP) for t, *_ in events]
    lines = [separator.join(map(str, event)) for event in events]
    if messy:
        lines = [f" {line} # note\r" for line in lines]
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text("\n".join(["t x y p".replace(" ", separator), *lines]), newline="")
    stream = open_text(file, ReadOptions(time_unit=unit))  # type: ignore[arg-type]
    if max(map(abs, times)) >= 2**63 - 10**power:
        with pytest.raises(EventFileError):
            list(stream.pieces)
        return
    t, x, y, p = (np.concatenate(column).tolist() for column in zip(*stream.pieces, strict=True))
    if all(time.lstrip("-").isdecimal() for time, *_ in events):
        assert t == times
    else:  # doubles, rounded
        assert all(abs(read - exact) <= 1 + abs(exact) / 2**51 for read, exact in zip(t, times, strict=True))
    assert list(zip(x, y, map(str, p), strict=True)) == [event[1:] for event in events]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2_000_000_000 * 10**6), min_size=1, max_size=30))
def test_microseconds_written_as_seconds_are_exact(tmp_path_factory: pytest.TempPathFactory, times: list[int]) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text("".join(f"{t // 10**6}.{t % 10**6:06} 1 2 0\n" for t in times))
    stream = open_text(file, ReadOptions(columns="txyp", time_unit="s"))
    assert [t for piece in stream.pieces for t in piece.t.tolist()] == times


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 19).flatmap(lambda digits: st.integers(0, min(10**digits, 2**63 - 1))),
            *[st.integers(0, 5).flatmap(lambda digits: st.integers(0, min(10**digits, 65534)))] * 2,
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=30,
    ),
    st.permutations("txyp"),
    st.sampled_from(",\t "),
    st.integers(0, 3),
)
def test_lines_of_digits_alone_are_read_as_they_stand(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[int, ...]],
    order: list[str],
    separator: str,
    zeros: int,
) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    places = ["txyp".index(name) for name in order]
    texts = [[("" if place == 3 else "0" * zeros) + str(event[place]) for place in places] for event in events]
    file.write_text("".join(separator.join(line) + "\n" for line in texts))
    stream = open_text(file, ReadOptions(columns="".join(order), time_unit="us"))
    columns = [np.concatenate(column).tolist() for column in zip(*stream.pieces, strict=True)]
    assert list(zip(*columns, strict=True)) == events


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789.,-+eEnat x#\n\r\t;_\x01truffno%\ufeff", max_size=80), st.sampled_from([None, "txyp"]))
def test_any_text_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: str, columns: str | None
) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_bytes(b"t,x,y,p\n" * (columns is None) + content.encode())
    looks_like_text(content.encode(), len(content.encode()))
    assert "\n" not in outcome(file, columns=columns)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    looks_like_text(content, len(content))
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_bytes(b"t,x,y,p\n" + content)
    assert "\n" not in outcome(file)


def test_the_same_events_as_aedat4(event_files: Path) -> None:
    files = event_files / "transcoded"
    other = gather(aedat4.open_aedat4(files / "cube20k.aedat4", ReadOptions()))
    recording = read(files / "cube20k.csv")
    assert len(recording) == 20_000
    assert (recording.width, recording.height) == (other.width, other.height) == (1280, 720)
    assert rows(recording) == rows(other)
