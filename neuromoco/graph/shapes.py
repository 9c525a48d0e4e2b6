"""The rules of functions that reshape, reorder and average the axes of a tensor; see `functions`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from neuromoco.graph import nodes as op
from neuromoco.graph.calls import Call, keep_all, moved, network_value, scaled
from neuromoco.graph.layout import MEAN, Value, regrouped, settled
from neuromoco.unsupported import RefusedError


def shaped(call: Call, input: Any, *shape: Any, **_: Any) -> Value:
    """Any function that leaves the order of the numbers as it is: the shape of its result says all."""
    value = network_value(call, input)
    new, nodes = regrouped(value, call.results[0].shape, call.sizes, call.place)
    inner = [group for group in new.axes if any(isinstance(label, int) for label in group)]
    mixed = any(not isinstance(label, int) for group in inner for label in group)
    single = len(inner) == len(new.node.shape) and all(len(group) == 1 for group in inner)
    if not mixed and not single:
        new, more = settled(new, call.place)
        nodes += more
    if not nodes:
        return new
    last = replace(nodes[-1], name=call.place)
    while len(nodes) > 1 and isinstance(nodes[-2], op.Reshape) and isinstance(last, op.Reshape):
        last = replace(last, inputs=nodes[-2].inputs)
        del nodes[-2]
    keep_all(call, nodes[:-1])
    return replace(new, node=call.keep(last))


def flatten(call: Call, input: Any, start_dim: Any = 0, end_dim: Any = -1) -> Value:
    return shaped(call, input)


def reshape(call: Call, input: Any, *shape: Any) -> Value:
    return shaped(call, input)


def squeeze(call: Call, input: Any, dim: Any = None) -> Value:
    return shaped(call, input)


def unflatten(call: Call, input: Any, dim: Any, sizes: Any) -> Value:
    return shaped(call, input)


def transpose(call: Call, input: Any, dim0: int, dim1: int) -> Value:
    value = network_value(call, input)
    axes = list(value.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return replace(value, axes=tuple(axes))


def permute(call: Call, input: Any, *dims: Any) -> Value:
    value = network_value(call, input)
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return replace(value, axes=tuple(value.axis(dim) for dim in order))


def swap_last(call: Call, input: Any) -> Value:
    return transpose(call, input, -2, -1)


def copy(call: Call, input: Any, *, memory_format: Any = None) -> Value:
    return network_value(call, input)


def to(
    call: Call,
    input: Any,
    *place: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: Any = False,
    copy: Any = False,
    memory_format: Any = None,
) -> Value:
    """The recorder refuses results that are not float32."""
    return network_value(call, input)


def mean(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduced(call, input, dim, keepdim)[0]


def sum_over(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value, count = _reduced(call, input, dim, keepdim, summed=True)
    return scaled(call, value, float(count), 0.0, ".count")


def _reduced(call: Call, input: Any, dim: Any, keepdim: bool, summed: bool = False) -> tuple[Value, int]:
    """The mean over some axes, or the sum over those of a node, and what it has to be multiplied with for the sum."""
    value = network_value(call, input)
    dims = range(len(value.axes)) if dim is None or dim == () else dim if isinstance(dim, tuple | list) else (dim,)
    chosen = {range(len(value.axes))[d] for d in dims}
    labels = [label for i in chosen for label in value.axes[i]]
    if "N" in labels:
        raise RefusedError("a mean or sum over recordings; say over which other axes")
    over = {label for label in labels if isinstance(label, int)}
    count = math.prod(call.sizes.of(value, label) for label in labels)
    if "T" in labels:
        if any(len(value.axes[i]) > 1 and "T" in value.axes[i] for i in chosen):
            raise RefusedError("a mean or sum over time steps that are mixed with another axis; keep them apart")
        value = replace(value, when=MEAN, axes=tuple(tuple(x for x in g if x != "T") for g in value.axes))
    if over:
        value = _added(call, value, over) if summed else _pooled(call, value, over)
    if summed:
        count = call.sizes.steps if "T" in labels else 1
    axes = tuple(group for i, group in enumerate(value.axes) if keepdim or i not in chosen)
    return replace(value, axes=axes), count


def _added(call: Call, value: Value, over: set[int]) -> Value:
    """The sum over some axes of the node, by a convolution of ones: of spikes it is exact, as a mean times n is not."""
    node, shape = value.node, value.node.shape
    kept = [i for i in range(len(shape)) if i not in over]
    if not kept:
        raise RefusedError("a mean or sum over all axes; keep the channels")
    order = (*sorted(over), *kept)
    if order != tuple(range(len(shape))):
        node = call.keep(moved(node, order, f"{call.place}.transpose"))
    flat, left = (math.prod(shape[i] for i in over), math.prod(shape[i] for i in kept)), tuple(shape[i] for i in kept)
    if node.shape != flat:
        node = call.keep(op.Reshape(name=f"{call.place}.flat", inputs=(node.name,), shape=flat))
    once: dict[str, Any] = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}
    ones, none = np.ones((1, flat[0], 1), np.float32), np.zeros(1, np.float32)
    row = (1, flat[1])
    node = call.keep(op.Conv(name=f"{call.place}.sum", inputs=(node.name,), shape=row, weight=ones, bias=none, **once))
    return _without(call, value, over, node, left)


def _without(call: Call, value: Value, over: set[int], node: op.Node, left: op.Shape) -> Value:
    """The value whose axes `over` are reduced in a node, whose numbers have the shape `left`."""
    kept = [i for i in range(len(value.node.shape)) if i not in over]
    node = call.keep(op.Reshape(name=call.place, inputs=(node.name,), shape=left))
    axes = tuple(tuple(kept.index(x) if isinstance(x, int) else x for x in g if x not in over) for g in value.axes)
    return replace(value, node=node, axes=axes)


def _pooled(call: Call, value: Value, over: set[int]) -> Value:
    """The mean over some axes of the node, which then count nothing."""
    node, shape = value.node, value.node.shape
    kept = [i for i in range(len(shape)) if i not in over]
    if not kept:
        raise RefusedError("a mean or sum over all axes; keep the channels")
    windows: tuple[tuple[op.Window, ...], ...]
    if 0 in over or len(shape) > 3:
        order = (*kept, *sorted(over))
        if order != tuple(range(len(shape))):
            node = call.keep(moved(node, order, f"{call.place}.transpose"))
        flat = (math.prod(shape[i] for i in kept), math.prod(shape[i] for i in over))
        node = call.keep(op.Reshape(name=f"{call.place}.flat", inputs=(node.name,), shape=flat))
        windows = (((0, flat[1]),),)
    else:
        windows = tuple(
            ((0, side),) if i in over else tuple((j, j + 1) for j in range(side)) for i, side in enumerate(shape) if i
        )
    sides = (node.shape[0], *map(len, windows))
    pool = call.keep(op.AvgPool(name=f"{call.place}.pool", inputs=(node.name,), shape=sides, windows=windows))
    return _without(call, value, over, pool, tuple(shape[i] for i in kept))
