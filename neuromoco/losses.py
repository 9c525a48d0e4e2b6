"""InfoNCE for embeddings in time, and the mixture that NeuroMoCo trains with (arXiv 2406.06305).

Shapes: T time steps, N batch, D embedding, K queue. Embeddings come unnormalised, [T, N, D], and so
does the queue of keys of earlier batches, [D, T, K]. Every function is pure.

Two readings of which keys are negatives exist and both are offered by name:

    "plain"   MBC: the queue's mean over time, normalised, as query and key are.
              MAC: at step t, the queue's keys of step t.
    "group"   MBC: the mean over time of the queue's keys normalised step by step (norm at most 1).
              MAC: at every step, the queue's keys of all T steps.

"plain" is the text of the method read literally; "group" is what public code of the paper's group does.
The two treat the positive alike. In "group", negatives are averaged otherwise than query and key, so
that even embeddings that are the same for all recordings can lower MBC (`tests/test_losses.py`).
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
    plain = negatives == "plain"
    others = F.normalize(queue.mean(1), dim=0) if plain else F.normalize(queue, dim=0).mean(1)  # [D, K]
    return similarity_logits(query, key, others, temperature)


def mbc(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """Mean before criterion: one InfoNCE on embeddings averaged over time."""
    return _first_is_right(mbc_logits(z_q, z_k, queue, temperature, negatives))


def mac(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """Mean after criterion: one InfoNCE at every time step, then the mean over time."""
    query, key = F.normalize(z_q, dim=2), F.normalize(z_k, dim=2)  # [T, N, D]
    others = F.normalize(queue, dim=0)  # [D, T, K]
    every_step = others.flatten(1)  # [D, T * K]
    losses = [
        info_nce(query[t], key[t], others[:, t] if negatives == "plain" else every_step, temperature)
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
        queue: keys of earlier batches, [D, T, K].
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
