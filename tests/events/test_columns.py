"""The columns of events under the names, in the orders and in the number types of others: the same for every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions, Recording, read_recording
from neuromoco.events.columns import NAMES, ROLES, column_order, names_in, roles_of, title_of
from tests.helpers.outcomes import refusal_of, rows

EVENTS = [(3, 7, 8, 1), (1_000_001, 639, 0, 0), (1_500_000, 0, 479, 1)]
FORMATS = ("csv", "npz", "npy", "h5", "mat")


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Columns under their names, as the format of the file's name has them."""
    path.unlink(missing_ok=True)
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".npy":
        array = np.zeros(len(EVENTS), [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            array[name] = column
        np.save(path, array)
    elif path.suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            group = file.create_group("cam")
            for name, column in columns.items():
                group[name] = column
    elif path.suffix == ".mat":
        pytest.importorskip("scipy.io").savemat(path, {"cam": {name: c[:, None] for name, c in columns.items()}})
    else:
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(lines) + "\n")
    return path


def columns_of(names: dict[str, str], order: str = ROLES) -> dict[str, np.ndarray]:
    of_role = dict(zip(ROLES, np.array(EVENTS).T, strict=True))
    return {names[role]: of_role[role] for role in order}


def read(path: Path, **said: object) -> Recording:
    return read_recording(path, options=ReadOptions(**said))  # type: ignore[arg-type]


@st.composite
def names_in_use(draw: st.DrawFn) -> dict[str, str]:
    """A name for each of t, x, y, p in any spelling that people use."""
    spelled = {}
    for role in ROLES:
        name = draw(st.sampled_from(NAMES[role]))
        spelled[role] = draw(st.sampled_from([name, name.upper(), name.title(), f"events_{name}", f" {name}"])).strip()
    return spelled


@settings(max_examples=60, deadline=None)
@given(names=names_in_use(), order=st.permutations(ROLES), format=st.sampled_from(["csv", "npz", "npy", "h5"]))
def test_any_known_names_in_any_order_and_format(
    tmp_path_factory: pytest.TempPathFactory, names: dict[str, str], order: list[str], format: str
) -> None:
    path = tmp_path_factory.mktemp("names") / f"a.{format}"
    assert rows(read(write(path, columns_of(names, "".join(order))))) == EVENTS


@pytest.mark.parametrize("format", FORMATS)
def test_other_names_are_said_by_the_user(tmp_path: Path, format: str) -> None:
    names = {"t": "When", "x": "x_px", "y": "y", "p": "bright"}
    path = write(tmp_path / f"a.{format}", columns_of(names, "pyxt"))
    words = refusal_of(lambda: read(path), Exception)
    assert "--columns t=" in words
    assert "When" in words
    assert rows(read(path, columns="t=when, x=X_PX,p=bright")) == EVENTS
    assert "--columns" in refusal_of(lambda: read(path, columns="t=when,p=bright,x=nothing"))
    # A name that is said wins over one that is known.
    both = columns_of({"t": "t", "x": "x", "y": "y", "p": "p"}) | {"ms": np.array([1, 2, 3])}
    assert [row[0] for row in rows(read(write(path, both), columns="t=ms"))] == [1, 2, 3]


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "mat"])  # MATLAB has no such names
@pytest.mark.parametrize(("title", "factor"), [("t_ms", 1000), ("Timestamp [s]", 1_000_000), ("time(us)", 1)])
def test_a_unit_in_the_name_counts_unless_the_user_says_another(
    tmp_path: Path, format: str, title: str, factor: int
) -> None:
    path = write(tmp_path / f"a.{format}", columns_of({"t": title, "x": "x", "y": "y", "p": "p"}))
    assert [row[0] for row in rows(read(path))] == [event[0] * factor for event in EVENTS]
    assert [row[0] for row in rows(read(path, time_unit="us"))] == [event[0] for event in EVENTS]


@pytest.mark.parametrize("format", FORMATS)
def test_columns_of_other_names_are_passed_over(tmp_path: Path, format: str) -> None:
    columns = columns_of({"t": "t", "x": "x", "y": "y", "p": "p"}, "xytp")
    path = write(tmp_path / f"a.{format}", {"id": np.arange(3), **columns, "label": np.ones(3)})
    assert rows(read(path)) == EVENTS


