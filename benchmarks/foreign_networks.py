"""Spiking networks of other libraries, exported as they are: with equal spikes, with flips, or why they are refused.

python -m benchmarks.foreign_networks [NAME ...]   # prints the table of docs/onnx.md

Weights are random (seed 0), batch norms have the statistics of their input and a gain that makes neurons spike. torch's
exporter writes the same networks; both files run in ONNX Runtime on one thread, in turn, and the medians are printed.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnxruntime
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
from benchmarks.onnx_export import torch_export
from benchmarks.timing import rounds
from neuromoco.errors import NeuromocoError

STEPS, BATCH = 4, 2
RUNS = 15
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
    """Norse's cells in a loop over time."""

    def __init__(self) -> None:
        super().__init__()
        import norse.torch as norse

        self.conv, self.head = nn.Conv2d(2, 8, 3), nn.Linear(8 * 14 * 14, 10)
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


class Stepwise(nn.Module):
    """A network of one step per call as one of all steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(x_t) for x_t in x])


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def operators(model: onnx.ModelProto) -> int:
    """Operators of a file, with those of its functions where they are called."""
    bodies = {(one.domain, one.name): one for one in model.functions}

    def count(nodes: Any) -> int:
        inner = ((bodies.get((node.domain, node.op_type)), node) for node in nodes)
        return sum(count(body.node) if body is not None else 1 for body, _ in inner)

    return count(model.graph.node)


def row(name: str, place: Path) -> str:
    """A line of the table."""
    build, example, options = NETWORKS[name]
    torch.manual_seed(0)
    try:
        network = lively(build(), example, options.get("steps"))
        report = neuromoco.export(network, example, place / "m.onnx", **options)
    except NeuromocoError as error:
        reason, unknown, _ = str(error).replace("|", "/").partition(": known are")
        return f"| {name} | refused: {reason}{': no rule' if unknown else ''} | | | | |"
    layers = report["parity"]["layers"]
    flipped, compared = (sum(entry[key] for entry in layers) for key in ("flipped", "compared"))
    rate = sum(entry["rate"] * entry["compared"] for entry in layers) / max(1, compared)
    steps = options.get("steps")
    frames = (torch.stack([example] * steps) if steps else example).contiguous()
    functional.reset_net(network)
    compare = beside_torch(Stepwise(network) if steps else network, frames, (place / "m.onnx").read_bytes(), report)
    return (
        f"| {name} | lowers, {flipped:,} of {compared:,} | {rate:.0%}, {report['parity']['largest_error']:.0e} | "
        f"{' | '.join(compare)} |"
    )


def beside_torch(network: nn.Module, frames: Tensor, ours: bytes, report: dict[str, Any]) -> tuple[str, str, str]:
    """Seconds to write, operators and milliseconds of a call, of our file and of that of torch's exporter."""
    own = session(ours)
    seconds, nodes = f"{report['seconds_to_write']:.1f} s", f"{report['nodes']:,}"
    given = frames.numpy()
    begin = time.perf_counter()
    try:
        theirs = torch_export(copy.deepcopy(network), frames)
    except Exception as error:  # of torch, whatever it is
        (own_ms,) = rounds(lambda: own.run(None, {"frames": given}), runs=RUNS)
        reason = f"fails: {type(error).__name__}"
        return f"{seconds}, {reason}", f"{nodes}, -", f"{median(own_ms) * 1e3:.2f} ms, -"
    took = time.perf_counter() - begin
    other = session(theirs.SerializeToString())
    (entry,) = (value.name for value in other.get_inputs())
    own_s, other_s = rounds(
        lambda: own.run(None, {"frames": given}), lambda: other.run(None, {entry: given}), runs=RUNS
    )
    ratio = median(a / b for a, b in zip(own_s, other_s, strict=True))
    return (
        f"{seconds}, {took:.1f} s",
        f"{nodes}, {operators(theirs):,}",
        f"{median(own_s) * 1e3:.2f} ms, {median(other_s) * 1e3:.2f} ms ({ratio:.2f})",
    )


def main(names: list[str]) -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    head = ("network", "spikes and silences that differ", "spike rate, error", "written in", "operators", "a call")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as place:
        for name in names or NETWORKS:
            try:
                print(row(name, Path(place)), flush=True)
            except Exception as error:
                print(f"| {name} | does not run here | {type(error).__name__}: {str(error)[:100]} | | | |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
