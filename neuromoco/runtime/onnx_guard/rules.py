"""The shapes that the operators of our exporters give, and the work that they are. Operator set 18.

A rule gets a node and the values of its inputs, and returns the shapes of its outputs; it raises ValueError for
attributes or shapes that do not fit together. Every attribute that an operator may have is in its row, so that nothing
reaches a kernel of the runtime that was not looked at.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neuromoco.runtime.onnx_guard.model import LARGEST_RANK, Node

Shape = tuple[int, ...]
LARGEST_SIDE = 1 << 16  # of kernels, strides, dilations and padding


@dataclass(frozen=True)
class Value:
    """What is known of a value before the network runs."""

    shape: Shape
    numbers: tuple[int, ...] | None = None  # of a short constant of whole numbers: a shape, axes, indices

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """What an operator may look like.

    Attributes:
        rule: gives the shapes of its outputs.
        inputs: their number.
        attributes: names and types of those that it may have.
        work: numbers that are computed for each entry of the first output.
    """

    rule: Callable[[Node, Sequence[Value]], list[Shape]]
    inputs: tuple[int, ...] = (1,)
    attributes: dict[str, type] | None = None
    work: Callable[[Node, Sequence[Value]], int] = lambda _, __: 1


def need(fits: bool, what: str) -> None:
    """ValueError unless it fits."""
    if not fits:
        raise ValueError(what)


def _same(_: Node, values: Sequence[Value]) -> list[Shape]:
    return [values[0].shape]


def _broadcast(_: Node, values: Sequence[Value]) -> list[Shape]:
    return [broadcast(*(value.shape for value in values))]


def broadcast(*shapes: Shape) -> Shape:
    """The shape of numpy's broadcasting."""
    sides = [set(pair) - {1} for pair in itertools.zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1)]
    need(all(len(side) <= 1 for side in sides), f"shapes {' and '.join(map(str, shapes))}")
    return tuple(next(iter(side), 1) for side in sides)[::-1]


def _clip(_: Node, values: Sequence[Value]) -> list[Shape]:
    need(not values[1].shape and not values[2].shape, "limits that are not single numbers")
    return [values[0].shape]


def _quantize(node: Node, values: Sequence[Value]) -> list[Shape]:
    """One scale, or one for each entry of an axis."""
    x, scale, zero = values
    if {scale.shape, zero.shape} <= {(), (1,)}:  # of one channel, the quantizer writes them in either way
        return [x.shape]
    axis = _axis(node, len(x.shape), 1)
    need(scale.shape == x.shape[axis : axis + 1] == zero.shape, f"scales {scale.shape}")
    return [x.shape]


def _axis(node: Node, rank: int, default: int) -> int:
    axis = node.attributes.get("axis", default)
    need(0 <= axis < rank, f"axis {axis} of {rank}")
    return int(axis)


