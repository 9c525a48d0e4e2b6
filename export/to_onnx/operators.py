"""The graph's nodes as ONNX operators, arranged so that ONNX Runtime runs them fast.

A value has one of two forms: all time steps in one tensor [T * N, *shape], time outermost, or one tensor [N, *shape]
per step. In one tensor, a convolution reads its weights once for all steps; step by step, nothing is split or joined,
and values stay in the cache. Layers whose weights are smaller than their values go step by step.

Neurons consist of float32 operators only. Their spikes equal the equation of `op.LIF`, also for values at and next to
the threshold th (the input's weight, 1 / tau, is folded into the layer before). With S = 1 / (th - the float32 before
it), a power of two, HardSigmoid(h, S, 1 - S th) is 1 from h = th on and 0 up to the float32 before:

- step by step, after a convolution: h = conv + u, and u = h * Clip(S th - S h, 0, keep) remains for the next step.
  Runtimes that hold convolutions in blocks of channels (ONNX Runtime on x86) compute all of this in that layout if
  S th - S h is a 1x1 convolution, and add u while convolving.
- else with g = -h, so that the reset is one operator: u = keep * ThresholdedRelu(g, -th), g = x + u.

S, some 1e7, is beyond the range of fp16, and many runtimes have no ThresholdedRelu. So portable files have neurons of
arithmetic that all of them have, with the same result: Ceil(Clip(th - h, 0, 1)) is 0 from h = th on and 1 below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from neuromoco.export.to_onnx.tape import Tape
from neuromoco.graph import nodes as op

BLOCK = 16  # channels of a block of the widest layout
Value = list[ir.Value]  # one tensor of all steps, or one per step


@dataclass
class Body:
    """Writes the operators of a graph."""

    graph: op.Graph
    steps: int  # T time steps in a value; 1 in a file of one step
    tape: Tape
    portable: bool = False  # see the module's docstring
    together: bool = False  # linear layers on all samples at once: faster, and the batch's size shows in the last bits
    # For a file of one step, the membrane or current that each layer starts with, replaced by that it ends with.
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
        """A value as one tensor per step."""
        parts = self._values[name]
        if len(parts) == self.steps:
            return parts
        if name not in self._parts:
            self._parts[name] = list(self.tape.split(parts[0], self.steps, self.graph[name].shape, name))
        return self._parts[name]

    def each(self, node: op.Node, write: Callable[..., ir.Value]) -> Value:
        """A stateless operator on a node's inputs: step by step where all of them are, else on all steps."""
        stepwise = all(len(self._values[name]) > 1 for name in node.inputs)
        inputs = [self.parts(name) if stepwise else [self.joined(name)] for name in node.inputs]
        return [write(*values) for values in zip(*inputs, strict=True)]

    def factor(self, node: op.Node) -> np.float32:
        """What a layer multiplies its result with, for neurons that are its only user."""
        match self.graph.users[node.name]:
            case [op.LIF() as user] if isinstance(node, op.Conv | op.Linear | op.Affine | op.Attention):
                return np.float32(user.gain if self.portable or self.stepwise(node) else -user.gain)
        return np.float32(1.0)

    def stepwise(self, node: op.Node) -> bool:
        if not isinstance(node, op.Conv) or len(node.shape) != 3 or node.shape[0] % BLOCK:
            return False
        return node.weight.size < math.prod(node.shape)


def _slope(node: op.LIF) -> tuple[float, float]:
    """S and S th of the module's docstring; both are exact in float32."""
    threshold = np.float32(node.v_threshold)
    slope = 1.0 / float(threshold - np.nextafter(threshold, np.float32(0.0)))
    return slope, slope * float(threshold)


def _conv(body: Body, node: op.Conv) -> Value:
    tape, factor = body.tape, body.factor(node)
    weight, bias = node.weight * factor, node.bias * factor
    if node.pointwise and len(node.shape) == 2:
        matrix = tape.constant(weight[:, :, 0], name=f"{node.name}.weight")
        product = tape.op("MatMul", matrix, body.joined(node.inputs[0]))
        return [tape.op("Add", product, tape.constant(bias[:, None]), name=node.name)]
    inputs = body.parts(node.inputs[0]) if body.stepwise(node) else [body.joined(node.inputs[0])]
    kernel, offset = tape.constant(weight, name=f"{node.name}.weight"), tape.constant(bias, name=f"{node.name}.bias")
    attributes: dict[str, Any] = {"kernel_shape": weight.shape[2:], "strides": node.stride, "pads": node.padding * 2}
    attributes |= {"dilations": node.dilation, "group": node.groups}
    return [tape.op("Conv", x, kernel, offset, **attributes) for x in inputs]


