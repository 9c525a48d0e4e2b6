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

from neuromoco.runtime.loihi.blocks import LoihiAttention, LoihiBlock, LoihiConv, LoihiGraph, Relay
from neuromoco.runtime.prediction import Floats

WEIGHT_BITS = 8
SYNAPSE_BITS = 1_048_576  # of a core, either chip
LOIHI1_NEURONS, LOIHI1_AXONS, LOIHI1_CORES = 1024, 4096, 128
LOIHI2_NEURONS, LOIHI2_CORES = 8192, 120
SYNAPSE_PJ, FIRING_PJ, SILENT_PJ = 23.6, 81.0, 52.0


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
    loihi1 = (block.neurons / LOIHI1_NEURONS, axons / LOIHI1_AXONS, connections * WEIGHT_BITS / SYNAPSE_BITS)
    loihi2 = (block.neurons / LOIHI2_NEURONS, weights * WEIGHT_BITS / SYNAPSE_BITS)
    cores = (math.ceil(max(needs)) for needs in (loihi1, loihi2))
    return Resources(block.neurons, connections, weights, weights * WEIGHT_BITS, axons, *cores)


def total(layers: list[Resources]) -> Resources:
    """Resources of all layers."""
    return Resources(*map(sum, zip(*(astuple(layer) for layer in layers), strict=True)))


def limits_of(graph: LoihiGraph) -> list[str]:
    """What does not fit a core of Loihi 1, or one chip of either generation, one line each."""
    lines = [
        f"{block.name}: a neuron receives from {fan_in:,} others, and a core of Loihi 1 has {LOIHI1_AXONS:,} axons"
        for block in graph.blocks[1:]
        if isinstance(block, LoihiConv) and (fan_in := block.weight[0].size * len(block.inputs)) > LOIHI1_AXONS
    ]
    needed = total([resources_of(block, graph) for block in graph.blocks[1:]])
    for name, cores, chip in (("1", needed.cores_loihi1, LOIHI1_CORES), ("2", needed.cores_loihi2, LOIHI2_CORES)):
        if cores > chip:
            lines.append(f"{cores} cores of Loihi {name}, and a chip has {chip}: {math.ceil(cores / chip)} chips")
    return lines


def fan_out(block: LoihiBlock, graph: LoihiGraph) -> NDArray[np.int64]:
    """Number of a block's neurons that receive from each neuron [C, H, W] of an input."""
    channels, *sides = graph[block.inputs[0]].shape
    if isinstance(block, LoihiConv):
        rows, columns = (_reach(block, axis, sides[axis]) for axis in (0, 1))
        each = np.outer(rows, columns) * (block.shape[0] // block.groups)
        return np.broadcast_to(each, (channels, *sides)).astype(np.int64)
    if isinstance(block, LoihiAttention):  # each spike meets a head's channels at every token
        return np.full((channels, *sides), block.shape[0] // block.heads * math.prod(sides), np.int64)
    return np.ones((channels, *sides), np.int64)


def _reach(block: LoihiConv, axis: int, side: int) -> NDArray[np.int64]:
    """For each row (or column) of the input, the number of rows of the output that it reaches."""
    reach = np.zeros(side, np.int64)
    for out in range(block.shape[1 + axis]):
        first = out * block.stride[axis] - block.padding[axis]
        places = first + block.dilation[axis] * np.arange(block.kernel[axis])
        reach[places[(places >= 0) & (places < side)]] += 1
    return reach


def operations(block: LoihiBlock, graph: LoihiGraph, arrived: Floats) -> float:
    """Synaptic operations of a block whose inputs emitted `arrived` [C, H, W] spikes in all."""
    return float((arrived * fan_out(block, graph)).sum())


def energy_nj(operations: float, neurons: int, spikes: float, steps: int) -> float:
    """Nanojoules per recording of so many synaptic operations, neurons, spikes of these, and time steps."""
    silent = neurons * steps - spikes
    return (operations * SYNAPSE_PJ + spikes * FIRING_PJ + silent * SILENT_PJ) / 1e3


def _weights(block: LoihiBlock) -> int:
    if isinstance(block, LoihiConv):
        return int(block.weight.size + (0 if block.bias is None else block.bias.size))
    return block.shape[0] if isinstance(block, Relay) else 0
