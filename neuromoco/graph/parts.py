"""The rules of functions that take an axis of a value apart, such as its channels, or join parts; see `functions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from neuromoco.graph import nodes as op
from neuromoco.graph.calls import Call, network_value, settle
from neuromoco.graph.layout import Value, describe
from neuromoco.unsupported import RefusedError


def chunk(call: Call, input: Any, chunks: Any, dim: int = 0) -> list[Value]:
    return _consecutive(call, network_value(call, input), dim)


def split(call: Call, tensor: Any, split_size_or_sections: Any = None, dim: int = 0, **_: Any) -> list[Value]:
    return _consecutive(call, network_value(call, tensor), dim)


def narrow(call: Call, input: Any, dim: int, start: int, length: int) -> Value:
    value = network_value(call, input)
    value.axis(dim)
    return cut(call, value, [(range(len(value.axes))[dim], slice(start, start + length if start + length else None))])


def _consecutive(call: Call, value: Value, dim: int) -> list[Value]:
    """The parts along an axis that the function returned, one behind the other."""
    value.axis(dim)
    place = range(len(value.axes))[dim]
    found, start = [], 0
    for number, result in enumerate(call.results):
        end = start + result.shape[place]
        found.append(cut(call, value, [(place, slice(start, end))], f".{number}"))
        start = end
    return found


def cut(call: Call, value: Value, cuts: Sequence[tuple[int, int | slice]], suffix: str = "") -> Value:
    """A part of a tensor: along each axis that is given, a slice, or one number and so without the axis."""
    single = []
    for place, entry in cuts:
        name = f"{call.place}{suffix}.axis{place}"
        axis, value = _axis_of_node(call, value, place, name)
        size = value.node.shape[axis]
        if isinstance(entry, int):
            entry = slice(range(size)[entry], range(size)[entry] + 1)
            single.append(place)
        start, end, step = entry.indices(size)
        if step != 1 or end <= start:
            raise RefusedError(f"a part of an axis of {size} in steps of {step}, or none of it; use x[:, :, 4:8]")
        if (start, end) == (0, size):
            continue
        shape = (*value.node.shape[:axis], end - start, *value.node.shape[axis + 1 :])
        node = op.Slice(name=name, inputs=(value.node.name,), shape=shape, axis=axis, start=start, end=end)
        value = replace(value, node=call.keep(node))
    return _without(call, value, single, call.place + suffix)


def _without(call: Call, value: Value, places: Sequence[int], name: str) -> Value:
    """The tensor without some axes of size 1."""
    if not places:
        return value
    dropped = [label for place in places for label in value.axes[place]]
    kept = [i for i in range(len(value.node.shape)) if i not in dropped]
    shape = tuple(value.node.shape[i] for i in kept)
    node = call.keep(op.Reshape(name=f"{name}.one", inputs=(value.node.name,), shape=shape))
    left = (group for place, group in enumerate(value.axes) if place not in places)
    axes = tuple(tuple(kept.index(x) if isinstance(x, int) else x for x in group) for group in left)
    return replace(value, node=node, axes=axes)


def joined(call: Call, values: Sequence[Value], place: int) -> Value:
    """Tensors behind one another along an axis."""
    if len({value.when for value in values}) > 1:
        raise RefusedError("joins values of different time steps; join all steps of one layer, in order")
    found = [_axis_of_node(call, value, place, f"{call.place}.{number}") for number, value in enumerate(values)]
    axis, first = found[0]
    for other, value in found:
        others = (value.node.shape[:axis], value.node.shape[axis + 1 :])
        if (
            other != axis
            or value.axes != first.axes
            or others != (first.node.shape[:axis], first.node.shape[axis + 1 :])
        ):
            raise RefusedError(f"joins {describe(first)} and {describe(value)}; all axes but one must be the same")
    shape = (*first.node.shape[:axis], sum(v.node.shape[axis] for _, v in found), *first.node.shape[axis + 1 :])
    inputs = tuple(value.node.name for _, value in found)
    return replace(first, node=call.keep(op.Concat(name=call.place, inputs=inputs, shape=shape, axis=axis)))


def _axis_of_node(call: Call, value: Value, place: int, name: str) -> tuple[int, Value]:
    """The axis of the node that an axis of the tensor counts, and the tensor as the value of a node that has it."""
    if any(not isinstance(label, int) for label in value.axes[place]):
        raise RefusedError(f"takes apart or joins axis {place} of {describe(value)}; only time steps one by one, x[t]")
    value = settle(call, value, name.removeprefix(call.place))
    group = value.axes[place]
    if len(group) != 1 or not isinstance(group[0], int):
        raise RefusedError(
            f"takes apart or joins axis {place} of {describe(value)}; keep time steps and recordings first"
        )
    return group[0], value
