"""What `test_distributed` compares between one process and two: trainings of a few steps on random frames.

Two processes run it under torchrun and write what they found: `python -m tests.helpers.distributed_worker FOLDER`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from neuromoco.app.cli.main import app
from neuromoco.config import RunConfig, with_values
from neuromoco.datasets import FrameStore, Listing, Recordings, Split
from neuromoco.encoders import build_encoder
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.loop import fit
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.processes import build_accelerator, main_process_first
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.task import Task
from tests.helpers.networks import alive

RECORDINGS, BATCH, EPOCHS = 24, 8, 2
# Adam divides by the size of a gradient, and so makes much of rounding where there is none.
STILL_RATES = {"name": "sgd", "lr": 0.02}


class StillTask(PretrainTask):
    """Pre-training with batch norm in evaluation."""

    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        return super().losses(model.eval(), batch, number)


class StoppedError(Exception):
    """Stands for an interruption."""


class StoppedTask(PretrainTask):
    """Pre-training that is interrupted in the middle of the second epoch."""

    def after_step(self, done: float) -> None:
        super().after_step(done)
        if done > 0.8:
            raise StoppedError


def settings(batch_norm: str = "plain", accumulate: int = 1, **values: Any) -> RunConfig:
    small: dict[str, Any] = {
        "frames": {"steps": 2, "height": 12, "width": 12},
        "encoder.options": {"width": 4},
        "watch.samples": 0,
        "pretrain.moco": {"embed_dim": 8, "hidden_dim": 8, "queue_size": 20, "batch_norm": batch_norm},
        "supervised.sync_batch_norm": batch_norm == "sync",
    }
    for part in ("pretrain", "supervised"):
        small |= {f"{part}.epochs": EPOCHS, f"{part}.batch_size": BATCH, f"{part}.accumulate": accumulate}
        small[f"{part}.optimizer"] = STILL_RATES
    return with_values(RunConfig(), small | values)


def training(kind: type[Task], config: RunConfig, folder: Path, accelerator: Accelerator) -> dict[str, Any]:
    """Trains; what came of it in this process."""
    set_seed(0)
    rng, frames = np.random.default_rng(0), config.frames
    counts = rng.poisson(0.7, (RECORDINGS, frames.steps, 2, frames.height, frames.width)).astype(np.uint8)
    facts = np.ones((RECORDINGS, 2), np.int64)
    store = FrameStore(counts, facts[:, 0], facts[:, 0], facts, facts.astype(np.uint64))
    encoder: Any = alive(build_encoder(config.encoder), torch.from_numpy(counts).float().transpose(0, 1))
    run, listing, stage = RunFolder(folder), Listing(Path(), ("",) * RECORDINGS), "pretrain"
    if kind is ClassifyTask:
        labels = tuple(int(label) for label in rng.integers(0, 3, RECORDINGS))
        listing, stage = replace(listing, labels=labels, class_names=("a", "b", "c")), "supervised"
    config = config.model_copy(update={"stage": stage})
    task = kind(config, encoder, Recordings(listing, store, frames), Split(tuple(range(RECORDINGS)), ()), accelerator)
    fit(task, run, accelerator, config.compute)
    accelerator.wait_for_everyone()
    return {"history": [line["loss"] for line in run.history()], "state": task.model.state_dict()}


def everything(folder: Path) -> dict[str, Any]:
    """By name: loss of each epoch, and the state at the end."""
    accelerator = build_accelerator("cpu", 0, RunConfig().compute)
    found: dict[str, Any] = {
        "plain": training(PretrainTask, settings(), folder / "plain", accelerator),
        "still": training(StillTask, settings(), folder / "still", accelerator),
        "shuffled": training(PretrainTask, settings("shuffled"), folder / "shuffled", accelerator),
        "sync": training(PretrainTask, settings("sync"), folder / "sync", accelerator),
        "labels": training(ClassifyTask, settings("sync"), folder / "labels", accelerator),
    }
    often = settings("shuffled", **{"compute.save_minutes": 0.0})
    try:
        training(StoppedTask, often, folder / "cut", accelerator)
    except StoppedError:
        accelerator.free_memory()
        found["resumed"] = training(PretrainTask, often, folder / "cut", accelerator)
    return found


def mistake_of_the_second(accelerator: Accelerator) -> str:
    def work() -> None:
        if accelerator.process_index == 1:
            raise ConfigError("the second process has no data")

    try:
        main_process_first(accelerator, work)
    except NeuromocoError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    found = everything(folder)
    accelerator = build_accelerator("cpu", 0, RunConfig().compute)
    found["mistake"] = mistake_of_the_second(accelerator)
    words = ["train", "--device", "cpu", "--data", str(folder / "nothing"), "--out", str(folder / "run")]
    found["exit"] = app(words, standalone_mode=False)
    torch.save(found, folder / f"process-{accelerator.process_index}.pt")
    if accelerator.process_index == 1:
        raise RuntimeError("the second process fails, while the first waits for it")
    accelerator.wait_for_everyone()
    (folder / "not-reached").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
