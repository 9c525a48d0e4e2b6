"""The rules of sums and products between layers; see `functions`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neuromoco.graph import nodes as op
from neuromoco.graph.calls import Call, constant, network_value, one_number, scaled, settle
from neuromoco.graph.layout import EACH, MEAN, Value, describe, numbered
from neuromoco.unsupported import RefusedError


def add(call: Call, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    return _sum(call, input, _times(call, other, alpha, ".alpha"))


def radd(call: Call, input: Any, other: Any) -> Value:
    return _sum(call, other, input)


def sub(call: Call, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    return _sum(call, input, _times(call, other, -one_number(alpha), ".minus"))


def rsub(call: Call, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    return sub(call, other, input, alpha=alpha)


def neg(call: Call, input: Any) -> Value:
    return scaled(call, network_value(call, input), -1.0, 0.0)


def mul(call: Call, input: Any, other: Any) -> Value:
    a, b = call.value(input), call.value(other)
    if a is None or b is None:
        value, number = (a, other) if a is not None else (b, input)
        assert value is not None, "one of them is the network's"
        return scaled(call, value, number, 0.0)
    _expect_same_steps(a, b)
    a, b = _aligned(call, a, b)
    node = op.Multiply(name=call.place, inputs=(a.node.name, b.node.name), shape=a.node.shape)
    return replace(a, node=call.keep(node))


def matmul(call: Call, input: Any, other: Any) -> Value:
    a, b = settle(call, network_value(call, input), ".a"), settle(call, network_value(call, other), ".b")
    _expect_same_steps(a, b)
    shapes = a.node.shape, b.node.shape
    if a.axes != b.axes or min(map(len, shapes)) < 2 or a.axes[-2:] != numbered(len(shapes[0]))[-2:]:
        raise RefusedError(f"a matrix product of {describe(a)} and {describe(b)}; give both [T, N, ..., rows, columns]")
    if shapes[0][:-2] != shapes[1][:-2]:
        raise RefusedError(f"a matrix product of {describe(a)} and {describe(b)}; all axes but two must be the same")
    shape = (*shapes[0][:-1], shapes[1][-1])
    return replace(a, node=call.keep(op.MatMul(name=call.place, inputs=(a.node.name, b.node.name), shape=shape)))


def rmatmul(call: Call, input: Any, other: Any) -> Value:
    return matmul(call, other, input)


def _expect_same_steps(a: Value, b: Value) -> None:
    if a.when != b.when or (a.when != EACH and a.step is None):
        raise RefusedError("a product of means over time, or of different time steps; multiply step by step")


def div(call: Call, input: Any, other: Any, *, rounding_mode: Any = None) -> Value:
    if rounding_mode is not None:
        raise RefusedError(f"rounding_mode={rounding_mode!r}; omit it")
    if call.value(other) is not None:
        raise RefusedError("division by a value; divide by a number")
    divisor = constant(other)
    if not np.all(divisor):
        raise RefusedError("division by 0")
    return scaled(call, network_value(call, input), 1.0 / divisor, 0.0)


def rdiv(call: Call, input: Any, other: Any) -> Value:
    return div(call, other, input)


def _sum(call: Call, a: Any, b: Any) -> Value:
    """a + b, each a value, a tensor of the network's, or a constant."""
    one, other = (x if isinstance(x, Value) else call.value(x) for x in (a, b))
    if one is None or other is None:
        value, number = (one, b) if one is not None else (other, a)
        assert value is not None, "one of them is the network's"
        return scaled(call, value, 1.0, number)
    if _steps(one) and _steps(other) and not set(_steps(one)) & set(_steps(other)):
        return _sum_over_steps(call, one, other)
    if one.when != other.when:
        raise RefusedError("a sum of different time steps; the graph carries nothing between steps but membranes")
    one, other = _aligned(call, one, other)
    node = op.Add(name=call.place, inputs=(one.node.name, other.node.name), shape=one.node.shape)
    return replace(one, node=call.keep(node))


def _sum_over_steps(call: Call, a: Value, b: Value) -> Value:
    if a.node.name != b.node.name or a.axes != b.axes:
        raise RefusedError("a sum of different layers at different time steps; sum each layer over time alone")
    steps = tuple(sorted((*_steps(a), *_steps(b))))
    if len(steps) < call.sizes.steps:
        return replace(a, when=steps)
    return scaled(call, replace(a, when=MEAN), float(call.sizes.steps), 0.0)


def _steps(value: Value) -> tuple[int, ...]:
    return value.when if isinstance(value.when, tuple) else ()


def _times(call: Call, x: Any, factor: Any, suffix: str) -> Any:
    """factor * x, of a value or of a constant."""
    factor, value = one_number(factor), call.value(x)
    if value is None:
        return factor * constant(x)
    return value if factor == 1 else scaled(call, value, factor, 0.0, suffix)


def _aligned(call: Call, a: Value, b: Value) -> tuple[Value, Value]:
    """Two tensors as values whose nodes have one shape, repeated along axes of size 1."""
    if a.axes == b.axes and a.node.shape == b.node.shape:
        return a, b
    a, b = settle(call, a, ".a"), settle(call, b, ".b")
    pairs = list(zip(a.node.shape, b.node.shape, strict=False))
    if a.axes != b.axes or any(i != j and 1 not in (i, j) for i, j in pairs):
        raise RefusedError(f"of shapes {describe(a)} and {describe(b)}; both must be the same, or 1")
    shape = tuple(max(pair) for pair in pairs)
    return _expanded(call, a, shape, ".a"), _expanded(call, b, shape, ".b")


def _expanded(call: Call, value: Value, shape: op.Shape, suffix: str) -> Value:
    if value.node.shape == shape:
        return value
    name = f"{call.place}{suffix}.expand"
    return replace(value, node=call.keep(op.Expand(name=name, inputs=(value.node.name,), shape=shape)))
