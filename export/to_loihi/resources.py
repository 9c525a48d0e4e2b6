"""Resources of a chip that a network needs: neurons, synapses, axons, cores, operations, energy. All are estimates.

Layers do not share cores. A layer needs as many as the scarcest of these resources requires:

- Loihi 1: 1,024 neurons, 4,096 input axons (one per neuron that it receives spikes from) and 1,048,576 bits of synapses
  per core, 8 bits per connection, none shared; 128 cores per chip.
- Loihi 2: 8,192 neurons and 1,048,576 bits of synapses per core, the weights of a convolution stored once per core;
  120 cores per chip.

Operations: every spike, whatever its value, times the neurons that receive it. Energy follows Davies et al. 2018 (IEEE
Micro 38(1), table 2, simulated before silicon): at least 23.6 pJ for a synaptic operation, 81 pJ to update a neuron
that fires, 52 pJ one that does not. Routing, input, output and static power are not included.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from neuromoco.export.chips.table import LOIHI1_CORE, LOIHI1_ENERGY, LOIHI2_CORE
from neuromoco.runtime.loihi.blocks import LoihiAttention, LoihiBlock, LoihiConv, LoihiGraph, Relay
from neuromoco.runtime.prediction import Floats

WEIGHT_BITS = 8
AXONS = LOIHI1_CORE.axons or 0


@dataclass(frozen=True)
class Resources:
    """Resources of a layer, or of all layers."""

    neurons: int
    connections: int  # pairs of a neuron and one that it receives spikes from
    weights: int  # numbers that are stored where convolutions share them
    weight_bits: int  # their size; without sharing, 8 bits per connection
    axons: int  # neurons that the layer receives spikes from
    cores_loihi1: int
    cores_loihi2: int


def resources_of(block: LoihiBlock, graph: LoihiGraph) -> Resources:
    """Resources of one layer."""
    axons = sum(graph[name].neurons for name in block.inputs)
    connections = int(fan_out(block, graph).sum()) * len(block.inputs)
    weights = _weights(block)
    cores = (core.needed(block.neurons, axons, connections, weights) for core in (LOIHI1_CORE, LOIHI2_CORE))
    return Resources(block.neurons, connections, weights, weights * WEIGHT_BITS, axons, *cores)


def total(layers: list[Resources]) -> Resources:
    """Resources of all layers."""
    return Resources(*map(sum, zip(*(astuple(layer) for layer in layers), strict=True)))


def limits_of(graph: LoihiGraph) -> list[str]:
    """What does not fit a core of Loihi 1, or one chip of either generation, one line each."""
    lines = [
        f"{block.name}: a neuron receives from {fan_in:,} others, and a core of Loihi 1 has {AXONS:,} axons"
        for block in graph.blocks[1:]
        if isinstance(block, LoihiConv) and (fan_in := block.weight[0].size * len(block.inputs)) > AXONS
    ]
    needed = total([resources_of(block, graph) for block in graph.blocks[1:]])
    for name, cores, chip in (
        ("1", needed.cores_loihi1, LOIHI1_CORE.count),
        ("2", needed.cores_loihi2, LOIHI2_CORE.count),
    ):
        if cores > chip:
            lines.append(f"{cores} cores of Loihi {name}, and a chip has {chip}: {math.ceil(cores / chip)} chips")
    return lines


def fan_out(block: LoihiBlock, graph: LoihiGraph) -> NDArray[np.int64]:
    """Number of a block's neurons that receive from each neuron [C, H, W] of an input."""
    channels, *sides = graph[block.inputs[0]].shape
    if isinstance(block, LoihiConv):
        sizes = zip(sides, block.shape[1:], block.kernel, block.stride, block.padding, block.dilation, strict=True)
        each = np.outer(*(reached(*axis) for axis in sizes)) * (block.shape[0] // block.groups)
        return np.broadcast_to(each, (channels, *sides)).astype(np.int64)
    if isinstance(block, LoihiAttention):  # each spike meets a head's channels at every token
        return np.full((channels, *sides), block.shape[0] // block.heads * math.prod(sides), np.int64)
    return np.ones((channels, *sides), np.int64)


def reached(side: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> NDArray[np.int64]:
    """For each row (or column) of a convolution's input, of `side`, the number of rows of the output that it reaches.

    `out` is the number of these.
    """
    reach = np.zeros(side, np.int64)
    for row in range(out):
        places = row * stride - padding + dilation * np.arange(kernel)
        reach[places[(places >= 0) & (places < side)]] += 1
    return reach


def operations(block: LoihiBlock, graph: LoihiGraph, arrived: Floats) -> float:
    """Synaptic operations of a block whose inputs emitted `arrived` [C, H, W] spikes in all."""
    return float((arrived * fan_out(block, graph)).sum())


def energy_nj(operations: float, neurons: int, spikes: float, steps: int) -> float:
    """Nanojoules per recording of so many synaptic operations, neurons, spikes of these, and time steps."""
    return LOIHI1_ENERGY.spent_nj(operations, 0.0, neurons, spikes, steps)


def _weights(block: LoihiBlock) -> int:
    if isinstance(block, LoihiConv):
        return int(block.weight.size + (0 if block.bias is None else block.bias.size))
    return block.shape[0] if isinstance(block, Relay) else 0
