"""Timelines: the rule on counts and answers, and recordings of bundled digits one after another."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neuromoco import Prediction, Recording, load_classifier, models, read_recording
from neuromoco.checkpoint import SeenRecordings
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import write_npz
from neuromoco.events.reader import read_parts
from neuromoco.events.stream import Columns, joined
from neuromoco.fit.verdict import Fit
from neuromoco.runtime.activity import active_spans, quiet_limits
from neuromoco.runtime.timeline import TimelineRule, make_timeline
from tests.conftest import make_recording
from tests.helpers.sequences import in_sequence

SEEN = SeenRecordings(count=10, shortest_us=200_000, longest_us=400_000, fewest_events=1_000, most_events=9_000)


def timeline_of(path: Path, model: Path | None = None, **given: Any) -> Any:
    classifier = load_classifier(model or models.model_path(), "cpu", threads=1)
    return make_timeline(classifier, path, TimelineRule.for_recordings(classifier.header.seen, given))


@pytest.mark.parametrize("suffix", [".onnx", ".loihi"])
def test_digits_one_after_another_are_found(tmp_path: Path, suffix: str) -> None:
    spans = in_sequence(tmp_path / "long.npz", "3771", 250_000, noise=30, start_us=5_000_000)
    timeline = timeline_of(tmp_path / "long.npz", models.model_path(suffix=suffix))
    assert timeline.first_us == 5_000_000
    segments = timeline.segments
    known = [segment for segment in segments if segment.label]
    assert [segment.label for segment in known] == list("3771")
    assert {segment.why for segment in segments if segment.label is None} == {"pause"}
    assert all(a.end_us == b.begin_us for a, b in pairwise(segments))
    assert (segments[0].begin_us, segments[-1].end_us) == (0, timeline.duration_us)
    for (begin, end), segment in zip(spans, known, strict=True):
        edges = np.array([segment.begin_us - begin, segment.end_us - end]) + timeline.first_us
        assert np.abs(edges).max() <= 25_000


def test_noise_alone_is_a_pause(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Recording.from_columns(
        np.sort(rng.integers(0, 3_000_000, 900)), *rng.integers(0, 34, (2, 900)), rng.integers(0, 2, 900), width=34,
        height=34,
    )  # fmt: skip
    write_npz(tmp_path / "noise.npz", noise)
    (segment,) = timeline_of(tmp_path / "noise.npz").segments
    assert (segment.label, segment.why, segment.confidence) == (None, "pause", None)


def test_settings_decide_what_is_unknown(tmp_path: Path) -> None:
    in_sequence(tmp_path / "long.npz", "37", 250_000)

    def unknown(**given: Any) -> set[str | None]:
        return {segment.why for segment in timeline_of(tmp_path / "long.npz", **given).segments}

    assert unknown() == {None, "pause"}
    assert unknown(least=1.0) == {"unsure", "pause"}
    assert unknown(shortest_us=400_000) == {"short", "pause"}
    assert unknown(quiet=1e9) == {"pause"}
    one = timeline_of(tmp_path / "long.npz", quiet=0.0, pause_us=400_000).segments
    assert "pause" not in {segment.why for segment in one}


def test_few_events_are_not_classified(tmp_path: Path) -> None:
    recording = read_recording(models.example_paths()[3])
    some = {name: getattr(recording, name)[::40] for name in "txyp"}
    write_npz(tmp_path / "thin.npz", replace(recording, **some))
    timeline = timeline_of(tmp_path / "thin.npz", quiet=1.0)
    assert {segment.why for segment in timeline.segments} <= {"few events", "pause"}
    assert "few events" in {segment.why for segment in timeline.segments}


class Scripted:
    """A classifier whose answers depend on the column of most events alone: class "a" at the left, "b" at the right."""

    def __init__(self, fit: Fit | None = None) -> None:
        self.fit = fit  # of windows that show both
        self.header = SimpleNamespace(
            seen=SEEN, class_names=("a", "b"), frames=SimpleNamespace(crop=None), read_options=lambda options: options
        )
        self.windows = 0

    def predict(self, recordings: list[Recording], windows: bool) -> list[Prediction]:
        assert windows
        self.windows += len(recordings)
        shares = [float((recording.x < 17).mean()) for recording in recordings]
        logits = [np.log([[share + 1e-3, 1 - share + 1e-3]]) for share in shares]
        fits = [self.fit if 0.02 < share < 0.98 else None for share in shares]
        return [Prediction.from_logits(one, ("a", "b"), fit=fit) for one, fit in zip(logits, fits, strict=True)]


def halves(path: Path, *columns: int) -> None:
    """A recording of 10 events per ms that lie in a column for each second."""
    t = np.arange(0, 1_000_000 * len(columns), 100)
    x = np.repeat(columns, 10_000)
    write_npz(path, Recording.from_columns(t, x, x % 7, t % 2, width=34, height=34))


def test_a_change_of_class_is_found_to_a_cell(tmp_path: Path) -> None:
    halves(tmp_path / "long.npz", 3, 30, 3)
    classifier: Any = Scripted()
    timeline = make_timeline(classifier, tmp_path / "long.npz", TimelineRule.for_recordings(SEEN, {}))
    assert [segment.label for segment in timeline.segments] == ["a", "b", "a"]
    edges = [segment.end_us for segment in timeline.segments[:-1]]
    assert np.abs(np.array(edges) - [1_000_000, 2_000_000]).max() <= timeline.rule.stride_us
    assert classifier.windows == -(-(2_999_901 - 300_000) // 50_000) + 1  # one a stride


def test_windows_that_are_unlike_the_training_recordings_do_not_count(tmp_path: Path) -> None:
    t = np.arange(0, 2_000_000, 100)
    x = np.where((t < 1_000_000) & (t % 1_000 < 700), 3, 30)  # mostly at the left, then at the right
    write_npz(tmp_path / "long.npz", Recording.from_columns(t, x, x % 7, t % 2, width=34, height=34))
    rule = TimelineRule.for_recordings(SEEN, {})

    def segments(fit: Fit | None) -> list[tuple[str | None, str | None]]:
        classifier: Any = Scripted(fit)
        return [(one.label, one.why) for one in make_timeline(classifier, tmp_path / "long.npz", rule).segments]

    assert segments(None) == segments(Fit(True, 0.5)) == [("a", None), ("b", None)]
    assert segments(Fit(False, 2.0, ("lies further left",))) == [(None, "unlike"), ("b", None)]


def test_short_segments_join_the_longer_neighbour(tmp_path: Path) -> None:
    t = np.arange(0, 3_000_000, 100)
    x = np.where((t >= 1_000_000) & (t < 1_300_000), 30, 3)
    write_npz(tmp_path / "long.npz", Recording.from_columns(t, x, x % 7, t % 2, width=34, height=34))
    classifier: Any = Scripted()

    def labels(**given: Any) -> list[str | None]:
        rule = TimelineRule.for_recordings(SEEN, given)
        return [one.label for one in make_timeline(classifier, tmp_path / "long.npz", rule).segments]

    assert labels() == ["a", "b", "a"]
    assert labels(shortest_us=500_000) == ["a"]


def test_activity_has_two_limits_and_bridges_short_gaps() -> None:
    counts = np.array([0, 3, 3, 9, 0, 3, 0, 0, 3, 3, 0, 0, 9, 0])
    assert active_spans(counts, 2, 8, pause=2) == [(1, 6), (12, 13)]  # 8 to 10 never pass the upper limit
    assert active_spans(counts, 2, 8, pause=3) == [(1, 13)]
    assert active_spans(counts, 2, 8, pause=1) == [(1, 4), (12, 13)]
    assert active_spans(np.zeros(5, int), 2, 8, pause=1) == []


def test_limits_follow_the_background_within_shares_of_the_usual_rate() -> None:
    rng = np.random.default_rng(0)
    noise = rng.poisson(100, 2_000)
    low, high = quiet_limits(noise, 500.0)
    assert 130 < low < 150 < high < 190
    assert (noise > low).mean() < 1e-3
    assert quiet_limits(np.zeros(100), 500.0) == (25.0, 50.0)
    assert quiet_limits(np.full(100, 10_000), 500.0) == (175.0, 250.0)


def test_defaults_follow_the_training_recordings() -> None:
    rule = TimelineRule.for_recordings(SEEN, {})
    assert (rule.window_us, rule.stride_us, rule.pause_us, rule.shortest_us) == (300_000, 50_000, 100_000, 100_000)
    assert TimelineRule.for_recordings(SEEN, {"window_us": 120_000}).stride_us == 20_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stride_us": 400_000}, "a stride of 400 ms with windows of 300 ms"),
        ({"stride_us": 2}, "5 us or more"),
        ({"least": 1.5}, "a least probability of 1.5; it is 0 to 1"),
        ({"quiet": -1.0}, "a pause of at most -1.0 events per second"),
        ({"quiet": float("nan")}, "a pause of at most nan events per second"),
        ({"quiet": float("inf")}, "a pause of at most inf events per second"),
    ],
)
def test_settings_that_are_not_allowed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimelineRule.for_recordings(SEEN, given)


def test_a_crop_counts_instead_of_the_sensor(tmp_path: Path) -> None:
    digit = read_recording(models.example_paths()[3])
    moved = replace(digit, x=digit.x + np.uint16(100), width=200, height=60)
    write_npz(tmp_path / "wide.npz", moved)
    classifier = load_classifier(models.model_path(), "cpu", threads=1)
    rule = TimelineRule.for_recordings(classifier.header.seen, {})
    timeline = make_timeline(classifier, tmp_path / "wide.npz", rule, crop=(100, 0, 34, 34))
    assert "3" in {segment.label for segment in timeline.segments}
    with pytest.raises(EventFileError, match=r"wide\.npz: a crop of 190,0,34,34 does not fit"):
        make_timeline(classifier, tmp_path / "wide.npz", rule, crop=(190, 0, 34, 34))


def test_memory_does_not_grow_with_what_is_between_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.events.arrays.stored.PIECE", 1_000)
    recording = make_recording(1, events=200_000)
    recording = replace(recording, t=recording.t * 100)  # half a minute, of which events may be late by a second
    write_npz(tmp_path / "a.npz", recording)
    spans = [(int(recording.t[1_000]), int(recording.t[1_200])), (int(recording.t[-200]), int(recording.t[-1]))]
    most = 0

    def observed(pieces: list[Columns]) -> Columns:
        nonlocal most
        most = max(most, len(pieces))
        return joined(pieces)

    monkeypatch.setattr("neuromoco.events.windows.joined", observed)
    sizes = [len(part) for part in read_parts(tmp_path / "a.npz", spans)]
    assert sizes == [int(((recording.t >= a) & (recording.t < b)).sum()) for a, b in spans]
    assert most < 15


def test_parts_of_a_file_overlap_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = make_recording(1, events=5_000)
    write_npz(tmp_path / "a.npz", recording)
    begins = np.sort(np.random.default_rng(0).integers(-10_000, 310_000, 40))
    spans = [(int(a), int(a) + 20_000) for a in begins]
    for piece in (1 << 20, 37):
        monkeypatch.setattr("neuromoco.events.arrays.stored.PIECE", piece)
        parts = list(read_parts(tmp_path / "a.npz", spans))
        assert len(parts) == len(spans)
        for part, (begin, end) in zip(parts, spans, strict=True):
            inside = (recording.t >= begin) & (recording.t < end)
            assert np.array_equal(part.t, recording.t[inside])
            assert np.array_equal(part.x, recording.x[inside])
