"""Random networks of known layers, with every option that they have.

python -m tests.graph.random_networks COUNT [FIRST]   # compares many; prints how they end, and each that is wrong
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import ann2snn, functional, layer, neuron, surrogate
from spikingjelly.activation_based.ann2snn.modules import VoltageScaler
from torch import Tensor, nn

from neuromoco.classifier import Classifier
from neuromoco.encoders import Encoder
from neuromoco.errors import UnsupportedLayerError
from neuromoco.export.check.parity import ExportRun, Parity, measure_parity
from neuromoco.export.to_onnx.model import unrolled
from neuromoco.graph.nodes import Graph
from neuromoco.graph.trace import lower
from neuromoco.runtime.onnx_file import OnnxNetwork
from tests.helpers.networks import CLASSES, event_frames, export_header

RECORDINGS = 3
Function = Callable[[Tensor], Tensor]


class Step(nn.Module):
    """A function with the layers that it uses."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


class Draw:
    """Draws the parts of one network."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.channels, self.side, self.steps = 2, self.integer(5, 10), self.integer(1, 6)
        self.first_side = self.side

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *values: object) -> object:
        return values[self.integer(0, len(values) - 1)]

    def flag(self) -> bool:
        return bool(self.integer(0, 1))

    def neurons(self) -> nn.Module:
        common: dict[str, object] = {
            "v_threshold": float(self.rng.uniform(0.2, 1.6)),
            "detach_reset": self.flag(),
            "store_v_seq": self.flag(),
            "v_reset": self.one_of(0.0, 0.0, None),
            "surrogate_function": self.one_of(surrogate.ATan(), surrogate.Sigmoid(2.0), surrogate.PiecewiseQuadratic()),
            "step_mode": "m",
        }
        tau, decay = float(self.one_of(1.1, 4 / 3, 2.0, 3.7, 20.0)), self.flag()  # type: ignore[arg-type]
        kind = self.integer(0, 2)
        if kind == 0:
            return neuron.IFNode(**common)
        if kind == 1:
            return neuron.ParametricLIFNode(init_tau=tau, decay_input=decay, **common)
        return neuron.LIFNode(tau=tau, decay_input=decay, **common)

    def norm(self, channels: int) -> nn.Module:
        options = {"affine": self.flag(), "momentum": self.one_of(1.0, None), "eps": 10.0 ** -self.integer(2, 6)}
        return layer.BatchNorm2d(channels, **options, step_mode="m")

    def conv(self, channels: int, side: int, *, same: bool = False) -> tuple[nn.Module, int, int]:
        groups = int(self.one_of(1, 1, 2, channels))  # type: ignore[call-overload]
        groups = groups if channels % groups == 0 else 1
        outputs = (
            channels if same else groups * int(self.one_of(self.integer(1, max(1, 8 // groups)), 16 // groups or 1))
        )  # type: ignore[call-overload]
        kernel = 3 if same else self.integer(1, 3)
        stride, dilation = (1, 1) if same else (self.integer(1, 2), self.integer(1, 2))
        padding = 1 if same else self.integer(0, 2)
        after = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if after < 1:
            return self.conv(channels, side, same=True)
        sizes = (channels, outputs, kernel, stride, padding, dilation, groups)
        return layer.Conv2d(*sizes, bias=self.flag(), step_mode="m"), outputs, after

    def residual(self) -> nn.Module:
        conv, _, _ = self.conv(self.channels, self.side, same=True)
        parts = [conv, self.norm(self.channels), self.neurons()]
        join: Callable[[Tensor, Tensor], Tensor] = self.one_of(  # type: ignore[assignment]
            lambda a, b: a + b,
            lambda a, b: a * b,
            lambda a, b: a * (1.0 - b),
            lambda a, b: torch.add(a, b, alpha=0.5),
            lambda a, b: torch.sub(a, b, alpha=2),
            lambda a, b: a.clone().add_(b),
        )
        return Step(lambda x, c, n, f: join(x, f(n(c(x)))), *parts)

    def attention(self) -> Iterator[nn.Module]:
        heads = int(self.one_of(1, 2))  # type: ignore[call-overload]
        if self.channels % heads:
            return
        attention = layer.SpikingSelfAttention(self.channels, heads)
        attention.scale = float(self.one_of(0.125, 0.25, 1.0))  # type: ignore[arg-type]
        shape = (self.channels, self.side, self.side)
        yield Step(lambda x, a: a(x.flatten(3)).unflatten(3, shape[1:]) + x, attention)

    def parts(self) -> Iterator[nn.Module]:
        conv, self.channels, self.side = self.conv(self.channels, self.side)
        yield conv
        yield self.norm(self.channels)
        yield self.neurons()
        for _ in range(self.integer(1, 5)):
            yield from self.part()

    def part(self) -> Iterator[nn.Module]:
        channels = self.channels
        match self.integer(0, 17):
            case 0 | 1:
                conv, self.channels, self.side = self.conv(channels, self.side)
                yield conv
                if self.flag():
                    yield self.norm(self.channels)
                yield self.neurons()
            case 2:
                yield self.residual()
            case 3 if self.side > 2:
                kernel, stride, padding = self.integer(2, 3), self.integer(1, 2), self.integer(0, 1)
                yield layer.MaxPool2d(kernel, stride, padding, step_mode="m")
                self.side = (self.side + 2 * padding - kernel) // stride + 1
            case 4 if self.side > 2:
                kernel, stride = self.integer(2, 3), self.integer(1, 3)
                yield layer.AvgPool2d(kernel, stride, count_include_pad=self.flag(), step_mode="m")
                self.side = (self.side - kernel) // stride + 1
            case 5:
                self.side = self.integer(1, self.side)
                yield layer.AdaptiveAvgPool2d(self.side, step_mode="m")
            case 6:
                yield layer.Dropout(0.5, step_mode="m")
                gain, offset = self.rng.uniform(0.5, 2.0), self.rng.uniform(-0.3, 0.3)
                yield Step(lambda x, *_: (x - float(offset)) * float(gain) / 1.3)
            case 7:
                yield Step(lambda x: x.transpose(-1, -2))
                yield self.neurons()
            case 8:
                mix = lambda x, f, n: n(f(x.permute(0, 1, 3, 4, 2))).permute(0, 1, 4, 2, 3)  # noqa: E731
                yield Step(mix, nn.Linear(channels, channels), self.neurons())
            case 9:
                yield from self.attention()
            case 10:
                gain = float(self.rng.uniform(0.5, 2.0))
                yield Step(lambda x: torch.stack([gain * x_t - 0.1 for x_t in x]))
                yield self.neurons()
            case 11:
                yield Step(lambda x: x * torch.linspace(0.5, 1.5, channels).view(-1, 1, 1))
            case 12:
                node = self.neurons()
                node.step_mode = "s"  # type: ignore[assignment]
                node.store_v_seq = False
                yield Step(lambda x, n: torch.cat([n(x[t] * 1.1).unsqueeze(0) for t in range(x.shape[0])]), node)
            case 13:
                inner = nn.Conv2d(channels, channels, 3, padding="same", bias=self.flag())
                yield layer.SeqToANNContainer(inner, nn.BatchNorm2d(channels))
                yield self.neurons()
            case 14:
                parts, axis = self.integer(1, channels), self.integer(2, 4)
                yield Step(lambda x: torch.cat(x.chunk(parts, axis)[::-1], axis))
            case 15:
                axis = self.integer(2, 4)
                yield Step(lambda x: x + 0.3 * x.sum(axis, keepdim=True) - x.mean((-1, -2), keepdim=True))
                yield self.neurons()
            case 16:
                gain = float(self.rng.uniform(0.1, 0.5))
                yield Step(lambda x: gain * (x.mT @ x))
                yield self.neurons()
            case _:
                yield from self.further()

    def further(self) -> Iterator[nn.Module]:
        """Parts that came later, and leave most networks of earlier numbers as they were."""
        channels = self.channels
        match self.integer(0, 4):
            case 0:
                yield Step(lambda x, n: torch.stack([n(1.2 * x_t) for x_t in x]), self.snntorch())
            case 1:
                scaler = ann2snn.ChannelVoltageScaler(torch.rand(channels) + 0.5, step_mode="m")
                yield self.one_of(scaler, VoltageScaler(0.7, step_mode="m"))  # type: ignore[misc]
                yield self.neurons()
            case 2:
                gains = torch.linspace(0.2, 0.6, channels).view(-1, 1, 1)
                yield Step(lambda x: x.sum(2, keepdim=True) * gains)
                yield self.neurons()
            case 3:  # two results that nobody reads
                yield Step(lambda x: (torch.sort(x, -1), (x > 0.5).float() * 2.0, x)[2])
            case _:
                yield self.neurons()

    def snntorch(self) -> nn.Module:
        snntorch = pytest.importorskip("snntorch")
        options: dict[str, object] = {
            "beta": float(self.rng.uniform(0.1, 1.0)),
            "threshold": float(self.rng.uniform(0.2, 1.6)),
            "init_hidden": True,
        }
        if self.flag():
            return snntorch.Synaptic(alpha=float(self.rng.uniform(0.0, 1.0)), **options)
        return snntorch.Leaky(reset_mechanism=self.one_of("zero", "subtract"), **options)

    def end(self) -> nn.Module:
        return Step(
            self.one_of(
                lambda x: x.flatten(2),
                lambda x: x.flatten(3).mean(-1),
                lambda x: x.mean((3, 4)),
                lambda x: x.sum([-1, -2]),
                lambda x: x.mean(2).flatten(2),
            )
        )  # type: ignore[arg-type]

    def body(self) -> nn.Module:
        parts = list(self.parts())
        return nn.Sequential(*parts, self.end())


def wrapped(body: nn.Module, frames: Tensor) -> Classifier:
    """A classifier of a body, whose batch norms have the statistics of their inputs, so that neurons spike."""
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.constant_(module.weight, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        width = body.train()(frames).shape[-1]
    functional.reset_net(body)
    return Classifier(Encoder(body, width, smallest=1), len(CLASSES)).eval()


def compare(seed: int) -> tuple[Graph, Parity]:
    """A random network's graph, and how its ONNX file compares with it; raises as `lower` does."""
    draw = Draw(seed)
    torch.manual_seed(seed)
    body, side, steps = draw.body(), draw.first_side, draw.steps
    network = wrapped(body, event_frames(max(2, steps), 2, side, seed))
    graph = lower(network, side, side, steps)
    onnx = OnnxNetwork(unrolled(graph, export_header(steps, side), taps=True).SerializeToString())
    runs = []
    for number in range(RECORDINGS):
        frames = event_frames(steps, 1, side, seed + number).numpy()
        found = onnx.run({"frames": frames})
        runs.append(ExportRun(frames, found["logits_per_step"], found, found["logits_per_step"]))
    return graph, measure_parity(network, graph, runs)


def main(count: int, first: int = 0) -> None:
    """Compares networks and prints how they end."""
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        try:
            parity = compare(seed)[1]
        except UnsupportedLayerError as error:
            ends["refused"] += 1
            print(f"{seed}: refused: {error}", flush=True)
            continue
        if parity.problem:
            ends["wrong or a false alarm"] += 1
            print(f"{seed}: {parity.problem}", flush=True)
        ends["equal spikes" if not parity.recordings_with_flips else "flips, each by rounding"] += 1
    print(dict(ends))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
