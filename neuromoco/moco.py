"""Momentum contrast for spiking encoders: NeuroMoCo (arXiv 2406.06305) after MoCo v2 (arXiv 2003.04297).

The master encoder sees one view of a recording and learns by gradient. The momentum encoder sees
another view and follows the master by an exponential moving average. A queue keeps the momentum
encoder's embeddings of earlier batches; they are the negatives of the loss.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuromoco.config import MocoConfig
from neuromoco.encoders import Encoder
from neuromoco.losses import MixLoss, mix_info_nce


class Projector(nn.Sequential):
    """Linear, ReLU, Linear at every time step: features [T, N, F] -> embeddings [T, N, D]."""

    def __init__(self, feature_dim: int, hidden_dim: int, embed_dim: int) -> None:
        super().__init__(nn.Linear(feature_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, embed_dim))


class MoCo(nn.Module):
    """Master encoder, momentum encoder and queue.

    Attributes:
        master: encoder and projector that learn by gradient.
        follower: encoder and projector that follow with momentum; no gradient reaches them.
        queue: the follower's embeddings of earlier batches at every step, [D, T, K]. They are not
            normalised here: averaging over time and normalising do not commute, and the loss has to do
            to the negatives what it does to the positive.
        pointer: where the next keys go, 0 to K - 1.

    Args:
        encoder: the encoder to pre-train; it becomes the master.
        config: the method's settings.
        steps: T, time steps of the frames.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, encoder: Encoder, config: MocoConfig, steps: int) -> None:
        super().__init__()
        self.config = config
        projector = Projector(encoder.feature_dim, config.hidden_dim, config.embed_dim)
        self.master = nn.Sequential(encoder, projector)
        self.follower = copy.deepcopy(self.master).requires_grad_(False)
        keys = torch.randn(config.embed_dim, steps, config.queue_size)
        self.register_buffer("queue", F.normalize(keys, dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, view_q: Tensor, view_k: Tensor) -> tuple[MixLoss, Tensor]:
        """The loss of a batch, and its keys for the queue.

        Args:
            view_q: frames for the master, [T, N, P, H, W].
            view_k: other frames of the same recordings for the follower, [T, N, P, H, W].

        Returns:
            The loss, and the keys [T, N, D].
        """
        z_q = self.master(view_q)  # [T, N, D]
        with torch.no_grad():
            z_k = self.follower(view_k)  # [T, N, D]
        c = self.config
        # The queue changes in place before backward runs, so the loss gets a copy.
        loss = mix_info_nce(z_q, z_k, self.queue.clone(), c.temperature, c.alpha, c.beta, c.negatives)
        return loss, z_k

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the follower: theta_k = m * theta_k + (1 - m) * theta_q, once per optimizer step."""
        for theta_k, theta_q in zip(self.follower.parameters(), self.master.parameters(), strict=True):
            theta_k.lerp_(theta_q, 1.0 - self.config.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Puts keys [T, N, D] in the place of the oldest, around the end of the queue where needed."""
        size = self.queue.shape[2]
        keys = keys[:, -size:]  # of a batch larger than the queue, the last K stay
        places = (self.pointer + torch.arange(keys.shape[1], device=keys.device)) % size
        self.queue[:, :, places] = keys.permute(2, 0, 1).to(self.queue.dtype)
        self.pointer.copy_((self.pointer + keys.shape[1]) % size)
