"""From a trained network to the graph: the network runs, and its layers are recorded.

Layers with a rule and a few functions between them become nodes; anything else that touches a value is an unsupported
layer. One run finds all of them. Then the graph is computed on what the network saw, and every layer must give the
network's numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuromoco.frames import POLARITIES
from neuromoco.graph.folding import fold_affine_named
from neuromoco.graph.judge import judge
from neuromoco.graph.memory import Trace
from neuromoco.graph.nodes import Array, Graph, Node, Shape
from neuromoco.graph.recorder import PREFIX, Recorder
from neuromoco.snn.neurons import evaluation_mode, reset_state
from neuromoco.unsupported import Unsupported, refuse

__all__ = ["PREFIX", "Trace", "lower", "lowered", "record", "trace"]

STEPS, BATCH = 2, 2
RATES = (0.4, 2.0)  # events per pixel, polarity and step of the noise that the graph is compared on


def lower(network: nn.Module, height: int, width: int, steps: int = STEPS, examples: Iterable[Array] = ()) -> Graph:
    """The graph of a classifier for frames of this size, batch norm folded, which computes what the classifier does.

    It is compared with the classifier, layer by layer, on noise and on `examples`, frames [T, N, P, H, W].

    Raises:
        UnsupportedLayerError: a layer that the graph cannot express, or one whose graph computes something else.
    """
    graph, unsupported = lowered(network, height, width, steps, examples)
    refuse(unsupported)
    assert graph is not None, "or something is unsupported"
    return graph


def lowered(
    network: nn.Module, height: int, width: int, steps: int = STEPS, examples: Iterable[Array] = ()
) -> tuple[Graph | None, list[Unsupported]]:
    """The graph of a classifier as `lower` makes it, if nothing is unsupported, and what is."""
    noise = (_noise((steps, BATCH, POLARITIES, height, width), rate) for rate in RATES)
    return lowered_on(network, (*noise, *map(torch.from_numpy, examples)))


def lowered_on(
    network: nn.Module, examples: Iterable[Tensor], prefix: str = PREFIX, logits: bool = True
) -> tuple[Graph | None, list[Unsupported]]:
    """The graph of any network that computes what it does on examples [T, N, ...], and what is unsupported.

    Args:
        network: takes such examples, and returns [T, N, ...], or the mean over time.
        examples: two or more of one T and N, of which no two are alike.
        prefix: is removed from the names of its layers.
        logits: whether its result has to be a vector for each step of a recording.
    """
    graph: Graph | None = None
    structure: list[Any] = []
    for frames in examples:
        run = record(network, frames, prefix, logits)
        if run.unsupported:
            return None, run.unsupported
        nodes, renamed = fold_affine_named(run.nodes)
        if graph is None:
            graph, structure = Graph(nodes, run.taps), _structure(run.nodes)
        elif _structure(run.nodes) != structure:
            return None, [Unsupported("network", "forward", "computes something else for other frames; let it be one")]
        wrong = _first_wrong(graph, run, renamed)
        if wrong:
            return None, [wrong]
    return graph, []


def _first_wrong(graph: Graph, run: Trace, renamed: dict[str, str]) -> Unsupported | None:
    """The first layer whose numbers are not those that the network computed."""
    found = {name: numbers for name, numbers in run.found.items() if name not in renamed.values()}
    # A folded batch norm's numbers are those of the layer that took it in.
    found |= {layer: run.found[norm] for norm, layer in renamed.items() if norm in run.found}
    for verdict in judge(graph, found):
        if verdict.problem:
            kind = type(graph[verdict.name]).__name__
            return Unsupported(verdict.name, kind, f"was not understood: {verdict.problem}; please report it")
    return None


def _structure(nodes: Sequence[Node]) -> list[Any]:
    return [(type(node), node.name, node.inputs, node.shape) for node in nodes]


def _noise(shape: Shape, rate: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full(shape, rate), generator=generator)


def trace(network: nn.Module, height: int, width: int, steps: int = STEPS) -> Trace:
    """Runs a classifier once on frames of noise of this size, and records its layers and functions."""
    return record(network, _noise((steps, BATCH, POLARITIES, height, width), RATES[0]))


@torch.no_grad()
def record(network: nn.Module, frames: Tensor, prefix: str = PREFIX, logits: bool = True) -> Trace:
    """Runs a network once on frames [T, N, P, H, W], and records its layers and functions; see `lowered_on`."""
    with evaluation_mode(network):
        reset_state(network)
        try:
            return Recorder(network, frames, prefix, logits).run(frames)
        finally:
            reset_state(network)
