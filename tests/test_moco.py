"""The two encoders and the queue: who learns, who follows, and what is remembered."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuromoco.config import EncoderConfig, MocoConfig
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.losses import mix_info_nce
from neuromoco.moco import MoCo
from neuromoco.neurons import LIFNode

STEPS = 3


class Means(nn.Module):
    """The smallest body: the mean of each polarity."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((3, 4))


def small(**settings: object) -> MoCo:
    torch.manual_seed(0)
    return MoCo(Encoder(Means(), 2, 1), MocoConfig(embed_dim=4, hidden_dim=8, **settings), STEPS)


def real(**settings: object) -> MoCo:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(options={"width": 8}))
    return MoCo(encoder, MocoConfig(embed_dim=8, hidden_dim=16, queue_size=16, **settings), STEPS)


def views(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.poisson(torch.full((STEPS, batch, 2, 16, 16), 0.7), generator=generator) for _ in range(2))


def test_the_loss_is_the_mixture_of_what_both_encoders_give() -> None:
    moco = real(alpha=0.25, beta=1.5, negatives="group", temperature=0.3).eval()
    query, key = views()
    loss, keys = moco(query, key)
    with torch.no_grad():
        z_q, z_k = moco.master(query), moco.follower(key)
    expected = mix_info_nce(z_q, z_k, moco.queue, 0.3, 0.25, 1.5, "group")
    assert loss.total.item() == pytest.approx(expected.total.item(), abs=1e-6)
    assert torch.allclose(keys, z_k)


def test_no_gradient_reaches_the_follower_and_all_of_the_master_learns() -> None:
    moco = real()
    loss, keys = moco(*views())
    loss.total.backward()
    moco.enqueue(keys)
    assert not keys.requires_grad
    assert all(p.grad is None and not p.requires_grad for p in moco.follower.parameters())
    silent = [name for name, p in moco.master.named_parameters() if p.grad is None]
    assert silent == []
    assert sum(p.grad.abs().sum() for p in moco.master.parameters()) > 0


def test_enqueueing_before_backward_does_not_change_the_gradient() -> None:
    gradients = []
    for early in (True, False):
        moco = real()
        loss, keys = moco(*views())
        if early:
            moco.enqueue(keys)
        loss.total.backward()
        gradients.append([p.grad for p in moco.master.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_follower_begins_as_the_master_and_follows_by_the_formula() -> None:
    momentum, steps = 0.9, 7
    moco = small(momentum=momentum)
    start = [p.detach().double().clone() for p in moco.follower.parameters()]
    assert all(torch.equal(k, q) for k, q in zip(moco.follower.parameters(), moco.master.parameters(), strict=True))
    targets = []
    for n in range(steps):
        with torch.no_grad():
            for p in moco.master.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(n)))
        moco.follow()
        targets.append([p.detach().double().clone() for p in moco.master.parameters()])
    for i, theta in enumerate(moco.follower.parameters()):
        # theta_n = m^n theta_0 + (1 - m) sum_j m^(n-1-j) q_j
        closed = momentum**steps * start[i]
        closed = closed + (1 - momentum) * sum(momentum ** (steps - 1 - j) * targets[j][i] for j in range(steps))
        assert torch.allclose(theta.double(), closed, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(1, 25), min_size=1, max_size=8))
def test_the_queue_holds_the_latest_keys_for_any_batch_size(size: int, batches: list[int]) -> None:
    moco = small(queue_size=size)
    before = moco.queue.clone()
    generator = torch.Generator().manual_seed(0)
    given_keys = [torch.randn(STEPS, n, 4, generator=generator) for n in batches]
    for keys in given_keys:
        moco.enqueue(keys)
    everything = torch.cat([before.permute(1, 2, 0), *given_keys], dim=1)  # [T, K + sum, D]
    latest = everything[:, -size:].permute(2, 0, 1)  # [D, T, K]
    oldest_first = torch.roll(moco.queue, -int(moco.pointer), dims=2)
    assert torch.equal(oldest_first, latest)


def test_state_is_reset_before_each_encoder() -> None:
    moco = real().eval()
    query, key = views()
    first = moco(query, key)[0].total
    assert any(isinstance(m.v, torch.Tensor) for m in moco.modules() if isinstance(m, LIFNode))
    assert torch.equal(moco(query, key)[0].total, first)


def test_training_tells_a_batch_from_the_keys_of_another() -> None:
    moco = real()
    optimizer = torch.optim.AdamW(moco.master.parameters(), 3e-3)
    query, key = views(batch=12)
    moco.enqueue(moco(*views(batch=16))[1])
    losses = []
    for _ in range(25):
        loss, _keys = moco(query, key)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        moco.follow()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0] - 0.2
