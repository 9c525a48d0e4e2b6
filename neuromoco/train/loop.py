"""The training loop of every stage: epochs, schedule, progress, metrics, weights and resuming.

Everything random follows from the seed and the position in the training, or is saved in the state
(`neuromoco.train.state`): a run that is killed and resumed ends in the same weights and metrics.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from neuromoco.checkpoint import read_header
from neuromoco.config import ComputeConfig
from neuromoco.errors import ConfigError
from neuromoco.snn.batch_norm import average_running_statistics
from neuromoco.snn.memory import keep_freed_memory
from neuromoco.support.console import console, progress_bar
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.ending import EndRequest
from neuromoco.support.files import syncing_later, write_json
from neuromoco.train.monitor import Monitor
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.state import Progress, States
from neuromoco.train.task import Task

# Metrics printed after each epoch; `metrics.jsonl` has all of them.
PRINTED = ("loss", "mbc", "mac", "accuracy", "feature_std", "effective_rank", "knn_accuracy", "validation_accuracy")
SHORT_EPOCH_S = 2.0  # shorter epochs do not all write a state, which would take as long


class DivergedError(ConfigError):
    """A loss or gradient that is infinite or NaN."""


def learning_rate(peak: float, step: int, steps: int, warmup: int, floor: float) -> float:
    """Rises linearly from 0 over `warmup` steps, then falls as a cosine from `peak` to `floor` at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup - 1)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def fit(task: Task, run: RunFolder, accelerator: Accelerator, compute: ComputeConfig) -> dict[str, Any]:
    """Trains to the last epoch, from the newest state if there is one; returns the content of `metrics.json`.

    Raises:
        ConfigError: the loss became infinite or NaN, or another number of processes began the run.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state after the step that was under way is written.
    """
    with EndRequest() as request:
        return _fit(task, run, accelerator, States(run, accelerator, compute.save_minutes, request))


def _fit(task: Task, run: RunFolder, accelerator: Accelerator, states: States) -> dict[str, Any]:
    loop = _Loop(task, accelerator, states)
    progress = states.read()
    history = run.history(progress.epoch - 1)
    if progress.epoch > 1 or progress.steps:
        console.print(f"resuming in epoch {progress.epoch} of {task.epochs}, after {progress.steps} steps")
    with (
        disk_errors(run.path),
        keep_freed_memory(),
        progress_bar() as bar,
        Monitor(task, run, accelerator, history) as monitor,
    ):
        while progress.epoch <= task.epochs:
            history.append(loop.epoch(progress, bar))
            monitor.after_epoch()
            if accelerator.is_main_process:
                with syncing_later():  # the next state does, without which these files are not used
                    _save(task, run, history)
            progress = Progress(progress.epoch + 1)
            if states.due(min(SHORT_EPOCH_S, states.seconds)) or progress.epoch > task.epochs:
                states.write(progress, (progress.epoch - 1) * task.steps)
            console.print(_summary(history[-1], task.epochs), soft_wrap=True)
    task.check_end()
    summary = {"last": history[-1], "best": _saved_choice(run, history)}
    if accelerator.is_main_process:
        write_json(run.summary, summary)
    accelerator.free_memory()
    return summary


