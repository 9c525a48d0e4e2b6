"""The graph's nodes as ONNX operators, arranged so that ONNX Runtime runs them fast.

A value is written in one of two forms: all time steps in one tensor [T * N, *shape], time outermost, or one
tensor [N, *shape] a step. In one tensor, a convolution reads its weights once for all steps; step by step,
nothing is split or joined, and what a step leaves stays in the cache. The smaller of the two is saved: layers with
less weight than value go step by step.

Neurons are made of float32 operators alone, and give the same spikes as the equation of `graph.LIF`, also for values
on and next to the threshold th (the input's weight, 1 / tau, is folded into the layer before). With S =
1 / (th - the float32 before it), a power of two, HardSigmoid(h, S, 1 - S th) is 1 from h = th on and 0 up to the
float32 before:

- step by step, after a convolution: h = conv + u, and u = h * Clip(S th - S h, 0, keep) is what is left
  for the next step. Runtimes that keep convolutions in blocks of channels (ONNX Runtime on x86) leave all of
  this in that layout if S th - S h is a 1x1 convolution, and add u while convolving.
- else with g = -h, so that the reset is one operator: u = keep * ThresholdedRelu(g, -th), g = x + u.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from neuromoco.export.graph.nodes import (
    LIF,
    Add,
    Affine,
    Array,
    Attention,
    AvgPool,
    Conv,
    Graph,
    Linear,
    MaxPool,
    Multiply,
    Node,
    Reshape,
    Window,
)
from neuromoco.export.to_onnx.tape import Tape

BLOCK = 16  # channels of a block of the widest layout
Value = list[ir.Value]  # one tensor of all steps, or one a step


@dataclass
class Body:
    """Writes the operators of a graph.

    Attributes:
        graph: what is written.
        steps: T time steps in a value; 1 in a file that keeps its state outside.
        tape: where they are written.
        states: for such a file, the membrane that each layer of neurons starts with, by name; updated to
            what it ends with.
    """

    graph: Graph
    steps: int
    tape: Tape
    states: dict[str, ir.Value] = field(default_factory=dict)
    _values: dict[str, Value] = field(default_factory=dict)
    _joined: dict[str, ir.Value] = field(default_factory=dict)
    _parts: dict[str, Value] = field(default_factory=dict)

    def write(self, frames: ir.Value) -> ir.Value:
        """Operators from frames [T * N, P, H, W] to logits per step [T * N, classes]."""
        self._values[self.graph.input.name] = [frames]
        for node in self.graph.nodes[1:]:
            self._values[node.name] = WRITERS[type(node)](self, node)
        return self.joined(self.graph.output.name)

    def joined(self, name: str) -> ir.Value:
        """A value as one tensor."""
        parts = self._values[name]
        if len(parts) == 1:
            return parts[0]
        if name not in self._joined:
            self._joined[name] = self.tape.op("Concat", *parts, axis=0, name=name)
        return self._joined[name]

    def parts(self, name: str) -> Value:
        """A value as one tensor a step."""
        parts = self._values[name]
        if len(parts) == self.steps:
            return parts
        if name not in self._parts:
            self._parts[name] = list(self.tape.split(parts[0], self.steps, self.graph[name].shape, name))
        return self._parts[name]

    def each(self, node: Node, write: Callable[..., ir.Value]) -> Value:
        """A stateless operator on a node's inputs: step by step where all of them are, else on all steps."""
        apart = all(len(self._values[name]) > 1 for name in node.inputs)
        inputs = [self.parts(name) if apart else [self.joined(name)] for name in node.inputs]
        return [write(*values) for values in zip(*inputs, strict=True)]

    def factor(self, node: Node) -> np.float32:
        """What a layer multiplies its result with for the neurons that alone take it."""
        users = self.graph.users[node.name]
        if isinstance(node, Conv | Linear | Affine | Attention) and len(users) == 1 and isinstance(users[0], LIF):
            return np.float32(users[0].gain if self.stepwise(node) else -users[0].gain)
        return np.float32(1.0)

    def stepwise(self, node: Node) -> bool:
        """Whether a layer goes step by step."""
        return (
            isinstance(node, Conv)
            and len(node.shape) == 3
            and node.shape[0] % BLOCK == 0
            and node.weight.size < math.prod(node.shape)
        )


