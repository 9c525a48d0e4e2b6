"""Float weights between two blocks, of any layer, as one convolution over rows and columns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuromoco.graph.nodes import Conv, Linear, Window, averaging_matrix
from neuromoco.runtime.loihi.blocks import Pair, Shape
from neuromoco.snn.loihi_ranges import finest_scale
from neuromoco.unsupported import RefusedError

Windows = tuple[tuple[Window, ...], ...]  # along rows and columns


@dataclass(frozen=True, eq=False)
class FloatSynapse:
    """A convolution before it is rounded."""

    weight: NDArray[np.float64]  # [O, I / groups, kh, kw]
    bias: NDArray[np.float64]  # [O]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def finest(self) -> float:
        """The largest scale at which weights and biases are in range."""
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise RefusedError("weights that are no numbers (NaN or infinite); train it again")
        if not self.weight.any():
            raise RefusedError("all its weights are 0; omit the layer, or train it")
        return finest_scale(float(np.abs(self.weight).max()), float(np.abs(self.bias).max()))


def passing(channels: int) -> FloatSynapse:
    """A convolution that changes nothing."""
    return FloatSynapse(np.ones((channels, 1, 1, 1)), np.zeros(channels), groups=channels)


def convolution(node: Conv) -> FloatSynapse:
    """A convolution over rows and columns; over tokens it has kernel 1."""
    weight = node.weight.astype(np.float64)
    if node.weight.ndim == 3:
        if not node.pointwise:
            raise RefusedError("a convolution along tokens; use kernel 1, or rows and columns")
        return FloatSynapse(weight[..., None], node.bias.astype(np.float64), groups=node.groups)
    stride, padding, dilation = (pair(value) for value in (node.stride, node.padding, node.dilation))
    return FloatSynapse(weight, node.bias.astype(np.float64), stride, padding, dilation, node.groups)


def full_size(node: Linear, shape: Shape, windows: Windows | None) -> FloatSynapse:
    """A linear layer as a convolution whose kernel covers the map, with the average pool before it folded."""
    channels, *sides = shape
    windows = windows or tuple(tuple((i, i + 1) for i in range(side)) for side in sides)
    rows, columns = (averaging_matrix(axis, side) for axis, side in zip(windows, sides, strict=True))
    weight = node.weight.astype(np.float64).reshape(len(node.weight), channels, len(rows), len(columns))
    weight = np.einsum("ocij,ih,jw->ochw", weight, rows, columns, optimize=True)
    return FloatSynapse(weight, node.bias.astype(np.float64))


def pooled(synapse: FloatSynapse, shape: Shape, windows: Windows) -> FloatSynapse:
    """A convolution with the average pool before it folded: every weight is spread over its window."""
    sizes = [axis[0][1] - axis[0][0] for axis in windows]
    for axis, size, side, outside in zip(windows, sizes, shape[1:], synapse.padding, strict=True):
        tiled = axis == tuple((i, i + size) for i in range(0, len(axis) * size, size))
        if not tiled or len(axis) != side // size or (outside and side % size) or synapse.dilation != (1, 1):
            raise RefusedError(
                "a convolution after an average pool whose windows do not tile the map; use kernel = stride, "
                "sides that it divides, and no dilation"
            )
    rows, columns = sizes
    weight = np.kron(synapse.weight, np.full((1, 1, rows, columns), 1.0 / (rows * columns)))
    stride = (synapse.stride[0] * rows, synapse.stride[1] * columns)
    padding = (synapse.padding[0] * rows, synapse.padding[1] * columns)
    return replace(synapse, weight=weight, stride=stride, padding=padding)


def pair(values: tuple[int, ...]) -> Pair:
    """Rows and columns."""
    rows, columns = values
    return rows, columns
