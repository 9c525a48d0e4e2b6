"""MATLAB `.mat`, written here after The MathWorks' "MAT-File Format", byte by byte, and by scipy.

scipy's reader crashes on damaged bytes, so all files are read where neuromoco reads them: in a process of its own.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import Recording, read_recording
from neuromoco.events.arrays.mat import looks_like_mat
from neuromoco.events.hdf5 import events as hdf5
from neuromoco.events.options import ReadOptions
from tests.helpers.outcomes import outcome_of, refusal_of, rows

TYPES = {"b": 1, "B": 2, "h": 3, "H": 4, "i": 5, "I": 6, "f": 7, "d": 9, "q": 12, "Q": 13}
DOUBLE, UINT32 = 6, 13
COLUMNS = {"ts": [5, 70_000, 99_999], "x": [0, 239, 7], "y": [0, 179, 8], "pol": [1, 0, 1]}
SEEN = [(5, 0, 179, 1), (70_000, 239, 0, 0), (99_999, 7, 171, 1)]


def element(kind: int, body: bytes, order: str = "<") -> bytes:
    """Tag, data and padding; data of up to four bytes go into the tag."""
    if 0 < len(body) <= 4:
        return struct.pack(order + "I", len(body) << 16 | kind) + body.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(body)) + body + b"\0" * (-len(body) % 8)


def matrix(
    name: str,
    values: list[float],
    code: str = "d",
    order: str = "<",
    array_class: int = DOUBLE,
    sides: tuple[int, ...] | None = None,
) -> bytes:
    parts = [
        element(6, struct.pack(order + "II", array_class, 0), order),
        element(5, struct.pack(f"{order}{len(sides or (1, 1))}i", *(sides or (len(values), 1))), order),
        element(1, name.encode(), order),
        element(TYPES[code], struct.pack(f"{order}{len(values)}{code}", *values), order),
    ]
    return element(14, b"".join(parts), order)


def header(order: str = "<") -> bytes:
    text = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124)
    return text + struct.pack(order + "HH", 0x0100, 0x4D49)


def packed(part: bytes, order: str = "<") -> bytes:
    body = zlib.compress(part)
    return struct.pack(order + "II", 15, len(body)) + body


def mat_bytes(columns: dict[str, list[int]], order: str = "<", code: str = "d", compress: bool = False) -> bytes:
    parts = [matrix(name, values, code, order) for name, values in columns.items()]
    return header(order) + b"".join(packed(part, order) if compress else part for part in parts)


def read(path: Path, **said: object) -> Recording:
    return read_recording(path, options=ReadOptions(**said))  # type: ignore[arg-type]


def refusal(path: Path, content: bytes | None = None, **said: object) -> str:
    if content is not None:
        path.write_bytes(content)
    return refusal_of(lambda: read(path, **said))


def outcome(path: Path) -> str:
    return outcome_of(lambda: read(path))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["d", "i", "I", "q"])
@pytest.mark.parametrize("compress", [False, True])
def test_rows_are_counted_from_the_top(tmp_path: Path, order: str, code: str, compress: bool) -> None:
    file = tmp_path / "a.anything"
    file.write_bytes(mat_bytes(COLUMNS, order, code, compress))
    recording = read(file)
    assert rows(recording) == SEEN
    assert (recording.width, recording.height) == (240, 180)
    assert looks_like_mat(file.read_bytes()[:4000], 0)
    assert read(file, sensor=(346, 260)).y.tolist() == [259, 80, 251]


def test_scipy_writes_files_that_are_read(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    columns = {name: np.array(values) for name, values in COLUMNS.items()}
    columns["pol"] = columns["pol"] > 0
    notes = {"note": "text", "cell": np.array([1, "a"], object), "table": np.ones((3, 3)), "none": np.zeros(0)}
    for compress in (False, True):
        io.savemat(tmp_path / "a.mat", {**notes, **columns}, do_compression=compress, oned_as="column")
        assert rows(read(tmp_path / "a.mat")) == SEEN


def test_other_names_are_rows_from_the_top_and_fractions_seconds(tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    columns = {"t": [0.5, 1.0], "x": [3.0, 4.0], "y": [5.0, 6.0], "p": [-1.0, 1.0]}
    file.write_bytes(mat_bytes(columns))  # type: ignore[arg-type]
    assert rows(read(file)) == [(500_000, 3, 5, 0), (1_000_000, 4, 6, 1)]
    columns["t"] = [500_000.0, 1e6]
    file.write_bytes(mat_bytes(columns))  # type: ignore[arg-type]
    assert rows(read(file)) == [(500_000, 3, 5, 0), (1_000_000, 4, 6, 1)]
    assert rows(read(file, time_unit="ns"))[1][0] == 1000


def test_matlab_7_files_are_read_too(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "a.mat"
    with h5py.File(file, "w", userblock_size=512) as out:
        for name, values in COLUMNS.items():
            out[name] = np.array([values], np.float64)
    with file.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49))
    assert looks_like_mat(file.read_bytes()[:4000], 0)
    assert not hdf5.looks_like_hdf5(file.read_bytes()[:4000], 0)
    assert rows(read(file)) == rows(read_recording(file)) == SEEN


def test_structures_tables_and_names(tmp_path: Path) -> None:
    io, file = pytest.importorskip("scipy.io"), tmp_path / "a.mat"
    columns = {name: np.array(values)[:, None] for name, values in COLUMNS.items()}
    seen = [(t, x, y, p) for t, x, y, p in zip(*COLUMNS.values(), strict=True)]  # rows from the top
    for structure in ({"TD": columns}, {"data": {"left": columns, "note": "x"}}, {"events": columns, "n": 3.0}):
        io.savemat(file, structure, do_compression=True)
        assert rows(read(file)) == seen
    io.savemat(file, {"L": columns, "R": columns})
    assert "give --select with one of L, R" in refusal(file)
    assert rows(read(file, select="R")) == seen
    io.savemat(file, {"events": np.hstack([columns[name] for name in ("x", "y", "pol", "ts")]).astype(float)})
    assert "events (3, 4) of float64 have no names: give the order, such as --columns" in refusal(file)
    assert rows(read(file, columns="xypt")) == seen
    io.savemat(file, {"a": columns["ts"], "x": columns["x"], "y": columns["y"], "b": columns["pol"]})
    assert "a recording has t, x, y, p: t, p missing; if they have other names, give --columns t=NAME" in refusal(file)
    assert rows(read(file, columns="t=a,p=b")) == seen


def test_files_that_hold_no_events(tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    some = {name: values for name, values in COLUMNS.items() if name != "pol"}
    assert "the arrays are ts, x, y; a recording has t, x, y, p: p missing" in refusal(file, mat_bytes(some))
    assert "p missing" in refusal(file, mat_bytes(some) + matrix("pol", [1, 0, 1, 0], sides=(2, 2)))
    assert "differ in length" in refusal(file, mat_bytes({**COLUMNS, "pol": [1]}))
    assert "holds no events" in refusal(file, mat_bytes({name: [] for name in COLUMNS}))
    assert "outside the 240 x 180 sensor" in refusal(file, mat_bytes({**COLUMNS, "y": [0, 180, 1]}))
    assert "outside the 240 x 180 sensor" in refusal(file, mat_bytes({**COLUMNS, "x": [-1, 1, 1]}))
    assert "the polarity of event 1 is 3" in refusal(file, mat_bytes({**COLUMNS, "pol": [1, 3, 1]}))


def test_cut_and_boasting_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.mat"
    whole = mat_bytes(COLUMNS)
    edges = [len(mat_bytes(dict(list(COLUMNS.items())[:count]))) for count in range(1, 4)]
    for at in range(128, len(whole), 7):
        # Cut between two variables, the file is whole, but one is missing.
        assert ("missing" if at in edges else "no arrays" if at == 128 else "damaged") in refusal(file, whole[:at])
    claims = [matrix(name, [1, 2, 3], sides=(2**30, 1)) for name in COLUMNS]
    assert "damaged" in refusal(file, header() + b"".join(claims))
    assert "damaged" in refusal(file, header() + b"".join(map(packed, claims)))
    more = {name: values for name, values in COLUMNS.items() if name != "ts"}
    boast = struct.pack("<II", 14, 1 << 31) + matrix("ts", [0] * 3)[8:] + b"\0" * (1 << 24)
    assert "damaged" in refusal(file, mat_bytes(more) + packed(boast))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(mat_bytes(COLUMNS, compress=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(126, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("mat") / "a.mat"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    assert "\n" not in outcome(file)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_after_the_header(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("mat") / "a.mat"
    file.write_bytes(header() + content)
    assert "\n" not in outcome(file)
