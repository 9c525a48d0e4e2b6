"""A Loihi export on disk: a folder with the network description and everything to run it.

    network.net     Lava-DL's format, see `net_file`
    manifest.json   what it is and how to run it, see `Manifest`
    frames.npz      recordings as frames, and the logits that they must give
    run_lava.py     runs the folder in Lava's simulator; needs lava_parts
    report.json     how it compares with its source; report.md is the same for people

Reading needs h5py and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from neuromoco.config import Settings
from neuromoco.errors import CheckpointError
from neuromoco.events import Recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import Dialect, LoihiAttention, LoihiBlock, Port, is_relay
from neuromoco.runtime.loihi.net_file import read_net
from neuromoco.runtime.loihi.twin import check_readout, run
from neuromoco.runtime.prediction import Floats

NET, MANIFEST, FRAMES = "network.net", "manifest.json", "frames.npz"
REPORT, REPORT_TEXT = "report.json", "report.md"
OURS = frozenset({NET, MANIFEST, FRAMES, REPORT, REPORT_TEXT, "run_lava.py", "lava_parts"})


class ManifestLayer(Settings):
    """A block and its place in the file."""

    index: int  # of its group in the file
    name: str  # of its layer of neurons
    kind: Literal["input", "conv", "relay", "ssa", "readout"]
    depth: int  # it emits its spikes for step t of a recording at step t + depth
    largest: int  # largest value of its spikes
    scale: float  # ratio of an integer weight to its float weight


class Manifest(Settings):
    """What a folder holds and how to run it."""

    format: Literal[1] = 1
    dialect: Dialect  # "stock": unmodified lava.lib.dl.netx loads it; "extended": run_lava.py does
    net: str = NET
    steps: int  # T of a recording; recordings follow one another without a gap
    latency: int  # steps from a recording's last input to its answer
    reset: dict[str, int]  # netx's reset_interval and reset_offset, which begin each recording at rest
    input: dict[str, Any]  # its coding
    readout: dict[str, Any]  # number of the layer, scale of its membranes, and how to read them
    class_names: tuple[str, ...]  # in the order of the readout
    layers: tuple[ManifestLayer, ...]
    header: ExportHeader


def kind_of(block: LoihiBlock) -> Literal["input", "conv", "relay", "ssa"]:
    """A block's kind in the manifest. Lava computes relays of single spikes as convolutions."""
    if isinstance(block, Port):
        return "input"
    if isinstance(block, LoihiAttention):
        return "ssa"
    return "relay" if is_relay(block) else "conv"


class TwinNetwork:
    """A classifier in the folder of a Loihi export, computed by the integer twin."""

    def __init__(self, folder: Path | str) -> None:
        path = Path(folder) / MANIFEST
        if not Path(folder).is_dir():
            what = "does not exist" if not Path(folder).exists() else "is no folder"
            raise CheckpointError(f"{folder}: {what}; a Loihi export is made by neuromoco export --target loihi")
        try:
            self.manifest = Manifest.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CheckpointError(
                f"{folder}: is a folder, and no Loihi export ({MANIFEST}: {error.strerror}); for a run, give a file in "
                "its weights/"
            ) from None
        except ValidationError as error:
            raise CheckpointError(f"{path}: is cut or damaged ({str(error).splitlines()[0]})") from None
        self.header = self.manifest.header
        layers = [layer.model_dump() for layer in self.manifest.layers]
        self.graph = read_net(Path(folder) / self.manifest.net, layers)

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""
        return batch_frames(recordings, self.header.frames)

    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W]; refuses those out of the hardware's range."""
        logits = run(self.graph, frames).logits
        check_readout(logits, self.graph.readout.neuron.v_threshold)
        return (logits / self.graph.readout.scale).astype(np.float32)
