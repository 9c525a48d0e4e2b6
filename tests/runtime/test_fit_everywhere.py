"""The verdict is the same in every backend, and in a stream; files without a reference have none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromoco import models
from neuromoco.checkpoint import read_header, replace_header
from neuromoco.errors import CheckpointError, EventFileError
from neuromoco.events import Recording, read_recording
from neuromoco.export.targets import export
from neuromoco.runtime.batch import Job
from neuromoco.runtime.load import load_classifier
from neuromoco.runtime.prediction import Prediction
from neuromoco.runtime.stream import StreamClassifier
from tests.helpers.cli import run

CHECKPOINT = models.model_path(suffix=".safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    made = {"torch": CHECKPOINT, "onnx": models.model_path(), "twin": models.model_path(suffix=".loihi")}
    for name, options in {"step": {"target": "onnx-step"}, "events": {"input": "events"}}.items():
        made[name] = folder / f"{name}.onnx"
        export(CHECKPOINT, made[name], recordings=[], **options)  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    digits = [read_recording(path) for path in models.example_paths()[:4]]
    fast = [replace(one, t=one.t // 10) for one in digits[:2]]
    return [*digits, *fast]


@pytest.mark.parametrize("windows", [False, True])
def test_all_backends_give_one_verdict(files: dict[str, Path], recordings: list[Recording], windows: bool) -> None:
    answers = {name: load_classifier(path).predict(recordings, windows=windows) for name, path in files.items()}
    expected = [answer.fit for answer in answers["torch"]]
    assert [fit is not None and fit.fits for fit in expected] == [True] * 4 + [False] * 2
    for name, predictions in answers.items():
        for answer, fit in zip(predictions, expected, strict=True):
            assert answer.fit is not None
            assert fit is not None
            assert answer.fit.score == pytest.approx(fit.score, rel=1e-7), name
            assert answer.fit.reasons == fit.reasons


def test_an_early_stop_does_not_change_it(files: dict[str, Path], recordings: list[Recording]) -> None:
    (whole,) = load_classifier(files["step"]).predict(recordings[:1])
    (early,) = load_classifier(files["step"]).predict(recordings[:1], stop_at=0.3)  # type: ignore[call-arg]
    assert len(early.logits_per_step) < len(whole.logits_per_step)
    assert early.fit == whole.fit


def test_a_stream_is_judged_as_a_window(files: dict[str, Path], recordings: list[Recording]) -> None:
    for recording in (recordings[0], recordings[4]):
        stream = StreamClassifier(files["step"], step_size=len(recording) // 4)
        end = int(recording.t[-1])
        found = []
        for begin in range(0, end + 1, 20_000):
            part = slice(*np.searchsorted(recording.t, (begin, begin + 20_000)))
            found += stream.feed(replace(recording, **{name: getattr(recording, name)[part] for name in "txyp"}))
        found += [last for last in [stream.finish()] if last is not None]
        (window,) = load_classifier(files["step"]).predict([recording], windows=True)
        assert found[0].fit is not None
        assert window.fit is not None
        assert found[0].fit.score == pytest.approx(window.fit.score, rel=0.02)  # at most three events are left over
        assert found[0].fit.fits is window.fit.fits is (recording is recordings[0])


def test_a_part_of_a_window_is_judged_by_its_length(files: dict[str, Path]) -> None:
    for path in models.example_paths():
        recording = read_recording(path)
        stream = StreamClassifier(files["step"], step_size=-(-len(recording) // 4), stop_at=0.5)
        part = slice(0, len(recording) * 5 // 8)
        started = StreamClassifier(files["step"], step_size=len(recording) // 4)
        started.feed(replace(recording, **{name: getattr(recording, name)[part] for name in "txyp"}))
        for answer in (stream.feed(recording)[0], started.finish()):
            assert answer is not None
            assert len(answer.logits_per_step) < 4
            assert answer.fit is not None
            assert answer.fit.fits, f"{path.name}: {answer.fit}"


def save(path: Path, recording: Recording) -> None:
    columns = {name: getattr(recording, name) for name in "txyp"}
    np.savez(path, **columns, width=recording.width, height=recording.height)


def test_watch_passes_over_windows_in_which_nothing_moves(tmp_path: Path) -> None:
    digit = read_recording(models.example_paths()[3])
    noise = np.random.default_rng(0)
    t, some = np.sort(noise.integers(0, 3_000_000, 120)), {"width": 34, "height": 34}
    x, y, p = (noise.integers(0, high, 120) for high in (34, 34, 2))
    columns = [np.r_[a, b] for a, b in ((digit.t, t + int(digit.t[-1]) + 1), (digit.x, x), (digit.y, y), (digit.p, p))]
    save(tmp_path / "then_noise.npz", Recording.from_columns(*columns, **some))
    shown = run("watch", tmp_path / "then_noise.npz", "--window", "300ms").stdout
    assert shown.splitlines()[-1].startswith("1 windows, 0 (0.0%) unlike"), shown
    assert "quiet ones passed over" in shown


def test_a_line_of_what_does_not_fit_begins_with_the_verdict(tmp_path: Path, recordings: list[Recording]) -> None:
    save(tmp_path / "fast.npz", recordings[4])
    line = run("predict", tmp_path / "fast.npz").stdout.strip().replace("\n", " ")
    assert re.search(
        r"fast.npz: unlike the training recordings +\(0 \d+\.\d%\) +score [\d.]+, 1 is the limit; ", line
    ), line


def test_files_of_earlier_versions_have_no_verdict(tmp_path: Path) -> None:
    old, file = tmp_path / "old.safetensors", tmp_path / "half.bin"
    old.write_bytes(CHECKPOINT.read_bytes())
    replace_header(old, read_header(old).model_copy(update={"fit": None}))
    assert b'"fit' not in old.read_bytes()[: 1 << 16]
    file.write_bytes(models.example_paths()[3].read_bytes()[: 5 * 1500])
    answer = Job(old).whole(Job(old).load(), file)
    assert isinstance(answer.result, EventFileError)
    assert "Give --any-length" in str(answer.result)
    accepted = Job(old, any_length=True).whole(Job(old).load(), file).result
    assert isinstance(accepted, Prediction)
    assert accepted.fit is None
    assert accepted.to_json()["fit"] is None
    judged = Job(CHECKPOINT).whole(Job(CHECKPOINT).load(), file).result
    assert isinstance(judged, Prediction)
    assert judged.fit is not None
    assert "cut short?" in judged.fit.reasons[0]


def test_a_header_is_replaced_without_a_change_of_the_weights(tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(CHECKPOINT.read_bytes())
    header = read_header(copy)
    replace_header(copy, header.model_copy(update={"fit": None, "epoch": 77}))
    assert read_header(copy).epoch == 77
    replace_header(copy, header)
    assert read_header(copy) == header
    tensors = [file.read_bytes()[8 + int.from_bytes(file.read_bytes()[:8], "little") :] for file in (copy, CHECKPOINT)]
    assert tensors[0] == tensors[1]
    with pytest.raises(CheckpointError, match="does not exist"):
        replace_header(tmp_path / "nothing", header)


def test_watch_and_reference(tmp_path: Path) -> None:
    digits = models.example_paths()
    calm = run("watch", *digits)
    assert calm.exit_code == 0
    assert calm.stdout.splitlines()[-1].startswith("10 recordings, 0 (0.0%) unlike those of the training")
    lines = [json.loads(line) for line in run("watch", "--json", *digits, "--window", "2ms").stdout.splitlines()]
    assert lines[-1]["seen"] == len(lines)
    assert lines[-1]["share"] == lines[-1]["unlike"] / len(lines)
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes(CHECKPOINT.read_bytes())
    replace_header(bare, read_header(bare).model_copy(update={"fit": None}))
    refused = run("watch", *digits, "--model", bare)
    bare_refused = run("reference", bare, "--data", models.example_paths()[0].parent, "--window", "50ms")
    assert bare_refused.exit_code == 2
    assert "(median), those of the training 293 ms to 309 ms" in bare_refused.stderr
    assert refused.exit_code == 2
    assert "neuromoco reference" in refused.stderr
    (tmp_path / "data").mkdir()
    for path in digits:
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes())
    assert run("reference", bare, "--data", tmp_path / "data", "-q").exit_code == 0
    assert run("watch", *digits, "--model", bare).exit_code == 0
    full = tmp_path / "full.safetensors"
    full.write_bytes(CHECKPOINT.read_bytes())
    fewer = run("reference", full, "--data", tmp_path / "data", "--crop", "0,0,34,34")
    assert f"describes 10 recordings, fewer than the {read_header(CHECKPOINT).fit.count} that it" in fewer.stdout
    (tmp_path / "data" / digits[0].name).unlink()
    few = run("reference", bare, "--data", tmp_path / "data")
    assert "9 recordings; a reference needs 10 or more" in few.stderr
