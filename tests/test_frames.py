"""Frames are exact counts, however a recording is cut and whatever its sensor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import ConfigError, Recording, to_frames
from neuromoco.frames import slice_bounds
from tests.conftest import make_recording

RECORDINGS = st.builds(
    lambda seed, events, width, height, span: Recording.from_columns(
        np.sort(np.random.default_rng(seed).integers(-span, span, events)),
        np.random.default_rng(seed + 1).integers(0, width, events),
        np.random.default_rng(seed + 2).integers(0, height, events),
        np.random.default_rng(seed + 3).integers(0, 2, events),
        width=width,
        height=height,
    ),
    st.integers(0, 99),
    st.integers(0, 80),
    st.integers(1, 50),
    st.integers(1, 40),
    st.sampled_from([1, 10, 10**6, 2**62]),
)


def by_hand(recording: Recording, steps: int, by: str, height: int, width: int) -> np.ndarray:
    """One event after the other, in plain Python, after the text of `to_frames`."""
    frames = np.zeros((steps, 2, height, width), np.int64)
    each = len(recording) // steps
    for i in range(len(recording)):
        if by == "count":
            step = min(i // each, steps - 1) if each else steps - 1
        else:
            first, last = int(recording.t[0]), int(recording.t[-1])
            step = (int(recording.t[i]) - first) * steps // (last - first + 1)
        x, y = int(recording.x[i]), int(recording.y[i])
        rows = (
            [y * height // recording.height]
            if height <= recording.height
            else [r for r in range(height) if r * recording.height // height == y]
        )
        columns = (
            [x * width // recording.width]
            if width <= recording.width
            else [c for c in range(width) if c * recording.width // width == x]
        )
        for row in rows:
            for column in columns:
                frames[step, recording.p[i], row, column] += 1
    return frames


@settings(max_examples=150, deadline=None)
@given(RECORDINGS, st.integers(1, 9), st.sampled_from(["count", "time"]), st.integers(1, 60), st.integers(1, 60))
def test_frames_equal_counting_by_hand(recording: Recording, steps: int, by: str, height: int, width: int) -> None:
    frames = to_frames(recording, steps, by, (height, width))
    assert frames.shape == (steps, 2, height, width)
    assert np.array_equal(frames, by_hand(recording, steps, by, height, width))


@settings(max_examples=50, deadline=None)
@given(RECORDINGS, st.integers(1, 9), st.sampled_from(["count", "time"]))
def test_no_event_is_lost_at_the_sensors_size_or_below(recording: Recording, steps: int, by: str) -> None:
    assert to_frames(recording, steps, by).sum() == len(recording)
    small = (max(1, recording.height // 3), max(1, recording.width // 2))
    assert to_frames(recording, steps, by, small).sum() == len(recording)


def test_equal_counts_leave_the_remainder_to_the_last() -> None:
    assert slice_bounds(make_recording(0, events=11), 4, "count").tolist() == [0, 2, 4, 6, 11]


def test_equal_durations_may_leave_slices_empty() -> None:
    recording = Recording.from_columns([0, 1, 99], [0, 0, 0], [0, 0, 0], [0, 1, 1])
    assert to_frames(recording, 4, "time").sum((1, 2, 3)).tolist() == [2, 0, 0, 1]


def test_counts_do_not_wrap_around() -> None:
    events = 70_000
    recording = Recording.from_columns(
        np.arange(events), np.zeros(events, int), np.zeros(events, int), np.ones(events, int)
    )
    assert to_frames(recording, 1)[0, 1, 0, 0] == events


def test_a_sensor_larger_than_a_byte_can_count() -> None:
    recording = Recording.from_columns([0], [1279], [719], [1], width=1280, height=720)
    assert to_frames(recording, 1)[0, 1, 719, 1279] == 1
    assert to_frames(recording, 1, size=(34, 34))[0, 1, 33, 33] == 1


def test_a_recording_without_events_gives_empty_frames() -> None:
    empty = Recording.from_columns(*[np.zeros(0, int)] * 4, width=5, height=4)
    for by in ("count", "time"):
        frames = to_frames(empty, 3, by)
        assert frames.shape == (3, 2, 4, 5)
        assert not frames.any()


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="0 time steps"):
        to_frames(make_recording(0), 0)
    with pytest.raises(ConfigError, match="allowed are 'count' and 'time'"):
        to_frames(make_recording(0), 4, "number")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        to_frames(make_recording(0), 4, size=(0, 5))
