"""InfoNCE for embeddings in time, and the mixture that NeuroMoCo trains with (arXiv 2406.06305).

Shapes: T time steps, N batch, D embedding, K queue. Embeddings come unnormalised, [T, N, D]; the
queue holds keys of earlier batches, normalised step by step, [D, T, K]. Every function is pure.

Two readings of which keys are negatives exist and both are offered by name:

    "plain"   MBC: the queue's mean over time, normalised again like query and key.
              MAC: at step t, the queue's keys of step t.
    "group"   MBC: the queue's mean over time as it is (norm at most 1).
              MAC: at every step, the queue's keys of all T steps.

"plain" is the text of the method read literally; "group" is what public code of the paper's group does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Negatives = Literal["plain", "group"]


class MixLoss(NamedTuple):
    """The mixture, its two parts, and the logits of MBC to watch learning by. [N, 1 + K], positive first."""

    total: Tensor
    mbc: Tensor
    mac: Tensor
    logits: Tensor


def similarity_logits(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Similarity of each query to its own key, then to every negative.

    Args:
        query: [N, D], normalised.
        key: [N, D], normalised.
        negatives: [D, K].
        temperature: divides every similarity.

    Returns:
        [N, 1 + K].
    """
    positive = (query * key).sum(1, keepdim=True)  # [N, 1]
    return torch.cat([positive, query @ negatives], dim=1) / temperature


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Mean over the batch of -log softmax of the positive (van den Oord et al. 2018). Shapes as above."""
    return _first_is_right(similarity_logits(query, key, negatives, temperature))


def mbc_logits(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """Logits of MBC: embeddings [T, N, D] averaged over time, then normalised. Returns [N, 1 + K]."""
    query, key = F.normalize(z_q.mean(0), dim=1), F.normalize(z_k.mean(0), dim=1)  # [N, D]
    average = queue.mean(1)  # [D, K]
    if negatives == "plain":
        average = F.normalize(average, dim=0)
    return similarity_logits(query, key, average, temperature)


def mbc(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """Mean before criterion: one InfoNCE on embeddings averaged over time."""
    return _first_is_right(mbc_logits(z_q, z_k, queue, temperature, negatives))


def mac(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """Mean after criterion: one InfoNCE at every time step, then the mean over time."""
    query, key = F.normalize(z_q, dim=2), F.normalize(z_k, dim=2)  # [T, N, D]
    every_step = queue.flatten(1)  # [D, T * K]
    losses = [
        info_nce(query[t], key[t], queue[:, t] if negatives == "plain" else every_step, temperature)
        for t in range(len(query))
    ]
    return torch.stack(losses).mean()


def mix_info_nce(
    z_q: Tensor,
    z_k: Tensor,
    queue: Tensor,
    temperature: float,
    alpha: float = 0.5,
    beta: float = 0.5,
    negatives: Negatives = "plain",
) -> MixLoss:
    """`alpha * MBC + beta * MAC`.

    Args:
        z_q: embeddings of the query view, [T, N, D].
        z_k: embeddings of the key view, [T, N, D], without gradient.
        queue: keys of earlier batches, normalised per step, [D, T, K].
        temperature: of the softmax.
        alpha: weight of MBC.
        beta: weight of MAC.
        negatives: which reading of the negatives, see above.
    """
    logits = mbc_logits(z_q, z_k, queue, temperature, negatives)
    before = _first_is_right(logits)
    after = mac(z_q, z_k, queue, temperature, negatives)
    return MixLoss(alpha * before + beta * after, before, after, logits.detach())


def _first_is_right(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
