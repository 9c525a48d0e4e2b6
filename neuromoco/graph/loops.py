"""The rules of functions that take time steps apart and join them again; see `functions`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from neuromoco.graph import parts
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
    cuts: list[tuple[int, int | slice]] = []
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
        elif isinstance(entry, int) and group == ():
            pass
        elif isinstance(entry, int | slice) and not isinstance(entry, bool):
            cuts.append((len(axes), entry))
            axes.append(group)
        else:
            raise RefusedError("a part of the axes by anything but numbers, x[t], x[:, :, 0] or x[:, :, 4:8]")
    return parts.cut(call, replace(value, when=when, axes=(*axes, *rest)), cuts)


def unbind(call: Call, input: Any, dim: int = 0) -> list[Value]:
    value = network_value(call, input)
    place = range(len(value.axes))[dim]
    if value.axis(dim) != ("T",):
        return [parts.cut(call, value, [(place, i)], f".{i}") for i in range(len(call.results))]
    axes = (*value.axes[:place], *value.axes[place + 1 :])
    return [replace(value, when=(t,), axes=axes) for t in range(call.sizes.steps)]


def stack(call: Call, tensors: Any, dim: int = 0) -> Value:
    values = [network_value(call, tensor) for tensor in tensors]
    first = values[0]
    place = range(len(first.axes) + 1)[dim]
    if not _are_all_steps(call, values):
        wide = [replace(v, axes=(*v.axes[:place], (), *v.axes[place:])) for v in values]
        return parts.joined(call, wide, place)
    return replace(first, when=EACH, axes=(*first.axes[:place], ("T",), *first.axes[place:]))


def cat(call: Call, tensors: Any, dim: int = 0) -> Value:
    values = [network_value(call, tensor) for tensor in tensors]
    first = values[0]
    first.axis(dim)
    place = range(len(first.axes))[dim]
    if first.axes[place] or not _are_all_steps(call, values):
        return parts.joined(call, values, place)
    return replace(first, when=EACH, axes=(*first.axes[:place], ("T",), *first.axes[place + 1 :]))


def _are_all_steps(call: Call, values: list[Value]) -> bool:
    """Whether they are one layer's value at each of the T steps, in order."""
    first = values[0]
    same = all((value.node.name, value.axes) == (first.node.name, first.axes) for value in values)
    return same and [value.step for value in values] == list(range(call.sizes.steps))
