"""The rules of functions that take time steps apart and join them again; see `functions`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from neuromoco.graph.calls import Call, network_value
from neuromoco.graph.layout import EACH, Value
from neuromoco.unsupported import RefusedError


def getitem(call: Call, input: Any, index: Any) -> Value:
    value = network_value(call, input)
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


def unbind(call: Call, input: Any, dim: int = 0) -> list[Value]:
    value = network_value(call, input)
    if value.axis(dim) != ("T",):
        raise RefusedError("takes apart another axis than time; only time steps can be taken apart")
    place = range(len(value.axes))[dim]
    axes = (*value.axes[:place], *value.axes[place + 1 :])
    return [replace(value, when=(t,), axes=axes) for t in range(call.sizes.steps)]


def stack(call: Call, tensors: Any, dim: int = 0) -> Value:
    first = _all_steps(call, tensors)
    place = range(len(first.axes) + 1)[dim]
    return replace(first, when=EACH, axes=(*first.axes[:place], ("T",), *first.axes[place:]))


def cat(call: Call, tensors: Any, dim: int = 0) -> Value:
    first = _all_steps(call, tensors)
    place = range(len(first.axes))[dim]
    if first.axes[place]:
        raise RefusedError("joins time steps along another axis; use torch.stack")
    return replace(first, when=EACH, axes=(*first.axes[:place], ("T",), *first.axes[place + 1 :]))


def _all_steps(call: Call, tensors: Any) -> Value:
    """The first of the same value at each of the T steps, in order."""
    values = [network_value(call, tensor) for tensor in tensors]
    first = values[0]
    same = all((value.node.name, value.axes) == (first.node.name, first.axes) for value in values)
    if not same or [value.step for value in values] != list(range(call.sizes.steps)):
        raise RefusedError("joins other values than one layer's at all time steps; join branches with +")
    return first
