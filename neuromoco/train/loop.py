"""The loop that every stage shares: epochs, schedule, progress, metrics, weights, and going on again.

After an epoch the whole state is written beside and renamed, so an interruption at any moment loses at
most the epoch under way, or two seconds' worth of shorter ones. Order and views follow from (seed, epoch) alone.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from neuromoco.config import OptimizerConfig
from neuromoco.console import console, progress_bar
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.device import pick_device
from neuromoco.errors import ConfigError
from neuromoco.files import write_json, writing_folder
from neuromoco.train.run_folder import RunFolder

STATE_EVERY_S = 2.0  # writing takes as long as a short epoch


class Task(ABC):
    """What a stage adds to the loop.

    Attributes:
        model: what is trained; its state is all that resuming needs beside the optimizer.
        data: the recordings to train on.
        loader: batches of one epoch.
        epochs: how many.
        optimizer: made by `build_optimizer`.
        schedule: its settings.
        better: the metric of `validate` that chooses `best` (larger is better), or None.
    """

    model: nn.Module
    data: FrameSet
    loader: DataLoader[Any]
    epochs: int
    optimizer: Optimizer
    schedule: OptimizerConfig
    better: str | None = None

    @abstractmethod
    def losses(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Scalars of one batch; "loss" is the one to go down."""

    def after_step(self) -> None:
        """Called after each optimizer step."""

    def validate(self) -> dict[str, float]:
        """Metrics on recordings that are not trained on."""
        return {}

    @abstractmethod
    def save(self, path: Path, epoch: int, metrics: dict[str, float]) -> None:
        """Writes the weights as a checkpoint."""

    def check_end(self) -> None:
        """Called once after the last epoch: raises if something happened that must not."""


def build_accelerator(device: str, seed: int) -> Accelerator:
    """Device, processes and order of the batches of a run.

    Raises:
        ConfigError: an unknown device, or one that this machine does not have.
    """
    cpu = pick_device(device).type == "cpu"
    order = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=seed)
    accelerator = Accelerator(cpu=cpu, dataloader_config=order)
    console.quiet = console.quiet or not accelerator.is_main_process  # one voice is enough
    return accelerator


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """The optimizer of the settings. A group's "peak" is its learning rate after the warm-up."""
    for group in groups:
        group["lr"] = group["peak"]
    if config.name == "sgd":
        return SGD(groups, momentum=config.sgd_momentum, weight_decay=config.weight_decay)
    return AdamW(groups, weight_decay=config.weight_decay)


def learning_rate(peak: float, step: int, steps: int, warmup: int, floor: float) -> float:
    """Linear from 0 over `warmup` steps, then a cosine from `peak` down to `floor` at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup - 1)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def fit(task: Task, run: RunFolder, accelerator: Accelerator) -> dict[str, Any]:
    """Trains to the last epoch, from the newest state of the run folder if there is one.

    Returns:
        The metrics of the last epoch and of the best one, as in `metrics.json`.
    """
    model, optimizer, loader = accelerator.prepare(task.model, task.optimizer, task.loader)
    history: list[dict[str, Any]] = []
    state = run.latest_state()
    if state:
        accelerator.load_state(str(state))
        done = json.loads((state / "progress.json").read_text())["epoch"]
        history = run.history()[:done]
        console.print(f"going on after epoch {done} of {task.epochs}")
    written = time.monotonic()
    with progress_bar() as bar:
        for epoch in range(len(history) + 1, task.epochs + 1):
            line = _epoch(task, model, optimizer, loader, accelerator, epoch, bar)
            history.append(line)
            if accelerator.is_main_process:
                _keep(task, run, history)
            accelerator.wait_for_everyone()
            due = time.monotonic() - written >= STATE_EVERY_S or epoch == task.epochs
            if due or accelerator.num_processes > 1:  # several processes' clocks may disagree
                _save_state(run, accelerator, epoch)
                written = time.monotonic()
            console.print(_in_words(line, task.epochs), soft_wrap=True)
    task.check_end()
    summary = {"last": history[-1], "best": _best(task, history)}
    if accelerator.is_main_process:
        write_json(run.summary, summary)
    accelerator.free_memory()
    return summary


def _epoch(
    task: Task,
    model: nn.Module,
    optimizer: Optimizer,
    loader: Any,
    accelerator: Accelerator,
    epoch: int,
    bar: Any,
) -> dict[str, Any]:
    sums: dict[str, Tensor] = {}
    started, samples = time.monotonic(), 0
    loader.set_epoch(epoch)  # the order of the recordings
    task.data.set_epoch(epoch)  # and their views
    model.train()
    bars = bar.add_task(f"epoch {epoch}/{task.epochs}", total=len(loader.dataset), note="")
    warmup = task.schedule.warmup_epochs * len(loader)
    for number, batch in enumerate(loader):
        step = (epoch - 1) * len(loader) + number
        for group in optimizer.param_groups:
            floor = min(task.schedule.min_lr, group["peak"])
            group["lr"] = learning_rate(group["peak"], step, task.epochs * len(loader), warmup, floor)
        losses = task.losses(model, batch)
        accelerator.backward(losses["loss"])
        if task.schedule.grad_clip is not None:
            accelerator.clip_grad_norm_(model.parameters(), task.schedule.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        task.after_step()
        size = batch[0].shape[1]
        samples += size
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros_like(value.detach())) + value.detach() * size
        bar.update(bars, advance=size * accelerator.num_processes, note=f"loss {losses['loss'].item():.3f}")
    bar.remove_task(bars)
    means = {name: accelerator.reduce(value / samples, "mean").item() for name, value in sums.items()}
    if not math.isfinite(means["loss"]):
        raise ConfigError(f"the loss became {means['loss']} in epoch {epoch}: lower the optimizer's lr")
    seconds = time.monotonic() - started
    rate = samples * accelerator.num_processes / seconds
    lr = optimizer.param_groups[-1]["lr"]
    return {"epoch": epoch, **means, **task.validate(), "lr": lr, "samples_per_s": rate, "seconds": seconds}


def _best(task: Task, history: list[dict[str, Any]]) -> dict[str, Any] | None:
    # The first of equals: it needed least training.
    better = task.better
    return max(history, key=lambda line: line[better]) if better else None


def _keep(task: Task, run: RunFolder, history: list[dict[str, Any]]) -> None:
    line = history[-1]
    metrics = {name: value for name, value in line.items() if name not in ("epoch", "seconds", "samples_per_s")}
    task.save(run.last, line["epoch"], metrics)
    if _best(task, history) is line:
        task.save(run.best, line["epoch"], metrics)
    run.write_history(history)


def _save_state(run: RunFolder, accelerator: Accelerator, epoch: int) -> None:
    state = run.states / f"epoch-{epoch:06d}"
    if accelerator.num_processes > 1:  # every process writes its own random state into one folder
        accelerator.save_state(str(state))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json(state / "progress.json", {"epoch": epoch})
    else:
        with writing_folder(state) as part:
            accelerator.save_state(str(part))
            write_json(part / "progress.json", {"epoch": epoch})
    if accelerator.is_main_process:
        run.drop_states_but(state)


def _in_words(line: dict[str, Any], epochs: int) -> str:
    skipped = ("epoch", "seconds", "samples_per_s", "lr")
    figures = "  ".join(f"{name} {value:.3f}" for name, value in line.items() if name not in skipped)
    return f"epoch {line['epoch']:>4}/{epochs}  {figures}  {line['samples_per_s']:.0f}/s"
