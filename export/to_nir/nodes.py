"""The graph in NIR, the Neuromorphic Intermediate Representation (Pedersen et al. 2024), as far as NIR can express it.

NIR's neurons are differential equations,

    nir.LIF   tau dv/dt = (v_leak - v) + r I        nir.IF   dv/dt = r I
    and where v > v_threshold: a spike, v = v_reset

which its readers step by Euler's method, dt = 1e-4 s (snnTorch, spikingjelly). With v_leak = v_reset = 0 that is

    nir.LIF   h[t] = v[t-1] + (dt / tau) (r I[t] - v[t-1])        nir.IF   h[t] = v[t-1] + dt r I[t]

So a time step of a recording is one dt, from v = 0, and a neuron of the graph, whose tau counts time steps, is

    with decay_input    nir.LIF, tau' = tau dt, r = 1      h[t] = v[t-1] + (I[t] - v[t-1]) / tau
    without             nir.LIF, tau' = tau dt, r = tau    h[t] = v[t-1] - v[t-1] / tau + I[t]
    tau infinite        nir.IF, r = 1 / dt                 h[t] = v[t-1] + I[t]

The graph's neurons fire at the threshold, NIR's above it: v_threshold is the float32 just below. Sums are no nodes: NIR
adds the edges that end in one node, so each term has an edge to each user of the sum.

NIR has no max pool. Of spikes it is a convolution with ones, which counts the spikes of each window, and neurons that
fire at any: nir.IF with v_threshold 0.5, whose v is 0 after each step, as it is reset where there was a spike.
"""

from __future__ import annotations

import math
from dataclasses import replace

import nir
import numpy as np

from neuromoco.graph import nodes as op
from neuromoco.unsupported import Unsupported, refuse

DT = 1e-4  # seconds per time step, the default of NIR's readers
# Why there is no node for it, and a substitute.
NO_ADD = "(SEW-ResNet: options {connect: ADD})"
REFUSED: dict[type[op.Node], str] = {
    op.MaxPool: "NIR has no max pool, and only one of spikes with a square window can be written otherwise; put it "
    "right behind neurons, or use a strided convolution or an average pool (SEW-ResNet: options {stem: conv})",
    op.Attention: "NIR has no product of values; use a convolutional encoder, such as sew_resnet_tiny",
    op.Transpose: "NIR has no transpose; keep the channels first, [T, N, C, ...]",
    op.MatMul: "NIR has no product of values; use a convolutional encoder, such as sew_resnet_tiny",
    op.Expand: "NIR repeats no values; join branches of one shape",
    op.Slice: "NIR takes no part of a layer; give each part a layer of its own",
    op.Concat: "NIR joins no channels; join branches with +",
    op.Multiply: f"NIR adds values and does not multiply them; join branches with + {NO_ADD}",
    op.Current: "NIR's neurons with a current step it otherwise than its source; use neurons without one",
    op.Affine: "NIR has no scale and shift of channels; use batch norm right behind a convolution or linear layer of "
    f"its own, and + between branches {NO_ADD}",
}


def to_nir(graph: op.Graph, metadata: dict[str, str | float] | None = None) -> nir.NIRGraph:
    """The graph in NIR, with the names of the network's layers and the metadata of the file; refuses what NIR lacks."""
    graph = _fold_pools(_pool_by_neurons(graph))
    refuse(_refused(graph))
    names = {node.name: node.name for node in graph.nodes}
    names[graph.input.name] = _free("input", names)
    result = _free("output", names)
    nodes = {names[graph.input.name]: nir.Input(input_type=np.array(graph.input.shape))}
    edges = []
    for node in graph.nodes[1:]:
        if not isinstance(node, op.Add):
            nodes[node.name] = _nir_node(node, graph[node.inputs[0]].shape)
            edges += [(names[term], node.name) for term in _terms(graph, node.inputs[0])]
    nodes[result] = nir.Output(output_type=np.array(graph.output.shape))
    edges += [(names[term], result) for term in _terms(graph, graph.output.name)]
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata or {})


def find_unsupported_nir(graph: op.Graph) -> list[Unsupported]:
    """Every node that NIR cannot express, in the order of computing, with substitutes."""
    return _refused(_fold_pools(_pool_by_neurons(graph)))


