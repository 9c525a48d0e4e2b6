"""The interface between a stage of training and the loop: model, data, loss, checkpoint."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from neuromoco.checkpoint import CheckpointHeader, SeenRecordings, save_checkpoint
from neuromoco.config import OptimizerConfig, RunConfig
from neuromoco.datasets.cache import FrameStore
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.encoders import Encoder
from neuromoco.train.run_folder import package_versions


class Task(ABC):
    """One stage of training.

    Attributes:
        config: the run's settings.
        store: frames of the recordings.
        model: the module to train; resuming needs only its state and the optimizer's.
        data: the training recordings.
        loader: the passes of one epoch.
        accumulate: passes per optimizer step.
        epochs: number of epochs.
        optimizer: from `build_optimizer`.
        schedule: its settings.
        seen: facts about the training recordings, for the checkpoint.
        class_names: in the order of the logits; empty if the stage trains an encoder only.
        better: the metric of `validate` that selects the best epoch (larger is better), or None.
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
    seen: SeenRecordings
    class_names: tuple[str, ...] = ()
    better: str | None = None

    @abstractmethod
    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        """Scalars of one pass; "loss" is minimised. Passes are numbered from the start of the training."""

    def after_step(self, done: float) -> None:
        """Called after each optimizer step with the fraction of all steps done so far."""

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        passes = len(self.loader)
        return passes // self.accumulate if self.loader.drop_last else math.ceil(passes / self.accumulate)

    def validate(self) -> dict[str, float]:
        """Metrics on the validation recordings."""
        return {}

    @abstractmethod
    def current_encoder(self) -> Encoder:
        """The encoder with its current weights."""

    def extra_metrics(self, epoch: int) -> dict[str, float]:
        """Metrics of the stage beyond its losses, after an epoch."""
        return {}

    def network(self) -> nn.Module:
        """The network to save: the encoder or the classifier."""
        return self.current_encoder()

    def save(self, path: Path, epoch: int, metrics: dict[str, float]) -> None:
        """Writes the network as a checkpoint."""
        header = CheckpointHeader(
            kind="classifier" if self.class_names else "encoder",
            encoder=self.config.encoder,
            frames=self.config.frames,
            class_names=self.class_names,
            seen=self.seen,
            stage=self.config.stage,
            epoch=epoch,
            seed=self.config.seed,
            metrics=metrics,
            versions=package_versions(),
        )
        save_checkpoint(path, self.network(), header)

    def check_end(self) -> None:
        """Called once after the last epoch; raises if the result is invalid."""


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Builds the optimizer; a group's "peak" is its learning rate after the warm-up."""
    for group in groups:
        group["lr"] = group["peak"]
    if config.name == "sgd":
        return SGD(groups, momentum=config.sgd_momentum, weight_decay=config.weight_decay)
    return AdamW(groups, weight_decay=config.weight_decay)
