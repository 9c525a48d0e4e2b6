"""The network as a small typed graph, which every exporter reads.

A graph is a list of nodes in the order of computing. A value is one time step of one recording, (C, H, W), (C, L) or
(D,). Every node works on each of the T steps and N recordings alone; only `LIF` and `Current` carry state to the next
step. Weights are numpy float32, batch norm is folded, pooling windows are explicit. Nothing depends on torch or a
target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neuromoco.graph.taps import Tap

Shape = tuple[int, ...]
Array = NDArray[np.float32]
Window = tuple[int, int]  # first row or column, and the one after the last


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """An operation.

    Attributes:
        name: place in the network, for example "stages.0.conv1"; unique in a graph.
        inputs: names of the nodes whose values it takes.
        shape: of its value, one time step of one recording.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """Event counts of one time step, (P, H, W)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighted(Node):
    """An operation with a weight and a bias.

    Attributes:
        terms: the magnitudes of all that was added up to the bias, where batch norm was: the network rounds in
            proportion to them, however small their sum is.
    """

    weight: Array = field(repr=False)
    bias: Array = field(repr=False)
    terms: Array | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Weighted):
    """Cross-correlation over one or two axes of space, zeros outside.

    y[o] = bias[o] + sum_i weight[o, i] * x[group of o, i], with weight [O, I / groups, *kernel] and bias [O]

    Attributes:
        stride, padding, dilation: one number per axis of space.
        groups: number of groups of channels that do not mix.
    """

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int

    @property
    def pointwise(self) -> bool:
        """Whether it is one matrix for every pixel."""
        plain = all(s == 1 for s in self.stride) and not any(self.padding)
        return plain and self.groups == 1 and math.prod(self.weight.shape[2:]) == 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Weighted):
    """y = weight x + bias, on values (D,); weight [out, in], bias [out]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Weighted):
    """y[c] = weight[c] * x[c] + bias[c] for every channel c, such as a batch norm that does not fold; both [C]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LIF(Node):
    """Leaky integrate-and-fire neurons, from rest (v[-1] = 0):

        h[t] = v[t-1] + (x[t] - v[t-1]) / tau        with `decay_input`
        h[t] = v[t-1] - v[t-1] / tau + x[t]          without
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = h[t] * (1 - s[t])                     hard reset
        v[t] = h[t] - lost * s[t]                    with `soft_reset`; lost is v_threshold, or `subtracted`

    An infinite tau without `decay_input` is integrate-and-fire.
    """

    tau: float
    v_threshold: float
    decay_input: bool
    soft_reset: bool = False
    subtracted: float | None = None

    @property
    def lost(self) -> float:
        """What a spike takes from the membrane in a soft reset."""
        return self.v_threshold if self.subtracted is None else self.subtracted

    @property
    def keep(self) -> float:
        """Share of the membrane that remains after a step, 1 - 1 / tau."""
        return 1.0 - 1.0 / self.tau

    @property
    def drive(self) -> float:
        """The input that reaches the threshold from rest in one step."""
        return self.v_threshold * (self.tau if self.decay_input else 1.0)

    @property
    def gain(self) -> float:
        """Weight of the input in h."""
        return 1.0 / self.tau if self.decay_input else 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Current(Node):
    """Synaptic currents that leak, from rest: i[t] = keep * i[t-1] + x[t]."""

    keep: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """y = a + b, element by element: SEW's ADD, residuals of a Spikformer."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Multiply(Node):
    """y = a * b, element by element: SEW's AND; with 1 - b by an `Affine`, its IAND."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Node):
    """Largest value of each window, -inf outside the map.

    Attributes:
        kernel, stride, padding: one number per axis of space.
    """

    kernel: Shape
    stride: Shape
    padding: Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(Node):
    """Mean of each window of a grid.

    Attributes:
        windows: along each axis of space; adaptive and global pools are such grids too.
    """

    windows: tuple[tuple[Window, ...], ...]

    @cached_property
    def is_global(self) -> bool:
        """Whether there is one window."""
        return all(len(axis) == 1 for axis in self.windows)


@dataclass(frozen=True, eq=False, kw_only=True)
class Attention(Node):
    """Spiking self-attention without softmax, y = scale * v (k^T q) in every head.

    Its one input (3 C, L) holds the spikes of queries, keys and values, C channels each, in `heads` consecutive groups.
    With v, k, q [C / heads, L]: y = scale * (v k^T) q.
    """

    heads: int
    scale: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same numbers in C order, of another shape: (C, H, W) as (C, L) or (D,)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Node):
    """The same numbers with their axes in another order.

    Attributes:
        order: for each axis of the result, the number of the input's axis that it is.
    """

    order: Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Expand(Node):
    """The same numbers, repeated along axes of size 1, for the sums and products that take it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul(Node):
    """y = a b, matrices of the last two axes [M, K] and [K, N], for each place along the axes before them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """The numbers from `start` up to `end` along an axis."""

    axis: int
    start: int
    end: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """All inputs behind one another along an axis."""

    axis: int


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of computing; the first is the input, the last computes the result.

    Attributes:
        nodes: the nodes.
        taps: by name, those of its neurons, and that of its result by RESULT, if it was traced.

    Raises:
        ValueError: a name occurs twice, or a node precedes its inputs: a defect of the tracer.
    """

    nodes: tuple[Node, ...]
    taps: Mapping[str, Tap] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        known: set[str] = set()
        for node in self.nodes:
            if node.name in known or not known.issuperset(node.inputs):
                raise ValueError(f"node {node.name}: its name is taken or an input comes later")
            known.add(node.name)

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def users(self) -> dict[str, list[Node]]:
        """For each node's name, the nodes that take its value."""
        users: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                users[name].append(node)
        return users

    @property
    def input(self) -> Node:
        """The frames."""
        return self.nodes[0]

    @property
    def output(self) -> Node:
        """The logits."""
        return self.nodes[-1]

    @property
    def stateful(self) -> list[LIF | Current]:
        """All layers that keep something for the next step, in order."""
        return [node for node in self.nodes if isinstance(node, LIF | Current)]

    @property
    def neurons(self) -> list[LIF]:
        """All layers of neurons, in order."""
        return [node for node in self.nodes if isinstance(node, LIF)]


def adaptive_windows(side: int, parts: int) -> tuple[Window, ...]:
    """The windows of adaptive average pooling, floor(i * side / parts) to ceil((i + 1) * side / parts)."""
    return tuple((i * side // parts, -(-(i + 1) * side // parts)) for i in range(parts))


def strided_windows(side: int, kernel: int, stride: int) -> tuple[Window, ...]:
    """The windows of plain average pooling without padding."""
    return tuple((i, i + kernel) for i in range(0, side - kernel + 1, stride))


def averaging_matrix(windows: Sequence[Window], side: int) -> NDArray[np.float64]:
    """The matrix [windows, side] that averages values along an axis in windows."""
    matrix = np.zeros((len(windows), side))
    for row, (first, end) in zip(matrix, windows, strict=True):
        row[first:end] = 1.0 / (end - first)
    return matrix


def bias_terms(node: Weighted) -> Array:
    """The magnitudes of what was added up to a bias."""
    return np.abs(node.bias) if node.terms is None else node.terms
