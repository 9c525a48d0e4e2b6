"""`.npy`: fields under the names that people use, plain arrays in a given order, and nothing unpickled."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import ConfigError, Recording
from neuromoco.events.aedat import aedat4
from neuromoco.events.arrays.npy import looks_like_npy, open_npy
from neuromoco.events.options import ReadOptions
from neuromoco.events.stream import gather
from tests.helpers.outcomes import outcome_of, refusal_of

HEADER = "{'descr': %s, 'fortran_order': False, 'shape': %s, }"
PACKED = "[('t', '<u4'), ('x', '<u2'), ('y', '<u2'), ('p', '|u1')]"


def read(path: Path, **said: object) -> Recording:
    return gather(open_npy(path, ReadOptions(**said)))  # type: ignore[arg-type]


def refusal(path: Path, **said: object) -> str:
    return refusal_of(lambda: read(path, **said))


def outcome(path: Path) -> str:
    return outcome_of(lambda: read(path))


def npy_bytes(descr: str, shape: str, body: bytes) -> bytes:
    """Version 1.0 of numpy's format, as its documentation describes it."""
    header = (HEADER % (descr, shape)).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def packed(events: list[tuple[int, int, int, int]]) -> bytes:
    return npy_bytes(PACKED, f"({len(events)},)", b"".join(struct.pack("<IHHB", *event) for event in events))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 1279), st.integers(0, 719), st.integers(0, 1)), min_size=1
    )
)
def test_records_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int, int]]
) -> None:
    file = tmp_path_factory.mktemp("npy") / "a.npy"
    events = sorted(events, key=lambda event: event[0])
    file.write_bytes(packed(events))
    recording = read(file)
    assert list(zip(recording.t, recording.x, recording.y, recording.p, strict=True)) == events
    assert (recording.width, recording.height) == (max(e[1] for e in events) + 1, max(e[2] for e in events) + 1)
    assert looks_like_npy(file.read_bytes()[:4000], 0)


@pytest.mark.parametrize("names", ["ts x y polarity", "Timestamp X Y On", "time xs ys pol"])
def test_names_that_people_use(tmp_path: Path, names: str) -> None:
    t, x, y, p = names.split()
    array = np.zeros(2, [(y, "i4"), (p, "?"), (t, "f8"), (x, "u1"), ("channel", "S3")])
    array[t], array[x], array[y], array[p] = (0.0000014, 2.5), (3, 4), (5, 6), (True, False)
    np.save(tmp_path / "a.npy", array)
    recording = read(tmp_path / "a.npy", sensor=(34, 35))
    assert recording.t.tolist() == [1, 2_500_000]
    assert (recording.x.tolist(), recording.y.tolist(), recording.p.tolist()) == ([3, 4], [5, 6], [1, 0])
    assert (recording.width, recording.height) == (34, 35)


