"""The rules of sums and products between layers; see `functions`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neuromoco.graph import nodes as op
from neuromoco.graph.calls import Call, constant, network_value, one_number, scaled, settle
from neuromoco.graph.layout import EACH, MEAN, Value, describe
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
    if a.when != b.when or (a.when != EACH and a.step is None):
        raise RefusedError("a product of means over time, or of different time steps; multiply step by step")
    a, b = _aligned(call, a, b)
    node = op.Multiply(name=call.place, inputs=(a.node.name, b.node.name), shape=a.node.shape)
    return replace(a, node=call.keep(node))


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
    """Two tensors of one shape as values whose nodes have one shape."""
    if a.axes == b.axes and a.node.shape == b.node.shape:
        return a, b
    a, b = settle(call, a, ".a"), settle(call, b, ".b")
    if a.axes != b.axes or a.node.shape != b.node.shape:
        raise RefusedError(f"of shapes {describe(a)} and {describe(b)}; both must be the same")
    return a, b
