"""What an exported file says of itself: everything that its source says, and what the export adds.

It stands as one JSON text under "neuromoco" in an ONNX file's metadata. Reading it needs no torch.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import ValidationError

from neuromoco.checkpoint import FORMAT_VERSION, KEY, Header
from neuromoco.errors import CheckpointError

Target = Literal["onnx", "onnx-step"]


class ExportHeader(Header):
    """What an exported file says of itself, beside what its source said.

    Attributes:
        target: "onnx": all time steps in one call. "onnx-step": one step a call, state outside.
        input: "frames" or "events".
        precision: "float32" or "int8".
        states: names of the state's inputs; the outputs are called the same with "next." before.
        source_sha256: of the checkpoint's bytes.
        source: the checkpoint's name.
    """

    target: Target
    input: Literal["frames", "events"] = "frames"
    precision: Literal["float32", "int8"] = "float32"
    states: tuple[str, ...] = ()
    source: str
    source_sha256: str


def parse_export_header(path: Any, metadata: dict[str, str]) -> ExportHeader:
    """The header of an exported file.

    Args:
        path: named in errors.
        metadata: texts by key, as the file has them.

    Raises:
        CheckpointError: not written by neuromoco, or by a newer one.
    """
    if KEY not in metadata:
        raise CheckpointError(f"{path}: is an ONNX file that neuromoco did not write")
    try:
        tree = json.loads(metadata[KEY])
        found = tree.get("format") if isinstance(tree, dict) else None
        if found != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: has format {found}; this version reads {FORMAT_VERSION}: install a newer neuromoco"
            )
        return ExportHeader.model_validate(tree)
    except (json.JSONDecodeError, ValidationError) as error:
        raise CheckpointError(f"{path}: has a damaged header ({str(error).splitlines()[0]})") from error
