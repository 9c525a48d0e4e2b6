"""Events piece by piece: parts, windows and surveys are those of the whole, and memory does not grow with the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions, read_recording, read_windows, survey_recording, write_atis, write_npz
from neuromoco.events.clock import CAMERA_US
from neuromoco.events.stream import Columns, EventStream, gather
from neuromoco.events.survey import survey
from neuromoco.events.windows import windows
from tests.conftest import make_recording
from tests.helpers.outcomes import rows
from tests.helpers.pieces import in_pieces

SIDE = 12
EVENTS = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, SIDE - 1), st.integers(0, SIDE - 1), st.integers(0, 1)),
    min_size=1,
    max_size=60,
)


def columns_of(events: list[tuple[int, int, int, int]]) -> Columns:
    return Columns(*(np.array(column) for column in zip(*events, strict=True)))


def stream_of(columns: Columns, piece: int, side: int | None = SIDE) -> EventStream:
    return EventStream("test", in_pieces(columns, piece), side, side)


@settings(max_examples=80, deadline=None)
@given(events=EVENTS, piece=st.integers(1, 20), start=st.integers(0, 4000), length=st.integers(0, 4000))
def test_a_part_is_that_of_the_whole(events: Any, piece: int, start: int, length: int) -> None:
    events.sort(key=lambda event: event[0])  # in order: the first event is the earliest
    whole = gather(stream_of(columns_of(events), piece))
    assert rows(whole) == events
    part = gather(stream_of(columns_of(events), piece), start, start + length)
    first = events[0][0]
    assert rows(part) == [event for event in events if first + start <= event[0] < first + start + length]
    assert (part.width, part.height) == (SIDE, SIDE)


@settings(max_examples=80, deadline=None)
@given(events=EVENTS, piece=st.integers(1, 20), length=st.integers(1, 2000))
def test_windows_are_the_whole_cut_into_equal_durations(events: Any, piece: int, length: int) -> None:
    # Times step back by less than what windows wait for.
    events = [(t * 3, *rest) for t, *rest in events]
    first_piece = min(event[0] for event in events[:piece])
    if min(event[0] for event in events) < first_piece:
        events = [(max(t, first_piece), *rest) for t, *rest in events]
    parts = list(windows(stream_of(columns_of(events), piece), length))
    ordered = sorted(events, key=lambda event: event[0])
    assert [row for part in parts for row in rows(part)] == ordered
    for number, part in enumerate(parts):
        assert all(number * length <= t - first_piece < (number + 1) * length for t in part.t.tolist())
    assert len(parts) == (ordered[-1][0] - first_piece) // length + 1


@pytest.mark.parametrize("parts", [1.1, 2, 7.5, 900, 5000])
@pytest.mark.parametrize("size", [0, 100, 1 << 20])
def test_events_are_collected_however_many_pieces_were_expected(parts: float, size: int) -> None:
    recording = make_recording(2, events=900)
    columns = Columns(recording.t, recording.x, recording.y.astype(np.int32), recording.p)
    for piece in (1, 100, 900):
        given_piece = EventStream("test", in_pieces(columns, piece), 34, None, size=size, parts=parts)
        assert rows(gather(given_piece)) == rows(recording)


def test_windows_hold_no_more_than_they_need() -> None:
    held, most = 0, 0

    def pieces() -> Any:
        nonlocal held, most
        for number in range(200):
            held += 1
            most = max(most, held)
            t = np.arange(1000) + 1000 * number
            yield Columns(t, t % SIDE, t % SIDE, t % 2)

    for part in windows(EventStream("test", pieces(), SIDE, SIDE), 50_000):
        held = 0
        assert len(part) == 50_000
    assert most <= 50 + CAMERA_US // 1000 + 1


def test_a_file_is_read_in_parts_and_windows(tmp_path: Path) -> None:
    recording = make_recording(3, events=900)
    for write, name in ((write_atis, "a.bin"), (write_npz, "a.npz")):
        write(tmp_path / name, recording)
        part = read_recording(tmp_path / name, 100_000, 200_000)
        assert rows(part) == [row for row in rows(recording) if 100_000 <= row[0] < 200_000]
        found = [row for window in read_windows(tmp_path / name, 70_000) for row in rows(window)]
        assert found == rows(recording)
        assert {(w.width, w.height) for w in read_windows(tmp_path / name, 70_000)} == {(34, 34)}


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, piece=st.integers(1, 80))
def test_a_survey_counts_what_is_there(events: Any, piece: int) -> None:
    found = survey(stream_of(columns_of(events), piece))
    times = [event[0] for event in events]
    latest = np.maximum.accumulate(times)
    facts = found.facts()
    assert facts["events"] == len(events)
    assert facts["on_share"] == pytest.approx(np.mean([event[3] for event in events]))
    assert (facts["first_us"], facts["last_us"]) == (min(times), max(times))
    assert facts["unsorted"] == int((np.array(times) < latest).sum())
    assert facts["largest_step_back_us"] == int((latest - times).max())
    assert int(found.image.sum()) == int(found.rate.sum()) == len(events)
    if piece >= len(events):
        assert facts["duplicates"] == len(events) - len(set(events))


def test_the_rate_of_a_long_recording_keeps_its_number_of_parts() -> None:
    t = np.concatenate([np.arange(1000), np.arange(1000) + 10**9])
    found = survey(stream_of(Columns(t, t % SIDE, t % SIDE, t % 2), 500))
    assert found.rate.sum() == 2000
    assert found.rate[0] == 1000
    assert found.bin_us * len(found.rate) > 10**9
    assert found.rate[(10**9) // found.bin_us :].sum() == 1000


def test_a_survey_of_a_file(tmp_path: Path) -> None:
    recording = make_recording(1, events=500)
    write_atis(tmp_path / "a.bin", recording)
    facts = survey_recording(tmp_path / "a.bin").facts()
    assert facts["sensor"] == f"{recording.width} x {recording.height}"
    assert facts["events"] == len(recording)
    assert facts["duration_ms"] == recording.duration / 1e3
    assert facts["rate_events_per_s"] == len(recording) / (recording.duration / 1e6)
    assert facts["on_share"] == recording.on_share
    assert (facts["first_us"], facts["last_us"]) == (recording.t[0], recording.t[-1])
    with pytest.raises(EventFileError, match=r"nothing.bin: does not exist"):
        survey_recording(tmp_path / "nothing.bin")


def test_a_format_that_is_given_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5))
    with pytest.raises(EventFileError, match="no event recording that neuromoco knows"):
        read_recording(tmp_path / "a")
    recording = read_recording(tmp_path / "a", options=ReadOptions(format="atis", sensor=(34, 34)))
    assert rows(recording) == [(0, 0, 0, 0)]
    with pytest.raises(ConfigError, match="no format named 'word'; known are aedat4"):
        read_recording(tmp_path / "a", options=ReadOptions(format="word"))
