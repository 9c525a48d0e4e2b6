"""Segments of a stream, told when they end."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from neuromoco import models, read_recording
from neuromoco.runtime.live_segments import LiveSegments
from neuromoco.runtime.load import OnnxClassifier
from neuromoco.runtime.prediction import Prediction
from neuromoco.runtime.timeline import Segment, TimelineRule, make_timeline
from neuromoco.runtime.window_classifier import WindowAnswer, WindowClassifier
from tests.helpers.sequences import in_sequence

RULE = TimelineRule(window_us=60, stride_us=10, pause_us=20, shortest_us=30)
NAMES = ("a", "b")


def answer(number: int, label: str | None, share: float = 0.9) -> WindowAnswer:
    """The answer for the window that begins a number of strides from the first event."""
    window = (10 * number, 10 * number + 60)
    if label is None:
        return WindowAnswer(window, 0, None, window[1])
    shares = [share, 1 - share] if label == "a" else [1 - share, share]
    logits = np.log(np.array([shares]))
    return WindowAnswer(window, 100, Prediction.from_logits(logits, NAMES), window[1])


def told(labels: str, share: float = 0.9) -> list[Segment]:
    segments = LiveSegments(NAMES, RULE)
    answers = [answer(number, None if label == "-" else label, share) for number, label in enumerate(labels)]
    return [one for given in answers for one in segments.add(given)] + segments.finish(1 << 60)


def test_segments_cover_the_stream_without_gaps() -> None:
    found = told("a" * 20 + "b" * 20 + "-" * 20 + "a" * 20)
    assert [segment.label for segment in found] == ["a", "b", None, "a"]
    assert found[2].why == "pause"
    assert found[0].begin_us == 0
    assert all(one.end_us == after.begin_us for one, after in pairwise(found))
    assert abs(found[0].end_us - 225) <= 10  # midway between the windows of both
    assert abs((found[0].confidence or 0) - 0.9) < 0.05


def test_what_is_too_short_joins_the_segment_before_it() -> None:
    assert [segment.label for segment in told("a" * 20 + "b" + "a" * 20)] == ["a"]


def test_what_is_not_sure_is_unknown() -> None:
    assert [(segment.label, segment.why) for segment in told("a" * 20, 0.5001)] == [("a", None)]
    segments = LiveSegments(NAMES, TimelineRule(60, 10, 20, 30, least=0.95))
    for number in range(20):
        segments.add(answer(number, "a"))
    assert [(segment.label, segment.why) for segment in segments.finish(1 << 60)] == [(None, "unsure")]


def test_a_segment_is_told_soon_after_it_ends() -> None:
    segments = LiveSegments(NAMES, RULE)
    for number in range(40):
        if ended := segments.add(answer(number, "a" if number < 20 else "b")):
            break
    assert [segment.label for segment in ended] == ["a"]
    assert 10 * number - ended[0].end_us <= RULE.shortest_us + RULE.stride_us


def test_hours_without_events_cost_nothing() -> None:
    segments = LiveSegments(NAMES, RULE)
    for number in range(10):
        segments.add(answer(number, "a"))
    begin = time.monotonic()
    ended = segments.add(WindowAnswer((200, 1 << 50), 0, None, 1 << 50))
    assert time.monotonic() - begin < 0.1
    assert [segment.label for segment in ended] == ["a"]
    assert [segment.why for segment in segments.finish(1 << 60)] == ["pause"]


def test_a_stream_shows_what_a_timeline_of_the_file_shows(tmp_path: Path) -> None:
    file = tmp_path / "long.npz"
    spans = in_sequence(file, "3715", 250_000)
    classifier = OnnxClassifier(models.model_path(), threads=1)
    rule = TimelineRule.for_recordings(classifier.header.seen, {})
    stream = WindowClassifier(classifier, rule.window_us, rule.stride_us)
    segments = LiveSegments(classifier.header.class_names, rule)
    recording = read_recording(file)
    found = [one for given in [*stream.feed(recording), *stream.finish()] for one in segments.add(given)]
    found += segments.finish(1 << 60)
    expected = [one.label for one in make_timeline(classifier, file, rule).segments if one.label]
    labels = [one.label for one in found if one.label]
    assert expected == list("3715")
    assert set(expected) <= set(labels)
    for (begin, end), label in zip(spans, "3715", strict=True):  # the middle of each digit is in a segment of it
        middle = (begin + end) // 2
        assert label in [one.label for one in found if one.begin_us <= middle < one.end_us]