def _refused(graph: op.Graph) -> list[Unsupported]:
    reasons = ((node, _reason(graph, node)) for node in graph.nodes[1:])
    return [Unsupported(node.name, type(node).__name__, reason) for node, reason in reasons if reason]


def _reason(graph: op.Graph, node: op.Node) -> str | None:
    """Why NIR cannot express a node, and a substitute; None where it can."""
    before = graph[node.inputs[0]].shape
    if isinstance(node, op.Add):
        terms = _terms(graph, node.name)
        twice = next((term for term in terms if terms.count(term) > 1), None)
        return (
            f"{twice} enters the sum twice, and NIR has one edge between nodes; double its weights" if twice else None
        )
    if isinstance(node, op.LIF) and node.soft_reset:
        return "a soft reset; NIR's neurons are set to v_reset; use v_reset=0.0"
    if isinstance(node, op.Conv) and len(set(node.weight.shape[2:])) > 1:
        # nir infers both sides of a convolution's result from the first side of its kernel.
        return (
            f"a kernel of {' x '.join(map(str, node.weight.shape[2:]))}; nir takes kernels as square: use a square one"
        )
    if isinstance(node, op.AvgPool) and _kernel_and_stride(node, before) is None:
        return (
            f"windows of unequal size or distance from {before} to {node.shape}, which fold into a linear layer only "
            "right behind; use frames of a size that divides, or another pool"
        )
    if isinstance(node, op.Reshape) and _flattened_axes(node, before) is None:
        return f"from {before} to {node.shape}; NIR can only flatten the last axes; keep (C, H, W), or use flatten"
    return REFUSED.get(type(node))


def _nir_node(node: op.Node, before: op.Shape) -> nir.NIRNode:
    if isinstance(node, op.Conv):
        return _convolution(node, before)
    if isinstance(node, op.Linear):
        return nir.Affine(weight=node.weight, bias=node.bias)
    if isinstance(node, op.LIF):
        return _neurons(node)
    if isinstance(node, op.AvgPool):
        grid = _kernel_and_stride(node, before)
        assert grid is not None, "was refused"
        kernel, stride = grid
        return nir.AvgPool2d(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array((0, 0)))
    assert isinstance(node, op.Reshape), f"{node.name} was not refused"
    # Axes from the end mean the same whether or not a reader counts the batch's axis.
    return nir.Flatten(input_type=np.array(before), start_dim=-(_flattened_axes(node, before) or 0), end_dim=-1)


def _convolution(node: op.Conv, before: op.Shape) -> nir.NIRNode:
    facts = {"weight": _without_groups(node), "bias": node.bias, "groups": 1}
    if len(before) == 2:
        (stride,), (padding,), (dilation,) = node.stride, node.padding, node.dilation
        return nir.Conv1d(input_shape=before[1], stride=stride, padding=padding, dilation=dilation, **facts)
    return nir.Conv2d(input_shape=before[1:], stride=node.stride, padding=node.padding, dilation=node.dilation, **facts)


def _without_groups(node: op.Conv) -> op.Array:
    """The weight [O, I, *kernel] of one group that computes the same, zeros between the groups.

    nir 1.0.8 takes a grouped convolution's input to have I / groups channels, and refuses to read files with groups.
    """
    weight = np.zeros((len(node.weight), node.weight.shape[1] * node.groups, *node.weight.shape[2:]), np.float32)
    for group, rows in enumerate(np.split(np.arange(len(weight)), node.groups)):
        columns = slice(group * node.weight.shape[1], (group + 1) * node.weight.shape[1])
        weight[rows, columns] = node.weight[rows]
    return weight


def _neurons(node: op.LIF) -> nir.NIRNode:
    """The neuron of the module's docstring, with constants for every single neuron."""

    def everywhere(value: float) -> op.Array:
        return np.full(node.shape, value, np.float32)

    threshold = np.nextafter(everywhere(node.v_threshold), np.float32(-np.inf))
    if math.isinf(node.tau):
        return nir.IF(r=everywhere(1.0 / DT), v_threshold=threshold, v_reset=everywhere(0.0))
    tau, r, rest = (everywhere(value) for value in (node.tau * DT, 1.0 if node.decay_input else node.tau, 0.0))
    return nir.LIF(tau=tau, r=r, v_leak=rest, v_threshold=threshold, v_reset=rest)


def _terms(graph: op.Graph, name: str) -> list[str]:
    """The nodes whose sum is a node's value; itself where it is no sum."""
    if not isinstance(graph[name], op.Add):
        return [name]
    return [term for before in graph[name].inputs for term in _terms(graph, before)]


