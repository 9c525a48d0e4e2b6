"""Training calibrates: each kind of weights by its own answers, and a resumed run as one that nothing stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from neuromoco.checkpoint import load_tensors, read_header
from neuromoco.confidence import MOST_KEPT, Calibration, abstention
from neuromoco.config import with_values
from neuromoco.datasets import Split, list_recordings
from neuromoco.errors import ConfigError
from neuromoco.runtime.load import load_classifier
from neuromoco.train import resume, train
from neuromoco.train.calibrate import calibrate, fit_temperature
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.folds import split_in_folds
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


def test_few_labels_are_calibrated_in_folds_and_train_as_without(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"supervised.epochs": 1, "supervised.validation": 0.0}
    config = small_settings(class_folders(2, 15), "supervised", 15, values)
    train(config, tmp_path / "plain", "cpu")
    in_folds = with_values(config, {"supervised.calibration_folds": 3})

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("neuromoco.train.stages.fit", stop)  # before the training that follows the folds
        patch.setattr("neuromoco.train.classify.reference_of", stop)  # folds need no reference
        with pytest.raises(KeyboardInterrupt):
            train(in_folds, tmp_path / "run", "cpu")
    assert len(json.loads((tmp_path / "run/folds.json").read_text())["recordings"]) == 30
    with monkeypatch.context() as patch:
        patch.setattr("neuromoco.train.folds.fit", stop)  # the folds are complete
        resume(tmp_path / "run", "cpu")
    assert not (tmp_path / "run/folds").exists()
    runs = [RunFolder(tmp_path / name) for name in ("plain", "run")]
    plain, folded = (load_tensors(run.last) for run in runs)
    assert all(torch.equal(plain[name], folded[name]) for name in plain)
    found = read_header(runs[1].last).calibration
    assert found is not None
    assert (found.source, found.recordings, found.right) == ("folds", 30, ())
    assert found.temperature != 1.0
    without = read_header(runs[0].last).calibration
    assert without == Calibration(recordings=0)
    assert "too few" in without.in_words()


def test_folds_divide_classes_and_no_groups(class_folders: Folders) -> None:
    listing = list_recordings(class_folders(2, 16), labelled=True)
    groups = tuple(str(row // 4) for row in range(32))
    settings = SimpleNamespace(calibration_folds=3)
    task = SimpleNamespace(split=Split(tuple(range(32)), ()), settings=settings, config=SimpleNamespace(seed=1))
    task.listing, task.class_names = replace(listing, groups=groups), listing.class_names
    folds = split_in_folds(cast(Any, task))
    assert sorted(row for fold in folds for row in fold.validation) == list(range(32))
    for fold in folds:
        assert not {groups[row] for row in fold.train} & {groups[row] for row in fold.validation}
        assert {listing.labels[row] for row in fold.train} == {0, 1}
    task.listing = replace(listing, groups=tuple("a" * 16 + "b" * 16))
    assert split_in_folds(cast(Any, task)) == []
    task.listing, task.split = listing, Split(tuple(range(29)), ())
    assert split_in_folds(cast(Any, task)) == []


def test_of_a_group_one_recording_is_kept_drawn_at_random() -> None:
    logits, labels = np.random.default_rng(0).normal(0, 2, (120, 3)), np.arange(120) % 3
    groups = [f"file{row // 20}" for row in range(120)]
    alone, grouped, other = calibrate(logits, labels, 0), *(calibrate(logits, labels, s, groups=groups) for s in (0, 1))
    assert len(alone.right) + len(alone.wrong) == 120
    assert len(grouped.right) + len(grouped.wrong) == 6
    assert grouped != other
    assert (grouped.temperature, grouped.recordings) == (alone.temperature, 120)
    assert calibrate(logits, labels, 0, groups=[str(row) for row in range(120)]) == alone
    with pytest.raises(ConfigError, match="one of each group"):
        abstention(grouped, 0.05)
    task = SimpleNamespace(folded=None, _validated=(logits, labels), split=Split((), tuple(range(120))))
    task.listing, task.config = SimpleNamespace(group_of=groups), SimpleNamespace(seed=0)
    assert ClassifyTask.calibration(cast(Any, task)) == grouped


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
