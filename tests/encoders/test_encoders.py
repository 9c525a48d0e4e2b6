"""Every registered encoder: shapes, gradients, state, names; and the two big ones after their papers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuromoco.config import EncoderConfig, NeuronConfig
from neuromoco.encoders import Encoder, build_encoder, describe_encoders, list_encoders, register_encoder
from neuromoco.encoders.sew_resnet import CONNECTS, STEMS
from neuromoco.errors import ConfigError
from neuromoco.snn.neurons import reset_state

NAMES = list(list_encoders())


def frames(steps: int = 2, batch: int = 2, side: int = 34) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.poisson(torch.full((steps, batch, 2, side, side), 0.5), generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_features_and_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=name))
    features = encoder(frames())
    assert features.shape == (2, 2, encoder.feature_dim)
    features.square().sum().backward()
    unused = [key for key, parameter in encoder.named_parameters() if parameter.grad is None]
    assert unused == []  # nothing is declared and never used


@pytest.mark.parametrize("name", NAMES)
def test_every_call_starts_from_rest_and_recordings_do_not_mix(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=name)).eval()
    with torch.no_grad():
        x = frames(batch=3)
        first = encoder(x)
        assert torch.equal(encoder(x), first)
        alone = encoder(x[:, 1:2])
    assert torch.allclose(alone, first[:, 1:2], atol=1e-5)


def test_sizes_are_the_published_ones() -> None:
    sizes = {row["name"]: row["parameters"] for row in describe_encoders()}
    assert sizes["sew_resnet18"] == pytest.approx(11.2e6, rel=0.01)
    assert sizes["spikformer_2_256"] == pytest.approx(2.57e6, rel=0.01)
    assert sizes["sew_resnet_tiny"] < 1e5
    assert sizes["spikformer_tiny"] < 1e5
    assert sizes["chain_tiny"] == pytest.approx(7e4, rel=0.01)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("connect", CONNECTS)
def test_sew_stems_and_connections(stem: str, connect: str) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(name="sew_resnet18", options={"stem": stem, "connect": connect, "width": 8})
    features = build_encoder(config)(frames(side=48))
    assert features.shape == (2, 2, 64)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("connect", CONNECTS)
def test_a_new_block_passes_its_shortcut(connect: str) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(options={"connect": connect})
    block = build_encoder(config).body.stages[0]
    spikes = (torch.rand(3, 2, 16, 5, 5) < 0.3).float()
    assert torch.equal(block(spikes), spikes)


def test_add_counts_and_the_others_stay_binary() -> None:
    for connect, largest in (("ADD", 2.0), ("AND", 1.0), ("IAND", 1.0)):
        torch.manual_seed(0)
        block = build_encoder(EncoderConfig(options={"connect": connect})).body.stages[0]
        nn.init.constant_(block.bn2.bias, 3.0)  # the residual branch fires at every step
        assert block(torch.ones(2, 1, 16, 5, 5)).max() == (largest if connect != "IAND" else 0.0)


def test_attention_is_the_published_product() -> None:
    torch.manual_seed(0)
    attention = build_encoder(EncoderConfig(name="spikformer_tiny")).body.blocks[0].attn
    x = (torch.rand(2, 3, 64, 25) < 0.4).float()  # [T, N, C, L]
    # In training mode batch norm uses the batch, so that an untrained layer spikes.
    seen: list[torch.Tensor] = []
    attention.attn_lif.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    with torch.no_grad():
        attention(x)
        reset_state(attention)
        spikes = attention.qkv_lif(attention.qkv_conv_bn(x))  # [T, N, 3C, L]
    q, k, v = (part.unflatten(2, (4, 16)).transpose(-1, -2) for part in spikes.chunk(3, dim=2))  # [T, N, heads, L, d]
    product = (q @ k.transpose(-1, -2)) @ v * 0.25  # [T, N, heads, L, d]
    assert product.abs().sum() > 0
    assert torch.equal(seen[0], product.transpose(-1, -2).reshape(seen[0].shape))
    assert attention.attn_lif.v_threshold == 0.5


def test_a_chain_is_one_and_every_layer_of_it_spikes() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="chain_tiny"))
    layers = list(encoder.body.layers)
    for conv, norm, node in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
        assert (conv.kernel_size, conv.groups, conv.bias) == ((3, 3), 1, None)
        assert conv.out_channels == norm.num_features < 128
        assert node.v_reset == 0.0
    rates: list[float] = []
    for node in layers[2::3]:
        node.register_forward_hook(lambda _m, _i, spikes: rates.append(float(spikes.mean())))
    with torch.no_grad():
        encoder(frames())
    assert len(rates) == 5
    assert all(0.02 < rate < 0.5 for rate in rates)


def test_surrogate_and_tau_reach_every_neuron() -> None:
    neuron = NeuronConfig(tau=3.0, surrogate="sigmoid")
    for name in NAMES:
        nodes = [m for m in build_encoder(EncoderConfig(name=name, neuron=neuron)).modules() if hasattr(m, "tau")]
        assert nodes
        for node in nodes:
            assert (node.tau, node.v_reset, node.detach_reset) == (3.0, 0.0, True)
            assert type(node.surrogate_function).__name__ == "Sigmoid"


def test_mistakes_name_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"no encoder named 'resnet'; known are chain_tiny, sew_resnet18, "):
        build_encoder(EncoderConfig(name="resnet"))
    with pytest.raises(ConfigError, match="has no option 'depth'; it has stem, connect, width"):
        build_encoder(EncoderConfig(options={"depth": 3}))
    with pytest.raises(ConfigError, match="allowed are ADD, AND, IAND"):
        build_encoder(EncoderConfig(options={"connect": "OR"}))
    with pytest.raises(ConfigError, match="a layer of 128 channels; a chain has fewer than 128 in each"):
        build_encoder(EncoderConfig(name="chain_tiny", options={"width": 32}))
    with pytest.raises(ConfigError, match="must divide"):
        build_encoder(EncoderConfig(name="spikformer_tiny", options={"heads": 7}))
    with pytest.raises(ConfigError, match=r"takes \[T, N, 2, H, W\] with H and W of at least 8"):
        build_encoder(EncoderConfig())(frames(side=4))


def test_a_registered_encoder_is_found_and_a_name_is_taken_once() -> None:
    def sew_resnet_tiny(neuron: NeuronConfig) -> Encoder:
        """A second one."""
        raise AssertionError

    with pytest.raises(ConfigError, match="registered already"):
        register_encoder(sew_resnet_tiny)
