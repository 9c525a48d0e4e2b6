"""Runs: what they write, that a seed decides them, and that an interruption changes nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromoco import CheckpointError, ConfigError, NeuromocoError
from neuromoco.checkpoint import load_tensors, read_header
from neuromoco.config import RunConfig, load_config, with_values
from neuromoco.evaluation.accuracy import wilson
from neuromoco.recipes import load_recipe
from neuromoco.runtime.load import load_classifier
from neuromoco.train import best_weights, resume, train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.loop import choose_epoch, learning_rate
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.run_folder import RunFolder

Folders = Callable[[int, int], Path]


def settings(data: Path, stage: str, **values: Any) -> RunConfig:
    small = {
        "stage": stage,
        "data": str(data),
        "frames": {"steps": 2, "height": 16, "width": 16},
        "encoder.options": {"width": 4},
        "watch.samples": 0,
        "pretrain.epochs": 3,
        "pretrain.batch_size": 6,
        "pretrain.moco.queue_size": 8,
        "pretrain.optimizer.warmup_epochs": 1,
    }
    for part in ("finetune", "supervised"):
        small |= {f"{part}.epochs": 3, f"{part}.batch_size": 4, f"{part}.validation": 0.25}
    return with_values(load_recipe("tiny"), small | {name.replace("__", "."): v for name, v in values.items()})


def same_weights(a: Path, b: Path) -> bool:
    left, right = load_tensors(a), load_tensors(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(autouse=True)
def _a_state_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the epoch is."""
    monkeypatch.setattr("neuromoco.train.loop.SHORT_EPOCH_S", 0.0)


