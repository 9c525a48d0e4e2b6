"""What a network takes of a chip: neurons, synapses, axons, cores, operations, energy. Estimates by stated rules.

A layer has cores of its own. It takes as many as the scarcest of these asks for:

- Loihi 1: 1,024 neurons, 4,096 input axons (one a neuron that it listens to) and 1,048,576 bits of synapses a core,
  8 bits a connection, none shared; 128 cores a chip.
- Loihi 2: 8,192 neurons and 1,048,576 bits of synapses a core, the weights of a convolution stored once a core;
  120 cores a chip.

Operations: every spike, of whatever value, times the neurons that listen to it. Energy follows Davies et al. 2018
(IEEE Micro 38(1), table 2, simulated before silicon): 23.6 pJ at the least for a synaptic operation, 81 pJ to
update a neuron that fires, 52 pJ one that does not. Routing, input and output are left out, and so is what a chip
draws at rest.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

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
    """Of a layer, or of all of them.

    Attributes:
        neurons: of the layer.
        connections: pairs of a neuron and one that it listens to.
        weights: numbers that are stored where convolutions share them.
        weight_bits: of these; without sharing, 8 a connection.
        axons: neurons that it listens to.
        cores_loihi1, cores_loihi2: by the rules above.
    """

    neurons: int
    connections: int
    weights: int
    weight_bits: int
    axons: int
    cores_loihi1: int
    cores_loihi2: int

    def to_json(self) -> dict[str, int]:
        """Plain data for JSON."""
        return asdict(self)


def resources_of(block: LoihiBlock, graph: LoihiGraph) -> Resources:
    """Of one layer."""
    axons = sum(graph[name].neurons for name in block.inputs)
    connections = int(fan_out(block, graph).sum()) * len(block.inputs)
    weights = _weights(block)
    loihi1 = (
        block.neurons / LOIHI1_NEURONS,
        axons / LOIHI1_AXONS,
        connections * WEIGHT_BITS / SYNAPSE_BITS,
    )
    loihi2 = (block.neurons / LOIHI2_NEURONS, weights * WEIGHT_BITS / SYNAPSE_BITS)
    cores = (math.ceil(max(needs)) for needs in (loihi1, loihi2))
    return Resources(block.neurons, connections, weights, weights * WEIGHT_BITS, axons, *cores)


def total(layers: list[Resources]) -> Resources:
    """Of all layers."""
    columns = zip(*(layer.to_json().values() for layer in layers), strict=True)
    return Resources(*(sum(column) for column in columns))


def limits_of(graph: LoihiGraph) -> list[str]:
    """What does not fit a chip of the first generation, or a chip of either, one line each."""
    found = []
    for block in graph.blocks[1:]:
        if isinstance(block, LoihiConv) and (fan_in := block.weight[0].size * len(block.inputs)) > LOIHI1_AXONS:
            found.append(
                f"{block.name}: a neuron listens to {fan_in:,} others, and a core of Loihi 1 has {LOIHI1_AXONS:,} axons"
            )
    taken = total([resources_of(block, graph) for block in graph.blocks[1:]])
    for name, cores, chip in (("1", taken.cores_loihi1, LOIHI1_CORES), ("2", taken.cores_loihi2, LOIHI2_CORES)):
        if cores > chip:
            found.append(f"{cores} cores of Loihi {name}, and a chip has {chip}: {math.ceil(cores / chip)} chips")
    return found


def fan_out(block: LoihiBlock, graph: LoihiGraph) -> NDArray[np.int64]:
    """How many neurons of a block listen to each neuron [C, H, W] of its (every) input."""
    channels, *sides = graph[block.inputs[0]].shape
    if isinstance(block, LoihiConv):
        rows, columns = (_reach(block, axis, sides[axis]) for axis in (0, 1))
        each = np.outer(rows, columns) * (block.shape[0] // block.groups)
        return np.broadcast_to(each, (channels, *sides)).astype(np.int64)
    if isinstance(block, LoihiAttention):  # whatever it is made of, each spike meets a head's channels at every token
        return np.full((channels, *sides), block.shape[0] // block.heads * math.prod(sides), np.int64)
    return np.ones((channels, *sides), np.int64)


def _reach(block: LoihiConv, axis: int, side: int) -> NDArray[np.int64]:
    """For each row (or column) of the input, how many rows of the output see it."""
    seen = np.zeros(side, np.int64)
    for out in range(block.shape[1 + axis]):
        first = out * block.stride[axis] - block.padding[axis]
        places = first + block.dilation[axis] * np.arange(block.kernel[axis])
        seen[places[(places >= 0) & (places < side)]] += 1
    return seen


def operations(block: LoihiBlock, graph: LoihiGraph, arrived: Floats) -> float:
    """Synaptic operations of a block a recording: every spike times the neurons that listen to it.

    Args:
        block: any but the port.
        graph: it stands in.
        arrived: spikes of its inputs, added up, a recording [C, H, W].
    """
    return float((arrived * fan_out(block, graph)).sum())


def energy_nj(operations: float, neurons: int, spikes: float, steps: int) -> float:
    """Nanojoules a recording, see above.

    Args:
        operations: synaptic ones.
        neurons: how many there are.
        spikes: of them, a recording.
        steps: T.
    """
    silent = neurons * steps - spikes
    return (operations * SYNAPSE_PJ + spikes * FIRING_PJ + silent * SILENT_PJ) / 1e3


def _weights(block: LoihiBlock) -> int:
    if isinstance(block, LoihiConv):
        return int(block.weight.size + (0 if block.bias is None else block.bias.size))
    return block.shape[0] if isinstance(block, Relay) else 0
