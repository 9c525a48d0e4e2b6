"""The spikes of a Loihi export, from the run that gives its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuromoco.events import Recording
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.prediction import Floats

if TYPE_CHECKING:
    from neuromoco.runtime.loihi.folder import TwinNetwork  # needs h5py

RASTER_NEURONS = 128  # of the last layer, those that spike most


class SpikingTwin:
    """A Loihi export that keeps the spikes of its last run, for which it would have to run again."""

    def __init__(self, network: TwinNetwork) -> None:
        self._network, self.header = network, network.header
        self._spikes: dict[str, Floats] = {}

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""
        return self._network.frames(recordings)

    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W]."""
        result = run(self._network.graph, frames, keep=lambda _: True)
        self._spikes = result.spikes
        return self._network.logits_of(result)

    def spike_rates(self) -> dict[str, float]:
        """Spikes by neuron and step, by layer."""
        return {name: float(self._spikes[name].mean()) for name in self._layers()}

    def raster(self) -> tuple[list[tuple[int, int]], int]:
        """Step and neuron of every spike of the last layer's busiest neurons, and how many neurons these are."""
        last = self._spikes[self._layers()[-1]][:, 0]
        last = last.reshape(len(last), -1)  # [T, neurons]
        busiest = np.argsort(-last.sum(0), kind="stable")[:RASTER_NEURONS]
        steps, neurons = np.nonzero(last[:, np.sort(busiest)])
        return list(zip(steps.tolist(), neurons.tolist(), strict=True)), len(busiest)

    def _layers(self) -> list[str]:
        return [block.name for block in self._network.graph.blocks[1:-1] if not block.name.endswith(".relay")]
