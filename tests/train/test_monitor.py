"""Monitoring: metrics, warnings that say what to set, trackers, curves; and that none of it changes a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromoco import ConfigError
from neuromoco.config import RunConfig, with_values
from neuromoco.errors import MissingPackageError
from neuromoco.installation import pip_install
from neuromoco.losses import MixLoss
from neuromoco.train import train
from neuromoco.train.failure_signs import PATIENCE, new_warnings
from neuromoco.train.monitor import queue_age
from neuromoco.train.pretrain import PretrainTask, contrast_metrics
from neuromoco.train.run_folder import RunFolder
from tests.train.test_training import StopError, same_weights
from tests.train.test_training import settings as unwatched

Folders = Callable[[int, int], Path]
PNG = b"\x89PNG"


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 12))
def test_the_age_of_a_queue_is_that_of_one_filled_key_by_key(size: int, batch: int, steps: int) -> None:
    entered = [step for step in range(steps) for _ in range(batch)][-size:]
    assert queue_age(size, batch, steps) == pytest.approx(np.mean([steps - step for step in entered]))


def test_the_age_of_a_full_queue() -> None:
    assert queue_age(128, 64, 10**6) == 1.5  # half 1 step old, half 2
    assert queue_age(65536, 256, 10**6) == 128.5
    assert queue_age(8, 64, 1) == 1.0


def test_similarities_are_cosines_whatever_the_temperature() -> None:
    cosines = torch.tensor([[0.9, 0.1, -0.3], [0.5, 0.7, 0.2]])
    for temperature in (0.1, 2.0):
        loss = MixLoss(torch.zeros(()), torch.zeros(()), torch.zeros(()), cosines / temperature)
        found = contrast_metrics(loss, torch.randn(2, 2, 4), temperature)
        assert float(found["positive_similarity"]) == pytest.approx(0.7)
        assert float(found["negative_similarity"]) == pytest.approx(0.175)
        assert float(found["accuracy"]) == 0.5


def settings(data: Path, stage: str, **values: Any) -> RunConfig:
    return unwatched(data, stage, **{"watch__samples": 256, **values})


def config(stage: str = "pretrain", **values: Any) -> RunConfig:
    changes = {name.replace("__", "."): value for name, value in values.items()}
    return with_values(RunConfig(stage=stage, init="x" if stage == "finetune" else None), changes)


def healthy(**changed: Any) -> dict[str, Any]:
    line = {
        "mbc": 3.0,
        "mac": 3.0,
        "accuracy": 0.4,
        "feature_std": 0.8,
        "effective_rank": 20.0,
        "grad_norm": 0.5,
        "queue_age": 8.5,
        "queue_age_momentum": 0.085,
        "spike_rate/stem.2": 0.1,
    }
    return {**line, **changed}


CHANCE = math.log(1025)
CASES = [
    ("collapse", config(), [healthy(feature_std=0.001)] * 7, "--set pretrain.optimizer.lr=0.000333"),
    ("collapse", config(), [healthy(effective_rank=1.01)] * 7, "a milder pretrain.views"),
    (
        "collapse",
        config(pretrain__moco__negatives="group"),
        [healthy(effective_rank=1.01)] * 7,
        "pretrain.moco.negatives=plain",
    ),
    ("loss at chance", config(), [healthy(mbc=CHANCE, mac=CHANCE - 0.01)] * PATIENCE, "log(1 + 1024) = 6.93"),
    (
        "loss at chance",
        config(pretrain__moco__alpha=0.0),
        [healthy(mac=CHANCE)] * PATIENCE,
        "pretrain.optimizer.lr=0.003",
    ),
    (
        "loss at chance",
        config(pretrain__moco__negatives="group", pretrain__moco__alpha=0.0),
        [healthy(mac=math.log(4097))] * PATIENCE,
        "log(1 + 4096)",
    ),
    ("task too easy", config(), [healthy()] + [healthy(accuracy=1.0)] * PATIENCE, "--set pretrain.views.drop=0.5"),
    (
        "task too easy",
        config(),
        [healthy(knn_accuracy=0.31)] + [healthy(accuracy=1.0, knn_accuracy=0.3)] * PATIENCE,
        "kNN accuracy goes from 31.0% to 30.0%",
    ),
    (
        "features below counts",
        config(),
        [healthy(knn_accuracy=0.8, knn_counts=0.88)],
        "80.0% of the classes by the features, and 88.0% by event counts alone: more pretrain.epochs",
    ),
    (
        "features below counts",
        config(frames__slice_by="time"),
        [healthy(knn_accuracy=0.629, knn_counts=0.82)],
        "82.0% by event counts alone: --set frames.slice_by=count, more pretrain.epochs",
    ),
    (
        "queue too old",
        config(),
        [healthy(queue_age=200.0, queue_age_momentum=2.0)],
        "--set pretrain.moco.momentum=0.9975",
    ),
    (
        "silent layers",
        config(),
        [healthy(**{"spike_rate/stem.2": 0.0})] * PATIENCE,
        "stem.2 spike at less than 0.1%: --set encoder.neuron.v_threshold=0.5",
    ),
    (
        "silent layers",
        config("finetune"),
        [healthy(**{"spike_rate/stem.2": 0.0})] * PATIENCE,
        "pre-train again with --set encoder.neuron.v_threshold=0.5",
    ),
    (
        "saturated layers",
        config("supervised"),
        [healthy(**{"spike_rate/stem.2": 0.99})] * PATIENCE,
        "--set encoder.neuron.v_threshold=2",
    ),
    (
        "exploding gradient",
        config("supervised"),
        [healthy()] * PATIENCE + [healthy(grad_norm=50.0)],
        "its norm is 50, usually 0.5: --set supervised.optimizer.grad_clip=1.0",
    ),
    (
        "exploding gradient",
        config(pretrain__optimizer__grad_clip=1.0),
        [healthy()] * PATIENCE + [healthy(grad_norm=50.0)],
        "--set pretrain.optimizer.lr=0.000333",
    ),
]


@pytest.mark.parametrize(("name", "run", "history", "words"), CASES)
def test_each_sign_says_once_what_to_set(name: str, run: RunConfig, history: list[dict[str, Any]], words: str) -> None:
    found = new_warnings(run, 5000, history)
    assert list(found) == [name]
    assert words in found[name]
    assert "\n" not in found[name]
    told = [*history[:-1], {**history[-1], "warnings": found}]
    assert new_warnings(run, 5000, [*told, history[-1]]) == {}


HEALTHY = [
    [healthy()] * 20,
    [healthy(accuracy=1.0)],
    [healthy(knn_accuracy=0.3)] + [healthy(accuracy=1.0, knn_accuracy=0.5)] * PATIENCE,
    [healthy(feature_std=0.001), healthy()],
    [healthy(knn_accuracy=0.88, knn_counts=0.78)],
    [healthy(knn_accuracy=0.88, knn_counts=0.92)],
    [healthy(**{"spike_rate/stem.2": 0.0})] * (PATIENCE - 1),
    [healthy()] * PATIENCE + [healthy(grad_norm=4.0)],
    [],
]


@pytest.mark.parametrize("history", HEALTHY)
def test_a_healthy_training_raises_none(history: list[dict[str, Any]]) -> None:
    assert new_warnings(config(), 5000, history) == {}


def test_a_layer_may_be_silent_while_the_rate_warms_up() -> None:
    silent = [healthy(**{"spike_rate/stem.2": 0.0})] * (PATIENCE + 2)
    assert new_warnings(config(pretrain__optimizer__warmup_epochs=3), 5000, silent) == {}


def test_a_queue_as_large_as_the_set_is_told_before_the_first_epoch() -> None:
    (text,) = new_warnings(config(), 1024, []).values()
    assert text.startswith("queue too large: 1024 keys and 1024 recordings")
    assert text.endswith("--set pretrain.moco.queue_size=512")
    assert new_warnings(config("supervised"), 10, []) == {}


def test_a_run_is_watched(class_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = class_folders(2, 8)
    watched = settings(data, "pretrain", watch__trackers=["tensorboard"], watch__knn_every=2, watch__samples=7)
    train(watched, tmp_path / "a", "cpu")
    history = RunFolder(tmp_path / "a").history()
    assert ["knn_accuracy" in line for line in history] == [True, True, True]  # first, second, last
    assert ["knn_counts" in line for line in history] == [False, False, True]
    for line in history:
        assert line["feature_std"] >= 0.0
        assert 1.0 <= line["effective_rank"] <= 7.0
        assert max(abs(line["negative_similarity"]), abs(line["positive_similarity"])) < 1.0001
        assert line["grad_norm"] > 0.0
        assert line["queue_age"] == pytest.approx((6 * 1 + 2 * 2) / 8)  # of 8 keys, 6 of the last batch
        assert line["queue_age_epochs"] == pytest.approx(line["queue_age"] / 2)
        assert line["queue_age_momentum"] == pytest.approx(line["queue_age"] / 100)
        rates = {name: rate for name, rate in line.items() if name.startswith("spike_rate/")}
        assert {"spike_rate/stem.2", "spike_rate/stages.0.sn1"} <= rates.keys()
        assert all(0.0 <= rate <= 1.0 for rate in rates.values())
    assert (tmp_path / "a/curves.png").read_bytes().startswith(PNG)
    logged = events_of(tmp_path / "a/logs")
    assert logged["loss"] == pytest.approx([line["loss"] for line in history], rel=1e-5)
    assert logged["spike_rate/stem.2"] == pytest.approx([line["spike_rate/stem.2"] for line in history], rel=1e-5)
    blind = settings(data, "pretrain", watch__knn_every=0, watch__samples=0)
    train(blind, tmp_path / "b", "cpu")
    assert same_weights(tmp_path / "a/weights/last.safetensors", tmp_path / "b/weights/last.safetensors")
    assert not any({"knn_accuracy", "effective_rank"} & line.keys() for line in RunFolder(tmp_path / "b").history())
    assert not (tmp_path / "b/curves.png").exists()


def events_of(folder: Path) -> dict[str, list[float]]:
    """Scalars by name, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[float]] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        read = EventAccumulator(str(file))
        read.Reload()
        for tag in read.Tags()["scalars"]:
            found.setdefault(tag, []).extend(event.value for event in read.Scalars(tag))
    return found


