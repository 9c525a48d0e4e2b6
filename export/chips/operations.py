"""Operations of a network for a recording: those of its spikes, and those of the same network without spikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromoco.export.chips.layers import fan_out, macs
from neuromoco.graph import nodes as op
from neuromoco.graph.interpret import Doubles, compute, last_uses

WORK = (op.Weighted, op.Attention, op.MatMul, op.Multiply)  # nodes that operate on what arrives


@dataclass(frozen=True)
class Operations:
    """Of one recording, on average.

    Attributes:
        adds: synaptic operations of spikes: a weight is added.
        multiply_adds: those of other values, such as event counts: a weight times the value is added.
        spikes: of all neurons.
        neurons: that are updated at every time step.
        steps: T.
        macs: multiplications and sums of the same network with ReLUs instead of neurons, on one frame.
    """

    adds: float
    multiply_adds: float
    spikes: float
    neurons: int
    steps: int
    macs: int

    @property
    def synaptic(self) -> float:
        """Synaptic operations, of spikes and of other values."""
        return self.adds + self.multiply_adds


def operations_of(graph: op.Graph, frames: Doubles, spikes: Mapping[str, Any]) -> Operations:
    """Operations of a graph for frames [T, N, P, H, W], whose neurons emitted `spikes` [T, N, *shape], by name."""
    steps, recordings = frames.shape[:2]
    # What arrives at each place: spikes as 1, their sums, and 1 for any other value that is not 0.
    arrived: dict[str, Any] = {graph.input.name: (frames != 0).astype(np.float64)}
    plain = {graph.input.name: False}  # whether it is spikes
    adds = multiply_adds = fired = 0.0
    last = last_uses(graph.nodes)
    for number, node in enumerate(graph.nodes[1:], start=1):
        inputs = [arrived[name] for name in node.inputs]
        spiking = all(plain[name] for name in node.inputs)
        if isinstance(node, WORK):
            work = sum(float((x * fan_out(node, graph, i)).sum()) for i, x in enumerate(inputs))
            adds, multiply_adds = (adds + work, multiply_adds) if spiking else (adds, multiply_adds + work)
        if isinstance(node, op.LIF):
            arrived[node.name], spiking = spikes[node.name].astype(np.float64), True
            fired += float(arrived[node.name].sum())
        elif isinstance(node, op.Multiply) and spiking:
            arrived[node.name] = compute(node, *inputs)
        elif isinstance(node, (*WORK, op.Current)):
            arrived[node.name], spiking = np.ones((steps, recordings, *node.shape)), False
        else:
            arrived[node.name] = _summed(node, *inputs)
        plain[node.name] = spiking
        for name in (node.name, *node.inputs):
            if last[name] <= number:
                arrived.pop(name, None)
    return Operations(
        adds=adds / recordings,
        multiply_adds=multiply_adds / recordings,
        spikes=fired / recordings,
        neurons=sum(int(np.prod(node.shape)) for node in graph.neurons),
        steps=steps,
        macs=sum(macs(node, graph) for node in graph.nodes),
    )


def _summed(node: op.Node, *inputs: Doubles) -> Doubles:
    """What arrives behind a node that only moves, repeats or adds up values; an average pool adds them up."""
    if not isinstance(node, op.AvgPool):
        return compute(node, *inputs)
    (x,) = inputs
    for axis, windows in enumerate(node.windows, start=3):
        matrix = op.averaging_matrix(windows, x.shape[axis]) > 0
        x = np.moveaxis(np.tensordot(x, matrix.astype(np.float64), axes=(axis, 1)), -1, axis)
    return x


def mean_of(parts: list[Operations]) -> Operations:
    """The mean of several recordings' operations."""
    first = parts[0]
    adds, multiply_adds, spikes = (
        float(np.mean([getattr(part, name) for part in parts])) for name in ("adds", "multiply_adds", "spikes")
    )
    return Operations(adds, multiply_adds, spikes, first.neurons, first.steps, first.macs)
