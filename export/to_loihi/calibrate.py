"""Finer scales for layers in which a few large weights set the grain of all others.

Every layer is tried alone, on the spikes that the float network gives it: with weights finer than the exact rule by
some factors, the largest of them cut. What makes most spikes as the float network does is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromoco.runtime.loihi.blocks import LoihiBlock, LoihiConv, LoihiGraph, Port
from neuromoco.runtime.loihi.twin import spikes_of
from neuromoco.runtime.prediction import Floats

FACTORS = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0)


def choose_clipping(
    graphs: Mapping[float, LoihiGraph], spikes: Mapping[str, Floats], frames: Floats
) -> dict[str, float]:
    """The best factor for every layer of neurons behind a convolution.

    Args:
        graphs: the network with all layers at one factor, by factor; 1 among them.
        spikes: of the float network, [T, N, ...] by layer of neurons.
        frames: event counts [T, N, P, H, W] of the same recordings.
    """
    steps, batch = frames.shape[:2]
    exact, chosen = graphs[1.0], {}
    values: dict[str, Floats] = {}
    for block in exact.blocks[:-1]:
        x: Any = (
            frames.reshape(steps * batch, *block.shape)
            if isinstance(block, Port)
            else sum(values[name] for name in block.inputs)
        )
        if block.name not in spikes:  # relays and pools, which are exact
            values[block.name] = spikes_of(block, exact, x, steps)[0]
            continue
        wanted = values[block.name] = spikes[block.name].reshape(steps * batch, *block.shape)
        if isinstance(block, LoihiConv):
            tried = {factor: _differing(graph[block.name], graph, x, wanted, steps) for factor, graph in graphs.items()}
            chosen[block.name] = min(tried, key=lambda factor: (tried[factor], factor))
    return chosen


def _differing(block: LoihiBlock, graph: LoihiGraph, x: Floats, wanted: Floats, steps: int) -> int:
    return int(np.count_nonzero(spikes_of(block, graph, x, steps)[0] != wanted))
