"""A stream in windows: the answers are those of the windows of a file, however its events come."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromoco import Recording, models, read_recording
from neuromoco.config import FrameConfig
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.frames import Grid, bounds_in, to_frames
from neuromoco.runtime import counted_events
from neuromoco.runtime.batch import Job
from neuromoco.runtime.counted_events import CountedEvents
from neuromoco.runtime.load import OnnxClassifier, load_classifier
from neuromoco.runtime.prediction import Prediction
from neuromoco.runtime.window_classifier import WindowAnswer, WindowClassifier
from tests.conftest import make_recording
from tests.helpers.sequences import in_sequence

MODEL = models.model_path()


@pytest.fixture(scope="module")
def classifier() -> OnnxClassifier:
    return OnnxClassifier(MODEL, threads=1)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.npz"
    in_sequence(path, "3715", 120_000, noise=20)
    return path


def part(recording: Recording, first: int, last: int) -> Recording:
    return replace(recording, **{name: getattr(recording, name)[first:last] for name in "txyp"})


def cut(recording: Recording, seed: int, largest: int) -> list[Recording]:
    """A recording in chunks of random numbers of events, some of them empty."""
    sizes = np.random.default_rng(seed).integers(0, largest, 4 * len(recording) // largest + 8)
    edges = np.minimum(np.cumsum(sizes), len(recording)).tolist()
    return [part(recording, a, b) for a, b in zip([0, *edges], [*edges, len(recording)], strict=True)]


def fed(stream: WindowClassifier, chunks: list[Recording]) -> list[WindowAnswer]:
    return [answer for chunk in chunks for answer in stream.feed(chunk)] + stream.finish()


def same(mine: Prediction | None, theirs: Prediction) -> bool:
    return mine is not None and (mine.probabilities, mine.fit) == (theirs.probabilities, theirs.fit)


@pytest.mark.parametrize("largest", [3, 400, 100_000])
def test_answers_are_those_of_the_windows_of_the_file(classifier: OnnxClassifier, long: Path, largest: int) -> None:
    results = {
        result.window: result.result for result in Job(MODEL, window=150_000, pass_quiet=True).results(classifier, long)
    }
    answers = fed(WindowClassifier(classifier, 150_000), cut(read_recording(long), 1, largest))
    told = [answer for answer in answers if answer.prediction is not None]
    assert len(told) >= 8
    for answer in told:
        result = results.pop(answer.window)
        assert isinstance(result, Prediction)
        assert same(answer.prediction, result)
    assert set(results.values()) <= {None}  # the pauses


@pytest.mark.parametrize("slice_by", ["count", "time"])
@pytest.mark.parametrize("crop", [None, (4, 2, 28, 30)])
def test_windows_overlap_and_networks_see_a_part(
    classifier: OnnxClassifier, long: Path, slice_by: Any, crop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = FrameConfig(**classifier.header.frames.model_dump() | {"slice_by": slice_by, "crop": crop})
    header = classifier.header.model_copy(update={"frames": frames})
    monkeypatch.setattr(classifier, "header", header)
    monkeypatch.setattr(classifier.network, "header", header)
    monkeypatch.setattr(counted_events, "SMALLEST_BLOCK", 64)
    monkeypatch.setattr(counted_events, "EVENTS_PER_CELL", 0)
    recording = read_recording(long)
    answers = fed(WindowClassifier(classifier, 200_000, 70_000), cut(recording, 2, 300))
    assert [answer.window[0] for answer in answers[:3]] == [0, 70_000, 140_000]
    checked = 0
    for answer in answers[::3]:
        edges = np.searchsorted(recording.t - recording.t[0], answer.window)
        if answer.prediction is not None:
            (expected,) = classifier.predict([part(recording, *edges)], windows=True)
            assert same(answer.prediction, expected)
            checked += 1
    assert checked >= 4


def test_counted_events_are_the_frames_of_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_events, "SMALLEST_BLOCK", 32)
    monkeypatch.setattr(counted_events, "EVENTS_PER_CELL", 0)
    rng = np.random.default_rng(0)
    for sensor, size in (((30, 40), (15, 20)), ((9, 7), (20, 20)), ((34, 34), (34, 34))):
        t, p = np.sort(rng.integers(0, 300_000, 2000)), rng.integers(0, 2, 2000)
        x, y = rng.integers(0, sensor[1], 2000), rng.integers(0, sensor[0], 2000)
        recording = Recording.from_columns(t, x, y, p, width=sensor[1], height=sensor[0])
        events = CountedEvents(Grid(sensor, size))
        for first in range(0, 2000, 77):
            some = part(recording, first, first + 77)
            events.add(some.t, some.x, some.y, some.p)
            begin = max(0, first - int(rng.integers(0, 500)))
            last = min(2000, first + 77)
            if begin < events._first:
                continue
            bounds = begin + bounds_in(recording.t[begin:last], 5, "count")
            np.testing.assert_array_equal(
                events.frames(bounds), to_frames(part(recording, begin, last), 5, "count", size)
            )
            events.drop(begin)
            assert len(events) <= last - begin + 32


def test_memory_follows_the_window(classifier: OnnxClassifier) -> None:
    stream = WindowClassifier(classifier, 10_000)
    one = make_recording(1, events=1000)
    for number in range(300):
        stream.feed(replace(one, t=(number * 10_000 + np.arange(1000) * 10)))
    assert stream._events is not None
    assert len(stream._events._times._rows) < 50_000
    with pytest.raises(ConfigError, match="more than 5,000 events in a window of 10 ms: choose shorter windows"):
        WindowClassifier(classifier, 10_000, most_events=5000).feed(
            replace(make_recording(1, events=6000), t=np.arange(6000))
        )


def test_time_without_events_is_one_answer_and_costs_nothing(classifier: OnnxClassifier) -> None:
    digit = read_recording(models.example_paths()[3])
    later = replace(digit, t=digit.t + (1 << 55))
    stream = WindowClassifier(classifier, 100_000, 50_000)
    answers = fed(stream, [digit, later])
    empty = [answer for answer in answers if not answer.events]
    assert len(empty) == 1
    assert empty[0].window[1] - empty[0].window[0] > 1 << 54
    assert all((b.window[0] - a.window[1]) % 50_000 == 0 for a, b in pairwise(answers))
    begin = int(later.t[0] - digit.t[0])
    assert any(answer.window[0] <= begin < answer.window[1] for answer in answers if answer.events)


def test_answers_are_computed_when_they_are_asked_for(
    classifier: OnnxClassifier, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    compute = classifier.network.frame_logits
    monkeypatch.setattr(classifier.network, "frame_logits", lambda frames: asked.append(1) or compute(frames))
    recording = read_recording(long)
    answers = WindowClassifier(classifier, 150_000).answers(recording)
    assert next(answers).prediction
    assert len(asked) == 1
    assert len(list(answers)) == len(WindowClassifier(classifier, 150_000).feed(recording)) - 1


def test_the_clock_of_a_camera_ends_windows(classifier: OnnxClassifier) -> None:
    digit = read_recording(models.example_paths()[3])
    stream = WindowClassifier(classifier, 310_000)
    assert stream.advance(10) == []
    assert stream.feed(digit) == []
    first = int(digit.t[0])
    assert stream.advance(first + 309_999) == []
    (answer,) = stream.advance(first + 310_000)
    assert answer.prediction is not None
    assert answer.prediction.label == "3"
    (still,) = stream.advance(first + 2_000_000)
    assert (still.window, still.prediction) == ((310_000, 1_860_000), None)
    late = replace(digit, t=digit.t + 1_990_000)  # what was still on its way counts when it comes
    stream.feed(late)
    assert stream.late == np.count_nonzero(late.t < first + 2_000_000)


def test_times_that_run_back_go_on(classifier: OnnxClassifier) -> None:
    digit = read_recording(models.example_paths()[3])
    stream = WindowClassifier(classifier, 310_000)
    answers = fed(stream, [digit, digit, digit])
    assert [answer.prediction.label for answer in answers if answer.prediction] == ["3"] * 3
    swapped = replace(digit, t=np.where(np.arange(len(digit)) == 100, digit.t - 3000, digit.t))
    stream = WindowClassifier(classifier, 310_000)
    assert len(fed(stream, [swapped])) == 1
    assert stream.late == 1
    mixed = np.random.default_rng(0).permutation(len(digit))
    with pytest.raises(EventFileError, match="run back again and again"):
        fed(WindowClassifier(classifier), [replace(digit, t=50 * digit.t[mixed])])


def test_mistakes_are_named(classifier: OnnxClassifier) -> None:
    for window, stride in ((999, None), (1, 1)):
        with pytest.raises(ConfigError, match=r"^windows of [0-9.e-]+ ms; they last 1 ms or more$"):
            WindowClassifier(classifier, window, stride)
    with pytest.raises(ConfigError, match=r"^a stride of 0\.999 ms with windows of 10 ms; .*, and 1 ms or more$"):
        WindowClassifier(classifier, 10_000, 999)
    with pytest.raises(ConfigError, match="a stride of 20 ms with windows of 10 ms; it is at most as long"):
        WindowClassifier(classifier, 10_000, 20_000)
    with pytest.raises(ConfigError, match=r"^errors below 0\.001 need 2302 recordings"):
        WindowClassifier(classifier, abstain=0.001)
    stream = WindowClassifier(classifier)
    stream.feed(make_recording(1))
    with pytest.raises(ConfigError, match="a chunk of a 50 x 34 sensor after one of 34 x 34"):
        stream.feed(replace(make_recording(1), width=50))


@pytest.mark.parametrize("backend", ["loihi-sim", pytest.param("torch", marks=pytest.mark.slow)])
def test_every_backend_answers(backend: Any) -> None:
    digit = read_recording(models.example_paths()[3])
    other = load_classifier(models.model_path(suffix=models.SUFFIXES[backend]), "cpu", threads=1)
    (answer,) = fed(WindowClassifier(other, 310_000), cut(digit, 3, 500))
    (expected,) = other.predict([digit], windows=True)
    assert same(answer.prediction, expected)


@pytest.mark.slow
def test_a_file_of_one_step_answers_and_one_that_takes_events_is_refused(tmp_path: Path) -> None:
    from neuromoco.export.targets import export

    checkpoint, digit = models.model_path(suffix=".safetensors"), read_recording(models.example_paths()[3])
    export(checkpoint, tmp_path / "step.onnx", target="onnx-step", recordings=[])
    step = OnnxClassifier(tmp_path / "step.onnx", threads=1)
    (answer,) = fed(WindowClassifier(step, 310_000), cut(digit, 4, 500))
    (expected,) = step.predict([digit], windows=True)
    assert same(answer.prediction, expected)
    export(checkpoint, tmp_path / "events.onnx", input="events", recordings=[])
    with pytest.raises(ConfigError, match="takes events and cuts them itself: export it with --input"):
        WindowClassifier(OnnxClassifier(tmp_path / "events.onnx", threads=1))
