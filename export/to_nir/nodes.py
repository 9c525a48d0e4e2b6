"""NIR graphs from the graph: what the Neuromorphic Intermediate Representation can say of a network.

NIR's neurons are differential equations,

    nir.LIF   tau dv/dt = (v_leak - v) + r I        nir.IF   dv/dt = r I
    and where v > v_threshold: a spike, v = v_reset

which its readers step by Euler's method, dt = 1e-4 s (snnTorch, spikingjelly). With v_leak = v_reset = 0 that is

    nir.LIF   h[t] = v[t-1] + (dt / tau) (r I[t] - v[t-1])        nir.IF   h[t] = v[t-1] + dt r I[t]

So a time step of a recording is one dt, from v = 0, and a neuron of the graph, whose tau counts time steps, is

    with decay_input    nir.LIF, tau' = tau dt, r = 1      h[t] = v[t-1] + (I[t] - v[t-1]) / tau
    without             nir.LIF, tau' = tau dt, r = tau    h[t] = v[t-1] - v[t-1] / tau + I[t]
    tau infinite        nir.IF, r = 1 / dt                 h[t] = v[t-1] + I[t]

The graph's neurons fire at the threshold, NIR's above it: v_threshold is the float32 just below. A sum is no
node: NIR adds the edges that end in one node, so each term has an edge to each user of the sum.
"""

from __future__ import annotations

import math
from dataclasses import replace

import nir
import numpy as np

from neuromoco.export.graph.nodes import (
    LIF,
    Add,
    Affine,
    Array,
    Attention,
    AvgPool,
    Conv,
    Graph,
    Linear,
    MaxPool,
    Multiply,
    Node,
    Reshape,
    Shape,
    strided_windows,
)
from neuromoco.unsupported import Unsupported, refuse

DT = 1e-4  # seconds a time step; what NIR's readers take where nothing else is said
# Why there is no node for it, and a substitute.
REFUSED: dict[type[Node], str] = {
    MaxPool: "NIR has no max pool; use a strided convolution or an average pool (SEW-ResNet: options {stem: conv})",
    Attention: "NIR has no product of values; use a convolutional encoder, such as sew_resnet_tiny",
    Multiply: "NIR adds values and does not multiply them; join branches with + (SEW-ResNet: options {connect: ADD})",
    Affine: "NIR has no scale and shift of channels; use batch norm right behind a convolution or linear layer of its "
    "own, and + between branches (SEW-ResNet: options {connect: ADD})",
}


def to_nir(graph: Graph, metadata: dict[str, str | float] | None = None) -> nir.NIRGraph:
    """The graph in NIR, its nodes under the names that they have in the network.

    Args:
        graph: a classifier.
        metadata: what the file says of itself.

    Raises:
        UnsupportedLayerError: names the first layer that NIR cannot say, and says how many more there are.
    """
    graph = _fold_pools(graph)
    refuse(_refused(graph))
    names = {node.name: node.name for node in graph.nodes}
    names[graph.input.name] = _free("input", names)
    result = _free("output", names)
    nodes = {names[graph.input.name]: nir.Input(input_type=np.array(graph.input.shape))}
    edges = []
    for node in graph.nodes[1:]:
        if not isinstance(node, Add):
            nodes[node.name] = _nir_node(node, graph[node.inputs[0]].shape)
            edges += [(names[term], node.name) for term in _terms(graph, node.inputs[0])]
    nodes[result] = nir.Output(output_type=np.array(graph.output.shape))
    edges += [(names[term], result) for term in _terms(graph, graph.output.name)]
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata or {})


def find_unsupported_nir(graph: Graph) -> list[Unsupported]:
    """Every node that NIR cannot say, in the order of computing, each with a substitute."""
    return _refused(_fold_pools(graph))


def _refused(graph: Graph) -> list[Unsupported]:
    reasons = ((node, _reason(graph, node)) for node in graph.nodes[1:])
    return [Unsupported(node.name, type(node).__name__, reason) for node, reason in reasons if reason]


def _reason(graph: Graph, node: Node) -> str | None:
    """Why NIR cannot say a node, and a substitute; None where it can."""
    before = graph[node.inputs[0]].shape
    if isinstance(node, Add):
        terms = _terms(graph, node.name)
        twice = next((term for term in terms if terms.count(term) > 1), None)
        return (
            f"{twice} enters the sum twice, and NIR has one edge between nodes; double its weights" if twice else None
        )
    if isinstance(node, Conv) and len(set(node.weight.shape[2:])) > 1:
        # nir infers both sides of a convolution's result from the first side of its kernel.
        return (
            f"a kernel of {' x '.join(map(str, node.weight.shape[2:]))}; nir takes kernels as square: use a square one"
        )
    if isinstance(node, AvgPool) and _kernel_and_stride(node, before) is None:
        return (
            f"windows of unequal size or distance from {before} to {node.shape}, which fold into a linear layer only "
            "right behind; use frames of a size that divides, or another pool"
        )
    if isinstance(node, Reshape) and _flattened_axes(node, before) is None:
        return f"from {before} to {node.shape}; NIR can only flatten the last axes; keep (C, H, W), or use flatten"
    return REFUSED.get(type(node))


