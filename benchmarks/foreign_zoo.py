"""Spiking networks of other libraries as they are built there, each with an example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import (
    maxformer,
    ms_resnet,
    parametric_lif_net,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
    spiking_resnet,
    spiking_vgg,
)
from torch import Tensor, nn

STEPS, BATCH = 4, 2
Build = Callable[[], nn.Module]


def noise(channels: int, side: int) -> Tensor:
    """Event counts [T, N, C, H, W]."""
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((STEPS, BATCH, channels, side, side), 0.5), generator=generator)


def multi_step(build: Callable[..., nn.Module], *args: Any, node: Any = neuron.LIFNode, **options: Any) -> Build:
    """A model of spikingjelly's in step mode "m"."""

    def built() -> nn.Module:
        network = build(*args, spiking_neuron=node, **options)
        functional.set_step_mode(network, "m")
        return network

    return built


def transformer(build: Callable[..., nn.Module], **options: Any) -> Build:
    return lambda: build(T=STEPS, img_size_h=32, img_size_w=32, num_classes=10, **options)


def plain(node: Callable[[], nn.Module], mode: str) -> Build:
    """Two convolutions with these neurons, and a head."""

    def built() -> nn.Module:
        network = nn.Sequential(
            layer.Conv2d(2, 16, 3, padding=1),
            node(),
            layer.MaxPool2d(2),
            layer.Conv2d(16, 16, 3, padding=1),
            node(),
            layer.Flatten(),
            layer.Linear(16 * 8 * 8, 10),
        )
        functional.set_step_mode(network, mode)
        return network

    return built


def snntorch_leaky(reset: str) -> Build:
    def built() -> nn.Module:
        import snntorch

        leaky = lambda: snntorch.Leaky(beta=0.9, reset_mechanism=reset, init_hidden=True)  # noqa: E731
        return nn.Sequential(nn.Conv2d(2, 8, 3), leaky(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))

    return built


class HandedOn(nn.Module):
    """snnTorch's neurons in a loop over time that hands their membranes on."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch

        self.conv, self.head = nn.Conv2d(2, 8, 3), nn.Linear(8 * 14 * 14, 10)
        self.one, self.two = snntorch.Leaky(beta=0.9, threshold=0.5), snntorch.Leaky(beta=0.7, threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.one.init_leaky(), self.two.init_leaky()
        spikes = []
        for x_t in x:
            hidden, first = self.one(self.conv(x_t), first)
            out, second = self.two(self.head(hidden.flatten(1)), second)
            spikes.append(out)
        return torch.stack(spikes)


def snntorch_synaptic() -> nn.Module:
    import snntorch

    synaptic = snntorch.Synaptic(alpha=0.8, beta=0.9, init_hidden=True)
    return nn.Sequential(nn.Conv2d(2, 8, 3), synaptic, nn.Flatten(), nn.Linear(8 * 14 * 14, 10))


def converted(**options: Any) -> Build:
    """A convolutional network with ReLUs that spikingjelly converted."""

    def built() -> nn.Module:
        from spikingjelly.activation_based import ann2snn

        convolutions = (
            nn.Conv2d(2, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
        )
        ann = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16 * 5 * 5, 10)).eval()
        data = [(x, torch.zeros(len(x))) for x in SMALL]
        return ann2snn.FXConverter(ann2snn.RateCodingRecipe(dataloader=data, **options)).convert(ann)

    return built


class NorseCells(nn.Module):
    """Norse's cells, with a current and without, in a loop over time, for frames of this side."""

    def __init__(self, side: int = 16) -> None:
        super().__init__()
        import norse.torch as norse

        self.conv, self.head = nn.Conv2d(2, 8, 3), nn.Linear(8 * (side - 2) ** 2, 10)
        self.one = norse.LIFCell(p=norse.LIFParameters(v_th=torch.as_tensor(0.1)))
        self.two = norse.LIFBoxCell(p=norse.LIFBoxParameters(v_th=torch.as_tensor(0.02)))

    def forward(self, x: Tensor) -> Tensor:
        first, second, spikes = None, None, []
        for x_t in x:
            hidden, first = self.one(self.conv(x_t), first)
            out, second = self.two(self.head(hidden.flatten(1)), second)
            spikes.append(out)
        return torch.stack(spikes)


def sinabs_layers(spike: str) -> Build:
    """sinabs' neurons on [N * T, ...]."""

    def built() -> nn.Module:
        from sinabs import activation, layers

        fires = lambda: layers.IAFSqueeze(num_timesteps=STEPS, spike_fn=getattr(activation, spike), spike_threshold=0.3)  # noqa: E731
        first = (nn.Flatten(0, 1), nn.Conv2d(2, 8, 3), fires(), nn.AvgPool2d(2), nn.Flatten())
        return nn.Sequential(*first, nn.Linear(8 * 7 * 7, 10), fires(), nn.Unflatten(0, (-1, STEPS)))

    return built


