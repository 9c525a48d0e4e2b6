"""Monitors training epoch by epoch: metrics of the current encoder, warnings, trackers and curves.

Monitoring never changes the weights: it draws no random number and updates no batch norm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from accelerate import Accelerator

from neuromoco.evaluation.accuracy import frame_batches
from neuromoco.evaluation.features import effective_rank, features, spike_rates
from neuromoco.evaluation.probe import knn_accuracy
from neuromoco.support.console import console, escape
from neuromoco.support.figures import draw_curves
from neuromoco.support.sampling import evenly_spaced
from neuromoco.train.failure_signs import SPIKE_RATE, new_warnings
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.task import Task
from neuromoco.train.trackers import close_trackers, open_trackers

REDRAW_S = 60.0
LARGEST_KNN_BANK = 5000  # recordings: kNN compares every pair
# Panel -> metric -> label of its curve.
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


class Monitor:
    """Metrics of one stage other than its own losses; on leaving its context, even by an error, it draws the curves.

    Only the main process computes metrics. The caller appends to `history`, which starts with lines of earlier epochs.
    """

    def __init__(self, task: Task, run: RunFolder, accelerator: Accelerator, history: list[dict[str, Any]]) -> None:
        self.task, self.run, self.accelerator, self.history = task, run, accelerator, history
        self.sample = evenly_spaced(task.data.indices, task.config.watch.samples)
        # Before the first epoch, warnings can follow from the settings alone.
        self.warnings = {} if history else self._new_warnings()
        self._drawn_at = time.monotonic()
        open_trackers(accelerator, task.config, run.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.accelerator.is_main_process and self.history and self.sample:
            self.draw()
        close_trackers(self.accelerator)

    def after_epoch(self) -> None:
        """Adds metrics to the newest line of the history and prints new warnings."""
        if not self.accelerator.is_main_process:
            return
        line = self.history[-1]
        if not math.isfinite(line["grad_norm"]):  # half precision sometimes overflows and then skips the step
            del line["grad_norm"]
        line |= self.task.extra_metrics(line["epoch"]) | self._encoder_metrics()
        line["warnings"], self.warnings = self.warnings, {}  # first, or those printed already are printed again
        line["warnings"] |= self._new_warnings()
        if not line["warnings"]:
            del line["warnings"]
        self.accelerator.log({name: value for name, value in line.items() if name != "warnings"}, step=line["epoch"])
        if self.sample and time.monotonic() - self._drawn_at > REDRAW_S:
            self.draw()

    def draw(self) -> None:
        """Writes `curves.png`."""
        history = self.history
        layers = {name: name.removeprefix(SPIKE_RATE) for name in history[-1] if name.startswith(SPIKE_RATE)}
        known = {name for line in history for name in line}
        panels = {
            panel: {label: [line.get(name) for line in history] for name, label in curves.items() if name in known}
            for panel, curves in (PANELS | {"spike rate of each layer": layers}).items()
        }
        title = f"{self.task.config.stage} of {self.task.config.encoder.name}, {len(self.task.data)} recordings"
        draw_curves(self.run.curves, {panel: curves for panel, curves in panels.items() if curves}, title)
        self._drawn_at = time.monotonic()

    def _encoder_metrics(self) -> dict[str, float]:
        """Effective rank and spike rates on a sample of the training recordings, without augmentation."""
        if not self.sample:
            return {}
        encoder = self.task.current_encoder()
        with spike_rates(encoder) as rates, self.accelerator.autocast():
            values = features(encoder, self.task.store, self.sample, self.accelerator.device)
        by_layer = {f"{SPIKE_RATE}{name}": rate for name, rate in rates.items()}
        return {"effective_rank": effective_rank(values), **by_layer}

    def _new_warnings(self) -> dict[str, str]:
        warnings = new_warnings(self.task.config, len(self.task.data), self.history)
        if self.accelerator.is_main_process:
            for text in warnings.values():
                console.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)
        return warnings


def knn_metric(task: Task, labels: Sequence[int], accelerator: Accelerator, counts: bool = False) -> dict[str, float]:
    """Leave-one-out kNN accuracy among the training recordings; the labels are used for nothing else.

    With `counts`, also that of event counts at every pixel, which any encoder should surpass.
    """
    rows = evenly_spaced(task.data.indices, LARGEST_KNN_BANK)
    classes = np.array(labels)[rows]
    with accelerator.autocast():
        values = features(task.current_encoder(), task.store, rows, accelerator.device)
    found = {"knn_accuracy": knn_accuracy(values, classes)}
    if counts:
        sums = [batch.sum((0, 2)) for batch in frame_batches(task.store.frames, rows)]  # of [T, N, P, H, W]
        pixels = np.concatenate(sums).reshape(len(rows), -1)
        found["knn_counts"] = knn_accuracy(np.sqrt(pixels), classes)
    return found


def queue_age(size: int, batch: int, steps: int) -> float:
    """Mean age in optimizer steps of the keys (of K = `size`) that the next batch meets; the newest are 1 step old.

    A `batch` of keys enters per step, of 1 or more steps so far; random numbers still in the queue do not count.
    """
    keys = min(size, batch * steps)
    full, rest = divmod(keys, batch)
    return (batch * full * (full + 1) / 2 + rest * (full + 1)) / keys
