"""Spiking networks of other libraries, exported as they are: with equal spikes, with flips, or why they are refused.

python -m benchmarks.foreign_networks [NAME ...]   # prints the table of docs/onnx.md

Weights are random (seed 0), batch norms have the statistics of their input and a gain that makes neurons spike.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
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

import neuromoco
from neuromoco.errors import NeuromocoError

STEPS, BATCH = 4, 2
GAIN = 2.0
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
}


def lively(network: nn.Module, example: Tensor, steps: int | None) -> nn.Module:
    """A network in evaluation mode whose neurons spike."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            if module.affine:
                nn.init.constant_(module.weight, GAIN)
                nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        network(example)
    functional.reset_net(network)
    return network.eval()


def row(name: str, place: Path) -> str:
    """A line of the table."""
    build, example, options = NETWORKS[name]
    torch.manual_seed(0)
    begin = time.perf_counter()
    try:
        network = lively(build(), example, options.get("steps"))
        report = neuromoco.export(network, example, place / "m.onnx", **options)
    except NeuromocoError as error:
        return f"| {name} | refused | {str(error).replace('|', '/')} |"
    layers = report["parity"]["layers"]
    flipped, compared = (sum(entry[key] for entry in layers) for key in ("flipped", "compared"))
    rate = sum(entry["rate"] * entry["compared"] for entry in layers) / max(1, compared)
    seconds = time.perf_counter() - begin
    return (
        f"| {name} | lowers, {flipped:,} of {compared:,} spikes and silences differ | {report['nodes']:,} operators, "
        f"spike rate {rate:.0%}, largest error {report['parity']['largest_error']:.0e}, {seconds:.0f} s |"
    )


def main(names: list[str]) -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    print("| network | result | details |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for name in names or NETWORKS:
            try:
                print(row(name, Path(place)), flush=True)
            except Exception as error:
                print(f"| {name} | does not run here | {type(error).__name__}: {str(error)[:100]} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
