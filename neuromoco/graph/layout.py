"""Which axis of a tensor counts what: time steps, recordings, or an axis of a node's value.

A tensor of the traced network holds the value of a node for all steps and recordings, in some order of axes. The axes
are known by what they count, never by their size: so a mean over channels is not mistaken for one over tokens where
both are 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from neuromoco.graph.nodes import Array, Node, Reshape, Shape, Transpose
from neuromoco.unsupported import RefusedError

Label = Literal["T", "N"] | int  # time steps, recordings, or the number of an axis of the node's value
Axes = tuple[tuple[Label, ...], ...]  # for each axis of a tensor, what it counts; () is an axis of size 1
When = Literal["each", "mean"] | tuple[int, ...]
EACH: When = "each"  # every step has its own value
MEAN: When = "mean"  # one value, the mean over all steps


@dataclass(frozen=True, eq=False)
class Value:
    """What a tensor holds.

    Attributes:
        node: whose value it is.
        axes: what each axis of the tensor counts.
        when: the value of "each" step, the "mean" over all of them, or the sum over the steps whose numbers are given.
    """

    node: Node
    axes: Axes
    when: When = EACH

    @property
    def step(self) -> int | None:
        """The step, if it is the value of a single one."""
        return self.when[0] if isinstance(self.when, tuple) and len(self.when) == 1 else None

    def axis(self, dim: int) -> tuple[Label, ...]:
        """What an axis of the tensor counts; refuses one that does not exist."""
        if not -len(self.axes) <= dim < len(self.axes):
            raise RefusedError(f"axis {dim} of a tensor of {len(self.axes)} axes")
        return self.axes[dim]


@dataclass(frozen=True)
class Sizes:
    """T time steps and N recordings of the tensors of one run."""

    steps: int
    batch: int

    def of(self, value: Value, label: Label) -> int:
        if isinstance(label, int):
            return value.node.shape[label]
        return self.steps if label == "T" else self.batch

    def shape(self, value: Value) -> Shape:
        """Of the tensor that holds a value."""
        return tuple(math.prod(self.of(value, label) for label in group) for group in value.axes)

    def front(self, tensor: torch.Tensor) -> Axes | None:
        """The first axes of a tensor of unknown origin, if they may count time steps and recordings."""
        if tuple(tensor.shape[:2]) == (self.steps, self.batch):
            return (("T",), ("N",))
        return (("T", "N"),) if tensor.ndim and tensor.shape[0] == self.steps * self.batch else None

    def array(self, value: Value, tensor: torch.Tensor, most: int | None = None) -> Array:
        """The numbers of a tensor as [steps, N, *shape of the node], of the first `most` steps; a copy."""
        labels = [label for group in value.axes for label in group]
        wide: Array = tensor.detach().cpu().reshape([self.of(value, label) for label in labels]).numpy()
        order = sorted(range(len(labels)), key=lambda i: _rank(labels[i]))
        moved = wide.transpose(order)
        if "N" not in labels:
            moved = moved[None] if "T" not in labels else moved[:, None]
        if "T" not in labels:
            moved = moved[None]
        return np.array(moved[:most], np.float32, order="C")


def _rank(label: Label) -> int:
    return label if isinstance(label, int) else {"T": -2, "N": -1}[label]


def numbered(count: int) -> Axes:
    """The axes of a node's value, one by one."""
    return tuple((i,) for i in range(count))