class StopError(Exception):
    """Stands for an interruption."""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the training stop in the middle of an epoch, after so many optimizer steps."""

    def stop_after(steps: int) -> None:
        taken = 0

        def counting(whole: Callable[[Any, float], None]) -> Callable[[Any, float], None]:
            def after_step(self: Any, done: float) -> None:
                nonlocal taken
                whole(self, done)
                taken += 1
                if taken == steps:
                    raise StopError

            return after_step

        for task in (PretrainTask, ClassifyTask):
            monkeypatch.setattr(task, "after_step", counting(task.after_step))

    return stop_after


@pytest.mark.usefixtures("choosing_from_few")
def test_a_run_folder_holds_everything(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    config = settings(data, "supervised")
    summary = train(config, tmp_path / "run", "cpu")
    run = RunFolder(tmp_path / "run")
    assert load_config(run.path / "config.yaml") == config
    assert {"torch", "neuromoco", "python"} <= json.loads((run.path / "environment.json").read_text())[
        "versions"
    ].keys()
    split = json.loads((run.path / "split.json").read_text())
    assert len(split["train"]) == 12
    assert len(split["validation"]) == 4
    history = run.history()
    assert [line["epoch"] for line in history] == [1, 2, 3]
    best = choose_epoch(history)
    assert best is not None
    assert summary == json.loads(run.summary.read_text()) == {"last": history[-1], "best": best}
    for path, epoch in ((run.last, 3), (run.best, best["epoch"])):
        header = read_header(path)
        assert (header.kind, header.epoch, header.stage) == ("classifier", epoch, "supervised")
        assert header.class_names == ("class0", "class1")
        assert (header.seen.count, header.seen.shortest_us, header.seen.fewest_events) == (12, 300_000, 600)
        assert (header.frames, header.encoder) == (config.frames, config.encoder)
    assert best_weights(run.path) == run.best
    assert read_header(run.path) == read_header(run.best)
    assert best_weights(run.last) == run.last
    run.best.unlink()
    assert best_weights(run.path) == run.last
    run.last.unlink()
    with pytest.raises(
        CheckpointError, match=r"run: is a run without weights yet; complete it: neuromoco train --resume .*run$"
    ):
        load_classifier(run.path)
    with pytest.raises(CheckpointError, match=r"neither a Loihi export .* nor a run of neuromoco train"):
        load_classifier(run.path / "weights")


@pytest.mark.parametrize("stage", ["pretrain", "supervised"])
def test_one_seed_gives_identical_weights_and_another_does_not(
    class_folders: Folders, tmp_path: Path, stage: str
) -> None:
    data = class_folders(2, 8)
    runs = [RunFolder(tmp_path / name) for name in "abc"]
    for run, seed in zip(runs, (5, 5, 6), strict=True):
        train(settings(data, stage, seed=seed), run.path, "cpu")
        np.random.default_rng().random()
        torch.rand(3)
    assert same_weights(runs[0].last, runs[1].last)
    assert not same_weights(runs[0].last, runs[2].last)


MOVING = {"policy": "affine", "window": 0.5, "speed": 0.5, "burst": 0.5, "slices": 2}
POOL = {"views": MOVING, "pool": {"confidence": 0.0}, "labels_per_class": 6}
MORE = {"watch.samples": 8, "pretrain.views": MOVING} | {f"supervised.{name}": value for name, value in POOL.items()}


@pytest.mark.parametrize("stage", ["pretrain", "supervised"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("more", [{}, MORE])
def test_resuming_ends_in_the_same_weights(
    class_folders: Folders,
    tmp_path: Path,
    stage: str,
    steps: int,
    more: dict[str, Any],
    interrupt: Callable[[int], None],
) -> None:
    config = with_values(settings(class_folders(2, 8), stage), more)
    train(config, tmp_path / "whole", "cpu")
    interrupt(steps)
    with pytest.raises(StopError):
        train(config, tmp_path / "cut", "cpu")
    run = RunFolder(tmp_path / "cut")
    assert not run.is_complete
    done = len(run.history())
    assert done == (0 if steps == 1 else 2 if stage == "pretrain" else 1)
    resume(tmp_path / "cut", "cpu")
    assert same_weights(tmp_path / "whole/weights/last.safetensors", run.last)
    untimed = [
        [{k: v for k, v in line.items() if k not in ("seconds", "samples_per_s")} for line in RunFolder(p).history()]
        for p in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert untimed[0] == untimed[1]
    with pytest.raises(ConfigError, match="is complete"):
        resume(tmp_path / "cut", "cpu")


def test_more_slices_than_frames_may_have_are_refused(class_folders: Folders, tmp_path: Path) -> None:
    config = settings(class_folders(2, 8), "pretrain", frames__steps=2048, pretrain__views=MOVING | {"slices": 64})
    with pytest.raises(ConfigError, match="131,072 steps of 16 x 16 pixels; at most"):
        train(config, tmp_path / "run", "cpu")


def test_resuming_on_other_recordings_is_refused(
    class_folders: Folders, tmp_path: Path, interrupt: Callable[[int], None]
) -> None:
    data = class_folders(2, 8)
    for stage in ("pretrain", "supervised"):
        config = settings(data, stage)
        interrupt(3)
        with pytest.raises(StopError):
            train(config, tmp_path / stage, "cpu")
        sorted((data / "class0").iterdir())[0].rename(data / f"class0/{stage}.bin")
        with pytest.raises(ConfigError, match="holds other recordings than when"):
            resume(tmp_path / stage, "cpu")


def test_an_interruption_while_a_state_is_written_leaves_the_one_before(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    config = settings(class_folders(2, 8), "pretrain")
    train(config, tmp_path / "whole", "cpu")
    save = Accelerator.save_state
    calls = []

    def fail_the_second(self: Accelerator, output_dir: str) -> None:
        calls.append(output_dir)
        if len(calls) == 2:
            (Path(output_dir) / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt
        save(self, output_dir)

    monkeypatch.setattr(Accelerator, "save_state", fail_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", "cpu")
    state = RunFolder(tmp_path / "cut").list_states()[0]
    assert state.name == "step-000000002"
    resume(tmp_path / "cut", "cpu")
    assert same_weights(tmp_path / "whole/weights/last.safetensors", tmp_path / "cut/weights/last.safetensors")


def test_all_stages_in_one_and_resumed_between(
    class_folders: Folders, tmp_path: Path, interrupt: Callable[[int], None]
) -> None:
    config = settings(class_folders(2, 8), "all", finetune__labels_per_class=3)
    interrupt(8)  # in the second stage: pre-training takes 2 steps an epoch
    with pytest.raises(StopError):
        train(config, tmp_path / "run", "cpu")
    assert RunFolder(tmp_path / "run/pretrain").is_complete
    resume(tmp_path / "run", "cpu")
    header = read_header(best_weights(tmp_path / "run"))
    assert (header.stage, header.seen.count) == ("finetune", 6)
    split = json.loads((tmp_path / "run/finetune/split.json").read_text())
    assert len(split["train"]) == 6


def test_finetuning_begins_from_the_encoder_and_takes_its_settings(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    train(settings(data, "pretrain"), tmp_path / "pre", "cpu")
    first = tmp_path / "pre/weights/last.safetensors"
    assert read_header(first).kind == "encoder"
    frozen = settings(data, "finetune", init=str(first), finetune__freeze_encoder=True, frames__steps=7)
    train(frozen, tmp_path / "frozen", "cpu")
    before, after = load_tensors(first), load_tensors(tmp_path / "frozen/weights/last.safetensors")
    assert all(torch.equal(after[f"encoder.{name}"], value) for name, value in before.items())
    assert set(after) - {f"encoder.{name}" for name in before} == {"head.weight", "head.bias"}
    assert read_header(tmp_path / "frozen/weights/last.safetensors").frames.steps == 2
    train(settings(data, "finetune", init=str(first)), tmp_path / "full", "cpu")
    tuned = load_tensors(tmp_path / "full/weights/last.safetensors")
    assert not torch.equal(tuned["encoder.body.stem.0.weight"], before["body.stem.0.weight"])
    with pytest.raises(CheckpointError, match="is a trained classifier"):
        train(settings(data, "finetune", init=str(tmp_path / "full/weights/last.safetensors")), tmp_path / "x", "cpu")


def test_a_frozen_encoder_that_changes_is_an_error(
    class_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = class_folders(2, 8)
    train(settings(data, "pretrain"), tmp_path / "pre", "cpu")
    config = settings(
        data, "finetune", init=str(tmp_path / "pre/weights/last.safetensors"), finetune__freeze_encoder=True
    )
    whole = ClassifyTask.after_step

    def leaky(self: ClassifyTask, done: float) -> None:
        whole(self, done)
        next(self.classifier.encoder.parameters()).data.add_(1e-3)

    monkeypatch.setattr(ClassifyTask, "after_step", leaky)
    with pytest.raises(NeuromocoError, match="the frozen encoder changed"):
        train(config, tmp_path / "run", "cpu")


def test_without_validation_only_the_last_epoch_is_kept(class_folders: Folders, tmp_path: Path) -> None:
    summary = train(settings(class_folders(2, 6), "supervised", supervised__validation=0.0), tmp_path / "run", "cpu")
    assert summary["best"] is None
    assert not RunFolder(tmp_path / "run").best.exists()
    assert best_weights(tmp_path / "run") == RunFolder(tmp_path / "run").last


def test_pretraining_takes_a_flat_folder_and_learns(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(4, 12)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted(data.glob("*/*.bin"))):
        file.rename(flat / f"{number:03d}.bin")
    values = {"pretrain__epochs": 12, "pretrain__batch_size": 12, "pretrain__moco__queue_size": 12}
    train(settings(flat, "pretrain", **values), tmp_path / "run", "cpu")
    history = RunFolder(tmp_path / "run").history()
    assert history[-1]["loss"] < history[1]["loss"] - 0.2  # from the second epoch on the queue holds keys
    assert history[-1]["feature_std"] > 0.1


def test_positives_from_a_group(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 6)
    files = sorted(file.relative_to(data).as_posix() for file in data.glob("*/*.bin"))
    lines = [f"{file},{file.split('/')[0]},scene{number // 2}" for number, file in enumerate(files)]
    (data / "scenes.csv").write_text("\n".join(["file,class,scene", *lines]) + "\n")
    grouped = {"recordings__labels": "scenes.csv", "recordings__group": "scene"}
    losses = {}
    for positives in ("views", "group"):
        config = settings(data, "pretrain", pretrain__positives=positives, **grouped)
        train(config, tmp_path / positives, "cpu")
        losses[positives] = RunFolder(tmp_path / positives).history()[-1]["loss"]
    assert losses["group"] != losses["views"]
    (data / "scenes.csv").unlink()
    with pytest.raises(ConfigError, match="positives=group needs a table of labels"):
        train(settings(data, "pretrain", pretrain__positives="group"), tmp_path / "none", "cpu")
    assert not (tmp_path / "none").exists()


def test_mistakes_are_found_before_anything_is_trained(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 4)
    out = tmp_path / "run"
    for config, words in (
        (settings(data, "finetune"), "needs a pre-trained encoder"),
        (settings(data, "supervised", init="x"), "--init with stage supervised, which trains from scratch"),
        (settings(data, "pretrain", pretrain__batch_size=99), "8 recordings are fewer than a batch of 99"),
        (settings(data, "supervised", supervised__labels_per_class=9), "class class0 has 4 recordings"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(config, out, "cpu")
        assert not out.exists()
    with pytest.raises(ConfigError, match="allowed are auto, cpu, cuda"):
        train(settings(data, "pretrain"), out, "gpu")
    with pytest.raises(ConfigError, match="holds no run"):
        resume(tmp_path / "data", "cpu")
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(ConfigError, match="already exists"):
        train(settings(data, "pretrain"), out, "cpu")


def test_the_schedule() -> None:
    rates = [learning_rate(2.0, step, steps=20, warmup=5, floor=0.2) for step in range(20)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[5] == 2.0
    assert rates[12] == pytest.approx(1.1)  # half way down
    assert rates[-1] == pytest.approx(0.2)
    assert all(a >= b for a, b in itertools.pairwise(rates[5:]))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_the_chosen_epoch_is_the_last_that_is_not_clearly_worse_than_the_best(right: list[int]) -> None:
    """Also where it is chosen after every epoch, as training does, which keeps no weights but those of its choice."""
    history: list[dict[str, Any]] = []
    chosen = 0
    for epoch, count in enumerate(right):
        low, high = wilson(count, 40)
        line = {"validation_accuracy": count / 40, "validation_low": low, "validation_high": high}
        history.append({"epoch": epoch, **line})
        if choose_epoch(history) is history[-1]:
            chosen = epoch
    low = wilson(max(right), 40)[0]
    assert right[chosen] / 40 >= low
    assert all(count / 40 < low for count in right[chosen + 1 :])
    assert choose_epoch(history) is history[chosen]


def test_without_validation_no_epoch_is_chosen() -> None:
    assert choose_epoch([{"epoch": 1, "loss": 0.5}]) is None


@pytest.mark.usefixtures("choosing_from_few")
def test_the_epoch_that_is_named_is_that_of_the_weights_that_were_kept(class_folders: Folders, tmp_path: Path) -> None:
    """Earlier versions chose by another rule; a run of theirs is resumed with their weights."""
    data = class_folders(2, 8)
    for name, epochs in (("short", 1), ("run", 3)):
        train(settings(data, "supervised", supervised__epochs=epochs), tmp_path / name, "cpu")
    short, run = RunFolder(tmp_path / "short"), RunFolder(tmp_path / "run")
    short.best.replace(run.best)
    run.summary.unlink()
    summary = resume(run.path, "cpu")
    assert summary["best"]["epoch"] == read_header(run.best).epoch == 1
    assert summary["last"]["epoch"] == 3
