"""The graph's nodes as ONNX operators.

Every value holds all time steps at once, [T * N, *shape] with time outermost, so that a convolution reads
its weights once. Only neurons take the steps apart. Their arithmetic is arranged for runtimes without an
operator for neurons, and gives the same spikes as the equation of `graph.LIF`:

- The membrane is kept negated and in units of the threshold, g[t] = -h[t] / v_threshold. The factor
  -gain / v_threshold is folded into the layer before.
- ThresholdedRelu(g, alpha=-1) is g where g > -1, that is where h < v_threshold, else 0: the reset.
- HardSigmoid with slope -2^24 is 1 where g <= -1 and 0 from the next float32 on: the spike.

So a step is Mul, Add, ThresholdedRelu, HardSigmoid on float32, without the slower booleans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from neuromoco.export.graph import (
    LIF,
    Add,
    Affine,
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
from neuromoco.export.onnx_tape import Tape

SLOPE = 2.0**24  # 1 over the distance of 1 to the float32 before it


@dataclass
class Body:
    """Writes the operators of a graph.

    Attributes:
        graph: what is written.
        steps: T time steps in a value; 1 in a file that keeps its state outside.
        states: for such a file, the membrane that each layer of neurons starts with, by name; updated to
            what it ends with.
        values: ONNX values by the names of the graph's nodes.
    """

    graph: Graph
    steps: int
    tape: Tape
    states: dict[str, ir.Value] = field(default_factory=dict)
    values: dict[str, ir.Value] = field(default_factory=dict)

    def write(self, frames: ir.Value) -> ir.Value:
        """Operators from frames [T * N, P, H, W] to logits per step [T * N, classes]."""
        self.values[self.graph.input.name] = frames
        for node in self.graph.nodes[1:]:
            inputs = [self.values[name] for name in node.inputs]
            self.values[node.name] = WRITERS[type(node)](self, node, *inputs)
        return self.values[self.graph.output.name]

    def factor(self, node: Node) -> np.float32:
        """What a layer multiplies its result with: the drive's factor of the neurons that alone take it, or 1."""
        users = self.graph.users[node.name]
        if isinstance(node, Conv | Linear | Affine | Attention) and len(users) == 1 and isinstance(users[0], LIF):
            return _drive(users[0])
        return np.float32(1.0)


def _drive(node: LIF) -> np.float32:
    """From a layer's result to the neurons' units, see above."""
    return np.float32(-node.gain / node.v_threshold)


def _conv(body: Body, node: Conv, x: ir.Value) -> ir.Value:
    weight, bias = node.weight * body.factor(node), node.bias * body.factor(node)
    if node.pointwise and len(node.shape) == 2:
        matrix = body.tape.constant(weight[:, :, 0], name=f"{node.name}.weight")
        product = body.tape.op("MatMul", matrix, x)
        return body.tape.op("Add", product, body.tape.constant(bias[:, None]), name=node.name)
    return body.tape.op(
        "Conv",
        x,
        body.tape.constant(weight, name=f"{node.name}.weight"),
        body.tape.constant(bias, name=f"{node.name}.bias"),
        name=node.name,
        kernel_shape=node.weight.shape[2:],
        strides=node.stride,
        pads=node.padding * 2,
        dilations=node.dilation,
        group=node.groups,
    )


def _linear(body: Body, node: Linear, x: ir.Value) -> ir.Value:
    """One column a sample, so that a result does not depend on how many samples there are."""
    tape, factor = body.tape, body.factor(node)
    column = tape.op("Unsqueeze", x, tape.ints(-1))
    product = tape.op("MatMul", tape.constant(node.weight * factor, name=f"{node.name}.weight"), column)
    return tape.op("Add", tape.op("Squeeze", product, tape.ints(-1)), tape.constant(node.bias * factor), name=node.name)


def _affine(body: Body, node: Affine, x: ir.Value) -> ir.Value:
    tape, factor = body.tape, body.factor(node)
    axes = (-1, *(1,) * (len(node.shape) - 1))
    weight, bias = (array.reshape(axes) * factor for array in (node.weight, node.bias))
    scaled = tape.op("Mul", x, tape.constant(weight)) if (weight != 1).any() else x
    return tape.op("Add", scaled, tape.constant(bias), name=node.name) if bias.any() else scaled