def settled(value: Value, name: str) -> tuple[Value, list[Node]]:
    """The same tensor, as the value of a node whose axes are those of the tensor, in order; and new nodes for it.

    Axes of size 1 that count nothing become axes of the node, unless they stand before time steps or recordings.
    """
    outer = [i for i, group in enumerate(value.axes) if _is_outer(group)]
    if any(isinstance(label, int) for i in outer for label in value.axes[i]):
        raise RefusedError("mixes time steps or recordings with other axes")
    first = max(outer, default=-1)
    inner = [i for i, group in enumerate(value.axes) if i not in outer and (group or i > first)]
    order = [label for i in inner for label in value.axes[i] if isinstance(label, int)]
    node, nodes = value.node, list[Node]()
    shape = tuple(math.prod(value.node.shape[x] for x in value.axes[i] if isinstance(x, int)) for i in inner)
    if order != sorted(order):
        turned = tuple(node.shape[i] for i in order)
        node = Transpose(name=f"{name}.transpose", inputs=(node.name,), shape=turned, order=tuple(order))
        nodes.append(node)
    if shape != node.shape:
        node = Reshape(name=f"{name}.reshape", inputs=(node.name,), shape=shape)
        nodes.append(node)
    places = dict(zip(inner, numbered(len(inner)), strict=True))
    axes = tuple(places.get(i, group if i in outer else ()) for i, group in enumerate(value.axes))
    return replace(value, node=node, axes=axes), nodes


def leading(value: Value, count: int) -> Axes:
    """The first axes of a tensor, which must count time steps and recordings, and all others the value of its node."""
    front, back = value.axes[:count], value.axes[count:]
    if any(isinstance(label, int) for group in front for label in group) or any(_is_outer(group) for group in back):
        raise RefusedError(
            f"takes axis {count} of its input as channels, and its axes are {describe(value)}; give it [T, N, C, ...] "
            "in step_mode='m', or [T * N, C, ...]"
        )
    return front


def describe(value: Value) -> str:
    """The axes of a tensor, in words: "[T * N, 16, 5]"."""
    names = (
        " * ".join(str(value.node.shape[label]) if isinstance(label, int) else label for label in group) or "1"
        for group in value.axes
    )
    return f"[{', '.join(names)}]"


def regrouped(value: Value, shape: Sequence[int], sizes: Sizes, name: str) -> tuple[Value, list[Node]]:
    """A tensor in C order as one of another shape; and new nodes for it. Time steps and recordings are never split."""
    node, nodes = value.node, list[Node]()
    while True:
        value = replace(value, node=node)
        match = _matched(value, shape, sizes)
        if not isinstance(match, tuple) or not match or not isinstance(match[0], int):
            return replace(value, axes=match), nodes
        axis, part = match
        rest = (*node.shape[:axis], part, node.shape[axis] // part, *node.shape[axis + 1 :])
        # Axes of the node behind the one that is split move by one.
        axes = tuple(tuple(new for label in group for new in _split(label, axis)) for group in value.axes)
        node = Reshape(name=f"{name}.split" + "'" * len(nodes), inputs=(node.name,), shape=rest)
        nodes.append(node)
        value = replace(value, node=node, axes=axes)


def _split(label: Label, axis: int) -> Iterator[Label]:
    if not isinstance(label, int) or label < axis:
        yield label
    else:
        yield from (axis, axis + 1) if label == axis else (label + 1,)


def _matched(value: Value, shape: Sequence[int], sizes: Sizes) -> tuple[int, int] | Axes:
    """What the axes of the new shape count, or the axis of the node that has to be split first, and its first size."""
    labels = [label for group in value.axes for label in group]
    groups: list[tuple[Label, ...]] = []
    place = 0
    for wanted in shape:
        group: list[Label] = []
        size = 1
        while size < wanted:
            label = labels[place]
            own = sizes.of(value, label)
            if wanted % (size * own):
                part = wanted // size
                if not isinstance(label, int) or wanted % size or own % part:
                    raise RefusedError("splits time steps or recordings, or mixes them with other axes")
                return label, part
            group.append(label)
            size, place = size * own, place + 1
        if wanted == 1 and place < len(labels) and sizes.of(value, labels[place]) == 1:
            group.append(labels[place])
            place += 1
        groups.append(tuple(group))
    rest = tuple(labels[place:])  # of size 1
    if rest:
        if not groups:
            raise RefusedError("leaves no axis")
        groups[-1] += rest
    return tuple(groups)


def _is_outer(group: Sequence[Label]) -> bool:
    return any(not isinstance(label, int) for label in group)
