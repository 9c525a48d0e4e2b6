"""What a file says about itself: a recording, a checkpoint or an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuromoco.checkpoint import CheckpointHeader, best_weights, is_checkpoint, read_header
from neuromoco.events import ReadOptions, survey_recording
from neuromoco.events.piped import is_pipe
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.manifest import MANIFEST


def facts_of(file: Path, options: ReadOptions | None = None) -> dict[str, Any]:
    """What a recording, a checkpoint, a run or an export (a file, or the folder for Loihi) holds, ready for JSON.

    Raises:
        NeuromocoError: it is none of them.
    """
    if is_pipe(file):  # which can be read once
        return survey_recording(file, options).facts()
    file = best_weights(file)
    if is_checkpoint(file):
        return _header_facts(read_header(file))
    if (file / MANIFEST).is_file():
        from neuromoco.runtime.load import LoihiClassifier

        manifest = LoihiClassifier(file).network.manifest
        return _header_facts(manifest.header) | manifest.model_dump(include={"dialect", "steps", "latency"})
    if file.suffix == ".onnx":
        from neuromoco.runtime.onnx_file import OnnxNetwork

        return _header_facts(OnnxNetwork(file).header)
    return survey_recording(file, options).facts()


def _header_facts(header: CheckpointHeader) -> dict[str, Any]:
    facts = {
        "kind": header.kind,
        "encoder": header.encoder.name,
        "options": header.encoder.options,
        "neuron": header.encoder.neuron.model_dump(),
        "frames": header.frames.model_dump(),
        "class_names": list(header.class_names),
        "trained_on": header.seen.model_dump(),
        **{name: getattr(header, name) for name in ("stage", "epoch", "seed", "metrics", "versions")},
    }
    if header.calibration is not None:
        facts["calibration"] = header.calibration.model_dump(exclude={"right", "wrong"})
    if isinstance(header, ExportHeader):
        facts |= {name: getattr(header, name) for name in ("target", "input", "precision", "source", "source_sha256")}
    return facts
