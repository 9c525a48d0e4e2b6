"""Answers and figures by closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from neuromoco import EventFileError
from neuromoco.app.cli.plots import draw_frames, frame_colours
from neuromoco.checkpoint import SeenRecordings
from neuromoco.evaluation.accuracy import frame_batches, pass_size, score
from neuromoco.runtime.prediction import Prediction, check_complete
from neuromoco.support.figures import draw_curves
from neuromoco.support.files import writing, writing_folder
from tests.conftest import make_recording


def test_a_prediction_is_the_softmax_of_the_mean_and_knows_when_it_settled() -> None:
    logits = np.array([[0.0, 3.0], [4.0, 0.0], [4.0, 0.0], [0.0, 0.0]])
    answer = Prediction.from_logits(logits, ("a", "b"))
    # means up to each step: (0, 3), (2, 1.5), (2.67, 1), (2, 0.75)
    assert answer.label == "a"
    assert answer.decision_step == 2
    assert list(answer.probabilities) == ["a", "b"]
    assert answer.probabilities["a"] == pytest.approx(1 / (1 + math.exp(0.75 - 2)))
    assert Prediction.from_logits(logits[1:], ("a", "b")).decision_step == 1
    assert Prediction.from_logits(logits[:1] * 1000, ("a", "b")).probabilities["b"] == 1.0


def test_a_recording_much_shorter_than_those_of_the_training_is_refused() -> None:
    seen = SeenRecordings(count=1, shortest_us=400_000, longest_us=500_000, fewest_events=1, most_events=2)
    check_complete("a.bin", make_recording(0), seen)  # 300 ms are exactly three quarters
    longer = seen.model_copy(update={"shortest_us": 400_004})
    with pytest.raises(EventFileError, match=r"a.bin: lasts 300 ms where training recordings last 400 to 500 ms"):
        check_complete("a.bin", make_recording(0), longer)


def test_figures_of_an_evaluation() -> None:
    labels = np.array([0] * 40 + [1] * 50 + [2] * 10)
    found = np.array([0] * 30 + [1] * 10 + [1] * 50 + [0] * 10)
    result = score(labels, found, ("a", "b", "c", "unused"))
    assert result.accuracy == 0.8
    # Wilson's interval, written out
    n, p, z = 100, 0.8, 1.959964
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)),
    )
    assert result.interval == pytest.approx((middle - half, middle + half), abs=1e-6)
    told = result.to_json()
    assert told["recall"] == {"a": 0.75, "b": 1.0, "c": 0.0}
    assert told["confusion"][0] == [30, 10, 0, 0]


def test_colours_tell_polarities_apart_and_white_is_nothing() -> None:
    frames = np.zeros((1, 2, 2, 2), int)
    frames[0, 0, 0, 0] = frames[0, 1, 0, 1] = 5
    colours = frame_colours(frames)
    assert colours.shape == (1, 2, 2, 3)
    assert colours[0, 1, 1].tolist() == [1.0, 1.0, 1.0]
    off, on = colours[0, 0, 0], colours[0, 0, 1]
    assert off[2] > off[0]
    assert on[0] > on[2]


def test_pictures_are_png_files(tmp_path: Path) -> None:
    draw_frames(tmp_path / "new/frames.png", np.random.default_rng(0).poisson(1, (3, 2, 8, 8)), "x")
    draw_frames(tmp_path / "empty.png", np.zeros((2, 2, 8, 8), int), "x")
    draw_curves(tmp_path / "curves.png", {"loss": {"a": [1.0, 0.5], "b": [2.0]}}, "x")
    for name in ("new/frames.png", "empty.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def interrupt_file(file: Path) -> None:
    with writing(file) as part:
        part.write_text("sec")
        raise KeyboardInterrupt


def interrupt_folder(folder: Path) -> None:
    with writing_folder(folder) as part:
        (part / "x").write_text("sec")
        raise KeyboardInterrupt


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    file, folder = tmp_path / "a/b.txt", tmp_path / "c"
    with writing(file) as part:
        part.write_text("first")
    with writing_folder(folder) as part:
        (part / "x").write_text("first")
    for interrupted in (lambda: interrupt_file(file), lambda: interrupt_folder(folder)):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert file.read_text() == (folder / "x").read_text() == "first"
    with writing_folder(folder) as part:  # somebody else was faster: theirs stays
        (part / "y").write_text("second")
    assert [entry.name for entry in folder.iterdir()] == ["x"]
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["a", "b.txt", "c", "x"]


def test_large_frames_are_evaluated_a_few_at_a_time() -> None:
    frames = np.zeros((9, 16, 2, 128, 128), np.uint8)
    frames[:, 0, 0, 0, 0] = np.arange(9)
    batches = list(frame_batches(frames, range(9)))
    assert [batch.shape[1] for batch in batches] == [8, 1]
    assert np.concatenate([batch[0, :, 0, 0, 0] for batch in batches]).tolist() == list(range(9))
    assert [pass_size(values) for values in (1, 1 << 15, 1 << 22, 1 << 30)] == [128, 128, 1, 1]


def test_uneven_classes_count_equally_in_the_balanced_accuracy() -> None:
    labels, predicted = np.array([0] * 8 + [1] * 2), np.array([0] * 8 + [0, 1])
    found = score(labels, predicted, ("a", "b", "absent"))
    assert (found.accuracy, found.balanced_accuracy, found.is_uneven) == (0.9, 0.75, True)
    assert found.recall == {"a": 1.0, "b": 0.5}
    assert not score(labels[5:], predicted[5:], ("a", "b")).is_uneven
