"""Stage "all" keeps the best of fine-tuned, from scratch and a linear probe, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuromoco import CheckpointError, ConfigError
from neuromoco.checkpoint import best_weights, load_tensors, read_header
from neuromoco.config import RunConfig, load_config
from neuromoco.evaluation.probe import linear_head, linear_labels
from neuromoco.runtime.load import load_classifier
from neuromoco.train import resume, train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.compare import choose
from neuromoco.train.loop import DivergedError
from tests.helpers.cli import run as run_command
from tests.helpers.small_runs import small_settings

Folders = Callable[[int, int], Path]
LABELLED = {f"{part}.{name}": value for part in ("finetune", "supervised") for name, value in
            {"epochs": 1, "batch_size": 4}.items()}  # fmt: skip
CANDIDATES = ("finetune", "supervised", "probe")


@pytest.fixture(autouse=True)
def _no_collection_after_each_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look at everything that all tests have made, a dozen times."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)


def settings(data: Path, **values: Any) -> RunConfig:
    few = {"pretrain.epochs": 1, "finetune.labels_per_class": 4, "finetune.validation": 0.0}
    return small_settings(data, "all", 8, LABELLED | few | {name.replace("__", "."): v for name, v in values.items()})


def test_folds_decide_and_the_kept_network_is_the_result(class_folders: Folders, tmp_path: Path) -> None:
    data, out = class_folders(2, 12), tmp_path / "run"
    summary = train(settings(data), out, "cpu")
    found = summary["comparison"]
    assert (found["on"], found["recordings"]) == ("folds", 8)
    assert tuple(found["candidates"]) == CANDIDATES
    accuracies = {name: one["accuracy"] for name, one in found["candidates"].items()}
    assert accuracies[summary["kept"]] == max(accuracies.values())
    assert json.loads((out / "metrics.json").read_text()) == summary
    assert best_weights(out) == out / summary["kept"] / "weights/last.safetensors"
    answers = [json.loads((out / name / "folds.json").read_text()) for name in ("finetune", "supervised")]
    assert answers[0]["recordings"] == answers[1]["recordings"]  # the same folds
    right = np.argmax(answers[0]["logits"], 1) == answers[0]["labels"]
    assert right.mean() == accuracies["finetune"]
    assert load_config(out / "supervised/config.yaml").supervised.labels_per_class == 4
    assert not list(out.glob("*/folds"))
    alone = train(settings(data, compare=False), tmp_path / "alone", "cpu")
    assert "comparison" not in alone
    same = (load_tensors(place / "finetune/weights/last.safetensors") for place in (out, tmp_path / "alone"))
    left, right_ = same
    assert all(torch.equal(left[name], right_[name]) for name in left)


@pytest.mark.parametrize("kept", CANDIDATES)
def test_every_command_takes_what_was_kept(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    def answers(self: ClassifyTask, run: Any) -> tuple[np.ndarray, np.ndarray]:
        right = run.path.name == kept
        return np.eye(2, dtype=np.float32)[[0, 1 if right else 0]], np.array([0, 1])

    monkeypatch.setattr(ClassifyTask, "held_out_answers", answers)
    data, out = class_folders(2, 12), tmp_path / "run"
    result = run_command("train", "--recipe", _file(settings(data), tmp_path), "--out", out)
    assert result.exit_code == 0, result.stderr
    words = {"finetune": "fine-tuned", "supervised": "from scratch", "probe": "linear probe"}
    line = next(line for line in result.stderr.splitlines() if line.startswith("kept: "))
    assert line.startswith(f"kept: {words[kept]}. On 2 labelled recordings, in folds: fine-tuned ")
    assert f"{words[kept]} 100.0% (34.2% to 100.0%)" in line
    weights = out / kept / "weights/last.safetensors"
    assert best_weights(out) == weights
    assert str(weights) in result.stdout.replace("\n", "")
    file = data / "class0/000.bin"
    by_run, by_file = (load_classifier(place, "cpu").predict([file])[0] for place in (out, weights))
    assert np.array_equal(by_run.logits_per_step, by_file.logits_per_step)
    if kept != "probe":
        return
    onnx = tmp_path / "kept.onnx"
    exported = run_command("export", out, "--target", "onnx", "--out", onnx, "--data", data)
    assert exported.exit_code == 0, exported.stderr
    assert load_classifier(onnx).predict([file])[0].logits_per_step == pytest.approx(by_run.logits_per_step, abs=1e-4)


def _file(config: RunConfig, folder: Path) -> Path:
    from neuromoco.config import dump_config

    file = folder / "recipe.yaml"
    file.write_text(dump_config(config))
    return file


@pytest.mark.usefixtures("choosing_from_few")
def test_validation_recordings_decide_where_there_are_some(class_folders: Folders, tmp_path: Path) -> None:
    out = tmp_path / "run"
    values = {"finetune__labels_per_class": None, "finetune__validation": 0.25, "supervised__validation": 0.5}
    summary = train(settings(class_folders(2, 12), **values), out, "cpu")
    found = summary["comparison"]
    assert (found["on"], found["recordings"]) == ("validation", 6)
    for name in CANDIDATES:
        metrics = json.loads((out / name / "metrics.json").read_text())
        line = metrics["best"] or metrics["last"]
        assert line["validation_accuracy"] == found["candidates"][name]["accuracy"]
        assert (
            json.loads((out / name / "split.json").read_text())["validation"]
            == json.loads((out / "finetune/split.json").read_text())["validation"]
        )
    assert not list(out.glob("*/folds.json"))


class StopError(Exception):
    """Stands for an interruption."""


def test_interrupted_runs_go_on_within_the_comparison(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)
    config = settings(class_folders(2, 12), finetune__labels_per_class=2)  # two folds
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary = train(config, whole, "cpu")
    step = ClassifyTask.after_step
    trained = 0
    # In a fold of the fine-tuning, in its last training, in the second fold from scratch, and before the probe.
    for stop in (1, 3, 5, None):

        def counting(self: ClassifyTask, done: float, stop: int | None = stop) -> None:
            nonlocal trained
            step(self, done)
            trained += 1
            if trained == stop:
                trained -= 1  # it is not in the saved state
                raise StopError

        def fail(*_: object) -> None:
            raise StopError

        with monkeypatch.context() as patch:
            patch.setattr(ClassifyTask, "after_step", counting)
            if stop is None:
                patch.setattr("neuromoco.train.stages.fit_probe", fail)
            with pytest.raises(StopError):
                (resume if cut.exists() else lambda out, device: train(config, out, device))(cut, "cpu")
    assert trained == 6  # nothing was trained twice
    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "after_step", fail)
        resumed = resume(cut, "cpu")
    assert resumed["comparison"] == summary["comparison"]
    for name in CANDIDATES:
        left, right = (load_tensors(place / name / "weights/last.safetensors") for place in (whole, cut))
        assert all(torch.equal(left[tensor], right[tensor]) for tensor in left), name
        headers = [read_header(place / name / "weights/last.safetensors") for place in (whole, cut)]
        assert headers[0].calibration == headers[1].calibration
    with pytest.raises(ConfigError, match="is complete"):
        resume(cut, "cpu")


def test_runs_of_earlier_versions_go_on_without_a_comparison(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stop(*_: object) -> None:
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "after_step", stop)
        with pytest.raises(StopError):
            train(settings(class_folders(2, 12), compare=False), out, "cpu")
    lines = (out / "config.yaml").read_text().splitlines()
    (out / "config.yaml").write_text("\n".join(line for line in lines if not line.startswith("compare:")))
    summary = resume(out, "cpu")
    assert summary.keys() == {"last", "best"}
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["finetune", "pretrain"]
    assert best_weights(out) == out / "finetune/weights/last.safetensors"


def test_one_label_of_a_class_is_said_to_leave_nothing_to_compare_on(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 12)
    file = _file(settings(data, finetune__labels_per_class=1), tmp_path)
    result = run_command("train", "--recipe", file, "--out", tmp_path / "run", "--json")
    assert "the fine-tuned network is kept without comparing" in result.stderr
    assert json.loads(result.stdout)["kept"] == "finetune"
    assert not (tmp_path / "run/supervised").exists()


def test_what_diverges_is_left_out(class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = ClassifyTask.losses

    def infinite(self: ClassifyTask, *arguments: Any) -> dict[str, torch.Tensor]:
        found = losses(self, *arguments)
        return found | {"loss": found["loss"] * float("inf")} if self.config.stage == "supervised" else found

    monkeypatch.setattr(ClassifyTask, "losses", infinite)
    summary = train(settings(class_folders(2, 12)), tmp_path / "run", "cpu")
    assert tuple(summary["comparison"]["candidates"]) == ("finetune", "probe")
    monkeypatch.setattr("neuromoco.train.stages.FINE_TUNED", "supervised")
    with pytest.raises(DivergedError):
        train(settings(tmp_path / "data"), tmp_path / "other", "cpu")


def test_settings_that_cannot_be_compared_are_refused_before_training(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 12)
    for values, words in (
        ({"supervised__batch_size": 3, "supervised__accumulate": 2}, "--set supervised.batch_size=4"),
        ({"supervised__quantize": "loihi"}, "quantize with stage supervised"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(settings(data, **values), tmp_path / "run", "cpu")
        assert not (tmp_path / "run").exists()
        train(settings(data, compare=False, **values), tmp_path / words[6:20], "cpu")


def test_equals_are_decided_for_the_fine_tuned_network() -> None:
    labels = np.zeros(4, np.int64)

    def answers(*right: int) -> tuple[np.ndarray, np.ndarray]:
        return np.array([[one, 0.5] for one in right], np.float32), labels

    tuned = answers(1, 1, 0, 0)
    assert choose({"finetune": tuned, "supervised": answers(0, 0, 1, 1), "probe": tuned}, "folds").kept == "finetune"
    better = {"finetune": tuned, "supervised": answers(1, 1, 1, 1), "probe": answers(1, 1, 1, 0)}
    figures = choose(better, "folds").to_json()
    assert figures["kept"] == "supervised"
    assert figures["candidates"]["supervised"]["right_where_fine_tuned_is_wrong"] == 2
    assert figures["candidates"]["probe"]["wrong_where_fine_tuned_is_right"] == 0


@pytest.mark.parametrize("text", ['{"kept": "../../elsewhere"}', "[]", '{"kept": ["finetune"]}'])
def test_a_damaged_summary_is_one_line(class_folders: Folders, tmp_path: Path, text: str) -> None:
    out = tmp_path / "run"
    train(settings(class_folders(2, 12), finetune__labels_per_class=1), out, "cpu")
    (out / "metrics.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"metrics\.json: is damaged"):
        best_weights(out)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_head_gives_the_answers_of_logistic_regression(classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 6)
    values = (rng.normal(size=(len(labels), 7)) + labels[:, None]).astype(np.float32)
    values[:, 3] = 1.0  # a feature that does not vary
    test = rng.normal(size=(50, 7)) + rng.integers(0, classes, (50, 1))
    weights, biases = linear_head(values, labels, seed=1)
    assert weights.shape == (classes, 7)
    assert ((test @ weights.T + biases).argmax(1) == linear_labels(values, labels, test, seed=1)).all()
