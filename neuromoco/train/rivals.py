"""Other ways to pre-train the same encoders, to compare momentum contrast with: SimCLR, BYOL and VICReg.

Their losses and heads are those of lightly, a library of self-supervised learning. A head works at every time step, and
its embeddings are averaged over time before the loss, as in MBC and as SpikeCLR (arXiv 2603.16338) does for spiking
networks. Encoder, views, optimizer and the widths of the heads are the same for all.

    simclr  normalised-temperature cross-entropy among the 2 N views of a batch (Chen et al. 2020, arXiv 2002.05709)
    byol    predicts the embeddings of an averaged network, in both directions (Grill et al. 2020, arXiv 2006.07733)
    vicreg  variance, invariance and covariance (Bardes et al. 2022, arXiv 2105.04906)
"""

from __future__ import annotations

import copy
import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from neuromoco.config import RivalConfig
from neuromoco.encoders import Encoder
from neuromoco.support.extras import need

RivalName = Literal["simclr", "byol", "vicreg"]


class RivalLoss(NamedTuple):
    """The loss of a batch, and the embeddings that it compared, averaged over time.

    Attributes:
        total: a scalar.
        first: of the first view, [N, D].
        second: of the second view, [N, D].
    """

    total: Tensor
    first: Tensor
    second: Tensor


class Rival(nn.Module):
    """An encoder with the head and the loss of another method.

    Attributes:
        online: the encoder and its head; they learn by gradient.

    Args:
        encoder: the encoder to pre-train; it becomes part of `online`.
        config: settings of the methods.
        head: embeddings [N, D] from features [N, F].
    """

    def __init__(self, encoder: Encoder, config: RivalConfig, head: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.online = nn.ModuleList([encoder, head])

    def forward(self, first: Tensor, second: Tensor) -> RivalLoss:
        """Computes the loss of two views [T, N, P, H, W] of the same recordings.

        Raises:
            ConfigError: frames that the encoder does not take.
        """
        z_1, z_2 = embed(self.online, first), embed(self.online, second)  # [N, D]
        with torch.autocast(z_1.device.type, enabled=False):  # similarities need more than 16 bits
            return RivalLoss(self.compare(z_1.float(), z_2.float()), z_1, z_2)

    def compare(self, z_1: Tensor, z_2: Tensor) -> Tensor:
        """The loss of two views' embeddings [N, D]."""
        raise NotImplementedError

    def after_step(self, done: float) -> None:
        """Called after each optimizer step with the fraction of all steps done so far."""


class SimCLR(Rival):
    """Every view finds the other view of its recording among the 2 N - 1 others of the batch."""

    def __init__(self, encoder: Encoder, config: RivalConfig) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules.heads import SimCLRProjectionHead

        super().__init__(
            encoder, config, SimCLRProjectionHead(encoder.feature_dim, config.hidden_dim, config.embed_dim)
        )
        self.loss = NTXentLoss(config.temperature, gather_distributed=_several())

    def compare(self, z_1: Tensor, z_2: Tensor) -> Tensor:
        loss: Tensor = self.loss(z_1, z_2)
        return loss


class VICReg(Rival):
    """Both views get the same embedding, whose parts vary over the batch and do not vary together."""

    def __init__(self, encoder: Encoder, config: RivalConfig) -> None:
        from lightly.loss import VICRegLoss
        from lightly.models.modules.heads import VICRegProjectionHead

        super().__init__(
            encoder, config, VICRegProjectionHead(encoder.feature_dim, config.hidden_dim, config.embed_dim)
        )
        self.loss = VICRegLoss(config.invariance, config.variance, config.covariance, gather_distributed=_several())

    def compare(self, z_1: Tensor, z_2: Tensor) -> Tensor:
        loss: Tensor = self.loss(z_1, z_2)
        return loss


class BYOL(Rival):
    """A predictor finds the target network's embedding of the other view; the target follows by momentum.

    Attributes:
        predictor: learns by gradient.
        target: encoder and head whose weights are an exponential moving average of `online`'s.
    """

    def __init__(self, encoder: Encoder, config: RivalConfig) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead

        hidden, width = config.hidden_dim, config.embed_dim
        super().__init__(encoder, config, BYOLProjectionHead(encoder.feature_dim, hidden, width))
        self.predictor = BYOLPredictionHead(width, hidden, width)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.loss = NegativeCosineSimilarity()

    def forward(self, first: Tensor, second: Tensor) -> RivalLoss:
        z_1, z_2 = embed(self.online, first), embed(self.online, second)  # [N, D]
        p_1, p_2 = self.predictor(z_1), self.predictor(z_2)  # [N, D]
        with torch.no_grad():
            t_1, t_2 = embed(self.target, first), embed(self.target, second)  # [N, D]
        with torch.autocast(z_1.device.type, enabled=False):
            total = 0.5 * (self.loss(p_1.float(), t_2.float()) + self.loss(p_2.float(), t_1.float()))
        return RivalLoss(total, z_1, z_2)

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        momentum = 1.0 - (1.0 - self.config.momentum) * 0.5 * (1.0 + math.cos(math.pi * done))
        for theta, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
            theta.lerp_(online, 1.0 - momentum)


RIVALS: dict[RivalName, type[Rival]] = {"simclr": SimCLR, "byol": BYOL, "vicreg": VICReg}


def build_rival(name: RivalName, encoder: Encoder, config: RivalConfig) -> Rival:
    """Builds a method by its name.

    Raises:
        MissingExtraError: lightly is not installed.
    """
    need("league", f"pretrain.method {name}")
    return RIVALS[name](encoder, config)  # type: ignore[call-arg]


def embed(network: nn.ModuleList, frames: Tensor) -> Tensor:
    """Embeddings of frames [T, N, P, H, W], averaged over time: [N, D]. The head sees time steps as one batch."""
    encoder, head = network
    features = encoder(frames)  # [T, N, F]
    embeddings: Tensor = head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
    return embeddings.mean(0)


def pair_metrics(loss: RivalLoss) -> dict[str, Tensor]:
    """Metrics of learning and of collapse, from cosine similarities between the views of a batch."""
    first, second = (F.normalize(z.detach().float(), dim=1) for z in (loss.first, loss.second))  # [N, D]
    similarity = first @ second.T  # [N, N]
    own, count = similarity.diagonal(), len(similarity)
    return {
        "accuracy": (similarity.argmax(1) == torch.arange(count, device=own.device)).float().mean(),
        "positive_similarity": own.mean(),
        "negative_similarity": (similarity.sum() - own.sum()) / max(1, count * (count - 1)),
        # 1 for embeddings spread evenly over the sphere, 0 for collapsed ones
        "feature_std": second.std(0, correction=0).mean() * second.shape[1] ** 0.5,
    }


def _several() -> bool:
    """Whether there are several processes, whose batches are compared as one."""
    processes: int = PartialState().num_processes
    return processes > 1
