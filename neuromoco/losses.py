"""InfoNCE for embeddings in time, and the mixture that NeuroMoCo trains with (arXiv 2406.06305).

Shapes: T time steps, N batch, D embedding, K queue. Embeddings come unnormalised, [T, N, D], and so
does the queue of keys of earlier batches, [D, T, K]. Every function is pure.

The negatives can be read in two ways; both are available by name:

    "plain"   MBC: the queue's mean over time, normalised, as query and key are.
              MAC: at step t, the queue's keys of step t.
    "group"   MBC: the mean over time of the queue's keys normalised step by step (norm at most 1).
              MAC: at every step, the queue's keys of all T steps.

"plain" reads the text of the method literally; "group" is what public code of the paper's group does.
Both treat the positive alike. "group" averages negatives differently from query and key, so
that even embeddings that are identical for all recordings can lower MBC (`tests/test_losses.py`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Negatives = Literal["plain", "group"]


class MixLoss(NamedTuple):
    """The loss and what it consists of.

    Attributes:
        total: `alpha * mbc + beta * mac`, a scalar.
        mbc: mean before criterion, a scalar.
        mac: mean after criterion, a scalar.
        logits: of MBC, detached, [N, 1 + K], the positive first; for accuracy and similarity metrics.
    """

    total: Tensor
    mbc: Tensor
    mac: Tensor
    logits: Tensor


def similarity_logits(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Similarity of each query to its own key (the positive), then to every negative.

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
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748): mean over the batch of -log softmax of the positive.

    Takes the arguments of `similarity_logits` and returns a scalar.
    """
    return _cross_entropy_of_first(similarity_logits(query, key, negatives, temperature))


def mbc_logits(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """Logits of MBC: embeddings are averaged over time, then normalised.

    Takes the arguments of `mix_info_nce` and returns [N, 1 + K], the positive first.
    """
    query, key = F.normalize(z_q.mean(0), dim=1), F.normalize(z_k.mean(0), dim=1)  # [N, D]
    plain = negatives == "plain"
    others = F.normalize(queue.mean(1), dim=0) if plain else F.normalize(queue, dim=0).mean(1)  # [D, K]
    return similarity_logits(query, key, others, temperature)


def mbc(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """MBC, mean before criterion: one InfoNCE on embeddings averaged over time.

    Takes the arguments of `mix_info_nce` and returns a scalar.
    """
    return _cross_entropy_of_first(mbc_logits(z_q, z_k, queue, temperature, negatives))


def mac(z_q: Tensor, z_k: Tensor, queue: Tensor, temperature: float, negatives: Negatives = "plain") -> Tensor:
    """MAC, mean after criterion: one InfoNCE at every time step, then the mean over time.

    Takes the arguments of `mix_info_nce` and returns a scalar.
    """
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
    """MixInfoNCE, the loss of NeuroMoCo (arXiv 2406.06305): `alpha * MBC + beta * MAC`.

    Args:
        z_q: embeddings of the query view, [T, N, D].
        z_k: embeddings of the key view, [T, N, D], without gradient.
        queue: keys of earlier batches, [D, T, K].
        temperature: divides every similarity.
        alpha: weight of MBC.
        beta: weight of MAC.
        negatives: "plain" or "group", see `neuromoco.losses`.
    """
    logits = mbc_logits(z_q, z_k, queue, temperature, negatives)
    before = _cross_entropy_of_first(logits)
    after = mac(z_q, z_k, queue, temperature, negatives)
    return MixLoss(alpha * before + beta * after, before, after, logits.detach())


def _cross_entropy_of_first(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
