"""The query encoder learns by gradient, the key encoder by momentum, and the queue holds the latest keys."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuromoco.config import EncoderConfig, MocoConfig
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.losses import mix_info_nce
from neuromoco.moco import MoCo, Projector
from neuromoco.snn.batch_norm import GroupedBatchNorm
from neuromoco.snn.neurons import LIFNode

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
        z_q, z_k = moco.encoder_q(query), moco.encoder_k(key)
    expected = mix_info_nce(z_q, z_k, moco.queue, 0.3, 0.25, 1.5, "group")
    assert loss.total.item() == pytest.approx(expected.total.item(), abs=1e-6)
    assert torch.allclose(keys, z_k)


def test_no_gradient_reaches_the_key_encoder_and_all_of_the_query_encoder_learns() -> None:
    moco = real(batch_norm_groups=2)
    loss, keys = moco(*views())
    loss.total.backward()
    moco.enqueue(keys)
    assert not keys.requires_grad
    assert all(p.grad is None and not p.requires_grad for p in moco.encoder_k.parameters())
    silent = [name for name, p in moco.encoder_q.named_parameters() if p.grad is None]
    assert silent == []
    assert sum(p.grad.abs().sum() for p in moco.encoder_q.parameters()) > 0


def test_enqueueing_before_backward_does_not_change_the_gradient() -> None:
    gradients = []
    for early in (True, False):
        moco = real(batch_norm_groups=2)
        loss, keys = moco(*views())
        if early:
            moco.enqueue(keys)
        loss.total.backward()
        gradients.append([p.grad for p in moco.encoder_q.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_key_encoder_starts_as_the_query_encoder_and_is_updated_by_the_formula() -> None:
    momentum, steps = 0.9, 7
    moco = small(momentum=momentum)
    start = [p.detach().double().clone() for p in moco.encoder_k.parameters()]
    assert all(torch.equal(k, q) for k, q in zip(moco.encoder_k.parameters(), moco.encoder_q.parameters(), strict=True))
    targets = []
    for n in range(steps):
        with torch.no_grad():
            for p in moco.encoder_q.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(n)))
        moco.update_key_encoder()
        targets.append([p.detach().double().clone() for p in moco.encoder_q.parameters()])
    for i, theta in enumerate(moco.encoder_k.parameters()):
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
    moco = real(batch_norm_groups=2)
    optimizer = torch.optim.AdamW(moco.encoder_q.parameters(), 3e-3)
    query, key = views(batch=12)
    moco.enqueue(moco(*views(batch=16))[1])
    losses = []
    for _ in range(25):
        loss, _keys = moco(query, key)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        moco.update_key_encoder()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize("head", ["plain", "batch_norm"])
def test_shuffled_keys_come_back_in_order_and_meet_others_than_the_query_does(head: str) -> None:
    moco, groups = real(batch_norm_groups=4, head=head), 4
    query, key = views(batch=16)
    plain = [copy.deepcopy(net) for net in (moco.encoder_q, moco.encoder_k)]
    order = copy.deepcopy(moco)._permutation(16)
    z_k = moco.train()(query, key)[1]
    expected = torch.empty_like(z_k)
    for block in order.view(groups, -1):  # a group by itself has the statistics of its members alone
        for norm in plain[1].modules():
            if isinstance(norm, GroupedBatchNorm):
                norm.groups = 1
        expected[:, block] = plain[1](key[:, block])
    assert torch.allclose(z_k, expected, atol=1e-5)
    together = [set(block.tolist()) for block in torch.arange(16).view(groups, -1)]
    assert not any(set(block.tolist()) in together for block in order.view(groups, -1))
    assert not torch.equal(order, moco._permutation(16))  # another one in the next pass
    still = moco.eval()
    assert torch.allclose(still(query, key)[1], still.encoder_k(key), atol=1e-6)


def test_a_head_with_batch_norm_spreads_embeddings_over_steps_and_recordings() -> None:
    torch.manual_seed(0)
    features = torch.randn(STEPS, 8, 2) * 0.01 + 5.0  # nearly the same for all
    plain, normalised = Projector(2, 16, 4), Projector(2, 16, 4, batch_norm=True)
    assert list(plain.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]  # as in earlier checkpoints
    rows = normalised(features).flatten(0, 1)
    assert torch.allclose(rows.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(rows.var(0, correction=0), torch.ones(4), atol=0.1)
    assert plain(features).flatten(0, 1).var(0).max() < 1e-3
    normalised.eval()
    assert torch.allclose(normalised(features)[1], normalised(features[1:2])[0], atol=1e-6)


@pytest.mark.parametrize(("kind", "apart"), [("plain", False), ("sync", False), ("shuffled", True)])
def test_only_shuffling_keeps_the_statistics_of_query_and_key_apart(kind: str, apart: bool) -> None:
    moco = real(batch_norm=kind, batch_norm_groups=8).train()
    same = views(batch=32)[0]
    z_q, z_k = [], moco(same, same)[1]
    handle = moco.encoder_q.register_forward_hook(lambda *call: z_q.append(call[2]))
    with torch.no_grad():
        moco(same, same)
    handle.remove()
    # Both encoders are alike still: only other statistics can make other embeddings of the same frames.
    assert ((z_q[0].mean((0, 1)) - z_k.mean((0, 1))).norm() > 1e-3) == apart


def test_momentum_goes_to_one_on_a_cosine() -> None:
    for done, momentum in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        moco = small(momentum=0.9, momentum_schedule="cosine")
        start = [p.detach().clone() for p in moco.encoder_k.parameters()]
        with torch.no_grad():
            for p in moco.encoder_q.parameters():
                p.add_(1.0)
        moco.update_key_encoder(done)
        for before, after in zip(start, moco.encoder_k.parameters(), strict=True):
            assert torch.allclose(after, before + (1.0 - momentum), atol=1e-6)
    assert small(momentum=0.9).config.momentum_schedule == "constant"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_states_that_call_the_encoders_master_and_follower_load(prefix: str) -> None:
    source, target = real(), real()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    source.enqueue(torch.randn(STEPS, 5, 8))
    state = {
        prefix + name.replace("encoder_q.", "master.").replace("encoder_k.", "follower."): value
        for name, value in source.state_dict().items()
    }
    (nn.ModuleDict({"module": target}) if prefix else target).load_state_dict(state, strict=True)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