def _kernel_and_stride(pool: op.AvgPool, before: op.Shape) -> tuple[op.Shape, op.Shape] | None:
    """Kernel and stride of a pool over two axes with windows of one size at one distance; else None."""
    pairs = []
    for windows, side in zip(pool.windows, before[1:], strict=True):
        size, distance = windows[0][1], windows[1][0] if len(windows) > 1 else side
        if distance < 1 or windows != op.strided_windows(side, size, distance):
            return None
        pairs.append((size, distance))
    if len(pairs) != 2:
        return None
    (height, down), (width, right) = pairs
    return (height, width), (down, right)


def _flattened_axes(node: op.Reshape, before: op.Shape) -> int | None:
    """Number of last axes that become one, or None where the reshape is something else."""
    first = len(node.shape) - 1
    flat = (*before[:first], math.prod(before[first:]))
    return len(before) - first if flat == node.shape and len(before) > first else None


def _pool_by_neurons(graph: op.Graph) -> op.Graph:
    """Writes each max pool of spikes as a convolution and neurons, see the module's docstring."""
    nodes: list[op.Node] = []
    names = {node.name: node.name for node in graph.nodes}
    for node in graph.nodes:
        square = isinstance(node, op.MaxPool) and len(set(node.kernel)) == 1
        if isinstance(node, op.MaxPool) and square and _spikes(graph, node.inputs[0]):
            channels, axes, name = node.shape[0], len(node.kernel), _free(f"{node.name}.count", names)
            nodes.append(
                op.Conv(
                    name=name,
                    inputs=node.inputs,
                    shape=node.shape,
                    weight=np.ones((channels, 1, *node.kernel), np.float32),
                    bias=np.zeros(channels, np.float32),
                    stride=node.stride,
                    padding=node.padding,
                    dilation=(1,) * axes,
                    groups=channels,
                )
            )
            nodes.append(
                op.LIF(
                    name=node.name, inputs=(name,), shape=node.shape, tau=math.inf, v_threshold=0.5, decay_input=False
                )
            )
        else:
            nodes.append(node)
    return op.Graph(tuple(nodes))


def _spikes(graph: op.Graph, name: str) -> bool:
    """Whether a value holds nothing but zeros and ones."""
    node = graph[name]
    passes = isinstance(node, op.MaxPool | op.Reshape | op.Transpose)
    return isinstance(node, op.LIF) or (passes and _spikes(graph, node.inputs[0]))


def _fold_pools(graph: op.Graph) -> op.Graph:
    """Folds each average pool that NIR has no node for into the linear layer behind it, if there is one."""
    changed: dict[str, op.Node] = {}
    folded = set()
    for pool in graph.nodes:
        if not isinstance(pool, op.AvgPool) or _kernel_and_stride(pool, graph[pool.inputs[0]].shape) is not None:
            continue
        before = graph[pool.inputs[0]].shape
        flat = _only_user(graph, pool)
        linear = _only_user(graph, flat) if isinstance(flat, op.Reshape) else None
        if flat is not None and isinstance(linear, op.Linear):
            changed[flat.name] = replace(flat, inputs=pool.inputs, shape=(math.prod(before),))
            changed[linear.name] = replace(linear, weight=_spread(linear.weight, pool, before))
            folded.add(pool.name)
    return op.Graph(tuple(changed.get(node.name, node) for node in graph.nodes if node.name not in folded))


def _only_user(graph: op.Graph, node: op.Node) -> op.Node | None:
    users = graph.users[node.name]
    return users[0] if len(users) == 1 else None


def _spread(weight: op.Array, pool: op.AvgPool, before: op.Shape) -> op.Array:
    """A linear layer's weight [out, C * parts] behind a pool as one before it, [out, C * sides]."""
    wide = weight.astype(np.float64).reshape(len(weight), *pool.shape)
    for axis, (windows, side) in enumerate(zip(pool.windows, before[1:], strict=True), start=2):
        wide = np.moveaxis(np.tensordot(wide, op.averaging_matrix(windows, side), axes=(axis, 0)), -1, axis)
    return wide.reshape(len(weight), -1).astype(np.float32)


def _free(name: str, taken: dict[str, str]) -> str:
    while name in taken:
        name += "_"
    return name