@pytest.mark.parametrize("format", ["csv", "npy"])
def test_an_order_wins_over_names(tmp_path: Path, format: str) -> None:
    path = write(tmp_path / f"a.{format}", columns_of({"t": "x", "x": "y", "y": "t", "p": "id"}, "pxyt"))
    assert rows(read(path, columns="pxyt")) == EVENTS


@pytest.mark.parametrize("words", ["xyp", "xxyp", "txypz", "t=a,t=b", "q=a", "t=", "", "t"])
def test_columns_that_say_nothing_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="once"):
        names_in(words)


def test_titles() -> None:
    assert title_of("On/Off").name == "onoff"
    assert title_of("# 'Timestamp_us'") == ("timestamp", "us", None)
    assert title_of("x@1280") == ("x", None, "1280")
    assert title_of("time [µs]") == ("time", "us", None)
    assert title_of("polarity (0/1)") == ("polarity", None, None)
    assert roles_of(["t", "timestamp", "X", "row", "y"]) == {"t": "t", "x": "X", "y": "y"}
    assert column_order("x_ytp") == {"t": 3, "x": 0, "y": 2, "p": 4}


def table(format: str, path: Path, t: np.ndarray) -> Path:
    """A thousand events and more with the given times."""
    rng = np.random.default_rng(0)
    rest = {"x": rng.integers(0, 64, t.size), "y": rng.integers(0, 48, t.size), "p": rng.integers(0, 2, t.size)}
    if format == "npz":
        np.savez(path, t=t, **rest)
    else:
        lines = zip(t.tolist(), *(column.tolist() for column in rest.values()), strict=True)
        path.write_text("t,x,y,p\n" + "".join(",".join(map(repr, line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("format", ["npz", "csv"])
@pytest.mark.parametrize(
    "t",
    [
        np.arange(1000, 3000) * 1.0,  # whole, but floating-point
        np.arange(2000) * 1_000_000 + 1_500_000_000_000_000_000,  # nanoseconds since 1970
        np.arange(2000) * 1_000_000,  # one event a second
        np.arange(2000) * 0.5 + 3.5,  # milliseconds, or not
        np.arange(20_000) // 10_000,  # seconds
    ],
    ids=["whole", "1970", "slow", "slow-float", "fast"],
)
def test_times_of_no_camera_need_a_unit(tmp_path: Path, format: str, t: np.ndarray) -> None:
    path = table(format, tmp_path / f"a.{format}", t)
    assert "give --time-unit s, ms, us or ns" in refusal_of(lambda: read(path))
    expected = np.sort(np.rint(t * 1e3) if t.dtype.kind == "f" else t * 1000)
    if t.max() < 1e15:
        assert np.array_equal(read(path, time_unit="ms").t, expected.astype(np.int64))
    else:
        assert read(path, time_unit="ns").t[0] == 1_500_000_000_000_000


@pytest.mark.parametrize("format", ["npy", "txt"])
def test_an_order_that_does_not_fit_is_refused(tmp_path: Path, format: str) -> None:
    rng = np.random.default_rng(0)
    t = np.cumsum(rng.integers(1, 30, 2000))
    columns = np.stack([rng.integers(0, 640, 2000), rng.integers(0, 480, 2000), t, rng.integers(0, 2, 2000)], 1)
    path = tmp_path / f"a.{format}"
    np.save(path, columns) if format == "npy" else np.savetxt(path, columns, "%d")
    assert "column y never decreases" in refusal_of(lambda: read(path, columns="txyp", sensor=(640, 65_535)))
    assert len(read(path, columns="xytp")) == 2000


def test_a_table_in_hdf5_that_does_not_name_its_columns(tmp_path: Path) -> None:
    h5py, path = pytest.importorskip("h5py"), tmp_path / "a.h5"
    rng = np.random.default_rng(0)
    t = np.cumsum(rng.integers(1, 30, 2000))
    columns = np.stack([rng.integers(0, 64, 2000), rng.integers(0, 48, 2000), t, rng.integers(0, 2, 2000)], 1)
    for name in ("events", "data"):
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            file[name] = columns
        assert "--columns txyp" in refusal_of(lambda: read(path))
        assert np.array_equal(np.array(rows(read(path, columns="xytp")))[:, [1, 2, 0, 3]], columns)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_tables_in_either_order_are_one(tmp_path: Path, transposed: bool, order: str) -> None:
    rng = np.random.default_rng(1)
    columns = np.stack([np.arange(5000), *rng.integers(0, 30, (2, 5000)), rng.integers(0, 2, 5000)], 1)
    array = np.array(columns.T if transposed else columns, order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", meta=np.array("text"), events=array)
    for name in ("a.npy", "a.npz"):
        assert "have no names: give the order" in refusal_of(lambda name=name: read(tmp_path / name))
        assert np.array_equal(np.array(rows(read(tmp_path / name, columns="txyp"))), columns)


def test_records_in_an_npz(tmp_path: Path) -> None:
    array = np.array([tuple(event) for event in EVENTS], [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    np.savez(tmp_path / "a.npz", event_data=array)
    assert rows(read(tmp_path / "a.npz")) == EVENTS
    np.savez(tmp_path / "a.npz", left=array[:1], right=array)
    assert "give --select with one of left, right" in refusal_of(lambda: read(tmp_path / "a.npz"))
    assert rows(read(tmp_path / "a.npz", select="right")) == EVENTS
    assert "no events 'up'" in refusal_of(lambda: read(tmp_path / "a.npz", select="up"))


@settings(max_examples=60, deadline=None)
@given(
    t=st.sampled_from(["i4", "u4", "i8", ">i8", "u8", "f4", "f8"]),
    place=st.sampled_from(["i1", "u1", "i2", ">u2", "i4", "i8", "u8", "f2", "f4", "f8"]),
    p=st.sampled_from(["?", "i1", "u1", "i8", "f2", "f8"]),
    shape=st.sampled_from([(3,), (3, 1), (1, 3)]),
    minus=st.booleans(),
)
def test_numbers_of_any_type(
    tmp_path_factory: pytest.TempPathFactory, t: str, place: str, p: str, shape: tuple[int, ...], minus: bool
) -> None:
    file = tmp_path_factory.mktemp("types") / "a.npz"
    signed = np.array([1, -1, 1] if minus and p[0] in "if" else [1, 0, 1])
    columns = {"t": np.array([3, 7, 9000]).astype(t), "x": np.array([0, 120, 5]).astype(place)}
    columns |= {"y": np.array([1, 2, 90]).astype(place), "p": signed.astype(p)}
    np.savez(file, **{name: column.reshape(shape) for name, column in columns.items()})
    assert rows(read(file, time_unit="us")) == [(3, 0, 1, 1), (7, 120, 2, 0), (9000, 5, 90, 1)]


@pytest.mark.parametrize("ending", FORMATS)
def test_what_a_file_says_wins_over_what_is_known_of_its_set_and_the_user_over_both(
    ending: str, tmp_path: Path
) -> None:
    columns = columns_of({"t": "t_us", "x": "x", "y": "y", "p": "p"})
    columns["When"] = columns["t_us"] + 1
    file = write(tmp_path / f"a.{ending}", columns)
    known = ReadOptions(time_unit="ms", columns="pxyt_", sensor=(700, 500))
    assert rows(read(file, defaults=known)) == EVENTS
    assert read(file, defaults=known).t.tolist() == [event[0] for event in EVENTS]
    assert read(file, defaults=known, time_unit="ms").t.tolist() == [1000 * event[0] for event in EVENTS]
    named = read(file, defaults=ReadOptions(columns="t=When"))  # as the recordings of the set were read, too
    assert named.t.tolist() == [event[0] + 1 for event in EVENTS]
    other = write(tmp_path / f"b.{ending}", columns_of({role: role for role in ROLES}))
    assert rows(read(other, defaults=ReadOptions(columns="t=When", time_unit="ms"))) == [
        (1000 * t, x, y, p) for t, x, y, p in EVENTS
    ]


@pytest.mark.parametrize("ending", ["csv", "npy", "h5"])
def test_columns_that_a_file_leaves_open_are_those_of_its_set(ending: str, tmp_path: Path) -> None:
    table = np.array([(t / 1e6 + 0.5, y, x, p) for t, x, y, p in EVENTS])
    file = tmp_path / f"a.{ending}"
    if ending == "csv":
        file.write_text("".join(f"{t} {y:.0f} {x:.0f} {p:.0f}\n" for t, y, x, p in table))
    elif ending == "npy":
        np.save(file, table)
    else:
        with pytest.importorskip("h5py").File(file, "w") as opened:
            opened["events"] = table
    expected = [(t + 500_000, x, y, p) for t, x, y, p in EVENTS]
    assert rows(read(file, defaults=ReadOptions(columns="tyxp"))) == expected
    assert rows(read(file, columns="tyxp", defaults=ReadOptions(columns="txyp"))) == expected
