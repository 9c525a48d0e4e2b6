"""Pre-training without labels: momentum contrast on a folder of recordings."""

from __future__ import annotations

import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from neuromoco.config import RunConfig
from neuromoco.datasets import Recordings, Split
from neuromoco.encoders import Encoder
from neuromoco.errors import ConfigError
from neuromoco.losses import MixLoss
from neuromoco.moco import MoCo
from neuromoco.train.monitor import knn_metric, queue_age
from neuromoco.train.task import Task, build_optimizer
from neuromoco.views import TwoViews, View


class PretrainTask(Task):
    """Momentum contrast of two views of each recording; labels serve only the kNN accuracy."""

    def __init__(
        self, config: RunConfig, encoder: Encoder, recordings: Recordings, split: Split, accelerator: Accelerator
    ) -> None:
        super().__init__(config, encoder, recordings, split, accelerator)
        settings = config.pretrain
        check_batch(settings.batch_size, len(split.train))
        self.model = self.moco = MoCo(encoder, settings.moco, config.frames.steps, config.seed)
        self.load(TwoViews(View(settings.views)), settings.moco.groups, drop_last=True)
        group = {"params": list(self.moco.encoder_q.parameters()), "peak": settings.optimizer.lr}
        self.optimizer = build_optimizer([group], settings.optimizer)
        self._keys: list[Tensor] = []

    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        loss, keys = model(*batch)
        self._keys.append(keys)
        metrics = contrast_metrics(loss, keys, self.moco.config.temperature)
        return {"loss": loss.total, "mbc": loss.mbc, "mac": loss.mac, **metrics}

    def after_step(self, done: float) -> None:
        self.moco.update_key_encoder(done)
        for keys in self._keys:
            # gather concatenates along the first axis, so the batch goes first
            self.moco.enqueue(self.accelerator.gather(keys.transpose(0, 1)).transpose(0, 1))  # [T, N, D]
        self._keys.clear()

    def extra_metrics(self, epoch: int) -> dict[str, float]:
        settings = self.config.pretrain
        age = queue_age(settings.moco.queue_size, settings.batch_size, epoch * self.steps)
        metrics = {
            "queue_age": age,
            "queue_age_epochs": age / self.steps,
            "queue_age_momentum": age * (1.0 - self.moco.momentum(epoch / self.epochs)),
        }
        return metrics | knn_when_due(self, epoch)


def check_batch(batch_size: int, recordings: int) -> None:
    """Raises ConfigError if a batch is larger than the training part."""
    if recordings < max(2, batch_size):
        problem = f"{recordings} recordings are fewer than a batch of {batch_size} (at least 2)"
        raise ConfigError(f"{problem}: --set pretrain.batch_size={max(2, recordings // 4)}")


def knn_when_due(task: Task, epoch: int) -> dict[str, float]:
    """The kNN accuracy in the epochs that the settings say, and in the first and the last; {} without classes."""
    every, labels = task.config.watch.knn_every, task.listing.labels
    due = every and (epoch % every == 0 or epoch in (1, task.epochs))
    last = epoch == task.epochs
    return knn_metric(task, labels, task.accelerator, counts=last) if due and len(set(labels)) > 1 else {}


def contrast_metrics(loss: MixLoss, keys: Tensor, temperature: float) -> dict[str, Tensor]:
    """Metrics of learning and of collapse, in which similarities are those of MBC."""
    directions = F.normalize(keys.mean(0), dim=1)  # [N, D]
    similarities = loss.logits * temperature  # [N, 1 + K]
    return {
        "accuracy": (loss.logits.argmax(1) == 0).float().mean(),  # queries whose own key is nearer than all others
        "positive_similarity": similarities[:, 0].mean(),
        "negative_similarity": similarities[:, 1:].mean(),
        # 1 for keys spread evenly over the sphere, 0 for collapsed ones
        "feature_std": directions.std(0, correction=0).mean() * keys.shape[2] ** 0.5,
    }
