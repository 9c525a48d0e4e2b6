"""Clocks that were set back: parts do not mix, windows take what whole reading takes, and it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.events import ReadOptions, read_recording, read_windows, survey_recording
from neuromoco.events.clock import CAMERA_US, LARGEST_TIME, MOST_RESTARTS, TABLE_US, Clock
from neuromoco.events.stream import Columns, EventStream, gather
from neuromoco.events.windows import windows
from tests.helpers.outcomes import refusal_of
from tests.helpers.pieces import in_pieces

PART = st.lists(st.integers(0, 3_000), min_size=1, max_size=30)  # waits between events, microseconds


def stream_of(t: np.ndarray, piece: int, late_us: int = CAMERA_US) -> EventStream:
    """Events numbered by x and y in the order of the file."""
    number = np.arange(t.size)
    columns = Columns(t, number % 100, number // 100, number % 2)
    return EventStream("test", in_pieces(columns, piece), 100, 100, clock=Clock(late_us))


def numbers(recording: object) -> list[int]:
    return (recording.x.astype(int) + 100 * recording.y.astype(int)).tolist()


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 3_000), PART), min_size=1, max_size=6),
    piece=st.integers(1, 40),
    length=st.integers(1_000, 50_000),
)
def test_parts_follow_each_other(parts: list[tuple[int, list[int]]], piece: int, length: int) -> None:
    ordered = [begin + np.cumsum(waits) for begin, waits in parts]
    t = np.concatenate(ordered)
    # How far each part begins before the latest time so far, on a clock that goes on.
    backs, offset, latest = 0, 0, int(t[0])
    expected = []
    for part in ordered:
        if latest - (int(part[0]) + offset) > CAMERA_US:
            backs, offset = backs + 1, latest - int(part[0])
        expected.append(part + offset)
        latest = max(latest, int(expected[-1][-1]))
    whole = gather(stream_of(t, piece))
    order = np.argsort(np.concatenate(expected), kind="stable")
    assert numbers(whole) == order.tolist()
    assert whole.t.tolist() == np.concatenate(expected)[order].tolist()
    assert whole.oddities.restarts == backs
    cut = list(windows(stream_of(t, piece), length))
    assert [number for part in cut for number in numbers(part)] == numbers(whole)
    assert sum(part.oddities.restarts for part in cut) == backs


@pytest.mark.parametrize("piece", [1, 2, 7, 100])
def test_events_that_are_late_move_nothing_else(piece: int) -> None:
    t = np.arange(0, 1_000_000, 10_000)
    t[50:52] = [3, 4]
    whole = gather(stream_of(t, piece))
    assert numbers(whole) == list(range(100))
    assert np.delete(whole.t, [50, 51]).tolist() == np.delete(t, [50, 51]).tolist()
    assert whole.oddities.restarts == 0


def test_tables_in_no_order_of_time_are_sorted_as_a_whole_and_refused_in_windows() -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10 * TABLE_US, 3000))
    # By frames, with pieces that end within them: the windows wait.
    frames = np.concatenate([rng.permutation(part) for part in np.split(t, 20)])
    for piece in (130, 5000):
        cut = list(windows(stream_of(frames, piece, TABLE_US), 100_000))
        assert np.concatenate([part.t for part in cut]).tolist() == t.tolist()
    shuffled = rng.permutation(t)
    for piece in (130, 5000):
        whole = gather(stream_of(shuffled, piece, TABLE_US))
        assert whole.t.tolist() == t.tolist()
        assert whole.oddities.restarts == 0
        words = refusal_of(lambda piece=piece: list(windows(stream_of(shuffled, piece, TABLE_US), 100_000)))
        assert f"more than {MOST_RESTARTS} times: sort the events first, with neuromoco convert" in words


def test_a_table_that_was_joined_goes_on(tmp_path: Path) -> None:
    t = np.concatenate([np.arange(5_000_000, 8_000_000, 10_000), np.arange(0, 3_000_000, 10_000)])
    number = np.arange(t.size)
    file = tmp_path / "a.npz"
    np.savez(file, t=t, x=number % 30, y=number // 30, p=number % 2)
    recording = read_recording(file, options=ReadOptions(sensor=(30, 20)))
    assert (recording.x + 30 * recording.y.astype(int)).tolist() == number.tolist()
    assert (recording.duration, recording.oddities.restarts) == (5_980_000, 1)
    assert "set back 1 times" in recording.oddities.lines()[0]
    facts = survey_recording(file).facts()
    assert (facts["clock_restarts"], facts["unsorted"], facts["duration_ms"]) == (1, 0, 5980)
    found = np.concatenate([window.t for window in read_windows(file, 500_000)])
    assert found.tolist() == recording.t.tolist()


def test_a_table_in_no_order_is_surveyed_as_it_is(tmp_path: Path) -> None:
    t = np.random.default_rng(0).permutation(np.arange(0, 100_000_000, 10_000))
    number = np.arange(t.size)
    np.savez(tmp_path / "a.npz", t=t, x=number % 30, y=number % 20, p=number % 2)
    facts = survey_recording(tmp_path / "a.npz").facts()
    assert (facts["first_us"], facts["last_us"], facts["clock_restarts"]) == (0, 99_990_000, 0)
    assert read_recording(tmp_path / "a.npz").t.tolist() == sorted(t.tolist())


@settings(max_examples=100, deadline=None)
@given(
    t=st.lists(st.integers(1 - LARGEST_TIME, LARGEST_TIME - 1) | st.integers(-50_000, 50_000), min_size=1, max_size=80),
    piece=st.integers(1, 90),
)
def test_any_times_are_continued_or_left_as_they_are(t: list[int], piece: int) -> None:
    clock = Clock()
    times = np.array(t, np.int64)
    found = np.concatenate([clock.continued(times[at : at + piece]) for at in range(0, times.size, piece)])
    if clock.disordered:
        assert clock.as_in_file(found).tolist() == t
    else:
        assert np.all(np.maximum.accumulate(found) - found <= CAMERA_US)


@pytest.mark.parametrize("time", [LARGEST_TIME, -LARGEST_TIME, np.uint64(2**63 + 5), np.uint64(2**64 - 1)])
@pytest.mark.parametrize("others", [[], [5], [5, 3]])
def test_times_of_no_clock_are_refused(time: int, others: list[int]) -> None:
    assert f"a time of {time} us" in refusal_of(lambda: Clock().continued(np.array([time, *others], type(time))))
    assert f"a time of {time} us" in refusal_of(lambda: Clock().continued(np.array([*others, time], type(time))))