def _nir_node(node: Node, before: Shape) -> nir.NIRNode:
    """What computes a node's value from a value of shape `before`."""
    if isinstance(node, Conv):
        return _convolution(node, before)
    if isinstance(node, Linear):
        return nir.Affine(weight=node.weight, bias=node.bias)
    if isinstance(node, LIF):
        return _neurons(node)
    if isinstance(node, AvgPool):
        grid = _kernel_and_stride(node, before)
        assert grid is not None, "was refused"
        kernel, stride = grid
        return nir.AvgPool2d(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array((0, 0)))
    assert isinstance(node, Reshape), f"{node.name} was not refused"
    # Axes from the end mean the same whether or not a reader counts the batch's axis.
    return nir.Flatten(input_type=np.array(before), start_dim=-(_flattened_axes(node, before) or 0), end_dim=-1)


def _convolution(node: Conv, before: Shape) -> nir.NIRNode:
    facts = {"weight": _without_groups(node), "bias": node.bias, "groups": 1}
    if len(before) == 2:
        (stride,), (padding,), (dilation,) = node.stride, node.padding, node.dilation
        return nir.Conv1d(input_shape=before[1], stride=stride, padding=padding, dilation=dilation, **facts)
    return nir.Conv2d(input_shape=before[1:], stride=node.stride, padding=node.padding, dilation=node.dilation, **facts)


def _without_groups(node: Conv) -> Array:
    """The weight [O, I, *kernel] of one group that computes the same, zeros between the groups.

    nir 1.0.8 takes a grouped convolution's input to have I / groups channels, so that files with groups are refused
    when they are read.
    """
    outputs, inputs, *kernel = node.weight.shape
    each = outputs // node.groups
    weight = np.zeros((outputs, inputs * node.groups, *kernel), np.float32)
    for group in range(node.groups):
        rows = slice(group * each, (group + 1) * each)
        weight[rows, group * inputs : (group + 1) * inputs] = node.weight[rows]
    return weight


def _neurons(node: LIF) -> nir.NIRNode:
    """The neuron of the module's docstring, its constants once for every neuron as NIR wants them."""

    def everywhere(value: float) -> Array:
        return np.full(node.shape, value, np.float32)

    threshold = np.nextafter(everywhere(node.v_threshold), np.float32(-np.inf))
    if math.isinf(node.tau):
        return nir.IF(r=everywhere(1.0 / DT), v_threshold=threshold, v_reset=everywhere(0.0))
    return nir.LIF(
        tau=everywhere(node.tau * DT),
        r=everywhere(1.0 if node.decay_input else node.tau),
        v_leak=everywhere(0.0),
        v_threshold=threshold,
        v_reset=everywhere(0.0),
    )


def _terms(graph: Graph, name: str) -> list[str]:
    """The nodes whose sum is a node's value, itself where it is no sum."""
    node = graph[name]
    return [term for given in node.inputs for term in _terms(graph, given)] if isinstance(node, Add) else [name]


def _kernel_and_stride(pool: AvgPool, before: Shape) -> tuple[Shape, Shape] | None:
    """Of a pool over two axes with windows of one size at one distance; else None."""
    pairs = []
    for windows, side in zip(pool.windows, before[1:], strict=True):
        size, distance = windows[0][1], windows[1][0] if len(windows) > 1 else side
        if distance < 1 or windows != strided_windows(side, size, distance):
            return None
        pairs.append((size, distance))
    if len(pairs) != 2:
        return None
    (height, down), (width, right) = pairs
    return (height, width), (down, right)


def _flattened_axes(node: Reshape, before: Shape) -> int | None:
    """How many of the last axes become one, or None where the reshape is something else."""
    kept = len(node.shape) - 1
    flat = (*before[:kept], math.prod(before[kept:]))
    return len(before) - kept if flat == node.shape and len(before) > kept else None


def _fold_pools(graph: Graph) -> Graph:
    """Takes each average pool that NIR has no node for into the linear layer behind it, where there is one."""
    changed: dict[str, Node] = {}
    gone = set()
    for pool in graph.nodes:
        if not isinstance(pool, AvgPool) or _kernel_and_stride(pool, graph[pool.inputs[0]].shape) is not None:
            continue
        before = graph[pool.inputs[0]].shape
        flat = _only_user(graph, pool)
        linear = _only_user(graph, flat) if isinstance(flat, Reshape) else None
        if flat is not None and isinstance(linear, Linear):
            changed[flat.name] = replace(flat, inputs=pool.inputs, shape=(math.prod(before),))
            changed[linear.name] = replace(linear, weight=_spread(linear.weight, pool, before))
            gone.add(pool.name)
    return Graph(tuple(changed.get(node.name, node) for node in graph.nodes if node.name not in gone))


def _only_user(graph: Graph, node: Node) -> Node | None:
    users = graph.users[node.name]
    return users[0] if len(users) == 1 else None


def _spread(weight: Array, pool: AvgPool, before: Shape) -> Array:
    """A linear layer's weight [out, C * parts] behind a pool as one before it, [out, C * sides]."""
    wide = weight.astype(np.float64).reshape(len(weight), *pool.shape)
    for axis, (windows, side) in enumerate(zip(pool.windows, before[1:], strict=True), start=2):
        share = np.zeros((len(windows), side))
        for row, (first, end) in zip(share, windows, strict=True):
            row[first:end] = 1.0 / (end - first)
        wide = np.moveaxis(np.tensordot(wide, share, axes=(axis, 0)), -1, axis)
    return wide.reshape(len(weight), -1).astype(np.float32)


def _free(name: str, taken: dict[str, str]) -> str:
    while name in taken:
        name += "_"
    return name
