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
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from neuromoco.checkpoint import first_mistake
from neuromoco.errors import CheckpointError
from neuromoco.events import Recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.loihi.check import check_graph, check_manifest
from neuromoco.runtime.loihi.manifest import LARGEST_MANIFEST, MANIFEST, NET, Manifest
from neuromoco.runtime.loihi.net_file import read_net
from neuromoco.runtime.loihi.twin import check_readout, run
from neuromoco.runtime.prediction import Floats
from neuromoco.support.untrusted import one_line, read_bytes


class TwinNetwork:
    """A classifier in the folder of a Loihi export, computed by the integer twin."""

    def __init__(self, folder: Path | str) -> None:
        path, net = Path(folder) / MANIFEST, Path(folder) / NET
        if not Path(folder).is_dir():
            what = "does not exist" if not Path(folder).exists() else "is no folder"
            raise CheckpointError(f"{folder}: {what}; a Loihi export is made by neuromoco export --target loihi")
        try:
            content = read_bytes(path, LARGEST_MANIFEST)
        except ValueError as error:
            raise CheckpointError(
                f"{folder}: is a folder, and neither a Loihi export ({MANIFEST} {error}) nor a run of neuromoco train"
            ) from None
        try:
            self.manifest = Manifest.model_validate_json(content)
            check_manifest(self.manifest)
        except ValidationError as error:
            raise CheckpointError(f"{path}: is cut or damaged ({first_mistake(error)})") from None
        except ValueError as error:
            raise CheckpointError(f"{path}: is cut or damaged ({one_line(error)})") from None
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
        logits = run(self.graph, frames).logits
        check_readout(logits, self.graph.readout.neuron.v_threshold)
        return (logits / self.graph.readout.scale).astype(np.float32)