def _windows(node: Node, shape: Shape, kernel: Shape, *, least_inside: bool) -> Shape:
    """Sides after a kernel has passed over the last axes."""
    rank = len(kernel)
    named = {name: node.attributes.get(name, (1,) * rank) for name in ("strides", "dilations")}
    pads = node.attributes.get("pads", (0,) * (2 * rank))
    for name, sides in (*named.items(), ("kernel_shape", kernel)):
        need(len(sides) == rank and all(1 <= side <= LARGEST_SIDE for side in sides), f"{name} {list(sides)}")
    need(len(pads) == 2 * rank and all(0 <= pad <= LARGEST_SIDE for pad in pads), f"pads {list(pads)}")
    # A window of nothing but padding has no largest value and no mean.
    need(not least_inside or all(pad < k for pad, k in zip(pads, kernel * 2, strict=True)), f"pads {list(pads)}")
    out = []
    for i, (side, k) in enumerate(zip(shape[-rank:], kernel, strict=True)):
        span = named["dilations"][i] * (k - 1) + 1
        out.append((side + pads[i] + pads[rank + i] - span) // named["strides"][i] + 1)
    need(all(side >= 1 for side in out), f"kernel {list(kernel)} on sides {list(shape[-rank:])}")
    return tuple(out)


def _conv(node: Node, values: Sequence[Value]) -> list[Shape]:
    x, weight, bias = (value.shape for value in values)
    rank, groups = len(weight) - 2, node.attributes.get("group", 1)
    need(rank in (1, 2) and len(x) == len(weight), f"weights {list(weight)} on values {list(x)}")
    need(groups >= 1 and weight[0] % groups == 0 and x[1] == groups * weight[1], f"{groups} groups of channels")
    need(node.attributes.get("kernel_shape", weight[2:]) == weight[2:], "another kernel_shape than its weights")
    need(bias == weight[:1], f"a bias of shape {list(bias)}")
    return [(x[0], weight[0], *_windows(node, x, weight[2:], least_inside=False))]


def _pool(node: Node, values: Sequence[Value]) -> list[Shape]:
    (x,), kernel = values, node.attributes.get("kernel_shape", ())
    need(
        len(kernel) in (1, 2) and len(x.shape) == len(kernel) + 2,
        f"kernel_shape {list(kernel)} on values {list(x.shape)}",
    )
    return [(*x.shape[:2], *_windows(node, x.shape, kernel, least_inside=True))]


def _matmul(_: Node, values: Sequence[Value]) -> list[Shape]:
    a, b = (value.shape for value in values)
    need(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"matrices {list(a)} and {list(b)}")
    return [(*broadcast(a[:-2], b[:-2]), a[-2], b[-1])]


def _reshape(_: Node, values: Sequence[Value]) -> list[Shape]:
    sides, size = _numbers(values[1]), values[0].size
    known = math.prod(side for side in sides if side != -1)
    need(all(side >= 1 or side == -1 for side in sides) and sides.count(-1) <= 1, f"to {list(sides)}")
    need(len(sides) <= LARGEST_RANK, f"to {len(sides)} axes")
    shape = tuple(size // known if side == -1 else side for side in sides)
    need(math.prod(shape) == size, f"{list(values[0].shape)} to {list(sides)}")
    return [shape]


def _numbers(value: Value) -> tuple[int, ...]:
    if value.numbers is None:
        raise ValueError("whole numbers that are not in the file")
    return value.numbers


def _axes(value: Value, rank: int) -> tuple[int, ...]:
    axes = tuple(axis + rank if axis < 0 else axis for axis in _numbers(value))
    need(all(0 <= axis < rank for axis in axes) and len(set(axes)) == len(axes) > 0, f"axes {list(axes)} of {rank}")
    return axes


def _unsqueeze(_: Node, values: Sequence[Value]) -> list[Shape]:
    rank = len(values[0].shape) + len(_numbers(values[1]))
    need(rank <= LARGEST_RANK, f"{rank} axes")
    axes, sides = _axes(values[1], rank), iter(values[0].shape)
    return [tuple(1 if axis in axes else next(sides) for axis in range(rank))]


def _squeeze(_: Node, values: Sequence[Value]) -> list[Shape]:
    shape = values[0].shape
    axes = _axes(values[1], len(shape))
    need(all(shape[axis] == 1 for axis in axes), f"axes {list(axes)} of {list(shape)}")
    return [tuple(side for axis, side in enumerate(shape) if axis not in axes)]


def _reduce_mean(node: Node, values: Sequence[Value]) -> list[Shape]:
    shape = values[0].shape
    axes = node.attributes.get("axes")
    need((axes is None) == (len(values) == 2), "axes as input and attribute")
    gone = _axes(values[1] if axes is None else Value((), axes), len(shape))
    need(node.attributes.get("keepdims") == 0, "keepdims")
    return [tuple(side for axis, side in enumerate(shape) if axis not in gone)]


def _arg_max(node: Node, values: Sequence[Value]) -> list[Shape]:
    shape = values[0].shape
    axis = _axis(node, len(shape), 0)
    need(node.attributes.get("keepdims") == 0, "keepdims")
    return [shape[:axis] + shape[axis + 1 :]]


def _gather(node: Node, values: Sequence[Value]) -> list[Shape]:
    shape, index = values[0].shape, values[1]
    axis = _axis(node, len(shape), 0)
    need(
        all(0 <= i < shape[axis] for i in index.numbers or ()), f"indices {list(index.numbers or ())} of {shape[axis]}"
    )
    return [shape[:axis] + index.shape + shape[axis + 1 :]]


def _split(node: Node, values: Sequence[Value]) -> list[Shape]:
    shape, parts = values[0].shape, node.attributes.get("num_outputs", len(node.outputs))
    axis = _axis(node, len(shape), 0)
    need(parts == len(node.outputs) >= 1 and shape[axis] % parts == 0, f"{shape[axis]} entries in {parts} parts")
    return [(*shape[:axis], shape[axis] // parts, *shape[axis + 1 :])] * parts


def _concat(node: Node, values: Sequence[Value]) -> list[Shape]:
    shapes = [value.shape for value in values]
    axis = _axis(node, len(shapes[0]), -1)
    rest = {(len(shape), shape[:axis], shape[axis + 1 :]) for shape in shapes}
    need(len(rest) == 1, f"shapes {shapes[:3]} in a row")
    return [(*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])]


def _transpose(node: Node, values: Sequence[Value]) -> list[Shape]:
    shape, order = values[0].shape, node.attributes.get("perm", ())
    need(sorted(order) == list(range(len(shape))), f"perm {list(order)}")
    return [tuple(shape[axis] for axis in order)]


def _weights_per_entry(_: Node, values: Sequence[Value]) -> int:
    return math.prod(values[1].shape[1:])


def _window_size(node: Node, _: Sequence[Value]) -> int:
    return math.prod(node.attributes["kernel_shape"])


def _row(_: Node, values: Sequence[Value]) -> int:
    return values[0].shape[-1]


WINDOWS: dict[str, type] = {"kernel_shape": tuple, "strides": tuple, "pads": tuple}
MANY = tuple(range(1, 4097))
OPERATORS: dict[str, Operator] = {
    "Add": Operator(_broadcast, (2,)),
    "ArgMax": Operator(_arg_max, attributes={"axis": int, "keepdims": int}),
    "AveragePool": Operator(_pool, attributes=WINDOWS, work=_window_size),
    "Ceil": Operator(_same),
    "Clip": Operator(_clip, (3,)),
    "Concat": Operator(_concat, MANY, {"axis": int}),
    "Conv": Operator(_conv, (3,), WINDOWS | {"dilations": tuple, "group": int}, _weights_per_entry),
    "DequantizeLinear": Operator(_quantize, (3,), {"axis": int}),
    "Gather": Operator(_gather, (2,), {"axis": int}),
    "HardSigmoid": Operator(_same, attributes={"alpha": float, "beta": float}),
    "Identity": Operator(_same),
    "MatMul": Operator(_matmul, (2,), work=_row),
    "MaxPool": Operator(_pool, attributes=WINDOWS, work=_window_size),
    "Mul": Operator(_broadcast, (2,)),
    "Neg": Operator(_same),
    "QuantizeLinear": Operator(_quantize, (3,), {"axis": int}),
    "ReduceMean": Operator(_reduce_mean, (1, 2), {"axes": tuple, "keepdims": int}),
    "Reshape": Operator(_reshape, (2,)),
    "Split": Operator(_split, attributes={"axis": int, "num_outputs": int}),
    "Squeeze": Operator(_squeeze, (2,)),
    "Sub": Operator(_broadcast, (2,)),
    "ThresholdedRelu": Operator(_same, attributes={"alpha": float}),
    "Transpose": Operator(_transpose, attributes={"perm": tuple}),
    "Unsqueeze": Operator(_unsqueeze, (2,)),
}


def outputs_of(node: Node, values: Sequence[Value]) -> tuple[list[Shape], int]:
    """Shapes of a node's outputs, and its work; ValueError if it is not as our exporters write it."""
    row = OPERATORS.get(node.kind)
    if row is None:
        raise ValueError("an operator that we do not write here")
    need(len(values) in row.inputs, f"{len(values)} inputs")
    for name, value in node.attributes.items():
        need(isinstance(value, (row.attributes or {}).get(name, ())), f"attribute {name}")
        need(not isinstance(value, float) or math.isfinite(value), f"{name} {value}")
    shapes = row.rule(node, values)
    need(len(shapes) == len(node.outputs), f"{len(node.outputs)} outputs")
    return shapes, math.prod(shapes[0]) * row.work(node, values)
