"""The rules of torch's functions between layers.

A rule has the signature of its function: an argument that it does not name is refused, and so is a function without a
rule. It takes a `Call` and the function's arguments, of which tensors that the network computed are looked up with
`Call.value`, and returns the values of the function's results.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from neuromoco.graph import nodes as op
from neuromoco.graph.layout import EACH, MEAN, Sizes, Value, describe, regrouped, settled
from neuromoco.graph.rules import KNOWN
from neuromoco.support.untrusted import one_line
from neuromoco.unsupported import RefusedError


class Call(Protocol):
    """One call of a function.

    Attributes:
        place: the name of its node.
        results: the tensors that it returned.
        sizes: T and N of this run.
    """

    place: str
    results: list[Tensor]
    sizes: Sizes

    def value(self, tensor: Any) -> Value | None:
        """What the network computed a tensor as, or None for other tensors and what is no tensor."""

    def keep(self, node: op.Node) -> op.Node:
        """Adds a node to the graph."""


def call_rule(call: Call, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Value]:
    """The values of a function's results; refuses a function or an argument that is not read."""
    rule = FUNCTIONS.get(name)
    if rule is None:
        raise RefusedError(SUBSTITUTES.get(name, f"known are {KNOWN}"))
    known = inspect.signature(rule)
    for word in kwargs:
        if word not in known.parameters:
            raise RefusedError(f"argument {word}={one_line(repr(kwargs[word]))}; omit it")
    try:
        bound = known.bind(call, *args, **kwargs)
    except TypeError as error:
        raise RefusedError(f"arguments that are not read ({error}); known are those of {known}") from None
    result = rule(*bound.args, **bound.kwargs)
    return result if isinstance(result, list) else [result]


def _input(call: Call, tensor: Any) -> Value:
    value = call.value(tensor)
    if value is None:
        raise RefusedError("of a tensor that no layer made, with one that a layer made; use a number, or batch norm")
    return value


def _wide(call: Call, nodes: Sequence[op.Node]) -> None:
    for node in nodes:
        call.keep(node)


def _settled(call: Call, value: Value, suffix: str = "") -> Value:
    result, nodes = settled(value, call.place + suffix)
    _wide(call, nodes)
    return result


# Sums and products


