"""Bytes in pieces of any length become the events that the readers of files find."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from neuromoco import Recording, models, read_recording
from neuromoco.app.live.decoders import decoder_of
from neuromoco.app.live.records import write_records
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions
from neuromoco.events.prophesee.evt_writer import write_evt2, write_evt3
from neuromoco.events.stream import Columns, joined
from neuromoco.events.text.lines import write_csv

EXAMPLE = read_recording(models.example_paths()[3])
SENSOR = (34, 34)


def spif(recording: Recording, timed: bool = True) -> bytes:
    """Words as `dvs_to_udp.cpp` of AEStream makes them."""
    words = []
    for t, x, y, p in zip(recording.t, recording.x, recording.y, recording.p, strict=True):
        words.append(
            (int(x) & 0x7FFF if timed else int(x) | 0x8000) << 16 | (int(y) | 0x8000 if p else int(y) & 0x7FFF)
        )
        words += [int(t) & 0xFFFFFFFF] if timed else []
    return struct.pack(f"<{len(words)}I", *words)


def written(tmp_path: Path, kind: str, recording: Recording = EXAMPLE) -> bytes:
    path = tmp_path / kind
    {"csv": write_csv, "evt2": write_evt2, "evt3": write_evt3}[kind](path, recording)
    return path.read_bytes()


def without_header(content: bytes) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join(lines[sum(line.startswith(b"%") for line in lines[:20]) :])


def pieces(content: bytes, seed: int) -> list[bytes]:
    sizes = np.random.default_rng(seed).integers(1, 3000, len(content) // 500 + 20)
    edges = [0, *np.minimum(np.cumsum(sizes), len(content)).tolist(), len(content)]
    return [content[a:b] for a, b in pairwise(edges)]


def decoded(content: bytes, format: str | None, seed: int = 0, sensor: tuple[int, int] | None = SENSOR) -> Columns:
    decoder = decoder_of(format, ReadOptions(), sensor)
    return joined([decoder.decode(piece) for piece in pieces(content, seed)])


@pytest.mark.parametrize("kind", ["csv", "evt2", "evt3"])
@pytest.mark.parametrize("seed", [0, 1])
def test_formats_with_a_header_are_recognised(tmp_path: Path, kind: str, seed: int) -> None:
    columns = decoded(written(tmp_path, kind), None, seed)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(columns, name), getattr(EXAMPLE, name))


@pytest.mark.parametrize("format", ["evt2", "evt3", "records", "spif"])
def test_formats_without_a_header_are_named(tmp_path: Path, format: str) -> None:
    content = {
        "records": lambda: write_records(EXAMPLE),
        "spif": lambda: spif(EXAMPLE),
    }.get(format, lambda: without_header(written(tmp_path, format)))()
    columns = decoded(content, format)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(columns, name), getattr(EXAMPLE, name))


def test_a_header_of_aedat2_says_the_camera(tmp_path: Path) -> None:
    x, y = np.arange(2000) % 128, np.arange(2000) // 16 % 128
    address = (127 - x) << 1 | (127 - y) << 8 | (np.arange(2000) % 2 == 0)
    content = np.stack([address, 10 * np.arange(2000)], 1).astype(">u4").tobytes()
    header = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
    (tmp_path / "a.aedat").write_bytes(header + content)
    expected = read_recording(tmp_path / "a.aedat")
    for columns in (decoded(header + content, None), decoded(content, "aer", sensor=(128, 128))):
        for name in "txyp":
            np.testing.assert_array_equal(getattr(columns, name), getattr(expected, name))


def test_times_of_spif_go_on_over_their_overflow_and_are_those_of_arrival_without() -> None:
    late = Recording(EXAMPLE.t + (1 << 32) - 100_000, EXAMPLE.x, EXAMPLE.y, EXAMPLE.p, 34, 34)
    columns = decoded(spif(late), "spif")
    np.testing.assert_array_equal(np.diff(columns.t), np.diff(EXAMPLE.t))
    untimed = decoded(spif(EXAMPLE, timed=False), "spif")
    np.testing.assert_array_equal(untimed.x, EXAMPLE.x)
    np.testing.assert_array_equal(untimed.p, EXAMPLE.p)
    assert np.all(np.diff(untimed.t) >= 0)
    assert untimed.t[-1] - untimed.t[0] < 10_000_000


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(200), None, "is no stream that is recognised: give --format csv, evt2"),
        (bytes(1 << 17), None, "is no stream that is recognised"),
        (b"t,x,y,p\n" + b"1,2,3,1\n" * 20 + b"one,two,three,four\n" * 400, None, "lines that are no numbers"),
        (b"% evt 9\n% format EVT9\n% end\n" + bytes(200), None, "of Prophesee's encodings EVT2, EVT2.1 and EVT3"),
        (b"\xff" * 3000, "records", "record 0 is"),
        (spif(EXAMPLE) + spif(EXAMPLE, timed=False), "spif", "with and without times in one stream"),
        (b"\x00\x00\x00\x70" * 1000, "evt2", "a word of the reserved type"),
    ],
)
def test_what_is_no_stream_of_events_is_refused(content: bytes, format: str | None, message: str) -> None:
    with pytest.raises(EventFileError, match=message):
        decoded(content, format)


def test_what_must_be_known_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="--format evt3 needs --sensor WIDTHxHEIGHT"):
        decoder_of("evt3", ReadOptions(), None)
    with pytest.raises(ConfigError, match="--format aedat4: a stream of bytes holds one of csv, evt2, evt3"):
        decoder_of("aedat4", ReadOptions(), SENSOR)


@pytest.mark.parametrize("format", ["csv", None])
def test_the_last_line_needs_no_newline_and_a_text_may_be_short(format: str | None) -> None:
    for content in (b"t,x,y,p\n1,2,3,1\n5,6,7,0", b"t,x,y,p\n1,2,3,1\n5,6,7,0\n"):
        decoder = decoder_of(format, ReadOptions(), SENSOR)
        first, (last, wrong) = decoder.decode(content), decoder.finish()
        columns = joined([first, last])
        assert (columns.t.tolist(), columns.p.tolist(), wrong) == ([1, 5], [1, 0], "")
        assert not len(decoder.finish()[0].t)


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (bytes(4000), None, "is no stream that is recognised: give --format csv, evt2"),
        (b"hello\n", None, "is no stream that is recognised"),
        (b"#!AER-DAT2.0", None, "is no stream that is recognised"),
        (b"t,x,y,p\n1,2,3,1\n5,6", "csv", "lines that are no numbers"),
        (bytes(21), "records", "ends in the middle of an event: 5 of 16 bytes are left"),
        (spif(EXAMPLE)[:-3], "spif", "ends in the middle of an event: 5 of 8 bytes are left"),
        (spif(EXAMPLE, timed=False)[:-3], "spif", "ends in the middle of an event: 1 of 4 bytes are left"),
        (b"% evt 3.0\n% format EVT3;height=34;width=34\n% end\n\0", None, "1 of 2 bytes are left"),
    ],
)
def test_what_is_left_at_the_end_is_said(content: bytes, format: str | None, message: str) -> None:
    decoder = decoder_of(format, ReadOptions(), SENSOR)
    decoder.decode(content)
    _, wrong = decoder.finish()
    assert message in wrong


def test_a_text_without_lines_is_refused_before_it_grows() -> None:
    for format, message in (("csv", "a line is longer than 4096 bytes"), (None, "is no stream that is recognised")):
        decoder = decoder_of(format, ReadOptions(), SENSOR)
        for _ in range(40):
            assert not len(decoder.decode(b"1," * 50).t)
        with pytest.raises(EventFileError, match=message):
            decoder.decode(b"1," * 50)


def test_words_that_come_byte_by_byte_lose_nothing() -> None:
    for timed in (True, False):
        decoder, content = decoder_of("spif", ReadOptions(), SENSOR), spif(EXAMPLE, timed)[:200]
        columns = joined([decoder.decode(content[at : at + 1]) for at in range(len(content))])
        np.testing.assert_array_equal(columns.x, EXAMPLE.x[: len(columns.x)])
        assert len(columns.x) == 200 // (8 if timed else 4)


@pytest.mark.parametrize("kind", ["csv", "evt2", "evt3", "records", "spif"])
def test_damage_is_an_error_in_one_line_and_nothing_else(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    whole = {"records": write_records, "spif": spif}.get(kind, lambda _: written(tmp_path, kind))(EXAMPLE)
    reasons = []
    for _ in range(60):
        data = bytearray(whole[: rng.integers(1, 9000)])
        for at in rng.integers(0, len(data), 4).tolist():
            data[at : at + int(rng.integers(0, 9))] = rng.bytes(int(rng.integers(0, 9)))
        try:
            decoded(bytes(data), kind if kind in ("records", "spif") else None)
        except EventFileError as error:
            reasons.append(str(error))
    assert reasons
    assert all(reason.isprintable() for reason in reasons)
