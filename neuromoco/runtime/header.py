"""What an exported file says of itself: everything that its source says, and what the export adds.

It stands as one JSON text under "neuromoco" in an ONNX file's metadata. Reading it needs no torch.
"""

from __future__ import annotations

from typing import Literal

from neuromoco.checkpoint import CheckpointHeader

TargetName = Literal["onnx", "onnx-step", "loihi", "nir"]


class ExportHeader(CheckpointHeader):
    """What an exported file says of itself, beside what its source said.

    Attributes:
        target: "onnx": all time steps in one call. "onnx-step": one step a call, state outside. "loihi": a folder
            for Lava. "nir": a graph for other simulators.
        input: "frames" or "events".
        precision: "float32" or "int8".
        states: names of the state's inputs; the outputs are called the same with "next." before.
        source_sha256: of the checkpoint's bytes.
        source: the checkpoint's name.
    """

    target: TargetName
    input: Literal["frames", "events"] = "frames"
    precision: Literal["float32", "int8"] = "float32"
    states: tuple[str, ...] = ()
    source: str
    source_sha256: str
