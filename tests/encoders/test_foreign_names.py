"""Weights of other projects load into our encoders by their names, and compute there what they computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import sew_resnet, spikformer
from torch import Tensor, nn

from neuromoco.config import EncoderConfig
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.encoders.foreign_names import Origin, load_foreign
from neuromoco.errors import CheckpointError
from tests.helpers.networks import alive

STEPS, BATCH = 2, 2


def frames(side: int = 32) -> Tensor:
    return torch.poisson(torch.full((STEPS, BATCH, 2, side, side), 0.5), generator=torch.Generator().manual_seed(0))


def encoder(name: str, **options: Any) -> Encoder:
    torch.manual_seed(1)
    return build_encoder(EncoderConfig(name=name, options=options)).eval()


def jelly_resnet() -> nn.Module:
    """spikingjelly's SEW-ResNet-18 on two polarities, with our neurons, which spike."""
    torch.manual_seed(0)
    network = sew_resnet.sew_resnet18(cnf="ADD", num_classes=3, spiking_neuron=neuron.LIFNode)
    network.conv1 = type(network.conv1)(2, 64, 7, 2, 3, bias=False)
    functional.set_step_mode(network, "m")
    alive(network, frames())
    functional.reset_net(network)
    return network.eval()


def features_of(network: nn.Module, last: str) -> Tensor:
    """What goes into the last layer of a network, [T, N, D]."""
    given = []
    network.get_submodule(last).register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        network(frames())
    return given[0]


def as_published(name: str) -> str:
    """The name of a tensor of spikingjelly's SEW-ResNet in the code of the paper."""
    if name.startswith("layer"):
        for part in ("1", "2"):
            name = name.replace(f".conv{part}.", f".conv{part}.module.0.")
            name = name.replace(f".bn{part}.", f".conv{part}.module.1.")
        name = name.replace(".downsample.", ".downsample.0.module.")
    return name


@pytest.mark.parametrize("published", [False, True])
def test_a_sew_resnet_computes_the_same_features(published: bool) -> None:
    network = jelly_resnet()
    stored = {as_published(name) if published else name: tensor for name, tensor in network.state_dict().items()}
    assert any(".module." in name for name in stored) == published
    own = encoder("sew_resnet18", stem="imagenet")
    loaded = load_foreign(own, stored, "spikingjelly", "w.pth")
    assert (loaded.unused, loaded.fresh) == (("fc.bias", "fc.weight"), ())
    wanted = features_of(network, "fc")
    assert wanted.std() > 0.01
    with torch.no_grad():
        assert torch.equal(own(frames()), wanted)


def test_what_has_no_place_is_named() -> None:
    network = sew_resnet.sew_resnet18(cnf="ADD", num_classes=3, spiking_neuron=neuron.ParametricLIFNode)
    own = encoder("sew_resnet18", stem="imagenet")
    before = own.body.state_dict()["stem.0.weight"].clone()
    loaded = load_foreign(own, network.state_dict(), "spikingjelly", "w.pth")
    assert loaded.fresh == ("stem.0.weight ([64, 3, 7, 7] in the file, [64, 2, 7, 7] here)",)
    assert "layer1.0.sn1.w" in loaded.unused
    assert torch.equal(own.body.state_dict()["stem.0.weight"], before)
    assert str(loaded).startswith("119 tensors by their names; not used: fc.bias, fc.weight, layer1.0.sn1.w")
    assert "left as they begin: stem.0.weight ([64, 3, 7, 7]" in str(loaded)


def test_a_spikformer_of_spikingjelly_loads_and_says_what_is_otherwise() -> None:
    network = spikformer.Spikformer(
        T=STEPS, in_channels=2, img_size_h=64, img_size_w=64, embed_dims=256, num_heads=16, depths=2, num_classes=3
    )
    own = encoder("spikformer_2_256")
    loaded = load_foreign(own, network.state_dict(), "spikingjelly", "w.pth")
    assert (loaded.unused, loaded.fresh) == (("head.bias", "head.weight"), ())
    assert "outputs differ" in str(loaded)
    weight = network.state_dict()["blocks.1.mlp.fc2.0.weight"]
    assert torch.equal(own.body.state_dict()["blocks.1.mlp.fc2.0.weight"], weight)


