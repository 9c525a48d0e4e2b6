"""The networks that all runtimes answer from, and their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from benchmarks.live_networks import live_network
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig
from neuromoco.events import Recording
from neuromoco.export.exporter import export_header
from neuromoco.export.to_onnx.int8 import calibrate, quantize_onnx
from neuromoco.export.to_onnx.model import check_onnx, single_step, unrolled
from neuromoco.frames import batch_frames
from neuromoco.graph.trace import lower
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.onnx_file import event_columns
from neuromoco.runtime.prediction import Floats

KINDS = ("frames", "events", "step", "int8")
RANDOM = ("sew_resnet_tiny", "spikformer_tiny")


@dataclass(frozen=True)
class Subject:
    """A network, what its files say of themselves, and the recordings that it answers.

    Attributes:
        frames: of the recordings [T, N, P, H, W].
        logits: what torch answers, [N, classes].
    """

    name: str
    network: Classifier
    header: ExportHeader
    recordings: Sequence[Recording]
    frames: Floats
    logits: Floats


def subjects(checkpoint: Path, recordings: Sequence[Recording], seed: int) -> list[Subject]:
    """The network of a checkpoint, and two with random weights that take the same recordings."""
    trained = TrainedClassifier(checkpoint, "cpu")
    header = export_header(trained, checkpoint, "onnx", portable=True)
    frames = batch_frames(recordings, header.frames)
    made = [subject(checkpoint.stem, trained.network, header, recordings, frames)]
    for name in RANDOM:
        config = EncoderConfig(name=name)
        network = live_network(config, torch.from_numpy(frames), seed)
        own = header.model_copy(update={"encoder": config})
        made.append(subject(f"{name}, random weights, seed {seed}", network, own, recordings, frames))
    return made


def subject(name: str, network: Classifier, header: ExportHeader, recordings: Any, frames: Floats) -> Subject:
    """A network with its answers."""
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(frames)).mean(0).numpy()
    return Subject(name, network, header, recordings, frames, logits)


def write_kind(of: Subject, kind: str, opset: int, folder: Path) -> None:
    """Writes `model.onnx` of a kind, and the recordings as `runners` reads them."""
    graph = lower(of.network, of.header.frames.height, of.header.frames.width)
    folder.mkdir(parents=True)
    alone = np.split(of.frames, of.frames.shape[1], axis=1)
    inputs: list[dict[str, Any]] = [{"frames": one} for one in alone]
    steps = None
    if kind == "step":
        model = single_step(graph, of.header.model_copy(update={"target": "onnx-step"}), opset=opset)
        steps = of.header.frames.steps
        rest = {f"state.{node.name}": np.zeros((1, *node.shape), np.float32) for node in graph.neurons}
        inputs = [one | rest for one in inputs]
    elif kind == "events":
        model = unrolled(graph, of.header.model_copy(update={"input": "events"}), opset=opset)
        inputs = [event_columns(recording) for recording in of.recordings]
    else:
        model = unrolled(graph, of.header, opset=opset)
        if kind == "int8":  # calibrated on every second recording
            model = quantize_onnx(model, of.header, calibrate(unrolled(graph, of.header), alone[::2]))
    check_onnx(model)
    onnx.save(model, folder / "model.onnx")
    listed = [
        {name: _stored(folder, f"{number}.{name}.bin", array) for name, array in one.items()}
        for number, one in enumerate(inputs)
    ]
    facts = {"recordings": listed} | ({} if steps is None else {"steps": steps})
    (folder / "inputs.json").write_text(json.dumps(facts))


def _stored(folder: Path, name: str, array: Any) -> dict[str, Any]:
    array.tofile(folder / name)
    return {"type": str(array.dtype), "shape": list(array.shape), "file": name}