def _slope(node: LIF) -> tuple[float, float]:
    """S and S th, see above; both are exact in float32."""
    threshold = np.float32(node.v_threshold)
    slope = 1.0 / float(threshold - np.nextafter(threshold, np.float32(0.0)))
    return slope, slope * float(threshold)


def _conv(body: Body, node: Conv) -> Value:
    tape, factor = body.tape, body.factor(node)
    weight, bias = node.weight * factor, node.bias * factor
    if node.pointwise and len(node.shape) == 2:
        matrix = tape.constant(weight[:, :, 0], name=f"{node.name}.weight")
        product = tape.op("MatMul", matrix, body.joined(node.inputs[0]))
        return [tape.op("Add", product, tape.constant(bias[:, None]), name=node.name)]
    inputs = body.parts(node.inputs[0]) if body.stepwise(node) else [body.joined(node.inputs[0])]
    attributes = {
        "strides": node.stride,
        "pads": node.padding * 2,
        "dilations": node.dilation,
        "group": node.groups,
    }
    return [_convolved(tape, x, node.name, weight, bias, **attributes) for x in inputs]


def _convolved(tape: Tape, x: ir.Value, name: str, weight: Array, bias: Array, **attributes: Any) -> ir.Value:
    kernel, offset = tape.constant(weight, name=f"{name}.weight"), tape.constant(bias, name=f"{name}.bias")
    return tape.op("Conv", x, kernel, offset, kernel_shape=weight.shape[2:], **attributes)


def _linear(body: Body, node: Linear) -> Value:
    """One column a sample, so that a result does not depend on how many samples there are."""
    tape, factor = body.tape, body.factor(node)
    column = tape.op("Unsqueeze", body.joined(node.inputs[0]), tape.ints(-1))
    product = tape.op("MatMul", tape.constant(node.weight * factor, name=f"{node.name}.weight"), column)
    return [tape.op("Add", tape.op("Squeeze", product, tape.ints(-1)), tape.constant(node.bias * factor))]


def _affine(body: Body, node: Affine) -> Value:
    tape, factor = body.tape, body.factor(node)
    axes = (-1, *(1,) * (len(node.shape) - 1))
    weight, bias = (tape.constant(array.reshape(axes) * factor) for array in (node.weight, node.bias))
    return body.each(node, lambda x: tape.op("Add", tape.op("Mul", x, weight), bias))


def _lif(body: Body, node: LIF) -> Value:
    before = body.graph[node.inputs[0]]
    if body.stepwise(before) and len(body.graph.users[before.name]) == 1:
        return _lif_in_blocks(body, node)
    tape, (slope, offset) = body.tape, _slope(node)
    drives = body.parts(before.name)
    if body.factor(before) == 1.0:
        drives = [tape.op("Mul", x, tape.constant(-node.gain)) for x in drives]
    kept = None
    if node.name in body.states:
        kept = tape.op("Neg", body.states[node.name])
    membranes = []
    for drive in drives:
        membranes.append(drive if kept is None else tape.op("Add", drive, kept))
        if node.name in body.states or len(membranes) < body.steps:
            after = tape.op("ThresholdedRelu", membranes[-1], alpha=-node.v_threshold)
            kept = tape.op("Mul", after, tape.constant(node.keep))
    if node.name in body.states:
        body.states[node.name] = tape.op("Neg", kept)
    joined = tape.op("Concat", *membranes, axis=0) if len(membranes) > 1 else membranes[0]
    return [tape.op("HardSigmoid", joined, alpha=-slope, beta=1.0 - offset, name=node.name)]


