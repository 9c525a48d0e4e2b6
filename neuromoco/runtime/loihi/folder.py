"""A Loihi export on disk: a folder with the network description and everything to run it, written and read.

    network.net     Lava-DL's format, see `to_lava`
    manifest.json   what it is and how to run it, see `Manifest`
    frames.npz      some recordings as frames, and the logits that they must give
    run_lava.py     runs the folder in Lava's simulator; lava_parts holds what it needs
    report.json     how it compares with its source; report.md says the same for people

Reading needs h5py and no torch.
"""

from __future__ import annotations

import json
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
from neuromoco.runtime.loihi import twin as loihi_twin
from neuromoco.runtime.loihi.blocks import (
    Attention,
    Block,
    Dialect,
    Port,
    is_relay,
)
from neuromoco.runtime.loihi.net_file import read_net
from neuromoco.runtime.prediction import Floats

NET, MANIFEST, FRAMES = "network.net", "manifest.json", "frames.npz"
REPORT, REPORT_TEXT = "report.json", "report.md"
OURS = frozenset({NET, MANIFEST, FRAMES, REPORT, REPORT_TEXT, "run_lava.py", "lava_parts"})


class Layer(Settings):
    """A block and where it stands in the file.

    Attributes:
        index: of its group in the file.
        name: of the layer of neurons that it stands for.
        kind: "input", "conv", "relay", "ssa" or "readout".
        depth: its spikes for step t of a recording leave it at step t + depth.
        largest: its largest spike.
        scale: an integer weight is so many times the float one.
    """

    index: int
    name: str
    kind: Literal["input", "conv", "relay", "ssa", "readout"]
    depth: int
    largest: int
    scale: float


class Manifest(Settings):
    """What a folder holds and how it is run.

    Attributes:
        dialect: "stock": unmodified lava.lib.dl.netx loads it. "extended": run_lava.py does.
        net: name of the network description.
        steps: T of a recording; recordings follow one another without a gap.
        latency: steps from a recording's last input to its answer.
        reset: netx's reset_interval and reset_offset; without a reset, a recording would meet its predecessor.
        input: its coding.
        readout: number of the layer, scale of its membranes, and how they are read.
        class_names: in the order of the readout.
        layers: every block.
        header: what the source says of itself, and versions.
    """

    format: Literal[1] = 1
    dialect: Dialect
    net: str = NET
    steps: int
    latency: int
    reset: dict[str, int]
    input: dict[str, Any]
    readout: dict[str, Any]
    class_names: tuple[str, ...]
    layers: tuple[Layer, ...]
    header: ExportHeader


def kind_of(block: Block) -> Literal["input", "conv", "relay", "ssa"]:
    """What a block is, in a word. Relays of single spikes are convolutions to Lava."""
    if isinstance(block, Port):
        return "input"
    if isinstance(block, Attention):
        return "ssa"
    return "relay" if is_relay(block) else "conv"


class TwinNetwork:
    """A classifier in such a folder, computed by the integer twin.

    Attributes:
        manifest: what the folder says of itself.
        header: what its source said.
        graph: the network.
    """

    def __init__(self, folder: Path | str) -> None:
        """Reads a folder.

        Raises:
            CheckpointError: no such folder, or a damaged one.
        """
        path = Path(folder) / MANIFEST
        if not Path(folder).is_dir():
            what = "does not exist" if not Path(folder).exists() else "is no folder"
            raise CheckpointError(f"{folder}: {what}; a Loihi export is made by neuromoco export --target loihi")
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            self.manifest = Manifest.model_validate(tree)
        except OSError as error:
            raise CheckpointError(
                f"{folder}: is a folder, and no Loihi export ({MANIFEST}: {error.strerror}); of a run, give a file in "
                "its weights/"
            ) from None
        except (ValueError, ValidationError) as error:
            raise CheckpointError(f"{path}: is cut or damaged ({str(error).splitlines()[0]})") from None
        self.header = self.manifest.header
        layers = [layer.model_dump() for layer in self.manifest.layers]
        self.graph = read_net(Path(folder) / self.manifest.net, layers)

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] as the network takes them."""
        return batch_frames(recordings, self.header.frames)

    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W].

        Raises:
            NeuromocoError: they drive a part of the network out of its range.
        """
        logits = loihi_twin.run(self.graph, frames).logits
        loihi_twin.check_readout(logits, self.graph.readout.neuron.v_threshold)
        return (logits / self.graph.readout.scale).astype(np.float32)
