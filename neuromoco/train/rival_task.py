"""Pre-training without labels by another method than momentum contrast."""

from __future__ import annotations

from accelerate import Accelerator
from torch import Tensor, nn

from neuromoco.config import RunConfig
from neuromoco.datasets import Recordings, Split
from neuromoco.encoders import Encoder
from neuromoco.errors import ConfigError
from neuromoco.train.pretrain import check_batch, knn_when_due
from neuromoco.train.rivals import build_rival, pair_metrics
from neuromoco.train.task import Task, build_optimizer
from neuromoco.views import TwoViews, View


class RivalTask(Task):
    """SimCLR, BYOL or VICReg of two views of each recording; labels serve only the kNN accuracy."""

    def __init__(
        self, config: RunConfig, encoder: Encoder, recordings: Recordings, split: Split, accelerator: Accelerator
    ) -> None:
        super().__init__(config, encoder, recordings, split, accelerator)
        settings = config.pretrain
        assert settings.method != "moco"
        check_batch(settings.batch_size, len(split.train))
        parts = settings.accumulate * accelerator.num_processes
        if settings.batch_size < 2 * parts:
            raise ConfigError(
                f"{settings.method} compares the recordings of a pass, and a batch of {settings.batch_size} in {parts} "
                f"parts has one in each: --set pretrain.batch_size={2 * parts}"
            )
        self.model = self.rival = build_rival(settings.method, encoder, settings.rival)
        self.load(TwoViews(View(settings.views)), drop_last=True)
        learning = [parameter for parameter in self.rival.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer([{"params": learning, "peak": settings.optimizer.lr}], settings.optimizer)

    def losses(self, model: nn.Module, batch: tuple[Tensor, ...], number: int) -> dict[str, Tensor]:
        loss = model(*batch)
        return {"loss": loss.total, **pair_metrics(loss)}

    def after_step(self, done: float) -> None:
        self.rival.after_step(done)

    def extra_metrics(self, epoch: int) -> dict[str, float]:
        return knn_when_due(self, epoch)
