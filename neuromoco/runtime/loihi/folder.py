"""A Loihi export on disk: a folder with the network description and everything to run it.

    network.net     Lava-DL's format, see `net_file`
    manifest.json   what it is and how to run it, see `manifest`
    frames.npz      recordings as frames, and the logits that they must give
    run_lava.py     runs the folder in Lava's simulator; needs lava_parts
    report.json     how it compares with its source; report.md is the same for people

Reading needs h5py and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from neuromoco.errors import CheckpointError
from neuromoco.events import Recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.loihi.check import check_graph, check_manifest
from neuromoco.runtime.loihi.manifest import MANIFEST, NET, read_manifest
from neuromoco.runtime.loihi.net_file import read_net
from neuromoco.runtime.loihi.twin import Run, check_readout, run
from neuromoco.runtime.prediction import Floats
from neuromoco.runtime.spiking.native import CompiledNetwork, library
from neuromoco.runtime.spiking.network import list_uncompiled, pack_network
from neuromoco.support.untrusted import one_line


class TwinNetwork:
    """A classifier in the folder of a Loihi export, computed by the integer twin: compiled where possible.

    Attributes:
        manifest: what the folder says about itself.
        header: that of the manifest.
        graph: the blocks.
    """

    def __init__(self, folder: Path | str) -> None:
        self.manifest, net = read_manifest(folder), Path(folder) / NET
        try:
            check_manifest(self.manifest)
        except ValueError as error:
            raise CheckpointError(f"{Path(folder) / MANIFEST}: is cut or damaged ({one_line(error)})") from None
        self.header = self.manifest.header
        layers = [layer.model_dump() for layer in self.manifest.layers]
        self.graph = read_net(net, layers)
        try:
            check_graph(self.graph, self.manifest)
        except ValueError as error:
            raise CheckpointError(f"{net}: is not the network of {MANIFEST} ({one_line(error)})") from None

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""
        return batch_frames(recordings, self.header.frames)

    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W]; refuses those out of the hardware's range."""
        logits = self.compiled.logits(frames) if self.compiled else None
        if logits is None:  # numpy, which also says what is out of range
            return self.logits_of(run(self.graph, frames))
        return (logits / self.graph.readout.scale).astype(np.float32)

    def logits_of(self, result: Run) -> Floats:
        """Logits [T, N, classes] of a run of the twin; refuses those out of the hardware's range."""
        check_readout(result.logits, self.graph.readout.neuron.v_threshold)
        return (result.logits / self.graph.readout.scale).astype(np.float32)

    @cached_property
    def compiled(self) -> CompiledNetwork | None:
        """The network in the compiled runtime; None where it cannot be compiled."""
        runtime = library()
        if runtime is None or list_uncompiled(self.graph):
            return None
        return CompiledNetwork(pack_network(self.graph, self.header.frames), runtime)
