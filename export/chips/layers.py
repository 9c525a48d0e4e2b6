"""The layers of a graph as chips see them: neurons, and the synapses through which other neurons' spikes reach them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neuromoco.export.to_loihi.resources import reached
from neuromoco.graph import nodes as op

PRODUCTS = (op.Multiply, op.MatMul, op.Attention)


@dataclass(frozen=True, eq=False)
class Layer:
    """Neurons, or the sums that a network ends in, and what leads to them.

    Attributes:
        name: of the neurons, or of the last layer.
        shape: of the neurons, (C, H, W), (C, L) or (D,).
        neuron: their constants; None of the last layer, whose sums are the logits.
        sources: the layers whose spikes they receive, or the input.
        between: all nodes from there to the neurons, in the order of computing.
        graph: that they are part of.
    """

    name: str
    shape: op.Shape
    neuron: op.LIF | None
    sources: tuple[op.Node, ...]
    between: tuple[op.Node, ...]
    graph: op.Graph

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    @property
    def axons(self) -> int:
        """Number of neurons that they receive from."""
        return sum(math.prod(source.shape) for source in self.sources)

    @cached_property
    def synapses(self) -> tuple[op.Weighted, ...]:
        """The convolutions and linear layers among what leads to them."""
        return tuple(node for node in self.between if isinstance(node, op.Conv | op.Linear))

    @property
    def weights(self) -> int:
        """Numbers that are stored where convolutions share them."""
        return sum(node.weight.size + node.bias.size for node in self.synapses)

    @cached_property
    def connections(self) -> int:
        """Pairs of a neuron and a value that it receives."""
        return sum(macs(node, self.graph) for node in self.between if isinstance(node, op.Weighted))

    @property
    def fan_in(self) -> int:
        """The largest number of neurons that one of them receives from."""
        area = 1
        for node in self.between:
            if isinstance(node, op.AvgPool | op.MaxPool):
                area *= _window(node)
        return max((math.prod(node.weight.shape[1:]) for node in self.synapses), default=1) * area

    def of(self, kind: type[op.Node] | tuple[type[op.Node], ...]) -> list[op.Node]:
        """The nodes of a kind that lead to them."""
        return [node for node in self.between if isinstance(node, kind)]


def layers_of(graph: op.Graph) -> tuple[Layer, ...]:
    """All layers of neurons, in order, and the last layer, unless that is one of neurons."""
    ends = list[op.Node](graph.neurons)
    if graph.output not in ends:
        ends.append(graph.output)
    return tuple(_layer(node, graph) for node in ends)


def _layer(end: op.Node, graph: op.Graph) -> Layer:
    found = set[str]()
    sources = dict[str, op.Node]()
    ahead = [end] if not isinstance(end, op.LIF) else [graph[name] for name in end.inputs]
    while ahead:
        node = ahead.pop()
        if isinstance(node, op.LIF | op.Input):
            sources[node.name] = node
        elif node.name not in found:
            found.add(node.name)
            ahead += [graph[name] for name in node.inputs]
    between = tuple(node for node in graph.nodes if node.name in found)
    neuron = end if isinstance(end, op.LIF) else None
    return Layer(end.name, end.shape, neuron, tuple(sources.values()), between, graph)


def _window(node: op.AvgPool | op.MaxPool) -> int:
    if isinstance(node, op.MaxPool):
        return math.prod(node.kernel)
    return math.prod(max(end - begin for begin, end in axis) for axis in node.windows)


def fan_out(node: op.Node, graph: op.Graph, number: int = 0) -> NDArray[np.int64]:
    """How many sums each place of an input takes part in, of the shape of that input."""
    shape = graph[node.inputs[number]].shape
    if isinstance(node, op.Conv):
        axes = [
            reached(*sizes)
            for sizes in zip(
                shape[1:], node.shape[1:], node.weight.shape[2:], node.stride, node.padding, node.dilation, strict=True
            )
        ]
        each = axes[0] if len(axes) == 1 else np.outer(*axes)
        return np.broadcast_to(each * (node.shape[0] // node.groups), shape).astype(np.int64)
    if isinstance(node, op.Linear):
        return np.full(shape, node.shape[0], np.int64)
    if isinstance(node, op.Attention):  # each spike meets a head's channels at every token
        return np.full(shape, node.shape[0] // node.heads * node.shape[1], np.int64)
    if isinstance(node, op.MatMul):
        return np.full(shape, node.shape[-1] if number == 0 else node.shape[-2], np.int64)
    return np.ones(shape, np.int64)


def macs(node: op.Node, graph: op.Graph) -> int:
    """Multiplications that a node without spikes takes for one frame."""
    if isinstance(node, op.Attention):  # v k^T in every head, and that times q
        channels, length = node.shape
        return 2 * channels * (channels // node.heads) * length
    if isinstance(node, op.MatMul | op.Conv | op.Linear):
        return int(fan_out(node, graph).sum())
    return math.prod(node.shape) if isinstance(node, op.Affine | op.Multiply) else 0


def destinations(layers: tuple[Layer, ...]) -> dict[str, list[Layer]]:
    """For each layer, and the input, those that receive its spikes."""
    return {source: [layer for layer in layers if source in _names(layer)] for source in _all_names(layers)}


def _names(layer: Layer) -> set[str]:
    return {source.name for source in layer.sources}


def _all_names(layers: tuple[Layer, ...]) -> Iterator[str]:
    yield layers[0].graph.input.name
    yield from (layer.name for layer in layers)