def test_embeddings_that_look_alike_while_the_rate_warms_up_are_no_collapse() -> None:
    history: list[dict[str, Any]] = []
    told = [new_warnings(config(pretrain__optimizer__warmup_epochs=3), 5000, history)]
    for _ in range(5):
        history.append(healthy(feature_std=0.001))
        told.append(new_warnings(config(pretrain__optimizer__warmup_epochs=3), 5000, history))
    assert ["collapse" in found for found in told] == [False] * 5 + [True]


def test_a_collapsed_encoder_warns_once(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collapsed(self: PretrainTask, *args: Any) -> None:
        begin(self, *args)
        with torch.no_grad():
            for part in (self.moco.encoder_q[1], self.moco.encoder_k[1]):
                part[2].weight.zero_()
                part[2].bias.fill_(1.0)

    begin = PretrainTask.__init__
    monkeypatch.setattr(PretrainTask, "__init__", collapsed)
    rate = {"pretrain__optimizer__lr": 1e-9, "pretrain__optimizer__warmup_epochs": 0}
    run = settings(class_folders(2, 8), "pretrain", **rate, pretrain__epochs=4)
    train(run, tmp_path / "run", "cpu")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: collapse")]
    assert len(told) == 1
    assert "--set pretrain.optimizer.lr=3.33e-10" in told[0]
    history = RunFolder(tmp_path / "run").history()
    assert ["collapse" in line.get("warnings", {}) for line in history] == [False, True, False, False]
    assert history[1]["feature_std"] < 0.01


def test_a_warning_that_follows_from_the_settings_is_printed_once(
    class_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = settings(class_folders(2, 8), "pretrain", pretrain__moco__queue_size=500)
    train(run, tmp_path / "run", "cpu")
    assert capsys.readouterr().err.count("warning: queue too large") == 1
    history = RunFolder(tmp_path / "run").history()
    assert ["queue too large" in line.get("warnings", {}) for line in history] == [True, False, False]


def test_an_interrupted_run_leaves_whole_curves(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    whole = PretrainTask.after_step

    def after_step(self: PretrainTask, *args: Any) -> None:
        whole(self, *args)
        taken.append(1)
        if len(taken) == 3:  # in the second epoch
            raise StopError

    monkeypatch.setattr(PretrainTask, "after_step", after_step)
    with pytest.raises(StopError):
        train(settings(class_folders(2, 8), "pretrain"), tmp_path / "run", "cpu")
    assert (tmp_path / "run/curves.png").read_bytes().startswith(PNG)
    assert not list((tmp_path / "run").rglob("*.part"))


def test_trackers_that_there_are_not(class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = class_folders(2, 8), tmp_path / "run"
    with pytest.raises(ConfigError, match=r"no tracker named 'paper'; known are .*tensorboard.*wandb"):
        train(settings(data, "pretrain", watch__trackers=["paper"]), out, "cpu")
    monkeypatch.setattr("neuromoco.train.trackers.get_available_trackers", list)
    with pytest.raises(MissingPackageError, match=re.escape(pip_install("tensorboard"))):
        train(settings(data, "pretrain", watch__trackers=["tensorboard"]), out, "cpu")
    with pytest.raises(MissingPackageError, match="pip install wandb"):
        train(settings(data, "pretrain", watch__trackers=["wandb"]), out, "cpu")
    assert not out.exists()
    with pytest.raises(ConfigError, match=r"watch\.knn_every"):
        config(watch__knn_every=-1)


@pytest.mark.usefixtures("choosing_from_few")
def test_metrics_are_json_and_a_checkpoint_keeps_the_main_ones(class_folders: Folders, tmp_path: Path) -> None:
    from neuromoco.checkpoint import read_header

    train(settings(class_folders(2, 8), "supervised"), tmp_path / "run", "cpu")
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert {"loss", "grad_norm", "effective_rank", "validation_accuracy", "spike_rate/stem.2"} <= line.keys()
    kept = read_header(tmp_path / "run/weights/last.safetensors").metrics
    assert "effective_rank" in kept
    assert not any("/" in name for name in kept)
