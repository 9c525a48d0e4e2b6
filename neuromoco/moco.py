"""Momentum contrast for spiking encoders: NeuroMoCo (arXiv 2406.06305) after MoCo v2 (arXiv 2003.04297).

The query encoder (the paper's M-Encoder) sees one view of a recording and learns by gradient. The key encoder
(S-Encoder) sees another view; its weights are an exponential moving average of the query encoder's. A queue holds the
keys of earlier batches, which are the negatives of the loss.

With `batch_norm: shuffled`, batch norm takes its statistics from groups of the global batch; the keys are permuted over
all processes before they are grouped, and put back in order afterwards. In one process this is split batch norm; in
several, MoCo's shuffled batch norm. The result does not depend on the number of processes.
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
    """Projection head: Linear, ReLU, Linear at every time step, features [T, N, F] -> embeddings [T, N, D].

    Args:
        feature_dim: F.
        hidden_dim: width of the hidden layer.
        embed_dim: D.
        batch_norm: normalise after both linear layers, over steps and recordings (Chen et al. 2021, arXiv 2104.02057).
    """

    def __init__(self, feature_dim: int, hidden_dim: int, embed_dim: int, batch_norm: bool = False) -> None:
        hidden, last = nn.Linear(feature_dim, hidden_dim), nn.Linear(hidden_dim, embed_dim)
        if batch_norm:
            super().__init__(hidden, nn.BatchNorm1d(hidden_dim), nn.ReLU(), last, nn.BatchNorm1d(embed_dim))
        else:
            super().__init__(hidden, nn.ReLU(), last)
        self.batch_norm = batch_norm

    def forward(self, features: Tensor) -> Tensor:
        embeddings = features.flatten(0, 1) if self.batch_norm else features  # [T * N, F] or [T, N, F]
        for layer in self:
            embeddings = layer(embeddings)
        return embeddings.view(*features.shape[:2], -1)


class MoCo(nn.Module):
    """Query encoder, key encoder and queue (He et al. 2020, arXiv 1911.05722; NeuroMoCo, arXiv 2406.06305).

    Attributes:
        encoder_q: query encoder and its projector; they learn by gradient.
        encoder_k: key encoder and its projector; updated by momentum, without gradient.
        queue: keys of earlier batches at every step, [D, T, K]. They are stored unnormalised: averaging over time
            and normalising do not commute, and the loss must treat negatives and positive alike.
        pointer: where the next keys go, 0 to K - 1.
        shuffles: number of permutations drawn so far.

    Args:
        encoder: the encoder to pre-train; it becomes part of `encoder_q`.
        config: the method's settings.
        steps: T, time steps of the frames.
        seed: seeds the permutations of shuffled batch norm.

    Raises:
        ConfigError: the number of batch-norm groups is not a multiple of the number of processes.
    """

    queue: Tensor
    pointer: Tensor
    shuffles: Tensor

    def __init__(self, encoder: Encoder, config: MocoConfig, steps: int, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        projector = Projector(encoder.feature_dim, config.hidden_dim, config.embed_dim, config.head == "batch_norm")
        self.encoder_q = nn.Sequential(encoder, projector)
        if config.batch_norm == "shuffled":
            group_batch_norm(self.encoder_q, self._local_groups())
        elif config.batch_norm == "sync":
            sync_batch_norm(self.encoder_q)
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        keys = torch.randn(config.embed_dim, steps, config.queue_size)
        self.register_buffer("queue", F.normalize(keys, dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("shuffles", torch.zeros((), dtype=torch.long))
        self._drawn: int | None = 0  # what `shuffles` says, without asking the device, which would wait
        self.register_load_state_dict_post_hook(_forget_drawn)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_rename_old_keys)  # type: ignore[no-untyped-call]

    def forward(self, view_q: Tensor, view_k: Tensor) -> tuple[MixLoss, Tensor]:
        """Computes the loss of a batch, and the keys to enqueue.

        Args:
            view_q: frames for the query encoder, [T, N, P, H, W].
            view_k: another view of the same recordings for the key encoder, [T, N, P, H, W].

        Returns:
            The loss, and the keys [T, N, D].

        Raises:
            ConfigError: frames that the encoder does not take.
        """
        if self.training and self.config.batch_norm == "shuffled":
            z_q, z_k = self._in_groups(view_q, view_k)
        else:
            z_q = self.encoder_q(view_q)  # [T, N, D]
            with torch.no_grad():
                z_k = self.encoder_k(view_k)  # [T, N, D]
        c = self.config
        with torch.autocast(z_q.device.type, enabled=False):  # similarities need more than 16 bits
            z_q, z_k = z_q.float(), z_k.float()
            # The queue changes in place before backward runs, so the loss gets a copy.
            loss = mix_info_nce(z_q, z_k, self.queue.clone(), c.temperature, c.alpha, c.beta, c.negatives)
        return loss, z_k

    def _in_groups(self, view_q: Tensor, view_k: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of both views; the keys are normalised in other groups of the global batch."""
        N, state = view_q.shape[1], PartialState()
        # A group is a contiguous block of the batch; GroupedBatchNorm reads group g from rows g, g + G, ...
        place = torch.arange(N, device=view_q.device).view(self._local_groups(), -1).T.flatten()
        z_q = self.encoder_q(view_q[:, place])[:, place.argsort()]  # [T, N, D]
        with torch.no_grad():
            order = self._permutation(N * state.num_processes).to(view_k.device).view(-1, N)[:, place]
            # gather concatenates along the first axis, so recordings go first
            everyone = gather(view_k.transpose(0, 1))[order[state.process_index]]
            shuffled = self.encoder_k(everyone.transpose(0, 1))  # [T, N, D]
            keys = gather(shuffled.transpose(0, 1))[order.flatten().argsort()]
            z_k = keys.unflatten(0, (-1, N))[state.process_index].transpose(0, 1)
        return z_q, z_k  # [T, N, D]

    def _permutation(self, size: int) -> Tensor:
        """The next permutation: the same in every process, and after resuming."""
        drawn = int(self.shuffles) if self._drawn is None else self._drawn
        self._drawn = drawn + 1
        self.shuffles.add_(1)
        words = np.random.SeedSequence([self.seed, drawn]).generate_state(1, np.uint64)
        return torch.randperm(size, generator=Generator().manual_seed(int(words[0]) >> 1))

    def _local_groups(self) -> int:
        """Groups of batch norm in this process."""
        groups = self.config.batch_norm_groups
        processes: int = PartialState().num_processes
        if groups % processes:
            raise ConfigError(
                f"{groups} groups of batch norm on {processes} processes; give a multiple: "
                f"--set pretrain.moco.batch_norm_groups={processes * max(1, groups // processes)}"
            )
        return groups // processes

    def momentum(self, done: float) -> float:
        """The momentum m of the key encoder at a share `done` (0 to 1) of the training."""
        m = self.config.momentum
        if self.config.momentum_schedule == "cosine":  # to 1, as in BYOL (Grill et al. 2020, arXiv 2006.07733)
            m = 1.0 - (1.0 - m) * 0.5 * (1.0 + math.cos(math.pi * done))
        return m

    @torch.no_grad()
    def update_key_encoder(self, done: float = 0.0) -> None:
        """Momentum update, once per optimizer step: theta_k = m * theta_k + (1 - m) * theta_q.

        Args:
            done: share of the training completed, 0 to 1; matters if the momentum has a schedule.
        """
        momentum = self.momentum(done)
        for theta_k, theta_q in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
            theta_k.lerp_(theta_q, 1.0 - momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys in the queue by keys [T, N, D], wrapping around at its end."""
        size = self.queue.shape[2]
        keys = keys[:, -size:]  # a batch larger than the queue leaves its last K
        places = (self.pointer + torch.arange(keys.shape[1], device=keys.device)) % size
        self.queue[:, :, places] = keys.permute(2, 0, 1).to(self.queue.dtype)
        self.pointer.copy_((self.pointer + keys.shape[1]) % size)


def _forget_drawn(module: MoCo, _: object) -> None:
    module._drawn = None


def _rename_old_keys(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Accepts states of version 0.1 and before, which called the encoders master and follower."""
    for old, new in (("master.", "encoder_q."), ("follower.", "encoder_k.")):
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)
