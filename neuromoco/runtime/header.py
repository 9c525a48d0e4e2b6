"""What an export says about itself: everything that its source says, and what the export adds.

In an ONNX file it is one JSON text in the metadata, under "neuromoco". Reading it needs no torch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from neuromoco.checkpoint import CheckpointHeader

TargetName = Literal["onnx", "onnx-step", "loihi", "c", "html", "nir"]
NEXT = "next."  # the output of a state has the name of its input behind this


class ExportHeader(CheckpointHeader):
    """What an export says about itself, in addition to what its source says.

    Attributes:
        target: "onnx": all time steps in one call. "onnx-step": one step per call, the caller keeps the state.
            "loihi": a folder for Lava. "c": a folder of C99. "html": a page. "nir": a graph for other simulators.
        input: "frames" or "events".
        precision: "float32" or "int8".
        states: names of the state's inputs; its outputs have the same names behind "next.".
        portable: whether an ONNX file takes one recording a call and has no texts, as all runtimes can.
        source: name of the checkpoint.
        source_sha256: of the checkpoint's bytes.
    """

    added: ClassVar[tuple[str, ...]] = (*CheckpointHeader.added, "portable")
    target: TargetName
    input: Literal["frames", "events"] = "frames"
    precision: Literal["float32", "int8"] = "float32"
    states: tuple[str, ...] = ()
    portable: bool = False
    source: str
    source_sha256: str
