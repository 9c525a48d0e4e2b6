"""The loop that every stage shares: epochs, schedule, progress, metrics, weights, and going on again.

Whatever is random follows from the settings' seed and the place in the training, or is in the state
(`neuromoco.train.state`): a run that was killed and goes on ends in the same weights and metrics.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from neuromoco.batch_norm import share_running_statistics
from neuromoco.config import ComputeConfig, OptimizerConfig
from neuromoco.console import console, progress_bar
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.errors import ConfigError
from neuromoco.files import write_json
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.state import Progress, States

SHORT_EPOCH_S = 2.0  # of shorter epochs, not every one is worth a state, which takes as long


class Task(ABC):
    """What a stage adds to the loop.

    Attributes:
        model: what is trained; its state is all that resuming needs beside the optimizer.
        data: the recordings to train on.
        loader: the passes of one epoch.
        accumulate: passes an optimizer step.
        epochs: how many.
        optimizer: made by `build_optimizer`.
        schedule: its settings.
        better: the metric of `validate` that chooses `best` (larger is better), or None.
    """

    model: nn.Module
    data: FrameSet
    loader: DataLoader[Any]
    accumulate: int
    epochs: int
    optimizer: Optimizer
    schedule: OptimizerConfig
    better: str | None = None

    @abstractmethod
    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        """Scalars of one pass; "loss" is the one to go down. Passes are numbered from the start of the training."""

    def after_step(self, done: float) -> None:
        """Called after each optimizer step, with the share of all steps that is done."""

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch."""
        passes = len(self.loader)
        return passes // self.accumulate if self.loader.drop_last else math.ceil(passes / self.accumulate)

    def validate(self) -> dict[str, float]:
        """Metrics on recordings that are not trained on."""
        return {}

    @abstractmethod
    def save(self, path: Path, epoch: int, metrics: dict[str, float]) -> None:
        """Writes the weights as a checkpoint."""

    def check_end(self) -> None:
        """Called once after the last epoch: raises if something happened that must not."""


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


def fit(task: Task, run: RunFolder, accelerator: Accelerator, compute: ComputeConfig) -> dict[str, Any]:
    """Trains to the last epoch, from the newest state of the run folder if there is one.

    Returns:
        The metrics of the last epoch and of the best one, as in `metrics.json`.
    """
    model, optimizer, loader = accelerator.prepare(task.model, task.optimizer, task.loader)
    if isinstance(model, DistributedDataParallel):
        # The queue and the running statistics are kept alike without sending all of them before every pass.
        model.forward_sync_buffers = False
    states = States(run, accelerator, compute.save_minutes)
    progress = states.read()
    history = run.history()[: progress.epoch - 1]
    if progress.epoch > 1 or progress.steps:
        console.print(f"going on in epoch {progress.epoch} of {task.epochs}, after {progress.steps} steps")
    with progress_bar() as bar:
        while progress.epoch <= task.epochs:
            line = _epoch(task, model, optimizer, loader, accelerator, progress, states, bar)
            history.append(line)
            if accelerator.is_main_process:
                _keep(task, run, history)
            progress = Progress(progress.epoch + 1)
            if states.due(SHORT_EPOCH_S) or progress.epoch > task.epochs:
                states.write(progress, (progress.epoch - 1) * task.steps)
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
    progress: Progress,
    states: States,
    bar: Any,
) -> dict[str, Any]:
    """The rest of an epoch, and its line of metrics."""
    epoch, k = progress.epoch, task.accumulate
    begun = time.monotonic() - progress.seconds
    task.data.set_epoch(epoch)  # the views of the recordings
    loader.set_epoch(epoch)  # and their order
    if progress.steps:
        loader = accelerator.skip_first_batches(loader, progress.steps * k)
    model.train()
    bars = bar.add_task(f"epoch {epoch}/{task.epochs}", total=len(task.data), note="")
    bar.update(bars, completed=progress.recordings * accelerator.num_processes)
    passes = iter(loader)
    for step in range(progress.steps, task.steps):
        before = (epoch - 1) * task.steps + step
        _set_rates(task, optimizer, before)
        losses = _step(task, model, optimizer, accelerator, list(islice(passes, k)), before * k)
        task.after_step((before + 1) / (task.epochs * task.steps))
        seen = int(losses.pop("recordings"))
        progress.steps, progress.recordings = step + 1, progress.recordings + seen
        for name, value in losses.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value * seen
        bar.update(bars, advance=seen * accelerator.num_processes, note=f"loss {losses['loss']:.3f}")
        progress.seconds = time.monotonic() - begun
        if progress.steps < task.steps and states.due():
            states.write(progress, before + 1)
    for _ in passes:  # less than a batch may be left
        pass
    bar.remove_task(bars)
    sums = torch.tensor(list(progress.sums.values()), dtype=torch.float64) / progress.recordings
    means = dict(zip(progress.sums, accelerator.reduce(sums.to(accelerator.device), "mean").tolist(), strict=True))
    if not math.isfinite(means["loss"]):
        raise ConfigError(f"the loss became {means['loss']} in epoch {epoch}: lower the optimizer's lr")
    rate = progress.recordings * accelerator.num_processes / progress.seconds
    lr = optimizer.param_groups[-1]["lr"]
    figures = {"lr": lr, "samples_per_s": rate, "seconds": progress.seconds}
    return {"epoch": epoch, **means, **task.validate(), **figures}


def _set_rates(task: Task, optimizer: Optimizer, step: int) -> None:
    warmup = task.schedule.warmup_epochs * task.steps
    for group in optimizer.param_groups:
        floor = min(task.schedule.min_lr, group["peak"])
        group["lr"] = learning_rate(group["peak"], step, task.epochs * task.steps, warmup, floor)


def _step(
    task: Task,
    model: nn.Module,
    optimizer: Optimizer,
    accelerator: Accelerator,
    batches: list[tuple[Tensor, ...]],
    number: int,
) -> dict[str, float]:
    """One optimizer step on a batch that comes in passes.

    Returns:
        The means of the metrics over the batch, and "recordings", their number in this process.
    """
    sizes = [batch[0].shape[1] for batch in batches]  # frames are [T, N, P, H, W]
    means: dict[str, Tensor] = {}
    for index, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
        share = size / sum(sizes)
        # Gradients meet those of other processes once, in the last pass.
        with nullcontext() if index == len(batches) - 1 else accelerator.no_sync(model):
            losses = task.losses(model, batch, number + index)
            accelerator.backward(losses["loss"] * share)
        for name, value in losses.items():
            means[name] = means.get(name, torch.zeros_like(value.detach())) + value.detach() * share
    if task.schedule.grad_clip is not None:
        accelerator.clip_grad_norm_(model.parameters(), task.schedule.grad_clip)
    optimizer.step()
    optimizer.zero_grad()
    if accelerator.num_processes > 1:
        share_running_statistics(model)
    return dict(zip(means, torch.stack([*means.values()]).tolist(), strict=True)) | {"recordings": sum(sizes)}


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


def _in_words(line: dict[str, Any], epochs: int) -> str:
    skipped = ("epoch", "seconds", "samples_per_s", "lr")
    figures = "  ".join(f"{name} {value:.3f}" for name, value in line.items() if name not in skipped)
    return f"epoch {line['epoch']:>4}/{epochs}  {figures}  {line['samples_per_s']:.0f}/s"
