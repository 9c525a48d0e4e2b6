"""Whether numbers that a network or an export computed are those of a graph, layer by layer.

Each layer is judged alone, given what came into it, and in float64. So a spike that rounding flipped, which flips
others in the layers behind it, is charged to nobody; and a layer that computes something else is named even if no
answer changes. A spike may differ only where its membrane is within rounding of the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.graph.interpret import Doubles, compute, fire, largest_terms, last_uses, membranes
from neuromoco.graph.nodes import LIF, Current, Graph, Node

# Of the sum of the magnitudes of all terms in a number. float32 rounds a sum of 10,000 terms by less than 1e-5 of it,
# in any order that a runtime may choose.
ROUNDING = 1e-5
# Of the largest number of a layer: what is closer needs no such sums.
NEGLIGIBLE = 3e-6


@dataclass(frozen=True)
class Verdict:
    """One layer of a network or export, compared with the graph.

    Attributes:
        name: of the node.
        compared: numbers compared.
        wrong: how many of them rounding does not explain.
        flipped: spikes that differ, rounding or not.
        largest: by how much a number, or a membrane whose spike is wrong, is off.
    """

    name: str
    compared: int
    wrong: int
    flipped: int
    largest: float

    @property
    def problem(self) -> str | None:
        """What is wrong, in words, or None."""
        if not self.wrong:
            return None
        return f"{self.wrong:,} of {self.compared:,} numbers differ, by up to {self.largest:.2g}"


def judge(graph: Graph, found: Mapping[str, NDArray[Any]]) -> Iterator[Verdict]:
    """Compares numbers [T, N, *shape], from rest, by name of the node; the input's must be there, others may be.

    What is not there is computed from the layers before. A layer without state whose inputs are all there is compared
    at two steps.
    """
    values: dict[str, Any] = {graph.input.name: found[graph.input.name]}
    terms = _Terms(graph, found)
    last = last_uses(graph.nodes)
    for number, node in enumerate(graph.nodes[1:], start=1):
        inputs = [values[name] for name in node.inputs]
        given = found.get(node.name)
        if given is None:
            wide = [x.astype(np.float64) for x in inputs]
            values[node.name] = fire(node, *wide) if isinstance(node, LIF) else compute(node, *wide)
        elif isinstance(node, LIF):
            values[node.name] = given
            yield _verdict_of_spikes(node, given, inputs[0].astype(np.float64), terms)
        else:
            values[node.name] = given
            alone = found.keys() >= set(node.inputs) and not isinstance(node, Current)  # each step by itself
            ends = ENDS if alone else slice(None)
            wanted = compute(node, *(_at(x, ends).astype(np.float64) for x in inputs))
            yield _verdict(node, _at(given, ends), wanted, partial(terms.of, node, ends))
        for name in (node.name, *node.inputs):
            if last[name] <= number:
                values.pop(name, None)


ENDS = np.array([0, -1])


def _at(values: NDArray[Any], ends: Any) -> NDArray[Any]:
    """The values [T, N, ...] of all steps and recordings, or of the first and last as [2, 1, ...]."""
    return values if isinstance(ends, slice) else values[ends, ends][:, None]


def _verdict(node: Node, given: NDArray[Any], wanted: Doubles, terms: Callable[[], Doubles]) -> Verdict:
    with np.errstate(invalid="ignore"):  # what is not finite is wrong
        off = np.abs(given.astype(np.float64) - wanted)
    largest = float(off.max())
    if largest <= NEGLIGIBLE * float(np.abs(wanted).max()):
        return Verdict(node.name, wanted.size, 0, 0, 0.0)
    wrong = int(np.count_nonzero(~(off <= ROUNDING * terms())))
    return Verdict(node.name, wanted.size, wrong, 0, largest if wrong else 0.0)


def _verdict_of_spikes(node: LIF, given: NDArray[Any], x: Doubles, terms: _Terms) -> Verdict:
    spikes = given.astype(np.float64).reshape(x.shape)
    h = membranes(node, x, spikes)
    off = (h >= node.v_threshold) != spikes
    flipped, wrong, largest = int(np.count_nonzero(off)), 0, 0.0
    if flipped:
        # The membrane holds rounded terms of all steps before, as far as they did not leak away.
        sums = membranes(node, terms.before(node.inputs[0]), np.zeros_like(x)) + max(node.v_threshold, node.lost)
        far = np.abs(h - node.v_threshold)
        outside = off & ~(far <= ROUNDING * sums)
        wrong = int(np.count_nonzero(outside))
        largest = float(far[outside].max()) if wrong else 0.0
    return Verdict(node.name, h.size, wrong, flipped, largest)


class _Terms:
    """The sums of the magnitudes of the terms in values, computed when they are asked for."""

    def __init__(self, graph: Graph, found: Mapping[str, NDArray[Any]]) -> None:
        self.graph, self.found = graph, found

    def of(self, node: Node, ends: Any = slice(None)) -> Doubles:
        """The sums [T, N, ...] in a node's value, from numbers that were found in the layers before."""
        return largest_terms(node, *(self.before(name, ends) for name in node.inputs))

    def before(self, name: str, ends: Any = slice(None)) -> Doubles:
        """The sums in a value that was found, which are its magnitude, or computed."""
        if name in self.found:
            return np.abs(_at(self.found[name], ends).astype(np.float64))
        node = self.graph[name]
        if isinstance(node, LIF):
            return np.ones((*self.found[self.graph.input.name].shape[:2], *node.shape))
        return self.of(node)
