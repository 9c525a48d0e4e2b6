"""Gradient checkpointing: the same training with less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from neuromoco import ConfigError
from neuromoco.config import EncoderConfig
from neuromoco.encoders import Encoder, build_encoder, list_encoders
from neuromoco.encoders.blocks import recompute_blocks
from neuromoco.snn.batch_norm import group_batch_norm, sync_batch_norm
from neuromoco.snn.neurons import LIFNode
from tests.helpers.networks import alive, event_frames


def one_step(encoder: Encoder, frames: Tensor) -> tuple[list[Tensor], int]:
    """Features, gradients and buffers of a training step, and the bytes kept for the backward pass."""
    kept = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel() * x.element_size())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        features = encoder.train()(frames)
    features.square().sum().backward()
    gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
    encoder.zero_grad()
    return [features.detach(), *gradients, *(buffer.clone() for buffer in encoder.buffers())], sum(kept)


@pytest.mark.parametrize("kind", ["plain", "groups", "sync"])
@pytest.mark.parametrize("name", list_encoders())
def test_gradients_and_statistics_are_the_same_and_less_is_kept(name: str, kind: str) -> None:
    torch.manual_seed(0)
    frames = event_frames(3, 4, 24)
    encoder = alive(build_encoder(EncoderConfig(name=name)), frames)
    if kind == "groups":
        group_batch_norm(encoder, 2)
    elif kind == "sync":
        sync_batch_norm(encoder)
    again = copy.deepcopy(encoder)
    recompute_blocks(again)
    for _ in range(2):  # the second step has the running statistics of the first behind it
        (usual, much), (actual, little) = one_step(encoder, frames), one_step(again, frames)
        assert len(usual) == len(actual)
        assert all(torch.equal(a, b) for a, b in zip(usual, actual, strict=True))
        assert any(a.abs().sum() > 0 for a in usual[1:])
    assert little < much / 2


def test_evaluation_recomputes_nothing_and_rest_is_rest() -> None:
    frames = event_frames(3, 2, 24)
    encoder = alive(build_encoder(EncoderConfig()), frames)
    before = encoder(frames)
    recompute_blocks(encoder)
    assert torch.equal(encoder(frames), before)
    one_step(encoder, frames)
    assert any(isinstance(m.v, Tensor) for m in encoder.modules() if isinstance(m, LIFNode))
    first, _ = one_step(encoder, frames)
    second, _ = one_step(encoder, frames)
    assert torch.equal(first[0], second[0])


def test_an_encoder_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="not made of blocks; set it to false"):
        recompute_blocks(Encoder(nn.Linear(2, 2), 2, 1))
