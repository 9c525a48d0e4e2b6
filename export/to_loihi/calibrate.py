"""Finer scales for layers in which a few large weights set the grain of all others.

Every layer is tried alone, on spikes of the float network, with weights that are finer than the exact rule by several
factors and cut to the range. The factor whose spikes differ least from the float network's is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromoco.runtime.loihi.blocks import LoihiConv, LoihiGraph, Port
from neuromoco.runtime.loihi.twin import spikes_of
from neuromoco.runtime.prediction import Floats

FACTORS = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0)


def choose_clipping(
    graphs: Mapping[float, LoihiGraph], spikes: Mapping[str, Floats], frames: Floats
) -> dict[str, float]:
    """The best factor for every layer of neurons behind a convolution.

    `graphs` holds the network with all layers at one factor, by factor, including 1; `spikes` [T, N, ...] of the float
    network and event counts `frames` [T, N, P, H, W] are of the same recordings.
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
        source = values[block.name] = spikes[block.name].reshape(steps * batch, *block.shape)
        if isinstance(block, LoihiConv):
            differ = {
                factor: np.count_nonzero(spikes_of(graph[block.name], graph, x, steps)[0] != source)
                for factor, graph in graphs.items()
            }
            chosen[block.name] = min(differ, key=lambda factor: (differ[factor], factor))
    return chosen