class Attention(nn.Module):
    """Spiking self-attention with the names of the paper's code, [T, N, D, L] -> [T, N, D, L]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "proj"):
            self.add_module(f"{name}_conv", nn.Conv1d(dim, dim, 1, bias=name == "proj"))
            self.add_module(f"{name}_bn", nn.BatchNorm1d(dim))
            self.add_module(f"{name}_lif", fires())
        self.attn_lif = fires(v_threshold=0.5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (spikes(self, name, x).unflatten(2, (self.heads, -1)).transpose(-1, -2) for name in "qkv")
        mixed = 0.25 * (q @ k.transpose(-1, -2)) @ v
        return spikes(self, "proj", self.attn_lif(mixed.transpose(-1, -2).flatten(2, 3)))


class Perceptron(nn.Module):
    """The two layers behind attention, with biases."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name, sizes in (("fc1", (dim, 4 * dim)), ("fc2", (4 * dim, dim))):
            self.add_module(f"{name}_conv", nn.Conv1d(*sizes, 1))
            self.add_module(f"{name}_bn", nn.BatchNorm1d(sizes[1]))
            self.add_module(f"{name}_lif", fires())

    def forward(self, x: Tensor) -> Tensor:
        return spikes(self, "fc2", spikes(self, "fc1", x))


class Patches(nn.Module):
    """The stem: four convolutions with neurons, pooled, and the position convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = [2, dim // 8, dim // 4, dim // 2, dim]
        for i, number in enumerate(("", "1", "2", "3")):
            self.add_module(f"proj_conv{number}", nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, bias=False))
            self.add_module(f"proj_bn{number}", nn.BatchNorm2d(widths[i + 1]))
            self.add_module(f"proj_lif{number}", fires())
        self.rpe_conv, self.rpe_bn = nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim)
        self.rpe_lif = fires()

    def forward(self, x: Tensor) -> Tensor:
        for number in ("", "1", "2", "3"):
            x = spikes(self, "proj", x, number)
            x = nn.functional.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, (STEPS, -1))
        return (x + spikes(self, "rpe", x)).flatten(3)


class Published(nn.Module):
    """A Spikformer with the names of the paper's code, and the parameters that it declares and does not use."""

    def __init__(self, dim: int = 256, heads: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.patch_embed = Patches(dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, dim))
        self.block = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.attn, block.mlp = Attention(dim, heads), Perceptron(dim)
            block.norm1, block.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.block.append(block)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.block:
            x = x + block.attn(x)
            x = x + block.mlp(x)
        features: Tensor = self.head(x.mean(3))
        return features


def fires(**options: Any) -> nn.Module:
    return neuron.LIFNode(step_mode="m", **options)


def spikes(module: nn.Module, name: str, x: Tensor, number: str = "") -> Tensor:
    """Convolution, batch norm and neurons of one name, [T, N, ...]."""
    convolution, norm, lif = (module.get_submodule(f"{name}_{part}{number}") for part in ("conv", "bn", "lif"))
    fired: Tensor = lif(norm(convolution(x.flatten(0, 1))).unflatten(0, x.shape[:2]))
    return fired


def test_a_published_spikformer_computes_the_same_features() -> None:
    torch.manual_seed(0)
    network = Published()
    alive(network, frames())
    functional.reset_net(network)
    for parameter in (p for name, p in network.named_parameters() if name.endswith("_conv.bias")):
        nn.init.normal_(parameter, std=0.3)
    own = encoder("spikformer_2_256")
    loaded = load_foreign(own, network.eval().state_dict(), "spikformer", "w.pth")
    assert (loaded.unused, loaded.fresh) == (("head.bias", "head.weight"), ())
    wanted = features_of(network, "head")
    assert wanted.std() > 0.01
    with torch.no_grad():
        assert own(frames()) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("origin", "stored", "line"),
    [
        ("spikingjelly", {"a": torch.ones(2)}, "w.pth: 0 of the encoder's .* the first that is not: stem.0.weight"),
        ("spikformer", {"block.0.attn.q_conv.weight": torch.ones(())}, "w.pth: 0 of the encoder's "),
        (
            "spikformer",
            {f"block.0.attn.{one}_conv.weight": torch.ones(*(2,) * (1 + (one == "k"))) for one in "qkv"},
            "w.pth: is no network of spikformer",
        ),
    ],
)
def test_other_weights_are_refused_in_one_line(origin: Origin, stored: dict[str, Tensor], line: str) -> None:
    with pytest.raises(CheckpointError, match=line):
        load_foreign(encoder("spikformer_2_256"), stored, origin, "w.pth")
