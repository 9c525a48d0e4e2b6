"""What of a layer or a network a chip may bound or lack, by the names that `table` uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from neuromoco.export.chips.layers import Layer, destinations, fan_out
from neuromoco.graph import nodes as op

Layers = tuple[Layer, ...]


def kernel_of(node: op.Node, graph: op.Graph) -> op.Shape:
    """Rows and columns of a convolution's kernel; a linear layer's is as large as the map that was flattened."""
    if isinstance(node, op.Conv):
        return node.weight.shape[2:]
    before = graph[node.inputs[0]]
    while isinstance(before, op.Reshape):
        before = graph[before.inputs[0]]
    return before.shape[1:]


def kernel_words(layer: Layer) -> int:
    """Words of Speck's memory for the weights of a layer: c 2^(ceil(log2(kx ky)) + ceil(log2(f)))."""
    words = 0
    for node in layer.synapses:
        inputs = node.weight.size // len(node.weight) // math.prod(kernel_of(node, layer.graph))
        inputs = node.weight.shape[1] if isinstance(node, op.Conv) else inputs
        words += inputs << (_bits(math.prod(kernel_of(node, layer.graph))) + _bits(len(node.weight)))
    return words or 1 << _bits(layer.shape[0])


def neuron_words(layer: Layer) -> int:
    """Words of Speck's memory for the membranes of a layer: f 2^(ceil(log2(fx)) + ceil(log2(fy)))."""
    return layer.shape[0] << sum(_bits(side) for side in layer.shape[1:])


def _bits(number: int) -> int:
    return math.ceil(math.log2(number))


def _geometry(name: str) -> Callable[[Layer], Sequence[int]]:
    return lambda layer: [value for node in layer.of(op.Conv) for value in getattr(node, name)]


def _pools(layer: Layer) -> list[int]:
    return [end - begin for node in layer.of(op.AvgPool) for axis in node.windows for begin, end in axis]  # type: ignore[attr-defined]


def _input_sides(layer: Layer) -> Sequence[int]:
    return layer.graph.input.shape[1:] if layer.graph.input in layer.sources else ()


def _overlaps(layer: Layer) -> bool:
    for node in layer.of(op.AvgPool):
        for axis in node.windows:  # type: ignore[attr-defined]
            side = axis[0][1]
            if axis != tuple((i * side, i * side + side) for i in range(len(axis))):
                return True
    return False


# Each gives the values that a limit must hold for.
OF_LAYERS: dict[str, Callable[[Layer], Sequence[int]]] = {
    "neurons that one receives from": lambda layer: [layer.fan_in],
    "rows or columns of an input": _input_sides,
    "rows or columns of a layer": lambda layer: layer.shape[1:],
    "channels": lambda layer: [layer.shape[0]],
    "side of a kernel": lambda layer: [side for node in layer.synapses for side in kernel_of(node, layer.graph)],
    "stride": _geometry("stride"),
    "padding": _geometry("padding"),
    "side of an average pool": _pools,
}


def _most_targets(layers: Layers) -> int:
    hidden = {layer.name for layer in layers}
    found = destinations(layers)
    return max(
        (
            sum(int(fan_out(node, layer.graph).max()) for layer in found[name] for node in layer.synapses)
            for name in hidden
        ),
        default=0,
    )


OF_NETWORKS: dict[str, Callable[[Layers], int]] = {
    "layers": len,
    "layers that one sends spikes to": lambda layers: max(map(len, destinations(layers).values())),
    "inputs": lambda layers: math.prod(layers[0].graph.input.shape),
    "hidden neurons": lambda layers: sum(layer.neurons for layer in layers if layer.neuron),
    "outputs": lambda layers: layers[-1].neurons,
    "neurons that one sends spikes to": _most_targets,
    "neurons that the input reaches": lambda layers: sum(
        layer.neurons for layer in layers if layer.graph.input in layer.sources
    ),
    "neurons that reach the output": lambda layers: layers[-1].axons,
    "synapses between hidden neurons": lambda layers: sum(
        layer.connections for layer in layers if layer.neuron and layer.graph.input not in layer.sources
    ),
}

TRAITS: dict[str, Callable[[Layer], object]] = {
    "soft reset": lambda layer: layer.neuron and layer.neuron.soft_reset,
    "hard reset": lambda layer: layer.neuron and not layer.neuron.soft_reset,
    "leak": lambda layer: layer.neuron and layer.neuron.keep < 1,
    "leak that is no power of two": lambda layer: (
        layer.neuron and layer.neuron.keep < 1 and math.log2(layer.neuron.tau) % 1
    ),
    "max pool": lambda layer: layer.of(op.MaxPool),
    "product of spikes": lambda layer: layer.of((op.Multiply, op.MatMul)),
    "attention": lambda layer: layer.of(op.Attention),
    "dilation": lambda layer: any(value > 1 for value in _geometry("dilation")(layer)),
    "overlapping average pool": _overlaps,
    "synaptic current": lambda layer: layer.of(op.Current),
    "sum of several convolutions": lambda layer: len(layer.synapses) > 1,
}
