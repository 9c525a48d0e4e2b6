"""Random integer networks: branches, sums, relays, pools, attention, and all options of their blocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.runtime.loihi.blocks import (
    LARGEST_MESSAGE,
    OR,
    READOUT,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Neuron,
    Port,
    Relay,
    Shape,
    conv_shape,
)

DECAYS = (0, 2048, 2048, 2048, 1024, 3072, 1365, 4096, 1, 4095)
MOST_BLOCKS = 12


@dataclass(frozen=True)
class Sum:
    """Spikes that arrive together."""

    names: tuple[str, ...]
    shape: Shape
    depth: int


@dataclass
class Maker:
    """Draws a network, block by block."""

    rng: np.random.Generator
    blocks: list[LoihiBlock] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)

    def graph(self) -> LoihiGraph:
        """A network of a few blocks to some dozens."""
        shape = (2, self.draw(1, 13), self.draw(1, 13))
        self.keep(Port(name="frames", inputs=(), shape=shape, depth=0, largest=LARGEST_MESSAGE))
        self.conv(self.sums[0])
        for _ in range(self.draw(1, MOST_BLOCKS)):
            kind = self.rng.choice(("conv", "conv", "pool", "attention", "add", "add", "relay"))
            getattr(self, kind)(self.sums[self.rng.integers(len(self.sums))])
        self.readout(self.sums[-1])
        return LoihiGraph(tuple(self.blocks))

    def draw(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def keep(self, block: LoihiBlock) -> Sum:
        self.blocks.append(block)
        self.sums.append(Sum((block.name,), block.shape, block.depth))
        return self.sums[-1]

    def place(self, x: Sum, shape: Shape) -> dict[str, Any]:
        return {"name": f"b{len(self.blocks)}", "inputs": x.names, "shape": shape, "depth": x.depth + 1}

    def largest(self, x: Sum) -> int:
        return sum(block.largest for block in self.blocks if block.name in x.names)

    def neuron(self, fan_in: int, x: Sum) -> Neuron:
        size = 20.0 * np.sqrt(fan_in) * (3.0 if self.largest(x) == LARGEST_MESSAGE else 1.0)
        return Neuron(int(self.rng.choice((0.0, 0.3, 1.0, 2.0)) * size), int(self.rng.choice(DECAYS)))

    def geometry(self, shape: Shape, out: int) -> tuple[dict[str, Any], Shape, tuple[int, int]]:
        """Stride, padding and dilation, the shape that they give, and a kernel."""
        while True:
            kernel = self.draw(1, 4), self.draw(1, 4)
            facts = {
                name: (self.draw(low, high), self.draw(low, high))
                for name, low, high in (("stride", 1, 3), ("padding", 0, 2), ("dilation", 1, 2))
            }
            if self.rng.random() < 0.6:
                facts |= {"stride": (self.draw(1, 2), 1), "dilation": (1, 1)}
            found = conv_shape(shape, out, kernel, *facts.values())
            if min(found) >= 1:
                return facts, (found[0], found[1], found[2]), kernel

    def conv(self, x: Sum, channels: int | None = None) -> Sum:
        groups = 1 if channels or self.rng.random() < 0.6 else int(np.gcd(x.shape[0], self.draw(1, 6)))
        out = channels or groups * self.draw(1, 48 // groups)
        facts, shape, kernel = self.geometry(x.shape, out)
        weight = self.rng.integers(-127, 128, (out, x.shape[0] // groups, *kernel)).astype(np.int32)
        weight[self.rng.random(weight.shape) < 0.2] = 0
        weight.flat[0] = 127
        if self.rng.random() < 0.1:
            weight = np.abs(weight)
        bias = self.rng.integers(-99, 100, out).astype(np.int32) if self.rng.random() < 0.6 else None
        neuron = self.neuron(weight[0].size, x)
        return self.keep(
            LoihiConv(**self.place(x, shape), **facts, weight=weight, bias=bias, groups=groups, neuron=neuron)
        )

    def pool(self, x: Sum) -> Sum:
        if x.shape[0] == 0:
            return x
        facts, shape, kernel = self.geometry(x.shape, x.shape[0])
        weight = np.ones((x.shape[0], 1, *kernel), np.int32)
        if self.rng.random() < 0.3:
            weight *= self.rng.integers(1, 127, weight.shape, np.int32)
        neuron = replace(OR, v_decay=int(self.rng.choice(DECAYS)))
        return self.keep(LoihiConv(**self.place(x, shape), **facts, weight=weight, groups=len(weight), neuron=neuron))

    def attention(self, x: Sum) -> Sum:
        heads, width = self.draw(1, 4), self.draw(1, 12)
        source = self.conv(x, 3 * heads * width)
        gain = 1 << self.draw(0, 4)
        shape = (heads * width, *source.shape[1:])
        neuron = Neuron(gain * self.draw(0, 4), int(self.rng.choice(DECAYS)))
        return self.keep(LoihiAttention(**self.place(source, shape), heads=heads, gain=gain, neuron=neuron))

    def relay(self, x: Sum) -> Sum:
        largest = self.largest(x)
        if largest > 1 or self.rng.random() < 0.3:
            if largest > LARGEST_MESSAGE:
                return x
            return self.keep(Relay(**self.place(x, x.shape), largest=largest))
        ones = np.ones((x.shape[0], 1, 1, 1), np.int32)
        return self.keep(LoihiConv(**self.place(x, x.shape), weight=ones, groups=len(ones), neuron=OR))

    def add(self, x: Sum) -> Sum:
        others = [y for y in self.sums if y.shape == x.shape and not set(y.names) & set(x.names)]
        other = others[self.rng.integers(len(others))] if others else self.keep_shape(x)
        while x.depth != other.depth:
            low, high = sorted((x, other), key=lambda one: one.depth)
            if (delayed := self.relay(low)).depth == low.depth:
                return x
            x, other = delayed, high
        self.sums.append(Sum((*x.names, *other.names), x.shape, x.depth))
        return self.sums[-1]

    def keep_shape(self, x: Sum) -> Sum:
        """A convolution that changes no shape."""
        weight = self.rng.integers(-127, 128, (x.shape[0], x.shape[0], 3, 3)).astype(np.int32)
        neuron = self.neuron(weight[0].size, x)
        return self.keep(LoihiConv(**self.place(x, x.shape), weight=weight, padding=(1, 1), neuron=neuron))

    def readout(self, x: Sum) -> None:
        classes = self.draw(1, 12)
        weight = self.rng.integers(-127, 128, (classes, *x.shape)).astype(np.int32)
        bias = self.rng.integers(-50, 50, classes).astype(np.int32) if self.rng.random() < 0.5 else None
        place = self.place(x, (classes, 1, 1))
        self.keep(LoihiConv(**place, weight=weight, bias=bias, neuron=READOUT))


def random_graph(seed: int) -> tuple[LoihiGraph, NDArray[np.int64]]:
    """A network, and event counts [T, N, P, H, W] for it."""
    rng = np.random.default_rng(seed)
    graph = Maker(rng).graph()
    shape = (int(rng.integers(1, 6)), int(rng.integers(1, 3)), *graph.port.shape)
    counts = rng.poisson(rng.choice((0.05, 0.3, 1.0)), shape)
    if rng.random() < 0.2:
        busy = rng.random(shape) < rng.choice((0.05, 0.7))  # so many that some drives leave their range
        counts[busy] = rng.integers(200, 300)
    return graph, counts