def test_units_of_times(tmp_path: Path) -> None:
    array = np.zeros(3, [("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
    array["t"] = -1500, 499, 2500
    np.save(tmp_path / "a.npy", array)
    assert read(tmp_path / "a.npy").t.tolist() == [-1500, 499, 2500]
    assert read(tmp_path / "a.npy", time_unit="ns").t.tolist() == [-1, 0, 3]
    assert read(tmp_path / "a.npy", time_unit="ms").t.tolist() == [-1_500_000, 499_000, 2_500_000]
    array["t"][2] = 1 << 60
    np.save(tmp_path / "a.npy", array)
    assert "the time of event 2" in refusal(tmp_path / "a.npy", time_unit="s")
    np.save(tmp_path / "b.npy", array.astype([("t", "u8"), ("x", "i8"), ("y", "i8"), ("p", "i8")]))
    assert "the time of event 0 is 18446744073709550116" in refusal(tmp_path / "b.npy")


def test_a_plain_array_needs_an_order(tmp_path: Path) -> None:
    rows = np.array([[7, 8, 100, -1], [9, 1, 200, 1]])
    np.save(tmp_path / "a.npy", np.asfortranarray(rows))
    assert "--columns txyp" in refusal(tmp_path / "a.npy")
    assert "each of t, x, y and p once" in refusal_of(lambda: read(tmp_path / "a.npy", columns="xxyp"), ConfigError)
    assert "names 5 columns; there are 4" in refusal(tmp_path / "a.npy", columns="xytp_")
    recording = read(tmp_path / "a.npy", columns="xytp")
    assert (recording.t.tolist(), recording.x.tolist(), recording.p.tolist()) == ([100, 200], [7, 9], [0, 1])
    np.save(tmp_path / "a.npy", rows / 1.0)
    assert read(tmp_path / "a.npy", columns="xytp", time_unit="us").t.tolist() == [100, 200]
    np.save(tmp_path / "a.npy", rows.T[:3])
    assert "an array (3, 2) of int64" in refusal(tmp_path / "a.npy", columns="xytp")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("t", np.nan, "the time of event 1 is nan"),
        ("t", 1e300, "the time of event 1"),
        ("x", -1, "1 of 3 events (33.3%) lie outside any sensor"),
        ("y", 2.5, "y of event 1 is 2.5"),
        ("x", 65535, "outside any sensor"),
        ("x", np.inf, "x of event 1 is inf"),
        ("p", 2, "the polarity of event 1 is 2; polarities are 0 and 1"),
        ("p", -1, "polarities of -1 and of 0"),
        ("p", np.inf, "the polarity of event 1 is inf"),
    ],
)
def test_values_that_are_no_events(tmp_path: Path, field: str, value: float, words: str) -> None:
    array = np.zeros(3, [(name, "f8") for name in "txyp"])
    array[field][1] = value
    np.save(tmp_path / "a.npy", array)
    assert words in refusal(tmp_path / "a.npy", time_unit="s")


def test_arrays_that_are_no_events(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([print, 1], object), allow_pickle=True)
    assert "never loaded" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(3, [("t", "i8"), ("x", "i8"), ("y", "i8")]))
    assert "the fields are t, x, y; a recording has t, x, y, p: p missing" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(3, [("t", "i8", 2), ("x", "i8"), ("y", "i8"), ("p", "i8")]))
    assert "field t holds" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((3, 2), [(name, "i8") for name in "txyp"]))
    assert "an array (3, 2) of" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(0, [(name, "i8") for name in "txyp"]))
    assert "no events" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((2, 640, 480)))
    assert "an array (2, 640, 480) of float64; events are [E] with fields" in refusal(tmp_path / "a.npy")


def test_cut_longer_and_boasting_files_are_refused(tmp_path: Path) -> None:
    whole = packed([(1, 2, 3, 1), (4, 5, 6, 0)])
    file = tmp_path / "a.npy"
    for at in [*range(6, len(whole), 7), len(whole) - 1]:
        file.write_bytes(whole[:at])
        assert "damaged" in refusal(file)
    file.write_bytes(whole + b"\0")
    assert "1 bytes follow" in refusal(file)
    file.write_bytes(npy_bytes(PACKED, "(1000000000000,)", b"\0" * 90))
    assert "cut or damaged" in refusal(file)
    file.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b" " * 100)
    assert "a header of 2147483648 bytes" in refusal(file)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(packed([(1, 2, 3, 1), (4, 5, 6, 0)]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(6, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("npy") / "a.npy"
    file.write_bytes(whole)
    assert "\n" not in outcome(file)


def test_the_same_events_as_aedat4(event_files: Path) -> None:
    files = event_files / "transcoded"
    other = gather(aedat4.open_aedat4(files / "cube20k.aedat4", ReadOptions()))
    recording = read(files / "cube20k.npy", sensor=(other.width, other.height))
    assert len(recording) == 20_000
    assert all(np.array_equal(getattr(recording, name), getattr(other, name)) for name in "txyp")
