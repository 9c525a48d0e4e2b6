"""One stage of training as the loop sees it: model, data, loss, and what is kept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from neuromoco.config import OptimizerConfig, RunConfig
from neuromoco.datasets.cache import FrameStore
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.encoders import Encoder


class Task(ABC):
    """What a stage adds to the loop.

    Attributes:
        config: the run's settings.
        store: frames of the recordings.
        model: what is trained; its state is all that resuming needs beside the optimizer.
        data: the recordings to train on.
        loader: the passes of one epoch.
        accumulate: passes an optimizer step.
        epochs: how many.
        optimizer: made by `build_optimizer`.
        schedule: its settings.
        better: the metric of `validate` that chooses `best` (larger is better), or None.
    """

    config: RunConfig
    store: FrameStore
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
    def encoder_now(self) -> Encoder:
        """The encoder as it stands, to look at."""

    def figures(self, epoch: int) -> dict[str, float]:
        """What else is worth watching after an epoch."""
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
