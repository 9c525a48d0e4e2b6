"""Training with labels: fine-tuning a pre-trained encoder, or one from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from neuromoco.checkpoint import CheckpointHeader, SeenRecordings, load_into, load_tensors, read_header, save_checkpoint
from neuromoco.classifier import Classifier
from neuromoco.config import ClassifyConfig, RunConfig
from neuromoco.datasets.cache import FrameStore
from neuromoco.datasets.folders import Listing
from neuromoco.datasets.splits import Split
from neuromoco.datasets.torch_sets import FrameSet, collate
from neuromoco.encoders import Encoder
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.evaluation.accuracy import predict_labels
from neuromoco.snn.batch_norm import sync_batch_norm
from neuromoco.snn.loihi_rounding import LoihiRounded
from neuromoco.train.processes import divide_batch
from neuromoco.train.run_folder import package_versions
from neuromoco.train.task import Task, build_optimizer
from neuromoco.views import build_view


class ClassifyTask(Task):
    """Cross-entropy of the logits' mean over time.

    Args:
        config: the run's settings; its stage says which part of them counts.
        settings: that part.
        encoder: the encoder to train, fresh.
        listing: recordings with labels.
        split: which of them train and which validate.
        store: frames of all of them.
        seen: facts of the training recordings, for the checkpoint.
        accelerator: device and processes.
    """

    def __init__(
        self,
        config: RunConfig,
        settings: ClassifyConfig,
        encoder: Encoder,
        listing: Listing,
        split: Split,
        store: FrameStore,
        seen: SeenRecordings,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.settings, self.seen = config, settings, seen
        self.listing, self.split, self.store, self.accelerator = listing, split, store, accelerator
        self.epochs, self.schedule = settings.epochs, settings.optimizer
        self.better = "validation_accuracy" if split.validation else None
        self.classifier = Classifier(encoder, len(listing.class_names))
        if config.init:
            self._begin_from(config.init)
        if settings.sync_batch_norm:
            sync_batch_norm(self.classifier.encoder)
        rounds = settings.quantize is not None
        height, width = config.frames.height, config.frames.width
        self._rounded = LoihiRounded(self.classifier, height, width) if rounds else None
        self.model = self._rounded or self.classifier
        self._pretrained = _copy_of_state(self.classifier.encoder) if settings.freeze_encoder else None
        view = build_view(settings.views) if settings.views else None
        self.data = FrameSet(store.frames, split.train, listing.labels, view, config.seed)
        self.accumulate = settings.accumulate
        size = divide_batch(config.stage, settings.batch_size, settings.accumulate, accelerator.num_processes)
        self.loader = DataLoader(self.data, size, shuffle=True, collate_fn=collate)
        self.optimizer = build_optimizer(self._groups(), settings.optimizer)

    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        frames, labels = batch
        if self.settings.freeze_encoder:
            self.classifier.encoder.eval()  # batch norm must not drift either
        share = self._mixed_share(number)
        if share < 1.0:
            frames = frames.lerp(frames.roll(1, 1), 1.0 - share)
        logits = model(frames).mean(0)  # [N, classes]
        smoothing = self.settings.label_smoothing
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if share < 1.0:
            loss = loss.lerp(F.cross_entropy(logits, labels.roll(1), label_smoothing=smoothing), 1.0 - share)
        return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}

    def encoder_now(self) -> Encoder:
        return self._result().encoder

    def validate(self) -> dict[str, float]:
        if not self.split.validation:
            return {}
        found = predict_labels(self._result(), self.store.frames, self.split.validation, self.accelerator.device)
        right = [self.listing.labels[i] for i in self.split.validation]
        return {"validation_accuracy": float((found == torch.tensor(right)).float().mean())}

    def check_end(self) -> None:
        if self._pretrained is None:
            return
        for name, value in self.classifier.encoder.state_dict().items():
            if not torch.equal(value.cpu(), self._pretrained[name]):
                raise NeuromocoError(f"the frozen encoder changed: {name}; its result says nothing")

    def save(self, path: Path, epoch: int, metrics: dict[str, float]) -> None:
        header = CheckpointHeader(
            kind="classifier",
            encoder=self.config.encoder,
            frames=self.config.frames,
            class_names=self.listing.class_names,
            seen=self.seen,
            stage=self.config.stage,
            epoch=epoch,
            seed=self.config.seed,
            metrics=metrics,
            versions=package_versions(),
        )
        save_checkpoint(path, self._result(), header)

    def _mixed_share(self, number: int) -> float:
        """How much of itself a recording keeps in this pass: at least half, all of it without mixup."""
        alpha, last = self.settings.mixup, self.settings.mixup_epochs
        if not alpha or (last is not None and self.data.epoch > last):
            return 1.0
        share = float(np.random.default_rng([self.config.seed, number]).beta(alpha, alpha))
        return max(share, 1.0 - share)

    def _begin_from(self, init: str) -> None:
        """Loads an encoder, or a classifier of the same classes."""
        header = read_header(init)
        if header.kind == "encoder":
            load_into(self.classifier.encoder, load_tensors(init), init)
            return
        if header.class_names != self.listing.class_names:
            own, found = ", ".join(header.class_names), ", ".join(self.listing.class_names)
            raise ConfigError(f"{init}: is a classifier of {own}; the recordings are of {found}")
        load_into(self.classifier, load_tensors(init), init)

    def _result(self) -> Classifier:
        """The classifier as it is used: with rounded weights where it was trained with them."""
        return cast(Classifier, self._rounded.baked()) if self._rounded else self.classifier

    def _groups(self) -> list[dict[str, object]]:
        peak = self.settings.optimizer.lr
        head: dict[str, object] = {"params": list(self.classifier.head.parameters()), "peak": peak}
        if self.settings.freeze_encoder:
            self.classifier.encoder.requires_grad_(False)
            return [head]
        encoder: dict[str, object] = {
            "params": list(self.classifier.encoder.parameters()),
            "peak": peak * self.settings.encoder_lr_scale,
        }
        return [encoder, head]


def _copy_of_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
