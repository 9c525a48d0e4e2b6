"""From the float graph to Loihi's blocks: each synapse with its neurons, and the step at which its input arrives.

Average pools fold into the layer after them, max pools on spikes become ORs, and sums are computed by the receiver.
Spikes on a shorter path are relayed until both terms of a sum arrive in the same step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neuromoco.export.to_loihi.scales import IntegerSynapse, attention_neuron, readout, round_synapse
from neuromoco.export.to_loihi.synapses import FloatSynapse, Windows, convolution, full_size, pair, passing, pooled
from neuromoco.graph import nodes as floats
from neuromoco.runtime.loihi import blocks as loihi
from neuromoco.unsupported import RefusedError, Unsupported


@dataclass(frozen=True)
class Signal:
    """A value between blocks and the next synapse: the sum of the spikes of its sources."""

    sources: tuple[str, ...]
    shape: loihi.Shape  # of each source
    windows: Windows | None = None  # of an average pool that the next synapse has to fold
    drive: floats.Node | None = None  # the node that computes it, if no neurons have taken it yet


def map_to_loihi(
    graph: floats.Graph, largest_sum: float, clipping: Mapping[str, float] | None = None
) -> tuple[loihi.LoihiGraph, list[Unsupported]]:
    """The integer blocks of a float graph, complete only without unsupported layers, and those layers.

    The readout leaves room for twice `largest_sum`, the largest measured sum of logits over time. `clipping` says by
    layer how much finer than the exact rule its weights are; the largest weights are cut.
    """
    mapper = _Mapper(graph, largest_sum, clipping or {})
    mapper.run()
    return loihi.LoihiGraph(tuple(mapper.blocks.values())), mapper.unsupported


@dataclass
class _Mapper:
    graph: floats.Graph
    largest_sum: float
    clipping: Mapping[str, float]
    blocks: dict[str, loihi.LoihiBlock] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)

    def run(self) -> None:
        for node in self.graph.nodes:
            try:
                self.signals[node.name] = WRITERS[type(node)](self, node)
            except RefusedError as refusal:
                self.unsupported.append(Unsupported(node.name, type(node).__name__, str(refusal)))
                # A placeholder, so that the layers behind it are checked too.
                port = loihi.Port(name=node.name, inputs=(), shape=_three(node.shape), depth=0)
                self.signals[node.name] = self._keep(port)
        if not self.unsupported:
            self._read_out()

    def signal(self, node: floats.Node, number: int = 0) -> Signal:
        return self.signals[node.inputs[number]]

    def _keep(self, block: loihi.LoihiBlock) -> Signal:
        self.blocks[block.name] = block
        return Signal((block.name,), block.shape)

    def _depth(self, signal: Signal) -> int:
        return self.blocks[signal.sources[0]].depth

    def _after(self, name: str, x: Signal, shape: tuple[int, ...]) -> dict[str, Any]:
        """The place of a block that takes a signal."""
        return {"name": name, "inputs": x.sources, "shape": _three(shape), "depth": self._depth(x) + 1}

    def _largest(self, signal: Signal) -> int:
        return sum(self.blocks[name].largest for name in signal.sources)

    def port(self, node: floats.Input) -> Signal:
        shape = _three(node.shape)
        return self._keep(loihi.Port(name=node.name, inputs=(), shape=shape, depth=0, largest=loihi.LARGEST_MESSAGE))

    def synapse(self, node: floats.Conv | floats.Linear) -> Signal:
        """Becomes a block with its neurons."""
        users = self.graph.users[node.name]
        if node is not self.graph.output and not all(isinstance(user, floats.LIF) for user in users):
            raise RefusedError("its result is not taken by neurons alone; put neurons behind it")
        return replace(_spikes(self.signal(node)), drive=node)

    def attention(self, node: floats.Attention) -> Signal:
        """Becomes a block with its neurons."""
        if not all(isinstance(user, floats.LIF) for user in self.graph.users[node.name]):
            raise RefusedError("the product of attention is not taken by neurons alone; put neurons behind it")
        x = _spikes(self.signal(node))
        if self._largest(x) != 1 or x.windows:
            raise RefusedError("attention on values that are not spikes; put neurons before it")
        return replace(x, drive=node)

    def neurons(self, node: floats.LIF) -> Signal:
        """A block of these neurons and the synapse before them."""
        if node.soft_reset:
            raise RefusedError("a soft reset, which Loihi's neurons do not have; use v_reset=0.0")
        x = self.signal(node)
        if isinstance(x.drive, floats.Attention):
            return self._attention(node, x.drive, x)
        synapse = self._synapse(x)
        if x.drive is not None and not synapse.weight.any():
            raise RefusedError(f"all weights of {x.drive.name} are 0; omit the layer, or train it")
        return self._conv(node, x, synapse, round_synapse(synapse, node, self.clipping.get(node.name, 1.0)))

    def _attention(self, node: floats.LIF, product: floats.Attention, x: Signal) -> Signal:
        channels = x.shape[0] // 3
        largest = x.shape[1] * x.shape[2] * (channels // product.heads)
        gain, neuron = attention_neuron(node, product.scale, largest)
        place = self._after(node.name, x, (channels, *x.shape[1:]))
        return self._keep(loihi.LoihiAttention(**place, heads=product.heads, gain=gain, neuron=neuron))

    def _conv(self, node: floats.Node, x: Signal, synapse: FloatSynapse, rounded: IntegerSynapse) -> Signal:
        geometry: dict[str, Any] = {key: getattr(synapse, key) for key in ("stride", "padding", "dilation")}
        shape = loihi.conv_shape(x.shape, len(rounded.weight), rounded.weight.shape[2:], **geometry)
        place = self._after(node.name, x, shape)
        return self._keep(loihi.LoihiConv(**place, **geometry, groups=synapse.groups, **vars(rounded)))

    def _synapse(self, x: Signal) -> FloatSynapse:
        """The float weights between sources and neurons, pools folded."""
        if isinstance(x.drive, floats.Linear):
            return full_size(x.drive, x.shape, x.windows)
        synapse = convolution(x.drive) if isinstance(x.drive, floats.Conv) else passing(x.shape[0])
        return pooled(synapse, x.shape, x.windows) if x.windows else synapse

    def add(self, node: floats.Add) -> Signal:
        """A sum of spikes that arrive in the same step."""
        a, b = (_spikes(self.signal(node, i)) for i in (0, 1))
        if a.windows or b.windows:
            raise RefusedError("a sum of averages; pool after the sum")
        if a.shape != b.shape:
            raise RefusedError(f"a sum of maps of {a.shape} and {b.shape}; give both the same shape before they meet")
        depth = max(self._depth(a), self._depth(b))
        a, b = (self._delayed(x, depth) for x in (a, b))
        sources = (*a.sources, *b.sources)
        if len(set(sources)) < len(sources):
            raise RefusedError("adds a value to itself; scale the weights of the layer after it")
        return Signal(sources, a.shape)

    def _delayed(self, x: Signal, depth: int) -> Signal:
        """The signal at a later step: one relay per step."""
        while self._depth(x) < depth:
            name = f"{'+'.join(x.sources)}.relay"
            if name not in self.blocks:
                place, largest = self._after(name, x, x.shape), self._largest(x)
                self._keep(_or(place, (1, 1)) if largest == 1 else loihi.Relay(**place, largest=largest))
            x = Signal((name,), x.shape)
        return x

    def max_pool(self, node: floats.MaxPool) -> Signal:
        """An OR over each window."""
        x = _spikes(self.signal(node))
        if len(x.sources) > 1 or self._largest(x) != 1 or x.windows:
            raise RefusedError(
                "a max pool of values other than spikes; use a convolution of stride 2, or pool before the sum"
            )
        place = self._after(node.name, x, node.shape)
        return self._keep(_or(place, pair(node.kernel), pair(node.stride), pair(node.padding)))

    def avg_pool(self, node: floats.AvgPool) -> Signal:
        """Folds into the synapse after it."""
        x = _spikes(self.signal(node))
        if x.windows:
            raise RefusedError("an average of averages; use one pool")
        if len(node.windows) == 1:  # tokens, all of them
            if not node.is_global:
                raise RefusedError("an average over some tokens; average over all of them")
            return replace(x, windows=tuple(((0, side),) for side in x.shape[1:]))
        return replace(x, windows=node.windows)

    def reshape(self, node: floats.Reshape) -> Signal:
        """Flattening, or undoing it: blocks keep their shape."""
        x = _spikes(self.signal(node))
        same_channels = node.shape[0] == x.shape[0]
        flat = len(node.shape) == 1 or (same_channels and (len(node.shape) == 2 or x.windows))
        if not (flat or node.shape == x.shape):
            raise RefusedError("a reshape that moves values to other channels or places; flatten instead")
        return x

    def refuse_transpose(self, node: floats.Transpose) -> Signal:
        raise RefusedError("moves values to other places; keep the channels first, or average over all tokens")

    def refuse_current(self, node: floats.Current) -> Signal:
        raise RefusedError("a synaptic current, which decays at once here; use neurons without one")

    def refuse_parts(self, node: floats.Node) -> Signal:
        raise RefusedError("repeats, joins or takes apart values; give each part a layer of its own, and join with +")

    def refuse_multiply(self, node: floats.Multiply | floats.MatMul) -> Signal:
        raise RefusedError("a product of spikes; use SEW-ResNet's connect=ADD")

    def refuse_affine(self, node: floats.Affine) -> Signal:
        raise RefusedError("a scale that no convolution before it takes in; use SEW-ResNet's connect=ADD")

    def _read_out(self) -> None:
        """The last layer, whose membranes add up the logits."""
        x, node = self.signals[self.graph.output.name], self.graph.output
        try:
            if x.drive is not node:
                raise RefusedError("the network ends in it; end in a linear layer")
            synapse = self._synapse(x)
            self._conv(node, x, synapse, readout(synapse, self.largest_sum))
        except RefusedError as refusal:
            self.unsupported.append(Unsupported(node.name, type(node).__name__, str(refusal)))


def _or(
    place: Mapping[str, Any], kernel: loihi.Pair, stride: loihi.Pair = (1, 1), padding: loihi.Pair = (0, 0)
) -> loihi.LoihiConv:
    channels = place["shape"][0]
    weight = np.ones((channels, 1, *kernel), np.int32)
    return loihi.LoihiConv(**place, weight=weight, stride=stride, padding=padding, groups=channels, neuron=loihi.OR)


def _spikes(x: Signal) -> Signal:
    if x.drive is not None:
        raise RefusedError("a layer on the result of another without neurons between; put neurons between")
    return x


def _three(shape: tuple[int, ...]) -> loihi.Shape:
    """(C, H, W) of any shape."""
    channels, *rest = shape
    return (channels, rest[0] if rest else 1, math.prod(rest[1:]))


WRITERS: dict[type[floats.Node], Callable[[_Mapper, Any], Signal]] = {
    floats.Input: _Mapper.port,
    floats.Conv: _Mapper.synapse,
    floats.Linear: _Mapper.synapse,
    floats.Attention: _Mapper.attention,
    floats.LIF: _Mapper.neurons,
    floats.Add: _Mapper.add,
    floats.MaxPool: _Mapper.max_pool,
    floats.AvgPool: _Mapper.avg_pool,
    floats.Reshape: _Mapper.reshape,
    floats.Transpose: _Mapper.refuse_transpose,
    **dict.fromkeys((floats.Multiply, floats.MatMul), _Mapper.refuse_multiply),
    **dict.fromkeys((floats.Expand, floats.Slice, floats.Concat), _Mapper.refuse_parts),
    floats.Affine: _Mapper.refuse_affine,
    floats.Current: _Mapper.refuse_current,
}