def _linear(body: Body, node: op.Linear) -> Value:
    """One column per sample, so that a result does not depend on the size of the batch, unless that is allowed."""
    tape, factor = body.tape, body.factor(node)
    if body.together:
        matrix = tape.constant((node.weight * factor).T, name=f"{node.name}.weight")
        return [tape.op("Gemm", body.joined(node.inputs[0]), matrix, tape.constant(node.bias * factor))]
    column = tape.op("Unsqueeze", body.joined(node.inputs[0]), tape.ints(-1))
    product = tape.op("MatMul", tape.constant(node.weight * factor, name=f"{node.name}.weight"), column)
    return [tape.op("Add", tape.op("Squeeze", product, tape.ints(-1)), tape.constant(node.bias * factor))]


def _affine(body: Body, node: op.Affine) -> Value:
    tape, factor = body.tape, body.factor(node)
    axes = (-1, *(1,) * (len(node.shape) - 1))
    weight, bias = (tape.constant(array.reshape(axes) * factor) for array in (node.weight, node.bias))
    return body.each(node, lambda x: tape.op("Add", tape.op("Mul", x, weight), bias))


def _current(body: Body, node: op.Current) -> Value:
    tape, kept, results = body.tape, body.states.get(node.name), list[ir.Value]()
    for x in body.parts(node.inputs[0]):
        kept = x if kept is None else tape.op("Add", x, tape.op("Mul", kept, tape.constant(node.keep)))
        results.append(kept)
    if node.name in body.states and kept is not None:
        body.states[node.name] = kept
    return results


def _lif(body: Body, node: op.LIF) -> Value:
    before = body.graph[node.inputs[0]]
    if body.portable:
        return _lif_of_arithmetic(body, node)
    if not node.soft_reset and body.stepwise(before) and len(body.graph.users[before.name]) == 1:
        return _lif_in_blocks(body, node)
    if node.soft_reset:
        return _lif_soft(body, node)
    tape, (slope, offset) = body.tape, _slope(node)
    drives = body.parts(before.name)
    if body.factor(before) == 1.0:
        drives = [tape.op("Mul", x, tape.constant(-node.gain)) for x in drives]
    kept = tape.op("Neg", body.states[node.name]) if node.name in body.states else None
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


def _lif_soft(body: Body, node: op.LIF) -> Value:
    """Neurons that lose a part with each spike, and keep the rest: u = keep * (h - lost * s)."""
    tape, (slope, offset) = body.tape, _slope(node)
    before = body.graph[node.inputs[0]]
    factor = np.float32(node.gain) if body.factor(before) == 1.0 else np.float32(node.gain) / body.factor(before)
    kept: ir.Value | None = body.states.get(node.name)
    spikes = []
    for drive in body.parts(before.name):
        x = drive if factor == 1.0 else tape.op("Mul", drive, tape.constant(factor))
        h = x if kept is None else tape.op("Add", x, kept)
        spikes.append(tape.op("HardSigmoid", h, alpha=slope, beta=1.0 - offset))
        if node.name in body.states or len(spikes) < body.steps:
            lost = tape.op("Mul", spikes[-1], tape.constant(node.lost))
            kept = tape.op("Mul", tape.op("Sub", h, lost), tape.constant(node.keep))
    if node.name in body.states and kept is not None:
        body.states[node.name] = kept
    return spikes


def _lif_in_blocks(body: Body, node: op.LIF) -> Value:
    """Neurons of operators that runtimes compute in blocks of channels."""
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


def _lif_of_arithmetic(body: Body, node: op.LIF) -> Value:
    """Neurons of operators that all runtimes have."""
    tape, one = body.tape, body.tape.constant(1.0)
    drives = body.parts(node.inputs[0])
    if node.gain != 1.0 and body.factor(body.graph[node.inputs[0]]) == 1.0:
        drives = [tape.op("Mul", x, tape.constant(node.gain)) for x in drives]
    threshold, kept = tape.constant(node.v_threshold), body.states.get(node.name)
    spikes = []
    for drive in drives:
        h = drive if kept is None else tape.op("Add", drive, kept)
        below = tape.op("Clip", tape.op("Sub", threshold, h), tape.constant(0.0), one)
        silent = tape.op("Ceil", below)
        spikes.append(tape.op("Sub", one, silent))
        if node.name in body.states or len(spikes) < body.steps:
            if node.soft_reset:
                after = tape.op("Sub", h, tape.op("Mul", spikes[-1], tape.constant(node.lost)))
            else:
                after = tape.op("Mul", h, silent)
            kept = tape.op("Mul", after, tape.constant(node.keep)) if node.keep != 1.0 else after
    if node.name in body.states and kept is not None:
        body.states[node.name] = kept
    return spikes


