"""What the nodes of a graph compute, in numpy and float64: the reference that networks and exports are compared with.

Values are [T, N, *shape of the node]. Slow, short and without any runtime: every line is the definition of a node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from neuromoco.graph import nodes as op

Doubles = NDArray[np.float64]


def compute(node: op.Node, *inputs: Doubles) -> Doubles:
    """The value of a node at all steps, from those of its inputs, which begin at rest."""
    return RULES[type(node)](node, *inputs)


def largest_terms(node: op.Node, *inputs: Doubles) -> Doubles:
    """The sums of the magnitudes of all terms in a node's value: float32 rounds in proportion to them.

    `inputs` are such sums of the node's inputs.
    """
    if isinstance(node, op.Weighted):
        node = replace(node, weight=np.abs(node.weight), bias=op.bias_terms(node))
    return compute(node, *inputs)


def membranes(node: op.LIF, x: Doubles, spikes: Doubles) -> Doubles:
    """h[t] of neurons that have fired as `spikes` says, for inputs x."""
    h = np.empty_like(x)
    v: Any = 0.0
    for t in range(len(x)):
        h[t] = node.keep * v + node.gain * x[t]
        v = h[t] - node.lost * spikes[t] if node.soft_reset else h[t] * (1.0 - spikes[t])
    return h


def fire(node: op.LIF, x: Doubles) -> Doubles:
    """The spikes of neurons for inputs x."""
    spikes = np.zeros_like(x)
    v: Any = 0.0
    for t in range(len(x)):
        h = node.keep * v + node.gain * x[t]
        spikes[t] = h >= node.v_threshold
        v = h - node.lost * spikes[t] if node.soft_reset else h * (1.0 - spikes[t])
    return spikes


def _current(node: op.Current, x: Doubles) -> Doubles:
    currents = x.copy()
    for t in range(1, len(x)):
        currents[t] += node.keep * currents[t - 1]
    return currents


def _conv(node: op.Conv, x: Doubles) -> Doubles:
    kernel, sides = node.weight.shape[2:], node.shape[1:]
    weight = node.weight.astype(np.float64).reshape(node.groups, -1, *node.weight.shape[1:])  # [groups, O, I, *kernel]
    inputs = weight.shape[2]
    padded = np.pad(x, [(0, 0)] * 3 + [(p, p) for p in node.padding])
    result = np.zeros((*x.shape[:2], *node.shape))
    by_group = result.reshape(*x.shape[:2], node.groups, weight.shape[1], -1)
    for place in np.ndindex(kernel):
        starts = [d * k for d, k in zip(node.dilation, place, strict=True)]
        seen = tuple(slice(a, a + s * n, s) for a, s, n in zip(starts, node.stride, sides, strict=True))
        taps = weight[(..., *place)]  # [groups, O, I]
        for t, n in np.ndindex(x.shape[:2]):  # one frame at a time, for memory
            part = padded[(t, n, slice(None), *seen)].reshape(node.groups, inputs, -1)
            by_group[t, n] += taps @ part
    return result + _channels(node.bias, node)


def _channels(values: op.Array, node: op.Node) -> Doubles:
    return values.astype(np.float64).reshape(-1, *(1,) * (len(node.shape) - 1))


def _max_pool(node: op.MaxPool, x: Doubles) -> Doubles:
    axes = len(node.kernel)
    padded = np.pad(x, [(0, 0)] * 3 + [(p, p) for p in node.padding], constant_values=-np.inf)
    windows = sliding_window_view(padded, node.kernel, tuple(range(3, 3 + axes)))
    strided: Doubles = windows[(slice(None),) * 3 + tuple(slice(None, None, s) for s in node.stride)]
    return np.asarray(strided.max(tuple(range(-axes, 0))))


def _avg_pool(node: op.AvgPool, x: Doubles) -> Doubles:
    for axis, windows in enumerate(node.windows, start=3):
        matrix = op.averaging_matrix(windows, x.shape[axis])
        x = np.moveaxis(np.tensordot(x, matrix, axes=(axis, 1)), -1, axis)
    return x


def _attention(node: op.Attention, x: Doubles) -> Doubles:
    channels, length = node.shape
    q, k, v = np.moveaxis(x.reshape(*x.shape[:2], 3, node.heads, channels // node.heads, length), 2, 0)
    product: Doubles = node.scale * ((v @ k.swapaxes(-1, -2)) @ q)
    return product.reshape(*x.shape[:2], channels, length)


RULES: dict[type[op.Node], Callable[..., Doubles]] = {
    op.Conv: _conv,
    op.Linear: lambda node, x: x @ node.weight.astype(np.float64).T + node.bias,
    op.Affine: lambda node, x: x * _channels(node.weight, node) + _channels(node.bias, node),
    op.LIF: fire,
    op.Current: _current,
    op.Add: lambda node, a, b: a + b,
    op.Multiply: lambda node, a, b: a * b,
    op.MaxPool: _max_pool,
    op.AvgPool: _avg_pool,
    op.Attention: _attention,
    op.Reshape: lambda node, x: x.reshape(*x.shape[:2], *node.shape),
    op.Transpose: lambda node, x: x.transpose(0, 1, *(axis + 2 for axis in node.order)),
    op.Expand: lambda node, x: np.broadcast_to(x, (*x.shape[:2], *node.shape)),
    op.MatMul: lambda node, a, b: a @ b,
    op.Slice: lambda node, x: x.take(range(node.start, node.end), node.axis + 2),
    op.Concat: lambda node, *parts: np.concatenate(parts, node.axis + 2),
}


def last_uses(nodes: Sequence[op.Node]) -> dict[str, int]:
    """For each node's name, the number of the last node that takes its value."""
    return {name: number for number, node in enumerate(nodes) for name in (node.name, *node.inputs)}