def _lif(body: Body, node: LIF, x: ir.Value) -> ir.Value:
    tape = body.tape
    if body.factor(body.graph[node.inputs[0]]) == 1.0 != _drive(node):
        x = tape.op("Mul", x, tape.constant(_drive(node)), name=f"{node.name}.drive")
    membrane = body.states.get(node.name)
    spikes = []
    for step, drive in enumerate(tape.split(x, body.steps, f"{node.name}.drive")):
        g = drive
        if membrane is not None:
            kept = membrane if node.keep == 1.0 else tape.op("Mul", membrane, tape.constant(node.keep))
            g = tape.op("Add", drive, kept)
        spikes.append(tape.op("HardSigmoid", g, alpha=-SLOPE, beta=1.0 - SLOPE))
        if step + 1 < body.steps or node.name in body.states:
            membrane = tape.op("ThresholdedRelu", g, alpha=-1.0)
    if node.name in body.states:
        assert membrane is not None
        body.states[node.name] = membrane
    return tape.op("Concat", *spikes, axis=0, name=node.name) if len(spikes) > 1 else spikes[0]


def _add(body: Body, node: Add, a: ir.Value, b: ir.Value) -> ir.Value:
    return body.tape.op("Add", a, b, name=node.name)


def _multiply(body: Body, node: Multiply, a: ir.Value, b: ir.Value) -> ir.Value:
    return body.tape.op("Mul", a, b, name=node.name)


def _max_pool(body: Body, node: MaxPool, x: ir.Value) -> ir.Value:
    return body.tape.op(
        "MaxPool", x, name=node.name, kernel_shape=node.kernel, strides=node.stride, pads=node.padding * 2
    )


def _avg_pool(body: Body, node: AvgPool, x: ir.Value) -> ir.Value:
    """AveragePool where the windows form a regular grid, else one averaging matrix an axis."""
    tape, before = body.tape, body.graph[node.inputs[0]]
    grids = [_regular(axis, side) for axis, side in zip(node.windows, before.shape[1:], strict=True)]
    if all(grids):
        kernels, strides = zip(*(grid for grid in grids if grid), strict=True)
        return tape.op("AveragePool", x, name=node.name, kernel_shape=kernels, strides=strides)
    rows = tape.op("MatMul", tape.constant(_averaging(node.windows[0], before.shape[1])), x)
    columns = tape.constant(_averaging(node.windows[1], before.shape[2]).T)
    return tape.op("MatMul", rows, columns, name=node.name)


def _regular(windows: tuple[Window, ...], side: int) -> tuple[int, int] | None:
    """Kernel and stride of windows of one length at equal distances."""
    kernel = windows[0][1] - windows[0][0]
    stride = windows[1][0] - windows[0][0] if len(windows) > 1 else side
    regular = tuple((i * stride, i * stride + kernel) for i in range(len(windows)))
    # The operator places as many windows as fit.
    return (kernel, stride) if windows == regular and regular[-1][1] + stride > side else None


def _averaging(windows: tuple[Window, ...], side: int) -> Any:
    matrix = np.zeros((len(windows), side), np.float32)
    for row, (first, end) in enumerate(windows):
        matrix[row, first:end] = 1.0 / (end - first)
    return matrix


def _attention(body: Body, node: Attention, x: ir.Value) -> ir.Value:
    """The scale goes to the small product v k^T; all sums are of small integers and so exact."""
    tape = body.tape
    channels, length = node.shape
    heads = tape.op("Reshape", x, tape.ints(-1, 3, node.heads, channels // node.heads, length))
    q, k, v = (tape.op("Gather", heads, tape.constant(i, np.int64), axis=1) for i in range(3))
    products = tape.op("MatMul", v, tape.op("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = tape.op("Mul", products, tape.constant(node.scale * body.factor(node)))
    return tape.op("Reshape", tape.op("MatMul", scaled, q), tape.ints(-1, channels, length), name=node.name)


def _reshape(body: Body, node: Reshape, x: ir.Value) -> ir.Value:
    return body.tape.op("Reshape", x, body.tape.ints(-1, *node.shape), name=node.name)


WRITERS: dict[type[Node], Callable[..., ir.Value]] = {
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
