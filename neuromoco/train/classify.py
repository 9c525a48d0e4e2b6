"""Training with labels: fine-tuning a pre-trained encoder, or one from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from neuromoco.checkpoint import load_into, load_tensors, read_header
from neuromoco.classifier import Classifier
from neuromoco.confidence import Calibration
from neuromoco.config import RunConfig
from neuromoco.datasets import Recordings, Split, hold_out
from neuromoco.datasets.references import reference_of
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.errors import ConfigError, EventFileError, NeuromocoError
from neuromoco.evaluation.accuracy import mean_logits, predict_labels, score
from neuromoco.evaluation.features import state_sha256
from neuromoco.fit.reference import FitReference
from neuromoco.snn.batch_norm import sync_batch_norm
from neuromoco.support.console import console, escape
from neuromoco.train.calibrate import calibrate
from neuromoco.train.loihi_rounding import LoihiRounded
from neuromoco.train.pool import Pool, Taught, pool_batch_size, pool_loss, pool_rows
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.start import load_foreign_init
from neuromoco.train.task import Task, build_optimizer
from neuromoco.views import TwoViews, View

Answers = tuple[NDArray[np.float32], NDArray[np.int64]]  # mean logits over time [S, classes], and classes [S]


class ClassifyTask(Task):
    """Cross-entropy of the mean logits over time, for the stages "finetune" and "supervised".

    Attributes:
        folded: of the training recordings, by networks that did not see them; see `folds`.
    """

    folded: Answers | None = None

    def __init__(
        self, config: RunConfig, encoder: Encoder, recordings: Recordings, split: Split, accelerator: Accelerator
    ) -> None:
        super().__init__(config, encoder, recordings, split, accelerator)
        settings = self.settings = config.finetune if config.stage == "finetune" else config.supervised
        self.class_names = self.listing.class_names
        self.classifier = Classifier(encoder, len(self.class_names))
        if config.init_from:
            load_foreign_init(encoder, config)
        elif config.init:
            self._load_weights(config.init)
        if settings.sync_batch_norm:
            sync_batch_norm(self.classifier.encoder)
        height, width = config.frames.height, config.frames.width
        self._rounded = LoihiRounded(self.classifier, height, width) if settings.quantize else None
        self._pool = self._build_pool()
        self._taught = Taught(self.classifier, len(self.class_names)) if self._pool else None
        self.model = self._rounded or self._taught or self.classifier
        self._validated = np.empty((0, len(self.class_names)), np.float32), np.empty(0, np.int64)
        self._frozen = state_sha256(self.classifier.encoder) if settings.freeze_encoder else None
        self.load(View(settings.views) if settings.views else None)
        self.optimizer = build_optimizer(self._groups(), settings.optimizer)

    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        frames, labels = batch
        if self.settings.freeze_encoder:
            self.classifier.encoder.eval()  # keeps the running statistics, too
        share = self._mixed_share(number)
        if share < 1.0:
            frames = frames.lerp(frames.roll(1, 1), 1.0 - share)
        smoothing, count = self.settings.label_smoothing, len(labels)
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        pooled = self._pool.batch(number * processes + rank) if self._pool else None
        if pooled:
            frames = torch.cat([frames, pooled[1].to(frames.device)], dim=1)
        logits, pool_logits = model(frames).mean(0).tensor_split([count])  # [N, classes]
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if share < 1.0:
            loss = loss.lerp(F.cross_entropy(logits, labels.roll(1), label_smoothing=smoothing), 1.0 - share)
        metrics = {"accuracy": (logits.argmax(1) == labels).float().mean()}
        if self._pool and self._taught and pooled:
            answers = self._taught.answer(pooled[0].to(frames.device), self._class_shares(frames.device))
            metrics |= pool_loss(pool_logits, *answers, self._pool.config.confidence, smoothing)
            done = number / (self.epochs * self.steps * self.accumulate)
            loss = loss + self._pool.weight(done) * metrics["pool_loss"]
        return {"loss": loss, **metrics}

    def after_step(self, done: float) -> None:
        if self._pool and self._taught:
            self._taught.update_teacher(self._pool.config.teacher)

    def extra_metrics(self, epoch: int) -> dict[str, float]:
        every, held = self.config.watch.held_out_every, self.config.held_out
        if held is None or not every or (epoch % every and epoch != self.epochs):
            return {}
        rows = hold_out(self.listing, held.folds, held.fold).validation
        labels = np.array(self.listing.labels)[list(rows)]
        with self.accelerator.autocast():
            predicted = predict_labels(self.network(), self.store.frames, rows, self.accelerator.device).numpy()
        return {"held_out_accuracy": float((predicted == labels).mean())}

    def current_encoder(self) -> Encoder:
        return self.network().encoder

    def network(self) -> Classifier:
        """The classifier as it is used: with rounded weights if it was trained with them."""
        return cast(Classifier, self._rounded.baked()) if self._rounded else self.classifier

    def validate(self) -> dict[str, float]:
        if not self.split.validation:
            return {}
        with self.accelerator.autocast():
            logits = mean_logits(self.network(), self.store.frames, self.split.validation, self.accelerator.device)
        self._validated = logits.float().numpy(), self._validation_labels
        result = score(self._validated[1], self._validated[0].argmax(1), self.class_names)
        low, high = result.interval
        return {"validation_accuracy": result.accuracy, "validation_low": low, "validation_high": high}

    def held_out_answers(self, run: RunFolder) -> Answers | None:
        """Of the result in `run`, on recordings that did not train it; None if there are none."""
        if not self.split.validation:
            return self.folded
        weights = run.best if run.best.is_file() else run.last
        return self.logits_of(weights, self.split.validation), self._validation_labels

    def logits_of(self, weights: Path, rows: Sequence[int]) -> NDArray[np.float32]:
        """Mean logits over time [S, classes] of S recordings by a network like this one, with the weights in a file."""
        network = Classifier(build_encoder(self.config.encoder), len(self.class_names))
        load_into(network, load_tensors(weights), weights)
        device = self.accelerator.device
        with self.accelerator.autocast():
            logits = mean_logits(network.to(device).eval(), self.store.frames, rows, device)
        return cast(NDArray[np.float32], logits.float().numpy())

    @property
    def _validation_labels(self) -> NDArray[np.int64]:
        return np.array([self.listing.labels[row] for row in self.split.validation])

    @cached_property
    def fit_reference(self) -> FitReference | None:
        try:
            return reference_of(self.listing, self.split.train, self.store.durations, self.config.frames)
        except EventFileError as error:  # its frames are known, but it has gone since
            console.print(f"answers will not say what fits: {escape(str(error))}", soft_wrap=True)
            return None

    def calibration(self) -> Calibration:
        if self.folded is not None:
            return calibrate(*self.folded, self.config.seed, "folds")
        groups = [self.listing.group_of[row] for row in self.split.validation]
        return calibrate(*self._validated, self.config.seed, groups=groups)

    def check_end(self) -> None:
        if self._frozen and state_sha256(self.classifier.encoder) != self._frozen:
            raise NeuromocoError("the frozen encoder changed, which is a bug; the result is invalid")

    def _mixed_share(self, number: int) -> float:
        """Mixup's weight of a recording itself in this pass, 0.5 to 1; 1 without mixup (arXiv 1710.09412)."""
        alpha, last = self.settings.mixup, self.settings.mixup_epochs
        if not alpha or (last is not None and self.data.epoch > last):
            return 1.0
        share = float(np.random.default_rng([self.config.seed, number]).beta(alpha, alpha))
        return max(share, 1.0 - share)

    def _build_pool(self) -> Pool | None:
        settings, rows = self.settings, pool_rows(self.config, self.settings, self.listing, self.split)
        if not rows or not settings.pool or not settings.views:
            return None
        two = TwoViews(View(settings.views), View(settings.pool.views or settings.views))
        data = FrameSet((self.sliced or self.store).frames, rows, self.listing.labels, two, self.config.seed)
        size = pool_batch_size(settings, settings.pool, self.accelerator.num_processes)
        return Pool(data, size, settings.pool, self.config.seed)

    def _class_shares(self, device: torch.device) -> Tensor | None:
        """Shares of the classes among the labelled recordings, if the pool has the same."""
        assert self.settings.pool
        if not self.settings.pool.balanced:
            return None
        labels = torch.tensor([self.listing.labels[row] for row in self.split.train], device=device)
        return labels.bincount(minlength=len(self.class_names)) / len(labels)

    def _load_weights(self, init: str) -> None:
        """Loads an encoder, or a classifier of the same classes."""
        header = read_header(init)
        is_encoder = header.kind == "encoder"
        if not is_encoder and header.class_names != self.class_names:
            known, classes = ", ".join(header.class_names), ", ".join(self.class_names)
            raise ConfigError(f"{init}: is a classifier of {known}; the recordings are of {classes}")
        load_into(self.classifier.encoder if is_encoder else self.classifier, load_tensors(init), init)

    def _groups(self) -> list[dict[str, object]]:
        peak = self.settings.optimizer.lr
        head: dict[str, object] = {"params": list(self.classifier.head.parameters()), "peak": peak}
        if self.settings.freeze_encoder:
            self.classifier.encoder.requires_grad_(False)
            return [head]
        encoder = list(self.classifier.encoder.parameters())
        return [{"params": encoder, "peak": peak * self.settings.encoder_lr_scale}, head]
