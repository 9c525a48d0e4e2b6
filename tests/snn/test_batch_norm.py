"""Batch norm in groups and over processes: closed forms, and that weights and evaluation are those of the plain one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from neuromoco.config import EncoderConfig
from neuromoco.encoders import build_encoder, list_encoders
from neuromoco.snn.batch_norm import average_running_statistics, group_batch_norm, sync_batch_norm
from tests.helpers.networks import event_frames

T, N, C, G = 3, 6, 4, 3


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(C)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm)


def batch() -> Tensor:
    return 2.0 * torch.randn(T, N, C, 5, 5, generator=torch.Generator().manual_seed(1)) + 1.0


def test_groups_are_normalised_each_by_itself() -> None:
    net, x = plain(), batch()
    alone = [copy.deepcopy(net) for _ in range(G)]
    expected = torch.empty_like(x)
    for g, own in enumerate(alone):
        expected[:, g::G] = own(x[:, g::G].flatten(0, 1)).unflatten(0, (T, -1))
    group_batch_norm(net, G)
    assert torch.allclose(net(x), expected, atol=1e-5)
    for name in ("running_mean", "running_var"):  # the mean over the groups
        mean = torch.stack([getattr(own[0], name) for own in alone]).mean(0)
        assert torch.allclose(getattr(net[0], name), mean, atol=1e-6)
    assert int(net[0].num_batches_tracked) == 1


def test_in_one_process_sync_is_plain_with_its_gradient() -> None:
    net, x = plain(), batch()
    sync = copy.deepcopy(net)
    sync_batch_norm(sync)
    results = []
    for one, shape in ((net, (T * N, C, 5, 5)), (sync, x.shape)):
        y = x.clone().requires_grad_()
        answer = one(y.view(shape)).view(x.shape)
        answer.sigmoid().sum().backward()
        results.append([answer, y.grad, one[0].weight.grad, one[0].bias.grad, *one[0].buffers()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", list_encoders())
def test_names_weights_and_evaluation_stay(name: str) -> None:
    torch.manual_seed(0)
    encoder, frames = build_encoder(EncoderConfig(name=name)), event_frames(2, 4, 24)
    before, state = encoder.eval()(frames), copy.deepcopy(encoder.state_dict())
    for change in (lambda net: group_batch_norm(net, 2), sync_batch_norm):
        change(encoder)
        assert encoder.state_dict().keys() == state.keys()
        assert torch.equal(encoder.eval()(frames), before)
        build_encoder(EncoderConfig(name=name)).load_state_dict(encoder.state_dict())
    with torch.no_grad():  # in training all kinds of layers take it: [T, N, C, H, W] and [T * N, C, L]
        group_batch_norm(encoder, 2)
        encoder.train()(frames)
    counted = [value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")]
    assert all(int(value) == 1 for value in counted)


def test_sharing_statistics_changes_nothing_in_one_process() -> None:
    net = plain()
    net(batch().flatten(0, 1))
    before = [buffer.clone() for buffer in net.buffers()]
    average_running_statistics(net)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before, strict=True))
