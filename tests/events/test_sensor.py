"""Events outside the sensor, and the sensor of a file that does not name it: one policy for all formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.errors import EventFileError
from neuromoco.events import ReadOptions, read_recording, read_windows, survey_recording
from neuromoco.events.extent import SOON, TOGETHER, extent
from neuromoco.events.stream import Columns, EventStream, gather
from neuromoco.events.survey import survey
from neuromoco.events.windows import windows
from tests.helpers.cli import error_line, run
from tests.helpers.outcomes import refusal_of, rows
from tests.helpers.pieces import in_pieces

EVENTS = 1000
WIDTH, HEIGHT = 64, 48


def made_up(outside: int, events: int = EVENTS) -> dict[str, np.ndarray]:
    """Columns of events, some of which lie far below the sensor."""
    rng = np.random.default_rng(3)
    columns = {
        "t": np.sort(rng.integers(0, 500_000, events)),
        "x": rng.integers(0, WIDTH, events),
        "y": rng.integers(0, HEIGHT, events),
        "p": rng.integers(0, 2, events),
    }
    columns["y"][rng.permutation(events)[:outside]] = 33_014
    return columns


def stream_of(columns: dict[str, np.ndarray], piece: int) -> EventStream:
    return EventStream("test", in_pieces(Columns(**columns), piece), WIDTH, HEIGHT)


@settings(max_examples=40, deadline=None)
@given(outside=st.integers(0, 20), piece=st.integers(1, 1200), length=st.integers(1000, 600_000))
def test_up_to_1_percent_are_dropped_and_counted(outside: int, piece: int, length: int) -> None:
    columns = made_up(outside)
    if outside > EVENTS // 100:
        for read in (gather, survey, lambda stream: list(windows(stream, length))):
            words = refusal_of(lambda read=read: read(stream_of(columns, piece)))
            assert f"{outside} of {EVENTS} events ({outside / EVENTS:.1%}) lie outside the 64 x 48 sensor" in words
        return
    inside = columns["y"] < HEIGHT
    expected = list(zip(*(columns[name][inside].tolist() for name in "txyp"), strict=True))
    whole = gather(stream_of(columns, piece))
    assert (rows(whole), whole.oddities.outside) == (expected, outside)
    facts = survey(stream_of(columns, piece)).facts()
    assert (facts["events"], facts["outside_sensor"]) == (EVENTS - outside, outside)
    parts = list(windows(stream_of(columns, piece), length))
    assert [row for part in parts for row in rows(part)] == expected
    assert sum(part.oddities.outside for part in parts) == outside


def test_a_stream_that_lies_mostly_outside_is_not_read_to_its_end() -> None:
    columns = made_up(3 * SOON, 4 * SOON)
    stream = stream_of(columns, SOON // 2)
    assert "lie outside the 64 x 48 sensor" in refusal_of(lambda: gather(stream))
    assert stream.stray.of <= 2 * SOON


def written(folder: Path, format: str, columns: dict[str, np.ndarray]) -> Path:
    """Columns in a format whose reader takes any place."""
    path = folder / f"a.{format}"
    if format == "npz":
        np.savez(path, **columns)
    elif format == "npy":
        array = np.zeros(len(columns["t"]), [("t", "i8"), ("x", "i4"), ("y", "f8"), ("p", "i1")])
        for name, column in columns.items():
            array[name] = column
        np.save(path, array)
    elif format == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[f"events/{name}"] = column
    elif format == "mat":
        savemat = pytest.importorskip("scipy.io").savemat
        savemat(path, {name: column[:, None] for name, column in columns.items()})
    else:
        lines = zip(*(columns[name].tolist() for name in "txyp"), strict=True)
        path.write_text("t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in lines))
    return path


@pytest.mark.parametrize("format", ["npz", "npy", "h5", "mat", "csv"])
@pytest.mark.parametrize("stray", [-1, HEIGHT, 33_014, 70_000])
def test_a_stray_event_costs_no_recording(tmp_path: Path, format: str, stray: int) -> None:
    columns = made_up(0)
    columns["y"][[300, 700]] = stray
    file = written(tmp_path, format, columns)
    recording = read_recording(file, options=ReadOptions(sensor=(WIDTH, HEIGHT)))
    assert (len(recording), recording.oddities.outside, recording.height) == (EVENTS - 2, 2, HEIGHT)
    assert survey_recording(file, ReadOptions(sensor=(WIDTH, HEIGHT))).oddities.outside == 2
    if stray in (-1, 70_000):  # outside any sensor: the others tell the sensor
        assert (read_recording(file).width, read_recording(file).height) == (WIDTH, HEIGHT)
    if stray == 33_014:
        assert "y reaches 33014" in refusal_of(lambda: read_recording(file))


@pytest.mark.parametrize("format", ["npz", "npy", "csv"])
def test_a_sensor_is_never_inferred_from_an_outlier(tmp_path: Path, format: str) -> None:
    columns = made_up(0)
    columns["x"][500] = 200
    file = written(tmp_path, format, columns)
    for read in (read_recording, survey_recording, lambda path: list(read_windows(path, 100_000))):
        words = refusal_of(lambda read=read: read(file))
        assert "a few events lie at x=200 or beyond, far from all others (up to x=63): give --sensor" in words


@settings(max_examples=30, deadline=None)
@given(
    side=st.integers(8, 2000),
    events=st.sampled_from([3, 150, 2000, 2 * TOGETHER]),
    outlier=st.none() | st.floats(1.35, 2),
    seed=st.integers(0, 9),
)
def test_an_extent_is_that_of_all_events_or_unknown(side: int, events: int, outlier: float | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, side, (2, events)).astype(np.uint16)
    x[0], y[0] = side - 1, side - 1
    if outlier is not None:
        x[events // 2] = int(outlier * side) + 1
    pieces = [(x[part], y[part]) for part in (slice(None, 2), slice(2, None))]
    if outlier is None or events < 100:
        assert extent(lambda: iter(pieces)) == (int(x.max()) + 1, side)
    else:
        with pytest.raises(EventFileError, match="far from all others"):
            extent(lambda: iter(pieces))


def test_a_thin_margin_of_noise_is_part_of_the_sensor() -> None:
    rng = np.random.default_rng(0)
    middle, noise = rng.normal(60, 5, (2, 30_000)).clip(0, 127), rng.integers(0, 128, (2, 250))
    x, y = np.concatenate((middle, noise), axis=1).astype(np.uint16)
    assert extent(lambda: iter([(x, y)])) == (128, 128)


def test_commands_warn_once(tmp_path: Path) -> None:
    file = written(tmp_path, "csv", made_up(7))
    given = ("--sensor", f"{WIDTH}x{HEIGHT}")
    result = run("convert", file, tmp_path / "a.npz", *given, "--json")
    assert json.loads(result.stdout)["outside_sensor"] == 7
    assert result.stderr == f"warning: {file}: 7 events outside the sensor were dropped\n"
    assert json.loads(run("info", file, *given, "--json").stdout)["outside_sensor"] == 7
    for window in ((), ("--window", "200ms")):
        result = run("predict", file, file.with_name("a.npz"), *given, *window, "--any-length")
        warnings = [line for line in result.stderr.splitlines() if "dropped" in line]
        assert warnings == [f"warning: {file}: 7 events outside the sensor were dropped in 1 of 2 files"]


def test_an_option_that_a_format_does_not_take_is_an_error(tmp_path: Path) -> None:
    run("convert", written(tmp_path, "csv", made_up(0)), tmp_path / "a.aedat4")
    for option in (("--columns", "txyp"), ("--time-unit", "ms")):
        result = run("info", tmp_path / "a.aedat4", *option)
        assert result.exit_code == 2
        said = f"{tmp_path}/a.aedat4: {option[0]} with the format AEDAT4, which takes --sensor, --select, --salvage"
        assert error_line(result) == f"neuromoco: {said}"
    assert run("info", tmp_path / "a.aedat4", "--sensor", "64x48").exit_code == 0