def _lif_in_blocks(body: Body, node: LIF) -> Value:
    """Every operator here is one that a layout in blocks of channels has, see above."""
    tape, channels, (slope, offset) = body.tape, node.shape[0], _slope(node)
    kept: ir.Value | None = None
    if node.name in body.states:
        kept = _scaled(tape, body.states[node.name], channels, 1.0, 0.0)  # for the layout alone
    spikes = []
    for drive in body.parts(node.inputs[0]):
        h = drive if kept is None else tape.op("Add", drive, kept)
        spikes.append(tape.op("HardSigmoid", h, alpha=slope, beta=1.0 - offset))
        if node.name in body.states or len(spikes) < body.steps:
            silent = _scaled(tape, h, channels, -slope, offset)
            kept = tape.op("Mul", h, tape.op("Clip", silent, tape.constant(0.0), tape.constant(node.keep)))
    if node.name in body.states and kept is not None:
        body.states[node.name] = kept
    return spikes


def _scaled(tape: Tape, x: ir.Value, channels: int, weight: float, bias: float) -> ir.Value:
    """weight * x + bias, as a 1x1 convolution of every channel by itself."""
    kernel, offset = np.full((channels, 1, 1, 1), weight), np.full(channels, bias)
    return tape.op("Conv", x, tape.constant(kernel), tape.constant(offset), kernel_shape=(1, 1), group=channels)


def _add(body: Body, node: Add) -> Value:
    return body.each(node, lambda a, b: body.tape.op("Add", a, b))


def _multiply(body: Body, node: Multiply) -> Value:
    return body.each(node, lambda a, b: body.tape.op("Mul", a, b))


def _max_pool(body: Body, node: MaxPool) -> Value:
    attributes: dict[str, Any] = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding * 2}
    return body.each(node, lambda x: body.tape.op("MaxPool", x, **attributes))


def _avg_pool(body: Body, node: AvgPool) -> Value:
    """AveragePool where the windows form a regular grid, else one averaging matrix an axis."""
    tape, sides = body.tape, body.graph[node.inputs[0]].shape[1:]
    grids = [_regular(axis, side) for axis, side in zip(node.windows, sides, strict=True)]
    if all(grids):
        kernels, strides = zip(*(grid for grid in grids if grid), strict=True)
        return body.each(node, lambda x: tape.op("AveragePool", x, kernel_shape=kernels, strides=strides))
    rows = tape.constant(_averaging(node.windows[0], sides[0]))
    columns = tape.constant(_averaging(node.windows[1], sides[1]).T)
    return body.each(node, lambda x: tape.op("MatMul", tape.op("MatMul", rows, x), columns))


def _regular(windows: tuple[Window, ...], side: int) -> tuple[int, int] | None:
    """Kernel and stride of windows of one length at equal distances, of which no more would fit."""
    kernel = windows[0][1] - windows[0][0]
    stride = windows[1][0] - windows[0][0] if len(windows) > 1 else side
    regular = tuple((i * stride, i * stride + kernel) for i in range(len(windows)))
    return (kernel, stride) if windows == regular and regular[-1][1] + stride > side else None


def _averaging(windows: tuple[Window, ...], side: int) -> Array:
    matrix = np.zeros((len(windows), side), np.float32)
    for row, (first, end) in enumerate(windows):
        matrix[row, first:end] = 1.0 / (end - first)
    return matrix


def _attention(body: Body, node: Attention) -> Value:
    """The scale goes to the small product v k^T; all sums are of small integers and so exact."""
    tape = body.tape
    channels, length = node.shape
    spikes = body.joined(node.inputs[0])
    heads = tape.op("Reshape", spikes, tape.ints(-1, 3, node.heads, channels // node.heads, length))
    q, k, v = (tape.op("Gather", heads, tape.constant(i, np.int64), axis=1) for i in range(3))
    products = tape.op("MatMul", v, tape.op("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = tape.op("Mul", products, tape.constant(node.scale * body.factor(node)))
    return [tape.op("Reshape", tape.op("MatMul", scaled, q), tape.ints(-1, channels, length), name=node.name)]


def _reshape(body: Body, node: Reshape) -> Value:
    return body.each(node, lambda x: body.tape.op("Reshape", x, body.tape.ints(-1, *node.shape)))


WRITERS: dict[type[Node], Callable[[Body, Any], Value]] = {
    Conv: _conv,
    Linear: _linear,
    Affine: _affine,
    LIF: _lif,
    Add: _add,
    Multiply: _multiply,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    Attention: _attention,
    Reshape: _reshape,
}
