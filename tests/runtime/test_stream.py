"""Events fed as they come: the same logits as the whole recording, windows, pauses, mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuromoco import Recording
from neuromoco.checkpoint import CheckpointHeader, save_checkpoint
from neuromoco.config import EncoderConfig, FrameConfig
from neuromoco.errors import ConfigError
from neuromoco.events import read_recording
from neuromoco.export.targets import export
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.stream import StreamClassifier
from tests.helpers.networks import event_frames, export_header, live_classifier

STEPS = 4


@pytest.fixture(scope="module")
def by_count(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("count") / "step.onnx"
    export(model_path(suffix=".safetensors"), out, target="onnx-step", recordings=[])
    return out


@pytest.fixture(scope="module")
def by_time(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights whose steps are of equal duration."""
    folder = tmp_path_factory.mktemp("time")
    facts = export_header(STEPS, 34).model_dump(include=set(CheckpointHeader.model_fields))
    header = CheckpointHeader(**facts | {"frames": FrameConfig(steps=STEPS, slice_by="time")})
    save_checkpoint(folder / "m.safetensors", live_classifier(EncoderConfig(), event_frames(STEPS, 2, 34)), header)
    export(folder / "m.safetensors", folder / "step.onnx", target="onnx-step", recordings=[])
    return folder / "step.onnx"


def cut(recording: Recording, *bounds: int) -> list[Recording]:
    """Parts of a recording, from bound to bound."""
    parts = []
    for first, end in zip((0, *bounds), (*bounds, len(recording)), strict=True):
        columns = (getattr(recording, name)[first:end] for name in "txyp")
        parts.append(Recording.from_columns(*columns, width=recording.width, height=recording.height))
    return parts


def example(digit: int) -> Recording:
    """A bundled recording of a number of events that the steps divide."""
    whole = read_recording(example_paths()[digit])
    return cut(whole, len(whole) // STEPS * STEPS)[0]


def later(recording: Recording, us: int) -> Recording:
    return Recording.from_columns(recording.t + us, recording.x, recording.y, recording.p, width=34, height=34)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.floats(0, 1), max_size=6))
def test_chunks_give_the_logits_of_the_whole(by_count: Path, places: list[float]) -> None:
    recording = example(3)
    stream = StreamClassifier(by_count, step_size=len(recording) // STEPS)
    bounds = sorted(int(place * len(recording)) for place in places)
    answers = [answer for chunk in cut(recording, *bounds) for answer in stream.feed(chunk)]
    (wanted,) = OnnxNetwork(by_count).logits([recording]).swapaxes(0, 1)
    assert len(answers) == 1
    assert answers[0].label == "3"
    assert np.array_equal(answers[0].logits_per_step, wanted)
    assert stream.finish() is None


def test_windows_do_not_touch_one_another(by_count: Path) -> None:
    first, second = example(3), example(7)
    size = min(len(first), len(second)) // STEPS
    first, second = cut(first, size * STEPS)[0], cut(second, size * STEPS)[0]
    stream = StreamClassifier(by_count, step_size=size)
    answers = [*stream.feed(first), *stream.feed(later(second, 10**6))]
    wanted = OnnxNetwork(by_count).logits([first, second]).swapaxes(0, 1)
    assert [answer.label for answer in answers] == ["3", "7"]
    assert np.array_equal(np.stack([answer.logits_per_step for answer in answers]), wanted)


def test_steps_of_equal_duration(by_time: Path) -> None:
    recording = example(5)
    span = recording.duration + 1
    recording = cut(recording, int(np.searchsorted(recording.t, recording.t[0] + span // STEPS * STEPS - 1)))[0]
    times = recording.t - recording.t[0]
    times[-1] = span // STEPS * STEPS - 1  # so that the steps divide it
    recording = Recording.from_columns(times, recording.x, recording.y, recording.p, width=34, height=34)
    stream = StreamClassifier(by_time, step_size=span // STEPS)
    assert [*stream.feed(cut(recording, 1000)[0]), *stream.feed(cut(recording, 1000)[1])] == []
    answer = stream.finish()
    (wanted,) = OnnxNetwork(by_time).logits([recording]).swapaxes(0, 1)
    assert answer is not None
    assert np.array_equal(answer.logits_per_step, wanted)


def test_a_long_pause_ends_one_window_and_no_more(by_time: Path) -> None:
    stream = StreamClassifier(by_time, step_size=1000)
    early = cut(example(1), 50)[0]
    early = Recording.from_columns(np.arange(50), early.x, early.y, early.p, width=34, height=34)
    assert stream.feed(early) == []
    answers = stream.feed(later(early, 3_600_000_000))
    assert [len(answer.logits_per_step) for answer in answers] == [STEPS]
    assert stream.finish() is not None


def test_what_is_left_at_the_end_is_answered(by_count: Path) -> None:
    recording = example(4)
    stream = StreamClassifier(by_count, step_size=len(recording) // STEPS)
    assert stream.finish() is None
    assert stream.feed(cut(recording, len(recording) * 5 // 8)[0]) == []
    answer = stream.finish()
    assert answer is not None
    assert len(answer.logits_per_step) == 3  # two whole steps, and half of one
    assert stream.finish() is None


def test_a_sure_answer_ends_its_window(by_count: Path) -> None:
    recording = example(3)
    stream = StreamClassifier(by_count, step_size=len(recording) // STEPS, stop_at=0.5)
    (wanted,) = OnnxNetwork(by_count).logits([recording]).swapaxes(0, 1)
    first = stream.feed(recording)[0]
    assert len(first.logits_per_step) < STEPS
    assert first.probabilities[first.label] >= 0.5
    assert np.array_equal(first.logits_per_step, wanted[: len(first.logits_per_step)])


def test_a_step_is_by_default_that_of_the_training(by_count: Path) -> None:
    seen = OnnxNetwork(by_count).header.seen
    assert StreamClassifier(by_count).step_size == (seen.fewest_events + seen.most_events) // (2 * STEPS)


def test_mistakes(by_count: Path) -> None:
    stream = StreamClassifier(by_count)
    assert stream.feed(cut(example(1), 0)[0]) == []
    stream.feed(later(example(1), 500_000))
    with pytest.raises(ConfigError, match="a chunk begins at"):
        stream.feed(example(1))
    wide = Recording.from_columns([10**7], [0], [0], [1], width=99, height=34)
    with pytest.raises(ConfigError, match="a chunk of a 99 x 34 sensor after one of 34 x 34"):
        stream.feed(wide)
    with pytest.raises(ConfigError, match="write one with --target onnx-step"):
        StreamClassifier(model_path())
    for wrong in ({"step_size": 0}, {"stop_at": 0.0}, {"stop_at": 2.0}):
        with pytest.raises(ConfigError, match="a step is at least 1"):
            StreamClassifier(by_count, **wrong)
