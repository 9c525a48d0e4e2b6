"""Training calibrates: each kind of weights by its own answers, and a resumed run as one that nothing stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco.checkpoint import read_header
from neuromoco.confidence import MOST_KEPT, Calibration
from neuromoco.runtime.load import load_classifier
from neuromoco.train import resume, train
from neuromoco.train.calibrate import calibrate, fit_temperature
from neuromoco.train.run_folder import RunFolder
from tests.helpers.small_runs import small_settings

Folders = Callable[[int, int], Path]


def test_both_weights_are_calibrated_and_a_resumed_run_equally(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)
    config = small_settings(class_folders(2, 60), "supervised", 30, {"supervised.validation": 0.25})
    runs = [RunFolder(tmp_path / name) for name in ("whole", "cut")]
    train(config, runs[0].path, "cpu")

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("neuromoco.train.loop._summary", stop)  # after the first epoch
        with pytest.raises(KeyboardInterrupt):
            train(config, runs[1].path, "cpu")
    assert read_header(runs[1].last).calibration is not None
    resume(runs[1].path, "cpu")
    names = json.loads((runs[0].path / "split.json").read_text())["validation"]
    assert len(names) == 30
    for kind in ("last", "best"):
        found, resumed = (read_header(getattr(run, kind)).calibration for run in runs)
        assert found is not None
        assert found == resumed
        assert (found.source, found.recordings) == ("validation", 30)
        assert len(found.right) + len(found.wrong) == 30
        answers = load_classifier(getattr(runs[0], kind), "cpu").predict([tmp_path / "data" / name for name in names])
        labels = np.array([int(name[5]) for name in names])
        logits = np.stack([answer.logits_per_step.mean(0) for answer in answers])
        assert fit_temperature(logits, labels) == pytest.approx(found.temperature, rel=1e-3)
        sure = sorted(a.confidence for a, y in zip(answers, labels, strict=True) if a.label == f"class{y}")
        assert sure == pytest.approx(found.right, abs=1e-4)


def test_without_validation_the_file_says_so(class_folders: Folders, tmp_path: Path) -> None:
    config = small_settings(class_folders(2, 6), "supervised", 6, {"supervised.epochs": 1})
    train(config, tmp_path / "run", "cpu")
    header = read_header(RunFolder(tmp_path / "run").last)
    assert header.calibration == Calibration(recordings=0)
    assert "too few" in header.calibration.in_words()


def test_of_many_recordings_some_are_kept() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (3 * MOST_KEPT, 3))
    labels = logits.argmax(1)
    labels[::4] = generator.integers(0, 3, len(labels[::4]))
    found = calibrate(logits, labels, 1)
    assert found == calibrate(logits, labels, 1)
    assert found != calibrate(logits, labels, 2)
    assert len(found.right) + len(found.wrong) == MOST_KEPT
    assert found.recordings == 3 * MOST_KEPT
    assert len(found.wrong) / MOST_KEPT == pytest.approx((logits.argmax(1) != labels).mean(), abs=0.03)
    assert calibrate(logits[:29], labels[:29], 0) == Calibration(recordings=29)