def _scaled(tape: Tape, x: ir.Value, channels: int, weight: float, bias: float) -> ir.Value:
    """weight * x + bias, as a 1x1 convolution with a group per channel."""
    kernel, offset = np.full((channels, 1, 1, 1), weight), np.full(channels, bias)
    return tape.op("Conv", x, tape.constant(kernel), tape.constant(offset), kernel_shape=(1, 1), group=channels)


def _max_pool(body: Body, node: op.MaxPool) -> Value:
    attributes: dict[str, Any] = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding * 2}
    return body.each(node, lambda x: body.tape.op("MaxPool", x, **attributes))


def _avg_pool(body: Body, node: op.AvgPool) -> Value:
    """AveragePool where the windows form a regular grid, else one averaging matrix an axis."""
    tape, sides = body.tape, body.graph[node.inputs[0]].shape[1:]
    grids = [_regular(axis, side) for axis, side in zip(node.windows, sides, strict=True)]
    if all(grids):
        kernels, strides = zip(*(grid for grid in grids if grid), strict=True)
        return body.each(node, lambda x: tape.op("AveragePool", x, kernel_shape=kernels, strides=strides))
    matrices = [op.averaging_matrix(axis, side) for axis, side in zip(node.windows, sides, strict=True)]
    rows, columns = tape.constant(matrices[0]), tape.constant(matrices[1].T)
    return body.each(node, lambda x: tape.op("MatMul", tape.op("MatMul", rows, x), columns))


def _regular(windows: tuple[op.Window, ...], side: int) -> tuple[int, int] | None:
    """Kernel and stride of windows of one length at equal distances, of which no more would fit."""
    kernel = windows[0][1] - windows[0][0]
    stride = windows[1][0] - windows[0][0] if len(windows) > 1 else side
    regular = tuple((i * stride, i * stride + kernel) for i in range(len(windows)))
    return (kernel, stride) if windows == regular and regular[-1][1] + stride > side else None


def _attention(body: Body, node: op.Attention) -> Value:
    """The small product v k^T is scaled; all sums are of small integers, and so exact."""
    tape = body.tape
    channels, length = node.shape
    spikes = body.joined(node.inputs[0])
    heads = tape.op("Reshape", spikes, tape.ints(-1, 3, node.heads, channels // node.heads, length))
    q, k, v = (tape.op("Gather", heads, tape.constant(i, np.int64), axis=1) for i in range(3))
    products = tape.op("MatMul", v, tape.op("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = tape.op("Mul", products, tape.constant(node.scale * body.factor(node)))
    return [tape.op("Reshape", tape.op("MatMul", scaled, q), tape.ints(-1, channels, length), name=node.name)]


def _transpose(body: Body, node: op.Transpose) -> Value:
    order = [0, *(axis + 1 for axis in node.order)]
    return body.each(node, lambda x: body.tape.op("Transpose", x, perm=order))


def _slice(body: Body, node: op.Slice) -> Value:
    numbers = body.tape.ints(*range(node.start, node.end))
    return body.each(node, lambda x: body.tape.op("Gather", x, numbers, axis=node.axis + 1))


WRITERS: dict[type[op.Node], Callable[[Body, Any], Value]] = {
    op.Conv: _conv,
    op.Linear: _linear,
    op.Affine: _affine,
    op.LIF: _lif,
    op.Current: _current,
    op.Add: lambda body, node: body.each(node, lambda a, b: body.tape.op("Add", a, b)),
    op.Multiply: lambda body, node: body.each(node, lambda a, b: body.tape.op("Mul", a, b)),
    op.MaxPool: _max_pool,
    op.AvgPool: _avg_pool,
    op.Attention: _attention,
    op.Transpose: _transpose,
    op.Expand: lambda body, node: body.each(node, lambda x: x),  # the sums and products that take it repeat it
    op.MatMul: lambda body, node: body.each(node, lambda a, b: body.tape.op("MatMul", a, b)),
    op.Slice: _slice,
    op.Concat: lambda body, node: body.each(node, lambda *parts: body.tape.op("Concat", *parts, axis=node.axis + 1)),
    op.Reshape: lambda body, node: body.each(
        node, lambda x: body.tape.op("Reshape", x, body.tape.ints(-1, *node.shape))
    ),
}