EVENTS, SMALL, PICTURES, TINY = noise(2, 34), noise(2, 16), noise(3, 32), noise(3, 16)
SLIM: dict[str, Any] = {"num_classes": 10, "embed_dims": 64}
NETWORKS: dict[str, tuple[Build, Tensor, dict[str, Any]]] = {
    **{
        f"spikingjelly {name}, {connect}": (
            multi_step(getattr(sew_resnet, name), cnf=connect, num_classes=10),
            TINY,
            {},
        )
        for name, connect in (
            ("sew_resnet18", "ADD"),
            ("sew_resnet18", "AND"),
            ("sew_resnet34", "IAND"),
            ("sew_resnet50", "ADD"),
        )
    },
    **{
        f"spikingjelly {name}": (multi_step(getattr(spiking_resnet, name), num_classes=10), TINY, {})
        for name in ("spiking_resnet18", "spiking_resnet34")
    },
    **{
        f"spikingjelly {name}": (multi_step(getattr(spiking_vgg, name), num_classes=10), PICTURES, {})
        for name in ("spiking_vgg11_bn",)
    },
    "spikingjelly CIFAR10Net": (multi_step(parametric_lif_net.CIFAR10Net, channels=16), PICTURES, {}),
    "spikingjelly NMNISTNet, PLIF": (
        multi_step(parametric_lif_net.NMNISTNet, channels=16, node=neuron.ParametricLIFNode),
        EVENTS,
        {},
    ),
    "spikingjelly MNISTNet": (multi_step(parametric_lif_net.MNISTNet, channels=16), noise(1, 28), {}),
    "spikingjelly DVSGestureNet": (multi_step(parametric_lif_net.DVSGestureNet, channels=8), noise(2, 128), {}),
    "spikingjelly Spikformer": (
        transformer(spikformer.Spikformer, patch_size=4, embed_dims=64, num_heads=4, depths=1),
        PICTURES,
        {},
    ),
    "spikingjelly ms_resnet18": (multi_step(ms_resnet.ms_resnet18, num_classes=10), TINY, {}),
    "spikingjelly QKFormer": (
        multi_step(qkformer.QKFormer, **SLIM, num_heads=(1, 2, 4), depths=(1, 1, 1)),
        PICTURES,
        {},
    ),
    "spikingjelly SpikeDrivenTransformer": (
        multi_step(spike_driven_transformer.SpikeDrivenTransformer, **SLIM, num_heads=4, depths=1),
        PICTURES,
        {},
    ),
    "spikingjelly MaxFormer": (multi_step(maxformer.MaxFormer, **SLIM, depths=(1, 1, 1)), PICTURES, {}),
    "spikingjelly LIF, hard reset": (plain(lambda: neuron.LIFNode(tau=1.5, v_threshold=0.3), "m"), SMALL, {}),
    "spikingjelly LIF, soft reset": (plain(lambda: neuron.LIFNode(v_reset=None, v_threshold=0.3), "m"), SMALL, {}),
    "spikingjelly IF, soft reset (as of ANN2SNN)": (plain(lambda: neuron.IFNode(v_reset=None), "m"), SMALL, {}),
    "spikingjelly PLIF, no decay of inputs": (
        plain(lambda: neuron.ParametricLIFNode(decay_input=False), "m"),
        SMALL,
        {},
    ),
    "spikingjelly LIF, one step per call": (
        plain(lambda: neuron.LIFNode(v_threshold=0.3), "s"),
        SMALL[0],
        {"steps": STEPS},
    ),
    "spikingjelly IF, soft reset, one step per call": (
        plain(lambda: neuron.IFNode(v_reset=None), "s"),
        SMALL[0],
        {"steps": STEPS},
    ),
    "spikingjelly QIF": (plain(neuron.QIFNode, "m"), SMALL, {}),
    "snnTorch Leaky, reset by subtraction": (snntorch_leaky("subtract"), SMALL[0], {"steps": STEPS}),
    "snnTorch Leaky, reset to zero": (snntorch_leaky("zero"), SMALL[0], {"steps": STEPS}),
    "snnTorch Leaky, membranes handed on": (HandedOn, SMALL, {}),
    "snnTorch Synaptic": (snntorch_synaptic, SMALL[0], {"steps": STEPS}),
    "sinabs IAF, one spike a step": (sinabs_layers("SingleSpike"), SMALL.transpose(0, 1), {"layout": "NT"}),
    "sinabs IAF, several spikes a step": (sinabs_layers("MultiSpike"), SMALL.transpose(0, 1), {"layout": "NT"}),
    "Norse LIFCell, LIFBoxCell": (NorseCells, SMALL, {}),
    "spikingjelly ANN2SNN, one scale a layer": (converted(mode="Max"), SMALL[0], {"steps": STEPS}),
    "spikingjelly ANN2SNN, a scale a channel": (
        converted(mode="99.9%", channel_wise=True),
        SMALL[0],
        {"steps": STEPS},
    ),
}
