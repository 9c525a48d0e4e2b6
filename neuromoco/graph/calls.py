"""What the rules of functions share: a call, and the values and constants among its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from neuromoco.graph import nodes as op
from neuromoco.graph.layout import EACH, MEAN, Sizes, Value, settled
from neuromoco.unsupported import RefusedError


class Call(Protocol):
    """One call of a function.

    Attributes:
        place: the name of its node.
        results: the tensors that it returned.
        sizes: T and N of this run.
        nodes: that it added or, at a later step, found again.
    """

    place: str
    results: list[Tensor]
    sizes: Sizes
    nodes: list[op.Node]

    def value(self, tensor: Any) -> Value | None:
        """What the network computed a tensor as, or None for other tensors and what is no tensor."""

    def keep(self, node: op.Node) -> op.Node:
        """Adds a node to the graph."""


def network_value(call: Call, tensor: Any) -> Value:
    value = call.value(tensor)
    if value is None:
        raise RefusedError("of a tensor that no layer made, with one that a layer made; use a number, or batch norm")
    return value


def keep_all(call: Call, nodes: Sequence[op.Node]) -> None:
    for node in nodes:
        call.keep(node)


def settle(call: Call, value: Value, suffix: str = "") -> Value:
    result, nodes = settled(value, call.place + suffix)
    keep_all(call, nodes)
    return result


def moved(node: op.Node, order: Sequence[int], name: str) -> op.Transpose:
    shape = tuple(node.shape[i] for i in order)
    return op.Transpose(name=name, inputs=(node.name,), shape=shape, order=tuple(order))


def constant(value: Any) -> Any:
    """A number or a constant tensor as float64."""
    if isinstance(value, Tensor):
        return np.asarray(value.detach().cpu().double().numpy())
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise RefusedError(f"with a {type(value).__name__}; use a number") from None


def one_number(value: Any) -> float:
    numbers = constant(value)
    if numbers.size != 1:
        raise RefusedError("a factor of several numbers; use one")
    return float(numbers.ravel()[0])


def scaled(call: Call, value: Value, weight: Any, bias: Any, suffix: str = "") -> Value:
    """weight * value + bias, constants that broadcast to the tensor."""
    axis, gain, offset = None, constant(weight), constant(bias)
    if not (gain - 1.0).any() and not offset.any() and call.results[0].ndim == len(value.axes):
        return value
    for numbers in (gain, offset):
        varies = [i - numbers.ndim for i, size in enumerate(numbers.shape) if size > 1]
        if numbers.ndim > len(value.axes) or len(varies) > 1 or (varies and axis not in (None, varies[0])):
            raise RefusedError("with a constant that differs from place to place; use a number, or one per channel")
        axis = varies[0] if varies else axis
    if axis is not None and value.axis(axis) == ():
        value = settle(call, value, suffix)  # which gives axes of size 1 a place in the node
    node, before, channel = value.node, value.node, 0
    if not node.shape:
        raise RefusedError("of a single number for each recording; keep its channels")
    if axis is not None:
        group = value.axis(axis)
        if len(group) != 1 or not isinstance(group[0], int):
            raise RefusedError("with a constant that differs between time steps or recordings; use one per channel")
        channel, size = group[0], max(gain.size, offset.size)
        if node.shape[channel] == 1 < size:
            shape = tuple(size if i == channel else side for i, side in enumerate(node.shape))
            name = f"{call.place}{suffix}.expand"
            node = before = call.keep(op.Expand(name=name, inputs=(node.name,), shape=shape))
        order = (channel, *(i for i in range(len(node.shape)) if i != channel))
        if channel:
            before = call.keep(moved(node, order, call.place + suffix + ".front"))
    arrays = {
        "weight": np.array(np.broadcast_to(gain.ravel(), before.shape[:1]), np.float32),
        "bias": np.array(np.broadcast_to(offset.ravel(), before.shape[:1]), np.float32),
    }
    name = call.place + suffix + (".scale" if channel else "")
    after = call.keep(op.Affine(name=name, inputs=(before.name,), shape=before.shape, **arrays))
    if channel:
        back = tuple(order.index(i) for i in range(len(order)))
        after = call.keep(moved(after, back, call.place + suffix))
    return replace(value, node=after)


# Their mean over time is their value of the mean.
LINEAR = (
    *(op.Conv, op.Linear, op.Affine, op.AvgPool, op.Reshape, op.Transpose, op.Add),
    *(op.Expand, op.Slice, op.Concat),
)


def check_results(call: Call, values: list[Value]) -> list[Value]:
    """The values of a call, unless they are no float32 or no mean over time."""
    if not call.results:
        raise RefusedError("its result is no tensor, and what follows may depend on it; compute with tensors alone")
    for tensor, value in zip(call.results, values, strict=True):
        if tensor.dtype != torch.float32:
            raise RefusedError(f"a cast to {str(tensor.dtype).removeprefix('torch.')}; keep float32")
        if call.sizes.shape(value) != tuple(tensor.shape):
            raise RefusedError(f"its result is {tuple(tensor.shape)}, where {call.sizes.shape(value)} was expected")
        if value.when != EACH and value.step is None:
            odd = next((node for node in call.nodes if not isinstance(node, LINEAR)), None)
            if odd is not None:
                raise RefusedError("behind a mean or sum over time; move the mean to the end of the network")
            if value.when != MEAN and any(isinstance(node, op.Conv | op.Linear | op.Affine) for node in call.nodes):
                raise RefusedError("on the sum of some time steps; sum all of them first")
    return values
