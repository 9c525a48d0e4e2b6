"""Momentum contrast for spiking encoders: NeuroMoCo (arXiv 2406.06305) after MoCo v2 (arXiv 2003.04297).

The master encoder sees one view of a recording and learns by gradient. The momentum encoder sees
another view and follows the master by an exponential moving average. A queue keeps the momentum
encoder's embeddings of earlier batches; they are the negatives of the loss.

Where batch norm is "shuffled", the global batch is cut into groups for statistics; for the keys it is
permuted before that, over all processes, and put back in order after. In one process this is split batch
norm; on several, MoCo's shuffled batch norm. The number of processes changes nothing: groups and
permutation are those of the global batch.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import gather
from torch import Generator, Tensor, nn

from neuromoco.config import MocoConfig
from neuromoco.encoders import Encoder
from neuromoco.errors import ConfigError
from neuromoco.losses import MixLoss, mix_info_nce
from neuromoco.snn.batch_norm import group_batch_norm, sync_batch_norm


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
        shuffles: permutations drawn so far.

    Args:
        encoder: the encoder to pre-train; it becomes the master.
        config: the method's settings.
        steps: T, time steps of the frames.
        seed: of the permutations.

    Raises:
        ConfigError: groups of batch norm that the processes do not divide.
    """

    queue: Tensor
    pointer: Tensor
    shuffles: Tensor

    def __init__(self, encoder: Encoder, config: MocoConfig, steps: int, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        if config.batch_norm == "shuffled":
            group_batch_norm(encoder, self._own_groups())
        elif config.batch_norm == "sync":
            sync_batch_norm(encoder)
        projector = Projector(encoder.feature_dim, config.hidden_dim, config.embed_dim)
        self.master = nn.Sequential(encoder, projector)
        self.follower = copy.deepcopy(self.master).requires_grad_(False)
        keys = torch.randn(config.embed_dim, steps, config.queue_size)
        self.register_buffer("queue", F.normalize(keys, dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("shuffles", torch.zeros((), dtype=torch.long))

    def forward(self, view_q: Tensor, view_k: Tensor) -> tuple[MixLoss, Tensor]:
        """The loss of a batch, and its keys for the queue.

        Args:
            view_q: frames for the master, [T, N, P, H, W].
            view_k: other frames of the same recordings for the follower, [T, N, P, H, W].

        Returns:
            The loss, and the keys [T, N, D].
        """
        if self.training and self.config.batch_norm == "shuffled":
            z_q, z_k = self._in_groups(view_q, view_k)
        else:
            z_q = self.master(view_q)  # [T, N, D]
            with torch.no_grad():
                z_k = self.follower(view_k)  # [T, N, D]
        c = self.config
        with torch.autocast(z_q.device.type, enabled=False):  # similarities need more than 16 bits
            z_q, z_k = z_q.float(), z_k.float()
            # The queue changes in place before backward runs, so the loss gets a copy.
            loss = mix_info_nce(z_q, z_k, self.queue.clone(), c.temperature, c.alpha, c.beta, c.negatives)
        return loss, z_k

    def _in_groups(self, view_q: Tensor, view_k: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of both views, the key's with statistics of other groups of the global batch."""
        N, state = view_q.shape[1], PartialState()
        # A group is a block of the batch; batch norm finds it in every so many rows.
        place = torch.arange(N, device=view_q.device).view(self._own_groups(), -1).T.flatten()
        z_q = self.master(view_q[:, place])[:, place.argsort()]  # [T, N, D]
        with torch.no_grad():
            order = self._permutation(N * state.num_processes).to(view_k.device).view(-1, N)[:, place]
            # gather joins along the first axis, so recordings go first for a moment
            everyone = gather(view_k.transpose(0, 1))[order[state.process_index]]
            shuffled = self.follower(everyone.transpose(0, 1))  # [T, N, D]
            keys = gather(shuffled.transpose(0, 1))[order.flatten().argsort()]
            z_k = keys.unflatten(0, (-1, N))[state.process_index].transpose(0, 1)
        return z_q, z_k  # [T, N, D]

    def _permutation(self, size: int) -> Tensor:
        """The next one: the same in every process, and after any interruption."""
        words = np.random.SeedSequence([self.seed, int(self.shuffles)]).generate_state(1, np.uint64)
        self.shuffles.add_(1)
        return torch.randperm(size, generator=Generator().manual_seed(int(words[0]) >> 1))

    def _own_groups(self) -> int:
        groups, processes = self.config.batch_norm_groups, PartialState().num_processes
        if groups % processes:
            raise ConfigError(
                f"{groups} groups of batch norm on {processes} processes; give a multiple: "
                f"--set pretrain.moco.batch_norm_groups={processes * max(1, groups // processes)}"
            )
        return groups // processes

    def momentum(self, done: float) -> float:
        """m when this share of the training is done."""
        m = self.config.momentum
        if self.config.momentum_schedule == "cosine":  # to 1, as in BYOL (Grill et al. 2020, arXiv 2006.07733)
            m = 1.0 - (1.0 - m) * 0.5 * (1.0 + math.cos(math.pi * done))
        return m

    @torch.no_grad()
    def follow(self, done: float = 0.0) -> None:
        """Moves the follower: theta_k = m * theta_k + (1 - m) * theta_q, once per optimizer step.

        Args:
            done: share of the training that is done, for a momentum with a schedule.
        """
        momentum = self.momentum(done)
        for theta_k, theta_q in zip(self.follower.parameters(), self.master.parameters(), strict=True):
            theta_k.lerp_(theta_q, 1.0 - momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Puts keys [T, N, D] in the place of the oldest, around the end of the queue where needed."""
        size = self.queue.shape[2]
        keys = keys[:, -size:]  # of a batch larger than the queue, the last K stay
        places = (self.pointer + torch.arange(keys.shape[1], device=keys.device)) % size
        self.queue[:, :, places] = keys.permute(2, 0, 1).to(self.queue.dtype)
        self.pointer.copy_((self.pointer + keys.shape[1]) % size)