def _add(call: Call, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    return _sum(call, input, _times(call, other, alpha, ".alpha"))


def _radd(call: Call, input: Any, other: Any) -> Value:
    return _sum(call, other, input)


def _sub(call: Call, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    return _sum(call, input, _times(call, other, -_plain(alpha), ".minus"))


def _rsub(call: Call, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    return _sub(call, other, input, alpha=alpha)


def _neg(call: Call, input: Any) -> Value:
    return _scaled(call, _input(call, input), -1.0, 0.0)


def _mul(call: Call, input: Any, other: Any) -> Value:
    a, b = call.value(input), call.value(other)
    if a is None or b is None:
        value, constant = (a, other) if a is not None else (b, input)
        assert value is not None, "one of them is the network's"
        return _scaled(call, value, constant, 0.0)
    if a.when != b.when or (a.when != EACH and a.step is None):
        raise RefusedError("a product of means over time, or of different time steps; multiply step by step")
    a, b = _aligned(call, a, b)
    node = op.Multiply(name=call.place, inputs=(a.node.name, b.node.name), shape=a.node.shape)
    return replace(a, node=call.keep(node))


def _div(call: Call, input: Any, other: Any, *, rounding_mode: Any = None) -> Value:
    if rounding_mode is not None:
        raise RefusedError(f"rounding_mode={rounding_mode!r}; omit it")
    if call.value(other) is not None:
        raise RefusedError("division by a value; divide by a number")
    divisor = _constant(other)
    if not np.all(divisor):
        raise RefusedError("division by 0")
    return _scaled(call, _input(call, input), 1.0 / divisor, 0.0)


def _rdiv(call: Call, input: Any, other: Any) -> Value:
    return _div(call, other, input)


def _sum(call: Call, a: Any, b: Any) -> Value:
    """a + b, each a value, a tensor of the network's, or a constant."""
    one, other = (x if isinstance(x, Value) else call.value(x) for x in (a, b))
    if one is None or other is None:
        value, constant = (one, b) if one is not None else (other, a)
        assert value is not None, "one of them is the network's"
        return _scaled(call, value, 1.0, constant)
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
    return _scaled(call, replace(a, when=MEAN), float(call.sizes.steps), 0.0)


def _steps(value: Value) -> tuple[int, ...]:
    return value.when if isinstance(value.when, tuple) else ()


def _times(call: Call, x: Any, factor: Any, suffix: str) -> Any:
    """factor * x, of a value or of a constant."""
    factor, value = _plain(factor), call.value(x)
    if value is None:
        return factor * _constant(x)
    return value if factor == 1 else _scaled(call, value, factor, 0.0, suffix)


def _scaled(call: Call, value: Value, weight: Any, bias: Any, suffix: str = "") -> Value:
    """weight * value + bias, constants that broadcast to the tensor."""
    axis, gain, offset = None, _constant(weight), _constant(bias)
    if not (gain - 1.0).any() and not offset.any() and call.results[0].ndim == len(value.axes):
        return value
    for constant in (gain, offset):
        varies = [i - constant.ndim for i, size in enumerate(constant.shape) if size > 1]
        if constant.ndim > len(value.axes) or len(varies) > 1 or (varies and axis not in (None, varies[0])):
            raise RefusedError("with a constant that differs from place to place; use a number, or one per channel")
        axis = varies[0] if varies else axis
    node, before, channel = value.node, value.node, 0
    if not node.shape:
        raise RefusedError("of a single number for each recording; keep its channels")
    if axis is not None:
        group = value.axis(axis)
        if len(group) != 1 or not isinstance(group[0], int):
            raise RefusedError("with a constant that differs between time steps or recordings; use one per channel")
        channel = group[0]
        order = (channel, *(i for i in range(len(node.shape)) if i != channel))
        if channel:
            before = call.keep(_moved(node, order, call.place + suffix + ".front"))
    arrays = {
        "weight": np.array(np.broadcast_to(gain.ravel(), before.shape[:1]), np.float32),
        "bias": np.array(np.broadcast_to(offset.ravel(), before.shape[:1]), np.float32),
    }
    name = call.place + suffix + (".scale" if channel else "")
    after = call.keep(op.Affine(name=name, inputs=(before.name,), shape=before.shape, **arrays))
    if channel:
        back = tuple(order.index(i) for i in range(len(order)))
        after = call.keep(_moved(after, back, call.place + suffix))
    return replace(value, node=after)


def _moved(node: op.Node, order: Sequence[int], name: str) -> op.Transpose:
    shape = tuple(node.shape[i] for i in order)
    return op.Transpose(name=name, inputs=(node.name,), shape=shape, order=tuple(order))


def _aligned(call: Call, a: Value, b: Value) -> tuple[Value, Value]:
    """Two tensors of one shape as values whose nodes have one shape."""
    if a.axes == b.axes and a.node.shape == b.node.shape:
        return a, b
    a, b = _settled(call, a, ".a"), _settled(call, b, ".b")
    if a.axes != b.axes or a.node.shape != b.node.shape:
        raise RefusedError(f"of shapes {describe(a)} and {describe(b)}; both must be the same")
    return a, b


def _constant(value: Any) -> Any:
    """A number or a constant tensor as float64."""
    if isinstance(value, Tensor):
        return np.asarray(value.detach().cpu().double().numpy())
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise RefusedError(f"with a {type(value).__name__}; use a number") from None


def _plain(value: Any) -> float:
    constant = _constant(value)
    if constant.size != 1:
        raise RefusedError("a factor of several numbers; use one")
    return float(constant.ravel()[0])


# Shapes


def _shaped(call: Call, input: Any, *shape: Any, **_: Any) -> Value:
    """Any function that leaves the order of the numbers as it is: the shape of its result says all."""
    value = _input(call, input)
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
    _wide(call, nodes[:-1])
    return replace(new, node=call.keep(last))


def _flatten(call: Call, input: Any, start_dim: Any = 0, end_dim: Any = -1) -> Value:
    return _shaped(call, input)


def _reshape(call: Call, input: Any, *shape: Any) -> Value:
    return _shaped(call, input)


def _squeeze(call: Call, input: Any, dim: Any = None) -> Value:
    return _shaped(call, input)


def _unflatten(call: Call, input: Any, dim: Any, sizes: Any) -> Value:
    return _shaped(call, input)


def _transpose(call: Call, input: Any, dim0: int, dim1: int) -> Value:
    value = _input(call, input)
    axes = list(value.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return replace(value, axes=tuple(axes))


def _permute(call: Call, input: Any, *dims: Any) -> Value:
    value = _input(call, input)
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return replace(value, axes=tuple(value.axis(dim) for dim in order))


def _swap_last(call: Call, input: Any) -> Value:
    return _transpose(call, input, -2, -1)


def _copy(call: Call, input: Any, *, memory_format: Any = None) -> Value:
    return _input(call, input)


def _to(
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
    return _input(call, input)


# Means and sums over axes


def _mean(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduced(call, input, dim, keepdim)[0]


def _sum_over(call: Call, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value, count = _reduced(call, input, dim, keepdim)
    return _scaled(call, value, float(count), 0.0, ".count")


def _reduced(call: Call, input: Any, dim: Any, keepdim: bool) -> tuple[Value, int]:
    """The mean over some axes, and the number of values in each mean."""
    value = _input(call, input)
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
        value = _pooled(call, value, over)
    axes = tuple(group for i, group in enumerate(value.axes) if keepdim or i not in chosen)
    return replace(value, axes=axes), count


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
            node = call.keep(_moved(node, order, f"{call.place}.transpose"))
        flat = (math.prod(shape[i] for i in kept), math.prod(shape[i] for i in over))
        node = call.keep(op.Reshape(name=f"{call.place}.flat", inputs=(node.name,), shape=flat))
        windows = (((0, flat[1]),),)
    else:
        windows = tuple(
            ((0, side),) if i in over else tuple((j, j + 1) for j in range(side)) for i, side in enumerate(shape) if i
        )
    sides = (node.shape[0], *map(len, windows))
    pool = call.keep(op.AvgPool(name=f"{call.place}.pool", inputs=(node.name,), shape=sides, windows=windows))
    left = tuple(shape[i] for i in kept)
    node = call.keep(op.Reshape(name=call.place, inputs=(pool.name,), shape=left))
    axes = tuple(tuple(kept.index(x) if isinstance(x, int) else x for x in g if x not in over) for g in value.axes)
    return replace(value, node=node, axes=axes)


# Time steps


def _getitem(call: Call, input: Any, index: Any) -> Value:
    value = _input(call, input)
    index = index if isinstance(index, tuple) else (index,)
    named = sum(entry is not None and entry is not Ellipsis for entry in index)
    entries: list[Any] = []
    for entry in index:
        entries += [slice(None)] * (len(value.axes) - named) if entry is Ellipsis else [entry]
    axes: list[Any] = []
    when, rest = value.when, list(value.axes)
    for entry in entries:
        if entry is None:
            axes.append(())
            continue
        group = rest.pop(0)
        size = math.prod(call.sizes.of(value, label) for label in group)
        if isinstance(entry, slice) and entry.indices(size) == (0, size, 1):
            axes.append(group)
        elif isinstance(entry, int) and group == ("T",):
            when = (range(size)[entry],)
        elif not (isinstance(entry, int) and group == ()):
            raise RefusedError("a part of the axes; only x[t] of a time step is known")
    return replace(value, when=when, axes=(*axes, *rest))


def _unbind(call: Call, input: Any, dim: int = 0) -> list[Value]:
    value = _input(call, input)
    if value.axis(dim) != ("T",):
        raise RefusedError("takes apart another axis than time; only time steps can be taken apart")
    place = range(len(value.axes))[dim]
    axes = (*value.axes[:place], *value.axes[place + 1 :])
    return [replace(value, when=(t,), axes=axes) for t in range(call.sizes.steps)]


def _stack(call: Call, tensors: Any, dim: int = 0) -> Value:
    first = _all_steps(call, tensors)
    place = range(len(first.axes) + 1)[dim]
    return replace(first, when=EACH, axes=(*first.axes[:place], ("T",), *first.axes[place:]))


def _cat(call: Call, tensors: Any, dim: int = 0) -> Value:
    first = _all_steps(call, tensors)
    place = range(len(first.axes))[dim]
    if first.axes[place]:
        raise RefusedError("joins time steps along another axis; use torch.stack")
    return replace(first, when=EACH, axes=(*first.axes[:place], ("T",), *first.axes[place + 1 :]))


def _all_steps(call: Call, tensors: Any) -> Value:
    """The first of the same value at each of the T steps, in order."""
    values = [_input(call, tensor) for tensor in tensors]
    first = values[0]
    same = all((value.node.name, value.axes) == (first.node.name, first.axes) for value in values)
    if not same or [value.step for value in values] != list(range(call.sizes.steps)):
        raise RefusedError("joins other values than one layer's at all time steps; join branches with +")
    return first


FUNCTIONS: dict[str, Callable[..., Value | list[Value]]] = {
    "add": _add,
    "radd": _radd,
    "sub": _sub,
    "subtract": _sub,
    "rsub": _rsub,
    "neg": _neg,
    "negative": _neg,
    "mul": _mul,
    "multiply": _mul,
    "rmul": _mul,
    "div": _div,
    "divide": _div,
    "true_divide": _div,
    "truediv": _div,
    "rdiv": _rdiv,
    "rtruediv": _rdiv,
    "flatten": _flatten,
    "reshape": _reshape,
    "view": _reshape,
    "squeeze": _squeeze,
    "unsqueeze": _squeeze,
    "unflatten": _unflatten,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "swapdims": _transpose,
    "permute": _permute,
    "mT": _swap_last,
    "contiguous": _copy,
    "clone": _copy,
    "detach": _copy,
    "float": _copy,
    "data": _copy,
    "cpu": _copy,
    "to": _to,
    "mean": _mean,
    "sum": _sum_over,
    "getitem": _getitem,
    "unbind": _unbind,
    "stack": _stack,
    "cat": _cat,
}
# Substitutes for common functions; the message for others lists what is known.
SUBSTITUTES = {
    "relu": "use a neuron, such as neuromoco.snn.neurons.lif",
    "matmul": "use spikingjelly's layer.SpikingSelfAttention",
    "softmax": "spiking attention has none; use spikingjelly's layer.SpikingSelfAttention",
    "layer_norm": "use batch norm, which folds into the layer before it",
    "setitem": "a write into a part of a tensor; collect the parts in a list and use torch.stack",
    "bool": "the network's course depends on a value; compute the same for all recordings",
    "item": "the network's course depends on a value; compute the same for all recordings",
}
# What says something about a tensor that its numbers do not change, or makes another of its shape without them.
FACTS = frozenset(
    [
        *("shape", "size", "dim", "ndim", "ndimension", "dtype", "device", "numel", "nelement", "stride", "__len__"),
        *("is_contiguous", "layout", "is_cuda", "is_cpu", "is_mps", "is_meta", "is_sparse", "is_quantized"),
        *("is_nested", "is_leaf", "requires_grad", "requires_grad_", "grad", "grad_fn", "names", "has_names"),
        *("is_floating_point", "is_complex", "get_device", "element_size", "itemsize", "storage_offset", "_base"),
        *("_version", "is_inference", "retains_grad", "output_nr", "is_same_size", "register_hook", "retain_grad"),
        *("new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like", "full_like"),
        *("rand_like", "randn_like", "__repr__", "__str__", "__format__", "__hash__"),
    ]
)
