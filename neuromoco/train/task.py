"""The interface between a stage of training and the loop: model, data, loss, checkpoint."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from neuromoco.checkpoint import CheckpointHeader, SeenRecordings, save_checkpoint
from neuromoco.confidence import Calibration
from neuromoco.config import ClassifyConfig, OptimizerConfig, PretrainConfig, RunConfig
from neuromoco.datasets import FrameStore, Recordings, Split
from neuromoco.datasets.samples import stored_reading
from neuromoco.datasets.torch_sets import FrameSet, collate
from neuromoco.encoders import Encoder
from neuromoco.errors import ConfigError
from neuromoco.fit.reference import FitReference
from neuromoco.train.environment import package_versions
from neuromoco.train.processes import divide_batch
from neuromoco.views import TwoViews, View


class Task(ABC):
    """One stage of training; a subclass sets `model`, `optimizer` and, by `load`, `data` and `loader`."""

    model: nn.Module  # to train; resuming needs only its state and the optimizer's
    optimizer: Optimizer
    data: FrameSet  # the training recordings
    loader: DataLoader[Any]  # the passes of one epoch
    class_names: tuple[str, ...] = ()  # in the order of the logits; empty if the stage trains an encoder only

    def __init__(
        self, config: RunConfig, encoder: Encoder, recordings: Recordings, split: Split, accelerator: Accelerator
    ) -> None:
        self.config, self.encoder, self.split, self.accelerator = config, encoder, split, accelerator
        self.listing, self.store, self.sliced = recordings.listing, recordings.store, recordings.sliced
        settings: PretrainConfig | ClassifyConfig = getattr(config, config.stage)
        self.epochs, self.schedule, self.accumulate = settings.epochs, settings.optimizer, settings.accumulate
        self.batch_size = settings.batch_size

    def load(self, view: View | TwoViews | None, groups: int = 1, drop_last: bool = False) -> None:
        """Sets `data` and `loader`; `groups` are those of batch norm."""
        frames, listing = (self.sliced or self.store).frames, self.listing
        scenes = listing.groups if self.config.pretrain.positives == "group" else None
        if scenes == () and isinstance(view, TwoViews):
            raise ConfigError("pretrain.positives=group needs a table of labels, --labels, and its column, --group")
        self.data = FrameSet(frames, self.split.train, listing.labels, view, self.config.seed, scenes)
        processes = self.accelerator.num_processes
        size = divide_batch(self.config.stage, self.batch_size, self.accumulate, processes, groups)
        self.loader = DataLoader(self.data, size, shuffle=True, drop_last=drop_last, collate_fn=collate)

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

    def current_encoder(self) -> Encoder:
        """The encoder with its current weights."""
        return self.encoder

    def extra_metrics(self, epoch: int) -> dict[str, float]:
        """Metrics of the stage beyond its losses, after an epoch."""
        return {}

    @property
    def fit_reference(self) -> FitReference | None:
        """What the training recordings are like; None if the stage trains no classifier, or on too few."""
        return None

    def calibration(self) -> Calibration | None:
        """What the last validation says of a classifier's confidence."""
        return None

    def network(self) -> nn.Module:
        """The network to save: the encoder or the classifier."""
        return self.current_encoder()

    def save(self, path: Path, epoch: int, metrics: dict[str, float]) -> None:
        """Writes the network as a checkpoint."""
        header = CheckpointHeader(
            kind="classifier" if self.class_names else "encoder",
            encoder=self.config.encoder,
            frames=self.config.frames,
            reading=stored_reading(self.listing.options),
            class_names=self.class_names,
            seen=seen_recordings(self.store, self.split.train),
            stage=self.config.stage,
            epoch=epoch,
            seed=self.config.seed,
            metrics=metrics,
            versions=package_versions(),
            fit=self.fit_reference,
            calibration=self.calibration(),
        )
        save_checkpoint(path, self.network(), header)

    def check_end(self) -> None:
        """Called once after the last epoch; raises if the result is invalid."""


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Builds the optimizer; a group's "peak" is its learning rate after the warm-up."""
    if config.weight_decay and config.decay == "weights":
        groups = [part for group in groups for part in _decay_groups(group)]
    for group in groups:
        group["lr"] = group["peak"]
    if config.name == "sgd":
        return SGD(groups, momentum=config.sgd_momentum, weight_decay=config.weight_decay)
    return AdamW(groups, weight_decay=config.weight_decay)


def _decay_groups(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group without its gains, biases and time constants, and these, which do not decay."""
    weights = [parameter for parameter in group["params"] if parameter.ndim > 1]
    others = [parameter for parameter in group["params"] if parameter.ndim <= 1]
    parts = [group | {"params": weights}, group | {"params": others, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


def seen_recordings(store: FrameStore, indices: Sequence[int]) -> SeenRecordings:
    """Summary of the recordings at these rows of a store."""
    durations, events = store.durations[list(indices)], store.events[list(indices)]
    sensors, counts = np.unique(store.sensors[list(indices)], axis=0, return_counts=True)
    height, width = sensors[counts.argmax()].tolist()
    return SeenRecordings(
        count=len(durations),
        shortest_us=int(durations.min()),
        longest_us=int(durations.max()),
        fewest_events=int(events.min()),
        most_events=int(events.max()),
        sensor=(height, width),
    )