class _Loop:
    """Epochs and steps of one task, with its model, optimizer and loader prepared by Accelerate."""

    def __init__(self, task: Task, accelerator: Accelerator, states: States) -> None:
        self.task, self.accelerator, self.states = task, accelerator, states
        self.model, self.optimizer, self.loader = accelerator.prepare(task.model, task.optimizer, task.loader)
        if isinstance(self.model, DistributedDataParallel):
            # Queue and running statistics stay equal in all processes; broadcasting them before each pass is a waste.
            self.model.forward_sync_buffers = False

    def epoch(self, progress: Progress, bar: Any) -> dict[str, Any]:
        """Runs the rest of an epoch and returns its line of metrics."""
        task, processes = self.task, self.accelerator.num_processes
        begun = time.monotonic() - progress.seconds
        row = bar.add_task(f"epoch {progress.epoch}/{task.epochs}", total=len(task.data), note="")
        passes = self._passes(progress)
        self.model.train()
        for step in range((progress.epoch - 1) * task.steps + progress.steps, progress.epoch * task.steps):
            self._set_rates(step)
            losses, recordings = self._step(list(islice(passes, task.accumulate)), step * task.accumulate)
            task.after_step((step + 1) / (task.epochs * task.steps))
            progress.add(losses, recordings)
            progress.seconds = time.monotonic() - begun
            bar.update(row, completed=progress.recordings * processes, note=f"loss {losses['loss']:.3f}")
            if progress.steps < task.steps and self.states.due():
                self._means(progress)  # raises rather than saving a diverged state
                self.states.write(progress, step + 1)
        for _ in passes:  # exhausts the loader: less than a batch may be left
            pass
        bar.remove_task(row)
        means, rate = self._means(progress), progress.recordings * processes / progress.seconds
        figures = {"lr": self.optimizer.param_groups[-1]["lr"], "samples_per_s": rate, "seconds": progress.seconds}
        return {"epoch": progress.epoch, **means, **task.validate(), **figures}

    def _passes(self, progress: Progress) -> Iterator[tuple[Tensor, ...]]:
        """The remaining passes of an epoch."""
        self.task.data.set_epoch(progress.epoch)  # seeds the views
        self.loader.set_epoch(progress.epoch)  # and the order of the recordings
        done = progress.steps * self.task.accumulate
        return iter(self.accelerator.skip_first_batches(self.loader, done) if done else self.loader)

    def _set_rates(self, step: int) -> None:
        task = self.task
        for group in self.optimizer.param_groups:
            floor, warmup = min(task.schedule.min_lr, group["peak"]), task.schedule.warmup_epochs * task.steps
            group["lr"] = learning_rate(group["peak"], step, task.epochs * task.steps, warmup, floor)

    def _step(self, batches: list[tuple[Tensor, ...]], number: int) -> tuple[dict[str, float], int]:
        """One optimizer step on a batch of passes from `number` on; its mean metrics and recordings in this process."""
        accelerator, model = self.accelerator, self.model
        sizes = [batch[0].shape[1] for batch in batches]  # frames are [T, N, P, H, W]
        means: dict[str, Tensor] = {}
        for index, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            share = size / sum(sizes)
            # Gradients are averaged over processes once, in the last pass.
            with nullcontext() if index == len(batches) - 1 else accelerator.no_sync(model):
                losses = self.task.losses(model, batch, number + index)
                accelerator.backward(losses["loss"] * share)
            for name, value in losses.items():
                means[name] = means.get(name, torch.zeros_like(value.detach())) + value.detach() * share
        means["grad_norm"] = accelerator.clip_grad_norm_(model.parameters(), self.task.schedule.grad_clip or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if accelerator.num_processes > 1:
            average_running_statistics(model)
        return dict(zip(means, torch.stack([*means.values()]).tolist(), strict=True)), sum(sizes)

    def _means(self, progress: Progress) -> dict[str, float]:
        """Mean metrics of the epoch so far, over all processes."""
        local = torch.tensor(list(progress.sums.values()), dtype=torch.float64) / progress.recordings
        reduced = self.accelerator.reduce(local.to(self.accelerator.device), "mean").tolist()
        means = dict(zip(progress.sums, reduced, strict=True))
        # With a scaled loss, a step whose gradient overflowed was skipped; otherwise it has ruined the weights.
        checked = {"loss": "loss"} | ({"gradient": "grad_norm"} if self.accelerator.scaler is None else {})
        for what, name in checked.items():
            if not math.isfinite(means[name]):
                raise DivergedError(
                    f"the {what} became {means[name]} in epoch {progress.epoch}: lower the optimizer's lr"
                )
        return means


def choose_epoch(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The last epoch whose validation accuracy lies within the 95 % interval of the highest; None without validation.

    The highest of many epochs is mostly chance, and while the learning rate falls, later weights are better.
    """
    if "validation_accuracy" not in history[-1]:
        return None
    highest = max(history, key=lambda line: line["validation_accuracy"])
    good = highest.get("validation_low", highest["validation_accuracy"])  # the first versions wrote no interval
    good_epochs = [line for line in history if line["validation_accuracy"] >= good]
    return good_epochs[-1]


def _saved_choice(run: RunFolder, history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The line of the epoch whose weights were kept, which earlier versions chose by another rule."""
    if not run.best.is_file():
        return None
    epoch = read_header(run.best).epoch
    return next(line for line in history if line["epoch"] == epoch)


def _save(task: Task, run: RunFolder, history: list[dict[str, Any]]) -> None:
    line = history[-1]
    excluded = ("epoch", "seconds", "samples_per_s", "warnings")
    metrics = {name: value for name, value in line.items() if name not in excluded and "/" not in name}
    task.save(run.last, line["epoch"], metrics)
    if choose_epoch(history) is line:
        task.save(run.best, line["epoch"], metrics)
    run.write_history(history)


def _summary(line: dict[str, Any], epochs: int) -> str:
    metrics = "  ".join(f"{name} {line[name]:.3f}" for name in PRINTED if name in line)
    return f"epoch {line['epoch']:>4}/{epochs}  {metrics}  {line['samples_per_s']:.0f}/s"
