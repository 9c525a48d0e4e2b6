"""Watching a training: figures of the encoder as it stands, warnings, trackers and curves, epoch by epoch.

Nothing here changes what is trained: no random number is drawn, no batch norm moves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.markup import escape

from neuromoco.evaluation.features import effective_rank, features, spike_rates
from neuromoco.evaluation.probe import knn_accuracy
from neuromoco.support.console import console
from neuromoco.support.figures import draw_curves
from neuromoco.train.failure_signs import SPIKE_RATE, new_signs
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.task import Task
from neuromoco.train.trackers import close_trackers, open_trackers

REDRAW_S = 60.0
MOST_NEIGHBOURS_BANK = 5000  # recordings: kNN compares each with each
# Panel of the curves -> which figures it shows, and what they are called there.
PANELS: dict[str, dict[str, str]] = {
    "loss": {"loss": "loss", "mbc": "MBC", "mac": "MAC"},
    "accuracy": {
        "accuracy": "of the training task",
        "knn_accuracy": "kNN on frozen features",
        "validation_accuracy": "validation",
    },
    "similarity to own and other keys": {"positive_similarity": "own", "negative_similarity": "others"},
    "feature_std (0: collapse)": {"feature_std": "feature_std"},
    "effective rank (1: collapse)": {"effective_rank": "effective rank"},
    "gradient norm": {"grad_norm": "gradient norm"},
    "mean age of the queue's keys": {"queue_age_epochs": "epochs", "queue_age_momentum": "momentum time constants"},
}


class Watch:
    """What is seen of one stage beside its own losses.

    Args:
        task: the stage.
        run: its folder.
        accelerator: device and processes; the main process alone watches.
        history: lines of earlier epochs, of a run that goes on.
    """

    def __init__(self, task: Task, run: RunFolder, accelerator: Accelerator, history: Sequence[Mapping[str, Any]]):
        self.task, self.run, self.accelerator = task, run, accelerator
        self.rows = spread(task.data.indices, task.config.watch.samples)
        self.signs = {} if history else self._new_signs([])  # before the first epoch, by the settings alone
        self._drawn = time.monotonic()
        open_trackers(accelerator, task.config, run.path)

    def after_epoch(self, history: list[dict[str, Any]]) -> None:
        """Adds to the newest line what is seen now, and tells the warnings that it raises."""
        if not self.accelerator.is_main_process:
            return
        line = history[-1]
        if not math.isfinite(line["grad_norm"]):  # half precision overflows now and then, and skips that step
            del line["grad_norm"]
        line |= self.task.figures(line["epoch"]) | self._encoder_figures()
        signs = self.signs | self._new_signs(history)
        if signs:
            line["warnings"], self.signs = signs, {}
        self.accelerator.log({name: value for name, value in line.items() if name != "warnings"}, step=line["epoch"])
        if self.rows and time.monotonic() - self._drawn > REDRAW_S:
            self.draw(history)

    def draw(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes `curves.png`."""
        known = {name for line in history for name in line}
        panels = {
            panel: {label: [line.get(name) for line in history] for name, label in curves.items() if name in known}
            for panel, curves in PANELS.items()
        }
        layers = [name for name in history[-1] if name.startswith(SPIKE_RATE)]
        panels["spike rate of each layer"] = {
            name.removeprefix(SPIKE_RATE): [line.get(name) for line in history] for name in layers
        }
        title = f"{self.task.config.stage} of {self.task.config.encoder.name}, {len(self.task.data)} recordings"
        draw_curves(self.run.curves, {name: curves for name, curves in panels.items() if curves}, title)
        self._drawn = time.monotonic()

    def _encoder_figures(self) -> dict[str, float]:
        """Of one pass over a sample of the training recordings, without augmentation."""
        if not self.rows:
            return {}
        encoder = self.task.encoder_now()
        with spike_rates(encoder) as rates:
            found = features(encoder, self.task.store, self.rows, self.accelerator.device)
        by_layer = {f"{SPIKE_RATE}{name}": rate for name, rate in rates.items()}
        return {"effective_rank": effective_rank(found), **by_layer}

    def _new_signs(self, history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        signs = new_signs(self.task.config, len(self.task.data), history)
        if self.accelerator.is_main_process:
            for text in signs.values():
                console.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)
        return signs


@contextmanager
def watching(
    task: Task, run: RunFolder, accelerator: Accelerator, history: Sequence[Mapping[str, Any]]
) -> Iterator[Watch]:
    """A watch over a stage; at its end, however that comes about, curves are drawn and trackers written out."""
    watch = Watch(task, run, accelerator, history)
    try:
        yield watch
    finally:
        if accelerator.is_main_process and history and watch.rows:
            watch.draw(history)
        close_trackers(accelerator)


def knn_figure(task: Task, labels: Sequence[int], accelerator: Accelerator) -> dict[str, float]:
    """Leave-one-out kNN accuracy among the training recordings. The labels serve this figure alone."""
    rows = spread(task.data.indices, MOST_NEIGHBOURS_BANK)
    found = features(task.encoder_now(), task.store, rows, accelerator.device)
    return {"knn_accuracy": knn_accuracy(found, np.array(labels)[rows])}


def queue_age(size: int, batch: int, steps: int) -> float:
    """Mean age of a queue's keys as the next batch meets them, in optimizer steps; the newest are 1 step old.

    Args:
        size: K.
        batch: keys that enter at each step.
        steps: steps so far, at least 1; random numbers that are still in the queue are left out.
    """
    keys = min(size, batch * steps)
    whole, rest = divmod(keys, batch)
    return (batch * whole * (whole + 1) / 2 + rest * (whole + 1)) / keys


def spread(indices: Sequence[int], most: int) -> list[int]:
    """At most so many of the indices, evenly spaced: of sorted class folders, some of every class."""
    count = min(most, len(indices))
    return [indices[i] for i in np.linspace(0, len(indices) - 1, count).round().astype(int)]
