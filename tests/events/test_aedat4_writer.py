"""What we write as AEDAT4, read by the package `aedat` and, independently, by flatbuffers' own accessors."""

from __future__ import annotations

import struct
from pathlib import Path

import aedat
import flatbuffers.table
import numpy as np
import pytest
from flatbuffers import number_types
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import EventFileError, Recording
from neuromoco.events.aedat import aedat4_writer
from neuromoco.events.aedat.aedat4 import open_aedat4
from neuromoco.events.aedat.aedat4_writer import write_aedat4
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather
from tests.conftest import make_recording
from tests.events.test_reader import same

TIME = st.integers(0, (1 << 62) - 1)


def root(raw: bytes, identifier: bytes) -> flatbuffers.table.Table:
    """The root table of a flatbuffer after its size; its identifier and size are checked."""
    assert struct.unpack_from("<I", raw)[0] == len(raw) - 4
    assert raw[8:12] == identifier
    return flatbuffers.table.Table(bytearray(raw), 4 + struct.unpack_from("<I", raw, 4)[0])


def number(table: flatbuffers.table.Table, slot: int, kind: type) -> int:
    at = table.Pos + table.Offset(4 + 2 * slot)
    assert at % kind.bytewidth == 0  # as C++ accessors need it
    return table.Get(kind, at)


def parts(raw: bytes) -> tuple[int, list[tuple[int, bytes]], bytes]:
    """Where the table lies, places and contents of packets, and the table."""
    assert raw.startswith(b"#!AER-DAT4.0\r\n")
    end = 18 + struct.unpack_from("<I", raw, 14)[0]
    head = root(raw[14:end], b"IOHE")
    assert number(head, 0, number_types.Int32Flags) == 0
    table_at = number(head, 1, number_types.Int64Flags)
    streams = head.String(head.Pos + head.Offset(8))
    assert streams.startswith(b"<dv")
    packets = []
    while end < table_at:
        stream, size = struct.unpack_from("<ii", raw, end)
        assert stream == 0
        packets.append((end + 8, raw[end + 8 : end + 8 + size]))
        end += 8 + size
    assert end == table_at
    return table_at, packets, raw[table_at:]


@pytest.mark.parametrize("events", [0, 1, 2, 3, 7, 8, 20])
def test_every_field_lies_where_flatbuffers_look_for_it(
    tmp_path: Path, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aedat4_writer, "PACKET_EVENTS", 3)
    recording = make_recording(0, events=max(events, 3))
    columns = {name: getattr(recording, name)[:events] for name in "txyp"}
    write_aedat4(tmp_path / "a.aedat4", Recording.from_columns(**columns, width=34, height=34))
    _, packets, table = parts((tmp_path / "a.aedat4").read_bytes())
    found: list[tuple[int, int, int, int]] = []
    for _, raw in packets:
        content = root(raw, b"EVTS")
        at = content.Vector(content.Offset(4))
        assert at % 8 == 0
        count = content.VectorLen(content.Offset(4))
        assert at + 16 * count == len(raw)
        found += [struct.unpack_from("<qhhB", raw, at + 16 * i) for i in range(count)]
    assert found == list(zip(*(columns[name].tolist() for name in "txyp"), strict=True))

    listed = root(table, b"FTAB")
    assert listed.VectorLen(listed.Offset(4)) == len(packets)
    for i, (place, raw) in enumerate(packets):
        entry = flatbuffers.table.Table(listed.Bytes, listed.Indirect(listed.Vector(listed.Offset(4)) + 4 * i))
        assert number(entry, 0, number_types.Int64Flags) == place
        at = entry.Pos + entry.Offset(6)
        assert struct.unpack_from("<ii", entry.Bytes, at) == (0, len(raw))
        times = [e[0] for e in found[3 * i : 3 * i + 3]]
        assert [number(entry, slot, number_types.Int64Flags) for slot in (2, 3, 4)] == [
            len(times),
            times[0],
            times[-1],
        ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(TIME, st.integers(0, 32767), st.integers(0, 99), st.integers(0, 1)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 12),
)
def test_round_trips(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int, int]], packet: int
) -> None:
    t, x, y, p = (list(column) for column in zip(*sorted(events), strict=True))
    recording = Recording.from_columns(t, x, y, p, width=32768, height=100)
    file = tmp_path_factory.mktemp("round") / "a.bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aedat4_writer, "PACKET_EVENTS", packet)
        write_aedat4(file, recording)
    assert same(gather(open_aedat4(file, ReadOptions())), recording)
    assert not list(file.parent.glob(".*"))


def test_packets_hold_100000_events(tmp_path: Path) -> None:
    t = np.arange(250_001)
    recording = Recording.from_columns(t, t % 640, t % 480, t % 2, width=640, height=480)
    write_aedat4(tmp_path / "a.aedat4", recording)
    counts = [len(packet["events"]) for packet in aedat.Decoder(str(tmp_path / "a.aedat4"))]
    assert counts == [100_000, 100_000, 50_001]
    assert same(gather(open_aedat4(tmp_path / "a.aedat4", ReadOptions())), recording)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match=r"up to 32768 x 32768 pixels, not 40000 x 1"):
        write_aedat4(tmp_path / "a.aedat4", Recording.from_columns([0], [0], [0], [0], width=40_000, height=1))
    with pytest.raises(EventFileError, match=r"times from 0 to \d+ us, not -1"):
        write_aedat4(tmp_path / "a.aedat4", Recording.from_columns([-1], [0], [0], [0]))
    assert not list(tmp_path.iterdir())


def test_dv_processing_reads_the_same(tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing")
    recording = make_recording(1, events=500)
    write_aedat4(tmp_path / "a.aedat4", recording)
    capture = dv.io.MonoCameraRecording(str(tmp_path / "a.aedat4"))
    assert capture.getEventResolution() == (34, 34)
    batches = []
    while capture.isRunning() and (batch := capture.getNextEventBatch()) is not None:
        batches.append(batch.numpy())
    events = np.concatenate(batches)
    for name, field in (("t", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        assert np.array_equal(events[field], getattr(recording, name))
